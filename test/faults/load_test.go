//go:build faults && linux

package faults

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// load is clients that ask all the time. Those of its answers that lack an address of always, or have one of never, fail
// the test.
type load struct {
	s             *scene
	always, never []netip.Addr
	answered      atomic.Int64
	lost          atomic.Int64
	stop          func() // and wait for the last answer
}

// load begins to ask.
func (s *scene) load(clients int, always, never []netip.Addr) *load {
	l := &load{s: s, always: always, never: never}
	var over atomic.Bool
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for !over.Load() {
				l.ask()
				time.Sleep(2 * time.Millisecond) // the machine has other things to do
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
			l.s.Logf("a query is lost: %v", err)
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

// ends stops the load, and wants every query answered.
func (l *load) ends() {
	l.s.Helper()
	l.stop()
	lost, answered := l.lost.Load(), l.answered.Load()
	if lost > 0 || answered < 20 {
		l.s.Errorf("%d queries are lost, and %d answered", lost, answered)
	}
	l.s.Logf("%d queries answered", answered)
}
