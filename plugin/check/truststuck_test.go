package check

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// While the files of TLS do not answer, probes use what they said before. The first waits a moment
// for them, the others do not, one goroutine hangs for all, and the check says so. Then they are
// read again. A panic ends no probe (B95).
func TestTrustIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var loads atomic.Int64
		answers, fresh := make(chan struct{}), new(trust)
		files := &trustFiles{}
		files.paths = []string{"."} // which exists
		files.load = func() (trust, error) {
			if loads.Add(1) == 1 {
				panic("a fault")
			}
			<-answers
			return *fresh, nil
		}
		before := &trust{certs: nil}
		files.used.Store(before)
		if got := files.now(t.Context()); got != before || !strings.Contains(files.Fault(), "panicked") {
			t.Errorf("a panic: %p, %q", got, files.Fault())
		}
		began := time.Now()
		var probes sync.WaitGroup
		for i := range 100 {
			probes.Go(func() {
				at := time.Now()
				if got := files.now(t.Context()); got != before {
					t.Errorf("%p, want what was before", got)
				}
				if took, most := time.Since(at), max(0, trustWait-at.Sub(began)); took != most {
					t.Errorf("probe %d waited %s, want %s", i, took, most)
				}
			})
			time.Sleep(10 * time.Millisecond)
		}
		probes.Wait()
		if n := loads.Load(); n != 2 || !strings.Contains(files.Fault(), "does not answer") {
			t.Errorf("the files are read %d times, want once and the panic; the fault is %q", n, files.Fault())
		}
		ended, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("over"))
		if got := files.now(ended); got != before {
			t.Error("a probe that is over waits")
		}
		close(answers)
		synctest.Wait()
		if got := files.now(t.Context()); got == before || files.Fault() != "" {
			t.Errorf("afterwards: %p, %q", got, files.Fault())
		}
	})
}
