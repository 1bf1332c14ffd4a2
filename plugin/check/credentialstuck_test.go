package check

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/watchfile"
)

// While a file with credentials cannot be read, because its file system does not answer, each probe
// ends with its time-out and proves nothing, and one goroutine hangs for all of them. Once it
// answers, probes have the credentials again. A panic while reading ends no probe.
func TestCredentialIsStuck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := errors.Join(os.WriteFile(path, []byte("token"), 0o600), os.Chtimes(path, time.Time{}, time.Unix(1e9, 0))); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var reads atomic.Int64
		answers, panics := make(chan struct{}), true
		made, err := New("http://", Option{Name: "bearer", Values: []string{path}})
		if err != nil {
			t.Fatal(err)
		}
		c := made.prober.(*httpCheck).auth
		c.cached.Store(nil)
		c.read = func(path string, limit int) ([]byte, fs.FileInfo, error) {
			reads.Add(1)
			if panics {
				panic("a fault")
			}
			<-answers
			return watchfile.Read(path, limit)
		}
		if _, err := c.value(t.Context()); err == nil || !strings.Contains(err.Error(), "panicked") {
			t.Errorf("a panic: %v", err)
		}
		panics = false
		var probes sync.WaitGroup
		for range 100 {
			probes.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				began := time.Now()
				err := made.Probe(ctx, netip.MustParseAddrPort("192.0.2.1:80"))
				if took := time.Since(began); !errors.Is(err, ErrAbstain) || !strings.Contains(err.Error(), "does not answer") || took != time.Second {
					t.Errorf("after %s: %v", took, err)
				}
			})
			time.Sleep(100 * time.Millisecond)
		}
		probes.Wait()
		if n := reads.Load(); n != 2 {
			t.Errorf("the file is read %d times, want once and the panic", n)
		}
		close(answers)
		synctest.Wait()
		if got, err := c.value(t.Context()); got != "Bearer token" || err != nil {
			t.Errorf("afterwards: %q, %v", got, err)
		}
	})
}
