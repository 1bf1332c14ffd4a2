// Package rescue keeps faults in background work from taking the DNS server down, and stops from waiting for ever.
//
// Whatever starts a goroutine of ours defers Log in it, or Error where somebody waits for a result. Whatever stops one
// waits with Wait or Closed, which have a deadline: a plugin or a file system that hangs must not delay a reload.
package rescue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	clog "github.com/coredns/coredns/plugin/pkg/log"
)

var log = clog.NewWithPlugin("multivalue")

// Log recovers from a panic, counts it and logs it. It must be deferred itself, not called by what is deferred.
func Log(what string) {
	if r := recover(); r != nil {
		metrics.Panics.Inc()
		log.Errorf("%s panicked: %v", what, r)
	}
}

// Error is Log for work whose result somebody waits for: they get an error in place of the panic.
func Error(what string, err *error) {
	if r := recover(); r != nil {
		metrics.Panics.Inc()
		log.Errorf("%s panicked: %v", what, r)
		*err = fmt.Errorf("%s failed, see the log", what)
	}
}

// Wait waits until all of a group have ended, for no longer than the duration, and reports whether they have.
func Wait(group *sync.WaitGroup, atMost time.Duration) bool {
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(atMost):
		return false
	}
}

// Closed waits until a channel is closed or the context ends, and reports whether the channel is closed.
func Closed(ctx context.Context, c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-ctx.Done():
	}
	select {
	case <-c:
		return true
	default:
		return false
	}
}
