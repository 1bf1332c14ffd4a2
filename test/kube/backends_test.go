//go:build linux

package kube

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// backends are the servers behind the addresses. Each listens on its own address and port, and can stop like a
// process.
type backends struct {
	testing.TB
	mu   sync.Mutex
	live map[string]*http.Server
	hits sync.Map // from address and port to *atomic.Int64
	done sync.WaitGroup
}

func newBackends(t testing.TB) *backends {
	b := &backends{TB: t, live: make(map[string]*http.Server)}
	t.Cleanup(func() {
		for at := range b.live {
			b.stop(at)
		}
		b.done.Wait()
	})
	return b
}

// listen listens where a server may have been stopped a moment ago. A process that began then has a copy of the listener until it runs
// its own program, and the port is in use for so long.
func (b *backends) listen(at string) net.Listener {
	b.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		l, err := net.Listen("tcp", at)
		switch {
		case err == nil:
			return l
		case !errors.Is(err, syscall.EADDRINUSE) || time.Since(began) > 10*time.Second:
			b.Fatal(err)
		}
	}
}

// serve starts servers. Without a port they listen on 8080.
func (b *backends) serve(addresses ...string) {
	b.Helper()
	for _, address := range addresses {
		at := withPort(address)
		l := b.listen(at)
		hits, _ := b.hits.LoadOrStore(at, new(atomic.Int64))
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			hits.(*atomic.Int64).Add(1)
		})}
		b.mu.Lock()
		b.live[at] = server
		b.mu.Unlock()
		b.done.Go(func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				b.Error(err)
			}
		})
	}
}

// stop ends servers and closes their connections.
func (b *backends) stop(addresses ...string) {
	b.Helper()
	for _, address := range addresses {
		at := withPort(address)
		b.mu.Lock()
		server := b.live[at]
		delete(b.live, at)
		b.mu.Unlock()
		if server == nil {
			b.Fatalf("nothing listens on %s", at)
		}
		_ = server.Close()
	}
}

// asked returns how often the server of an address was probed.
func (b *backends) asked(address string) int64 {
	hits, _ := b.hits.LoadOrStore(withPort(address), new(atomic.Int64))
	return hits.(*atomic.Int64).Load()
}

func withPort(address string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(address, "8080")
}
