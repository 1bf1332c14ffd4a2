package multivalue

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Log, deferred, keeps a panic in our background work from taking the DNS server down.
func Log(what string) {
	if r := recover(); r != nil {
		Panics.Inc()
		log.Errorf("%s panicked: %v", what, r)
	}
}

// Error, deferred, is survive for work that somebody waits for: the panic is the error that they get.
func Error(what string, err *error) {
	if r := recover(); r != nil {
		Panics.Inc()
		log.Errorf("%s panicked: %v", what, r)
		*err = fmt.Errorf("%s failed, see the log", what)
	}
}

// Wait waits until all of a group have ended, but no longer than the duration. It reports whether they have.
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

// Closed waits until a channel is closed, or the context ends, and reports whether the channel is.
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
