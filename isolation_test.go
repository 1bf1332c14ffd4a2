package multivalue

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
	"github.com/coredns-multivalue/multivalue/plugin/wire"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// inFleet runs a test of a pool that watches so many targets, all of them up.
func inFleet(t *testing.T, size int, pace verdict.Pace, f func(t *testing.T, s *parsedStanza, n *pooltest.FakeNetwork, fleet []netip.Addr)) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pace)
		begin(p, s)
		var fleet []netip.Addr
		for i := range size {
			fleet = append(fleet, pooltest.Addr(i))
		}
		pass(time.Minute, s, fleet...)
		f(t, s, n, fleet)
	})
}

// down counts the targets that are.
func down(s *parsedStanza, fleet []netip.Addr) int {
	n := 0
	for _, a := range fleet {
		if state(s, a) == verdict.Down {
			n++
		}
	}
	return n
}

// rest lets time pass, and everything settle.
func rest(d time.Duration) {
	pooltest.Elapse(d)
	synctest.Wait()
}

var hastyPace = verdict.Pace{Interval: 10 * time.Second, Fast: 2 * time.Second, Timeout: 2 * time.Second, Rise: 1, Fall: 1}

// While not one of sixteen targets answers, none is taken down; the first answer ends that, and what failed until then
// counts for nothing (B56).
func TestIsolation(t *testing.T) {
	for name, pace := range map[string]verdict.Pace{"fall 3": pooltest.Pace, "fall 1": hastyPace} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, isolatedFrom, pace, func(t *testing.T, s *parsedStanza, n *pooltest.FakeNetwork, fleet []netip.Addr) {
				const most = isolatedOthers // may fall before anybody can know
				n.Swallow(fleet...)
				rest(50 * time.Second)
				if got := down(s, fleet); got > most {
					t.Errorf("%d are down though nobody answers", got)
				}
				if testutil.ToFloat64(metrics.Isolated) != 1 {
					t.Error("the metric does not say so")
				}
				n.Set(n.Holes, false, fleet)
				rest(3 * time.Second) // the fast pace, and the probes that were under way
				if testutil.ToFloat64(metrics.Isolated) != 0 {
					t.Error("an answer does not end it")
				}
				for range 30 {
					rest(time.Second)
					if got := down(s, fleet); got > most {
						t.Fatalf("%d went down afterwards", got)
					}
				}
			})
		})
	}
}

// In the end all of them may be dead: after a minute, by the manual, they go down, and stay so until one answers (B56).
func TestIsolationEnds(t *testing.T) {
	inFleet(t, isolatedFrom, pooltest.Pace, func(t *testing.T, s *parsedStanza, n *pooltest.FakeNetwork, fleet []netip.Addr) {
		n.Kill(fleet...)
		rest(time.Minute)
		if got := down(s, fleet); got > isolatedOthers {
			t.Errorf("%d are down within a minute", got)
		}
		rest(pooltest.Pace.Bound() + pooltest.Pace.Fast)
		if got := down(s, fleet); got != len(fleet) {
			t.Errorf("%d of %d are down", got, len(fleet))
		}
		if testutil.ToFloat64(metrics.Isolated) != 0 {
			t.Error("the metric stays")
		}
		n.Revive(fleet...)
		rest(30 * time.Second)
		if got := down(s, fleet); got != 0 {
			t.Errorf("%d stay down", got)
		}
	})
}

// It also ends, by the next sweep, when the targets have become too few for it or are gone (B56).
func TestIsolationEndsWithoutTargets(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		fleet := addrs(0, isolatedFrom)
		pass(time.Minute, s, fleet...)
		n.Swallow(fleet...)
		rest(pooltest.Pace.Bound() + pooltest.Pace.Fast)
		if testutil.ToFloat64(metrics.Isolated) != 1 {
			t.Fatal("not isolated")
		}
		p.calls <- func() {
			for _, w := range p.monitors {
				p.forget(w, time.Now())
			}
		}
		rest(isolatedFor + sweepEvery)
		if testutil.ToFloat64(metrics.Isolated) != 0 {
			t.Error("still isolated, from nobody")
		}
	})
}

// What really died meanwhile goes down once the network is back (B56).
func TestIsolationForgivesOnce(t *testing.T) {
	inFleet(t, isolatedFrom, pooltest.Pace, func(t *testing.T, s *parsedStanza, n *pooltest.FakeNetwork, fleet []netip.Addr) {
		n.Swallow(fleet...)
		rest(40 * time.Second)
		n.Set(n.Holes, false, fleet[2:])
		rest(pooltest.Pace.Bound() + 3*time.Second)
		if got := down(s, fleet[:2]); got != 2 {
			t.Errorf("%d of 2 dead ones are down", got)
		}
		if got := down(s, fleet[2:]); got != 0 {
			t.Errorf("%d living ones are down", got)
		}
	})
}

