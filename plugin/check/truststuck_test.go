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

// filesOf are files of TLS whose content comes from a function, and what they said before.
func filesOf(load func() (trust, error)) (t *trustFiles, before *trust) {
	t, before = &trustFiles{}, new(trust)
	t.paths, t.load, t.seen = []string{"."}, load, t.found // the directory exists, and is not read
	t.used.Store(before)
	return t, before
}

// While the files of TLS do not answer, probes use what they said before. The first waits a moment
// for them, the others do not, one goroutine hangs for all, and after a while the check says so. Then
// they are read again. A panic ends no probe (B95).
func TestTrustIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var loads atomic.Int64
		answers := make(chan struct{})
		files, before := filesOf(func() (trust, error) {
			if loads.Add(1) == 1 {
				panic("a fault")
			}
			<-answers
			return trust{}, nil
		})
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
		if n := loads.Load(); n != 2 || strings.Contains(files.Fault(), "does not answer") {
			t.Errorf("the files are read %d times, want once and the panic; the fault is %q after %s", n, files.Fault(), time.Since(began))
		}
		time.Sleep(trustStuck)
		if !strings.Contains(files.Fault(), "does not answer") {
			t.Errorf("the fault is %q after %s", files.Fault(), time.Since(began))
		}
		close(answers)
		synctest.Wait()
		if got := files.now(t.Context()); got == before || files.Fault() != "" {
			t.Errorf("afterwards: %p, %q", got, files.Fault())
		}
	})
}

// A look that takes longer than a probe waits is not lost: what it has found counts for the next
// probe. A probe waits for a quarter of its time at most, and not at all if it is over (B95).
func TestTrustIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files, before := filesOf(func() (trust, error) {
			time.Sleep(3 * trustWait / 2)
			return trust{}, nil
		})
		waits := func(ctx context.Context, want time.Duration) {
			t.Helper()
			at := time.Now()
			if got := files.now(ctx); got != before {
				t.Errorf("%p, want what was before", got)
			}
			if took := time.Since(at); took != want {
				t.Errorf("it waited %s, want %s", took, want)
			}
		}
		over, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("over"))
		waits(over, 0)
		files.mu.Lock()
		files.looking = nil // as if that look had never been
		files.mu.Unlock()
		short, stop := context.WithTimeout(t.Context(), trustWait)
		defer stop()
		waits(short, trustWait/4)
		time.Sleep(2 * trustWait)
		if got := files.used.Load(); got == before || files.Fault() != "" {
			t.Errorf("what the look has found is lost: %q", files.Fault())
		}
	})
}

// What is refused is not read again for each probe, and is read again after a while: it may have been
// a fault of reading, which no change announces.
func TestRefusedIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loads := 0
		f := &followed[string]{paths: []string{"."}, load: func() (string, error) {
			if loads++; loads == 1 {
				return "", errors.New("a fault of reading")
			}
			return "content", nil
		}}
		for _, tt := range []struct {
			after time.Duration
			loads int
			value string
		}{{0, 1, ""}, {settleTime - 1, 1, ""}, {1, 2, "content"}} {
			time.Sleep(tt.after)
			if value, err := f.current(); value != tt.value || (err == nil) != (value != "") || loads != tt.loads {
				t.Errorf("after %s more: %q, %v, %d times, want %q, %d times", tt.after, value, err, loads, tt.value, tt.loads)
			}
		}
	})
}
