package lookup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// The wait for first verdicts begins with BeginWait, even if a query has started the resolver long before. It ends
// with the last verdict, or when its limit has passed (B68).
func TestWaitForVerdicts(t *testing.T) {
	const limit = 5 * time.Second
	for name, tc := range map[string]struct {
		verdictAfter time.Duration // when the pool has verdicts
		waits        time.Duration
	}{
		"verdicts":    {3 * time.Second, 3 * time.Second},
		"no verdicts": {time.Hour, limit},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := new(block)
				b.unknown.Store(2)
				l := New(b)
				defer l.Close()
				l.SetNext(hosts())
				l.Watch([]Question{{"a.example.org.", dns.TypeA}}, limit)
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
	l.Watch(nil, time.Second)
	if l.BeginWait(time.Now()) || l.AwaitsVerdicts(time.Now()) || l.HasWork() {
		t.Error("it waits, or has work")
	}
}

// listed is a plugin that lists the zone example.org, which the test changes.
type listed struct {
	mu      sync.Mutex
	serial  uint32 // 0 for a zone that is not there
	records []dns.RR
}

func (z *listed) set(serial uint32, records ...dns.RR) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.serial, z.records = serial, records
}

func (z *listed) Transfer(_ string, serial uint32) (<-chan []dns.RR, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.serial == 0 {
		return nil, errors.New("no such zone")
	}
	all := []dns.RR{test.SOA(fmt.Sprintf("example.org. 300 IN SOA ns. hostmaster. %d 7200 3600 1209600 60", z.serial))}
	if serial != z.serial {
		all = append(all, z.records...)
	}
	channel := make(chan []dns.RR, 1)
	channel <- all
	close(channel)
	return channel, nil
}

// numbered returns records of names with numbers.
func numbered(n int) (all []dns.RR) {
	for i := range n {
		all = append(all, test.A(fmt.Sprintf("h%05d.example.org. 30 IN A %s", i, pooltest.Addr(i))))
	}
	return all
}

// Readiness waits for the first verdicts of a preloaded zone, and for the zone itself, but not longer than the limit
// (B87).
func TestWaitForPreloadedZones(t *testing.T) {
	const limit = 8 * time.Second
	for what, tc := range map[string]struct {
		listedAfter, verdictAfter, waits time.Duration
	}{
		"verdicts":    {0, 3 * time.Second, 3 * time.Second},
		"no verdicts": {0, time.Hour, limit},
		"a late zone": {4500 * time.Millisecond, 0, 7 * time.Second}, // tried after 1, 3 and 7 seconds
		"no zone":     {time.Hour, 0, limit},
	} {
		synctest.Test(t, func(t *testing.T) {
			b, z := new(block), new(listed)
			b.unknown.Store(1)
			l := New(b)
			defer l.Close()
			l.Preload([]string{"example.org."}, []Transferer{z}, limit)
			time.AfterFunc(tc.listedAfter, func() { z.set(1, numbered(10)...) })
			time.AfterFunc(tc.verdictAfter, func() { b.unknown.Store(0) })
			synctest.Wait()
			began := time.Now()
			if !l.BeginWait(began) {
				t.Error("there is nothing to wait for")
			}
			l.Start()
			for l.AwaitsVerdicts(time.Now()) {
				pooltest.Elapse(10 * time.Millisecond)
			}
			if took := time.Since(began); took < tc.waits-readyTick || took > tc.waits+time.Second {
				t.Errorf("%s: it waited for %s, want %s", what, took, tc.waits)
			}
		})
	}
}

// The longest limit counts, of watched names and preloaded zones.
func TestLongestLimitCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(new(block))
		l.Watch([]Question{{"a.example.org.", dns.TypeA}}, 8*time.Second)
		l.Preload([]string{"example.org."}, nil, 30*time.Second)
		l.Watch([]Question{{"b.example.org.", dns.TypeA}}, 9*time.Second)
		now := time.Now()
		l.BeginWait(now)
		if !l.AwaitsVerdicts(now.Add(30*time.Second-1)) || l.AwaitsVerdicts(now.Add(30*time.Second)) {
			t.Error("it does not wait for exactly 30 s")
		}
	})
}

// When time is up, one line of the log has ten names at most, and says how many more there are (B87).
func TestLateNamesAreLogged(t *testing.T) {
	for late, want := range map[int]string{
		0:  "",
		3:  "after 8s: no first verdicts yet for h00000.example.org., h00001.example.org., h00002.example.org.\n",
		10: "h00008.example.org., h00009.example.org.\n",
		25: "h00008.example.org., h00009.example.org. and 15 more\n",
		-1: "no first verdicts yet for the zone example.org.\n",
	} {
		text := pooltest.Logged(t)
		synctest.Test(t, func(t *testing.T) {
			b, z := new(block), new(listed)
			b.unknown.Store(1)
			if late >= 0 {
				z.set(1, numbered(late)...)
			}
			l := New(b)
			defer l.Close()
			l.Preload([]string{"example.org."}, []Transferer{z}, 8*time.Second)
			l.BeginWait(time.Now())
			l.Start()
			pooltest.Elapse(time.Minute)
		})
		lines := pooltest.CountLines(text, "readiness stopped waiting")
		if want == "" && lines > 0 || want != "" && (lines != 1 || !strings.Contains(text.String(), want)) {
			t.Errorf("with %d names that are late, the log has:\n%s\nwant once: %s", late, text, want)
		}
	}
}

// While readiness waits for a large zone, each tick looks at some thousand addresses, and at none while the pool falls
// behind. In a few seconds it has seen all of them (B87).
func TestTicksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 100_000
		b, z := new(block), new(listed)
		b.unknown.Store(1)
		z.set(1, numbered(size)...)
		l := New(b)
		defer l.Close()
		l.Preload([]string{"example.org."}, []Transferer{z}, time.Minute)
		l.BeginWait(time.Now())
		l.Start()
		pooltest.Elapse(2 * time.Second) // the first pass ends
		before := b.judged.Load()
		pooltest.Elapse(10 * readyTick)
		if got := b.judged.Load() - before; got < 9*readyStep || got > 11*readyStep {
			t.Errorf("ten ticks looked at %d addresses, want %d", got, 10*readyStep)
		}
		b.backlog.Store(preloadStep)
		before = b.judged.Load()
		pooltest.Elapse(10 * readyTick)
		if got := b.judged.Load() - before; got != 0 {
			t.Errorf("while the pool falls behind, ten ticks looked at %d addresses", got)
		}
		b.backlog.Store(0)
		b.unknown.Store(0)
		began := time.Now()
		for l.AwaitsVerdicts(time.Now()) {
			pooltest.Elapse(10 * time.Millisecond)
		}
		if took := time.Since(began); took > (size/readyStep+2)*readyTick {
			t.Errorf("it saw after %s that nothing is unknown", took)
		}
	})
}

// A watched name whose first question fails is still without a verdict, so readiness waits for it (B87).
func TestFirstQuestionFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(block)
		l := New(b)
		defer l.Close()
		l.SetNext(plugin.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
			return dns.RcodeServerFailure, nil // the upstream is not there yet
		}))
		l.Watch([]Question{{"a.example.org.", dns.TypeA}}, 8*time.Second)
		l.BeginWait(time.Now())
		l.Start()
		began := time.Now()
		for l.AwaitsVerdicts(time.Now()) {
			pooltest.Elapse(10 * time.Millisecond)
		}
		if took := time.Since(began); took < 8*time.Second {
			t.Errorf("ready after %s, without an answer for the watched name", took)
		}
	})
}
