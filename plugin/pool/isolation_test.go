package pool

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

// inFleet runs a test of a pool with that many targets, all of them up.
func inFleet(t *testing.T, size int, pace verdict.Pace, f func(t *testing.T, s *stanza, n *pooltest.FakeNetwork, fleet []netip.Addr)) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
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

// down counts the targets that are down.
func down(s *stanza, fleet []netip.Addr) int {
	n := 0
	for _, a := range fleet {
		if stateOf(s, a) == verdict.Down {
			n++
		}
	}
	return n
}

// rest lets time pass, and all goroutines come to rest.
func rest(d time.Duration) {
	pooltest.Elapse(d)
	synctest.Wait()
}

var hastyPace = verdict.Pace{Interval: 10 * time.Second, Fast: 2 * time.Second, Timeout: 2 * time.Second, Rise: 1, Fall: 1}

// While none of sixteen targets answers, none is taken down. The first answer ends the isolation, and earlier
// failures are not counted (B56).
func TestIsolation(t *testing.T) {
	for name, pace := range map[string]verdict.Pace{"fall 3": pooltest.Pace, "fall 1": hastyPace} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, isolatedFrom, pace, func(t *testing.T, s *stanza, n *pooltest.FakeNetwork, fleet []netip.Addr) {
				const most = isolatedOthers // may go down before isolation can be detected
				n.Swallow(fleet...)
				rest(50 * time.Second)
				if got := down(s, fleet); got > most {
					t.Errorf("%d are down during isolation", got)
				}
				if testutil.ToFloat64(metrics.Isolated) != 1 {
					t.Error("the metric does not show isolation")
				}
				n.Set(n.Holes, false, fleet)
				rest(3 * time.Second) // the fast pace, and the probes that were under way
				if testutil.ToFloat64(metrics.Isolated) != 0 {
					t.Error("an answer does not end isolation")
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

// Isolation lasts at most a minute, as the manual says. Then the targets that do not answer go down, and stay down
// until they answer (B56).
func TestIsolationEnds(t *testing.T) {
	inFleet(t, isolatedFrom, pooltest.Pace, func(t *testing.T, s *stanza, n *pooltest.FakeNetwork, fleet []netip.Addr) {
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
			t.Error("the metric still shows isolation")
		}
		n.Revive(fleet...)
		rest(30 * time.Second)
		if got := down(s, fleet); got != 0 {
			t.Errorf("%d stay down", got)
		}
	})
}

// Isolation also ends, in the next sweep, when there are too few targets for it or none (B56).
func TestIsolationEndsWithoutTargets(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
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
			t.Error("still isolated without targets")
		}
	})
}

// A target that really died during isolation goes down when the network is back (B56).
func TestIsolationForgivesOnce(t *testing.T) {
	inFleet(t, isolatedFrom, pooltest.Pace, func(t *testing.T, s *stanza, n *pooltest.FakeNetwork, fleet []netip.Addr) {
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

// If six of thirty targets die together, they go down within their time limit, or sooner after an alarm. A short
// silence between their first failure and their last does not count as isolation (B54, B56).
func TestManyDieTogether(t *testing.T) {
	for fall := 1; fall <= 3; fall++ {
		pace := pooltest.Pace
		pace.Fall = fall
		t.Run(fmt.Sprint("fall ", fall), func(t *testing.T) {
			inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
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
				for before := answers(); answers() == before; { // or no target happened to answer for a second, which counts as silence
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

// A process that ends closes its connections before its port. It may still accept the probe that an alarm starts, and
// the next probe shows that it has ended (B53).
func TestAlarmOutlivesAGoodProbe(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
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
		if got := stateOf(s, pooltest.Addr(1)); got != verdict.Down {
			t.Errorf("the state is %s one second after the process ended", got)
		}
	})
}

// alarm notifies the pool that the peers have closed their connections.
func alarm(s *stanza, addrs ...netip.Addr) {
	s.pool.life.Lock()
	defer s.pool.life.Unlock()
	s.pool.do(func() {
		for _, a := range addrs {
			w := s.pool.find(&verdict.Target{Identity: s.checks[0].identity, Addr: netip.AddrPortFrom(a, 80)}, s.checks[0].seed)
			w.held = &heldConn{conn: new(wire.Held), alarmAt: clock.LongAgo}
			s.pool.prober.held++
			metrics.Held.Connections.Inc()
			s.pool.peerClosed(w, w.held.conn, time.Now())
		}
	})
}

// Targets that have never answered go down, although the targets that are up are probed so rarely that none of them
// answers in that time (B52, B56).
func TestNewOnesAreDead(t *testing.T) {
	pace := pooltest.Pace
	pace.Interval = time.Hour
	inFleet(t, isolatedFrom, pace, func(t *testing.T, s *stanza, n *pooltest.FakeNetwork, fleet []netip.Addr) {
		pass(2*time.Hour, s, fleet...) // from now on they are probed once an hour
		fresh := addrs(100, 110)
		n.Kill(fresh...)
		lookAll(s, fresh)
		rest(time.Duration(pace.Fall) * pace.Fast)
		if got := down(s, fresh); got != len(fresh) {
			t.Errorf("%d of %d that never answered are down", got, len(fresh))
		}
	})
}

// If no target has ever answered, for example when the server starts before its network, none is taken down (B56).
func TestIsolatedFromTheStart(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
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
			if stateOf(s, a) != verdict.Up {
				t.Errorf("%s is %s", a, stateOf(s, a))
			}
		}
	})
}

// Isolation needs at least sixteen targets, and four others that fail. Otherwise the time limit of B54 applies.
func TestNotIsolated(t *testing.T) {
	for name, tc := range map[string]struct{ size, dead int }{
		"too few are watched": {isolatedFrom - 1, isolatedFrom - 1},
		"some answer":         {2 * isolatedFrom, isolatedFrom},
		"few fail":            {isolatedFrom, isolatedOthers},
	} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, tc.size, pooltest.Pace, func(t *testing.T, s *stanza, n *pooltest.FakeNetwork, fleet []netip.Addr) {
				n.Kill(fleet[:tc.dead]...)
				rest(pooltest.Pace.Bound() + time.Millisecond)
				if got := down(s, fleet); got != tc.dead {
					t.Errorf("%d of %d dead ones are down", got, tc.dead)
				}
			})
		})
	}
}
