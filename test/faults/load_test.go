//go:build faults && linux

package faults

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// load runs clients that ask without pause. The test fails if an answer lacks an address of always, or has one of
// never.
type load struct {
	s             *scene
	always, never []netip.Addr
	answered      atomic.Int64
	lost          atomic.Int64
	stop          func() // and waits for the last answer
}

// load starts the clients.
func (s *scene) load(clients int, always, never []netip.Addr) *load {
	l := &load{s: s, always: always, never: never}
	var over atomic.Bool
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for !over.Load() {
				l.ask()
				time.Sleep(2 * time.Millisecond) // leaves the machine time for other work
			}
		})
	}
	l.stop = func() { over.Store(true); all.Wait() }
	s.Cleanup(l.stop)
	return l
}

func (l *load) ask() {
	got, err := exchange()
	if err != nil {
		if l.lost.Add(1) == 1 {
			l.s.Logf("a query was lost: %v", err)
		}
		return
	}
	l.answered.Add(1)
	for _, a := range l.always {
		if !slices.Contains(got, a) {
			l.s.Errorf("%s is missing in an answer, which has %s", a, members(got))
		}
	}
	for _, a := range l.never {
		if slices.Contains(got, a) {
			l.s.Errorf("%s is in an answer", a)
		}
	}
}

// goesOn waits for n more answers.
func (l *load) goesOn(n int64) {
	l.s.Helper()
	before := l.answered.Load()
	l.s.eventually(func() bool { return l.answered.Load() >= before+n }, func() string { return "queries are not answered" })
}

// ends stops the load, and checks that every query was answered.
func (l *load) ends() {
	l.s.Helper()
	l.stop()
	lost, answered := l.lost.Load(), l.answered.Load()
	if lost > 0 || answered < 20 {
		l.s.Errorf("%d queries were lost, and %d answered", lost, answered)
	}
	l.s.Logf("%d queries answered", answered)
}