// Of thirty targets, six die together. They are out at their bound, or quicker after an alarm: that nobody has answered in
// the moment between their first failure and their last proves nothing (B54, B56).
func TestManyDieTogether(t *testing.T) {
	for fall := 1; fall <= 3; fall++ {
		pace := pooltest.Pace
		pace.Fall = fall
		t.Run(fmt.Sprint("fall ", fall), func(t *testing.T) {
			inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
				s := testStanza("tcp://:80", n, pace)
				s.checks[0].hold = true
				begin(p, s)
				var fleet []netip.Addr
				for i := range 30 {
					fleet = append(fleet, pooltest.Addr(i))
				}
				pass(time.Minute, s, fleet...)
				answers := func() (all int) {
					for _, a := range fleet[6:] {
						all += n.Asked(a)
					}
					return all
				}
				for before := answers(); answers() == before; { // or by chance nobody has answered for a second, which is silence
					pooltest.Elapse(10 * time.Millisecond)
				}
				n.Kill(fleet[:6]...)
				alarm(s, fleet[:6]...)
				rest(time.Second)
				if got := down(s, fleet); got != 6 {
					t.Errorf("%d of 6 dead ones are down", got)
				}
			})
		})
	}
}

// A process that ends loses its connections before its port: the probe that an alarm brings may be accepted by it still, and
// the next one shows that it is gone (B53).
func TestAlarmOutlivesAGoodProbe(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.checks[0].hold = true
		begin(p, s)
		pass(time.Minute, s, pooltest.Addr(1))
		before := n.Asked(pooltest.Addr(1))
		alarm(s, pooltest.Addr(1))
		rest(alarmPace / 2)
		if got := n.Asked(pooltest.Addr(1)) - before; got != 1 {
			t.Fatalf("%d probes after the alarm, want one at once", got)
		}
		n.Kill(pooltest.Addr(1))
		rest(time.Second)
		if got := state(s, pooltest.Addr(1)); got != verdict.Down {
			t.Errorf("%s a second after it is gone", got)
		}
	})
}

// alarm tells the pool that the peers have ended their connections.
func alarm(s *parsedStanza, addrs ...netip.Addr) {
	s.pool.life.Lock()
	defer s.pool.life.Unlock()
	s.pool.do(func() {
		for _, a := range addrs {
			w := s.pool.find(&verdict.Target{Identity: s.checks[0].identity, Addr: netip.AddrPortFrom(a, 80)}, s.checks[0].seed)
			w.held = &heldConn{conn: new(wire.Held), alarmAt: clock.LongAgo}
			s.pool.prober.held++
			metrics.HeldConnections.Inc()
			s.pool.peerClosed(w, w.held.conn, time.Now())
		}
	})
}

// Targets that have never answered go down, though those that are up are asked so seldom that nobody answers meanwhile (B52,
// B56).
func TestNewOnesAreDead(t *testing.T) {
	pace := pooltest.Pace
	pace.Interval = time.Hour
	inFleet(t, isolatedFrom, pace, func(t *testing.T, s *parsedStanza, n *pooltest.FakeNetwork, fleet []netip.Addr) {
		pass(2*time.Hour, s, fleet...) // from now on, they are asked an hour apart
		fresh := addrs(100, 110)
		n.Kill(fresh...)
		lookAll(s, fresh)
		rest(time.Duration(pace.Fall) * pace.Fast)
		if got := down(s, fresh); got != len(fresh) {
			t.Errorf("%d of %d that never answered are down", got, len(fresh))
		}
	})
}

// While none has ever answered, as when the server starts before its network, none is taken down either (B56).
func TestIsolatedFromTheStart(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		fleet := addrs(0, isolatedFrom)
		n.Swallow(fleet...)
		lookAll(s, fleet)
		rest(isolatedFor)
		if got := down(s, fleet); got != 0 {
			t.Errorf("%d are down", got)
		}
		n.Set(n.Holes, false, fleet)
		rest(10 * time.Second)
		for _, a := range fleet {
			if state(s, a) != verdict.Up {
				t.Errorf("%s is %s", a, state(s, a))
			}
		}
	})
}

// It takes sixteen targets, and four others that fail: else the bound of B54 holds.
func TestNotIsolated(t *testing.T) {
	for name, tc := range map[string]struct{ size, dead int }{
		"too few are watched": {isolatedFrom - 1, isolatedFrom - 1},
		"some answer":         {2 * isolatedFrom, isolatedFrom},
		"few fail":            {isolatedFrom, isolatedOthers},
	} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, tc.size, pooltest.Pace, func(t *testing.T, s *parsedStanza, n *pooltest.FakeNetwork, fleet []netip.Addr) {
				n.Kill(fleet[:tc.dead]...)
				rest(pooltest.Pace.Bound() + time.Millisecond)
				if got := down(s, fleet); got != tc.dead {
					t.Errorf("%d of %d dead ones are down", got, tc.dead)
				}
			})
		})
	}
}
