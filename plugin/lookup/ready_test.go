package lookup

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"

	"github.com/miekg/dns"
)

// The wait for first verdicts begins with BeginWait, even if a query has started the resolver long before. It ends
// with the last verdict, or after five seconds (B68).
func TestWaitForVerdicts(t *testing.T) {
	for name, tc := range map[string]struct {
		verdictAfter time.Duration // when the pool has verdicts
		waits        time.Duration
	}{
		"verdicts":    {3 * time.Second, 3 * time.Second},
		"no verdicts": {time.Hour, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := new(block)
				b.unknown.Store(2)
				l := New(b)
				defer l.Close()
				l.SetNext(hosts())
				l.Watch([]Question{{"a.example.org.", dns.TypeA}})
				l.Start()
				pooltest.Elapse(time.Minute)
				if l.AwaitsVerdicts(time.Now()) {
					t.Error("the wait began before the server started")
				}
				if !l.BeginWait(time.Now()) {
					t.Error("there is nothing to wait for")
				}
				time.AfterFunc(tc.verdictAfter, func() { b.unknown.Store(0) })
				began := time.Now()
				for l.AwaitsVerdicts(time.Now()) {
					pooltest.Elapse(10 * time.Millisecond)
				}
				if took := time.Since(began); took < tc.waits || took > tc.waits+2*readyTick {
					t.Errorf("it waited for %s, want %s", took, tc.waits)
				}
			})
		})
	}
}

// A block without preloaded names waits for nothing.
func TestNothingToWaitFor(t *testing.T) {
	l := New(new(block))
	l.Watch(nil)
	if l.BeginWait(time.Now()) || l.AwaitsVerdicts(time.Now()) || l.HasWork() {
		t.Error("it waits, or has work")
	}
}
