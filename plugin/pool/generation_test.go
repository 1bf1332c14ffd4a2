package pool

import (
	"net/netip"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A reload with the same check keeps verdicts and streaks, and does not make probes more frequent (B69).
func TestReloadKeepsVerdicts(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		old := testStanza("tcp://:80", n, pooltest.Pace)
		g := begin(p, old)
		n.Kill(pooltest.Addr(1))
		pass(time.Minute, old, pooltest.Addr(1), pooltest.Addr(2))
		before := n.Asked(pooltest.Addr(1)) + n.Asked(pooltest.Addr(2))
		for range 20 {
			fresh := testStanza("tcp://:80", n, pooltest.Pace)
			next := candidateOf(p, fresh)
			if stateOf(fresh, pooltest.Addr(1)) != verdict.Down || stateOf(fresh, pooltest.Addr(2)) != verdict.Up {
				t.Fatalf("in the new generation: %s and %s", stateOf(fresh, pooltest.Addr(1)), stateOf(fresh, pooltest.Addr(2)))
			}
			p.Leave(g)
			p.Confirm(next)
			pass(time.Second, fresh, pooltest.Addr(1), pooltest.Addr(2))
			if stateOf(fresh, pooltest.Addr(1)) != verdict.Down || stateOf(fresh, pooltest.Addr(2)) != verdict.Up {
				t.Fatalf("after the reload: %s and %s", stateOf(fresh, pooltest.Addr(1)), stateOf(fresh, pooltest.Addr(2)))
			}
			g = next
		}
		if got := n.Asked(pooltest.Addr(1)) + n.Asked(pooltest.Addr(2)) - before; got > 6 {
			t.Errorf("%d probes in 20 seconds with 20 reloads", got)
		}
		if got, want := sizeOf(p), (size{generations: 1, checks: 1, monitors: 2}); got != want || g.groups[0].targets != 2 {
			t.Errorf("%+v, want %+v; %d targets counted", got, want, g.groups[0].targets)
		}
	})
}

// A check at a new pace starts with the verdicts of the old pace, before the new servers answer a query (B69).
func TestReloadWithAnotherPace(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		old := testStanza("tcp://:80", n, pooltest.Pace)
		g := begin(p, old)
		n.Kill(pooltest.Addr(1))
		pass(time.Minute, old, pooltest.Addr(1), pooltest.Addr(2))
		pace := pooltest.Pace
		pace.Interval = 30 * time.Second
		fresh := testStanza("tcp://:80", n, pace)
		next := candidateOf(p, fresh)
		if v := verdictOf(fresh, pooltest.Addr(1)); v.State != verdict.Down || v.Reason != "connection refused" {
			t.Errorf("before the start is complete: %+v", v)
		}
		p.Leave(g)
		p.Confirm(next)
		n.Revive(pooltest.Addr(1))
		pass(time.Minute, fresh, pooltest.Addr(1), pooltest.Addr(2))
		if stateOf(fresh, pooltest.Addr(1)) != verdict.Up {
			t.Error("the new pace does not probe")
		}
		if got := sizeOf(p).monitors; got != 2 {
			t.Errorf("%d watches, want 2", got)
		}
	})
}

// A start that fails leaves nothing behind, and none of its checks was run (B70).
func TestReloadFails(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		old := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, old)
		pass(30*time.Second, old, pooltest.Addr(1))
		other := pooltest.NewNetwork()
		pace := pooltest.Pace
		pace.Interval = 5 * time.Second
		for range 10 {
			candidateOf(p, testStanza("tcp://:81", other, pooltest.Pace), testStanza("tcp://:80", other, pace))
			pooltest.Elapse(20 * time.Second)
			p.Abandon()
		}
		if got := other.Asked(pooltest.Addr(1)); got != 0 {
			t.Errorf("%d probes for starts that failed", got)
		}
		pass(30*time.Second, old, pooltest.Addr(1))
		n.Kill(pooltest.Addr(1))
		pass(30*time.Second, old, pooltest.Addr(1))
		if stateOf(old, pooltest.Addr(1)) != verdict.Down {
			t.Error("the old instance has stopped probing")
		}
		if got, want := sizeOf(p), (size{generations: 1, checks: 1, monitors: 1}); got.generations != want.generations || got.checks != want.checks || got.monitors != want.monitors {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

// A check that a reload removes is no longer run, at once, and its series are removed (B69, B73).
func TestReloadRemovesCheck(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		harmful := pooltest.NewNetwork()
		old := testStanza("tcp://:81/harmful", harmful, pooltest.Pace)
		g := begin(p, old)
		pass(30*time.Second, old, pooltest.Addr(1))
		if got := testutil.ToFloat64(metrics.Probes.WithLabelValues("tcp://:81/harmful", "success")); got < 2 {
			t.Errorf("%v successes counted", got)
		}
		fresh := testStanza("tcp://:80", n, pooltest.Pace)
		next := candidateOf(p, fresh)
		p.Leave(g)
		p.Confirm(next)
		before := harmful.Asked(pooltest.Addr(1))
		pass(time.Minute, fresh, pooltest.Addr(1))
		if got := harmful.Asked(pooltest.Addr(1)); got != before {
			t.Errorf("probed %d more times", got-before)
		}
		if metrics.Probes.DeleteLabelValues("tcp://:81/harmful", "success") {
			t.Error("the series of the removed check is still there")
		}
	})
}

// Queries may reach a new generation before it is confirmed, while the old servers stop. Such a query confirms the
// generation. A query that reaches the old generation after it left changes nothing.
func TestQueryConfirms(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		old := testStanza("tcp://:81", n, pooltest.Pace)
		g := begin(p, old)
		fresh := testStanza("tcp://:80", n, pooltest.Pace)
		next := candidateOf(p, fresh)
		pass(20*time.Second, fresh, pooltest.Addr(1))
		if stateOf(fresh, pooltest.Addr(1)) != verdict.Up || next.stage != confirmed {
			t.Errorf("the new generation is in state %d with verdict %s", next.stage, stateOf(fresh, pooltest.Addr(1)))
		}
		p.Abandon() // because of another start
		p.Leave(g)
		pass(20*time.Second, old, pooltest.Addr(2))
		if g.stage != left || sizeOf(p).generations != 1 || n.Asked(pooltest.Addr(2)) != 0 {
			t.Errorf("the old generation is in state %d, and probed %d times", g.stage, n.Asked(pooltest.Addr(2)))
		}
	})
}

// The pool is not notified of a start that fails while no other instance runs. The next start that succeeds removes
// it, so that the pool stops when that start's generation leaves (B70).
func TestFailedFirstStart(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		candidateOf(p, testStanza("tcp://:80", n, pooltest.Pace))
		s := testStanza("tcp://:80", n, pooltest.Pace)
		g := begin(p, s)
		pass(20*time.Second, s, pooltest.Addr(1))
		p.Leave(g)
		if p.running.Load() || sizeOf(p).generations != 0 {
			t.Errorf("running: %t, %+v", p.running.Load(), sizeOf(p))
		}
	})
}

// A generation that was removed because of another failure comes back with its first query.
func TestAbandonedByMistake(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		begin(p, testStanza("tcp://:81", n, pooltest.Pace))
		fresh := testStanza("tcp://:80", n, pooltest.Pace)
		candidateOf(p, fresh)
		p.Abandon()
		pass(20*time.Second, fresh, pooltest.Addr(1))
		if stateOf(fresh, pooltest.Addr(1)) != verdict.Up {
			t.Errorf("%s", stateOf(fresh, pooltest.Addr(1)))
		}
	})
}

// When the last generation leaves, the pool stops, with every probe under way. It can start again, with no verdicts
// (B71).
func TestPoolStopsAndStarts(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		for range 3 {
			s := testStanza("tcp://:80", n, pooltest.Pace)
			g := begin(p, s)
			if stateOf(s, pooltest.Addr(1)) != verdict.Unknown {
				t.Fatalf("after a new start the verdict is %s", stateOf(s, pooltest.Addr(1)))
			}
			n.Kill(pooltest.Addr(1))
			for i := 2; i < 1000; i++ {
				if i%2 == 0 {
					n.Swallow(pooltest.Addr(i))
				}
				s.Look(owner, pooltest.Addr(i), 0, 30)
			}
			pass(30*time.Second, s, pooltest.Addr(1))
			began := time.Now()
			p.Leave(g)
			p.Leave(g)
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("the stop took %s", took)
			}
			if p.running.Load() || n.Under != 0 {
				t.Errorf("running: %t; %d probes under way", p.running.Load(), n.Under)
			}
			if stateOf(s, pooltest.Addr(1)) != verdict.Down {
				t.Error("queries under way lose the verdicts")
			}
			p.Confirm(g)
			if p.running.Load() {
				t.Error("a generation that left came back")
			}
		}
	})
}

// The limits and counts of targets follow the generation that the targets belong to.
func TestTargetsFollowTheirStanza(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		old := testStanza("tcp://:80", n, pooltest.Pace)
		old.Max = 3
		g := begin(p, old)
		pass(10*time.Second, old, pooltest.Addr(1), pooltest.Addr(2), pooltest.Addr(3), pooltest.Addr(4))
		fresh := testStanza("tcp://:80", n, pooltest.Pace)
		fresh.Max = 4
		next := candidateOf(p, fresh)
		p.Leave(g)
		p.Confirm(next)
		pass(10*time.Second, fresh, pooltest.Addr(4), pooltest.Addr(5))
		if got := sizeOf(p).monitors; got != 4 || fresh.targets != 4 || !fresh.full.Load() {
			t.Errorf("%d watches, %d counted", got, fresh.targets)
		}
	})
}

// A network that a reload removes from within is no longer probed, at once. A stanza does not take over the targets
// of another because both have the same check (B60, B69).
func TestReloadNarrowsWithin(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		old := testStanza("tcp://:80", n, pooltest.Pace)
		old.Zones = "a.example.org."
		g := begin(p, old)
		inside, outside := pooltest.Addr(1), netip.MustParseAddr("192.0.2.1")
		pass(30*time.Second, old, inside, outside)
		fresh := testStanza("tcp://:80", n, pooltest.Pace)
		fresh.Zones = "a.example.org."
		fresh.within = network.List{network.New(netip.MustParsePrefix("10.0.0.0/8"))}
		pace := pooltest.Pace
		pace.Interval = time.Second
		pace.Fast, pace.Timeout = time.Second, time.Second
		other := testStanza("tcp://:80", n, pace)
		other.Zones = "b.example.org."
		next := candidateOf(p, fresh, other)
		p.Leave(g)
		p.Confirm(next)
		before := n.Asked(outside)
		pass(time.Minute, fresh, inside, outside)
		if got := n.Asked(outside); got != before {
			t.Errorf("probed %d more times outside within", got-before)
		}
		if other.targets != 0 || fresh.targets != 1 || sizeOf(p).monitors != 1 {
			t.Errorf("%d and %d targets counted", fresh.targets, other.targets)
		}
	})
}

// A shared target keeps counting for the stanza that asked for it, over reloads (B61).
func TestTargetsOfStanzasStayApart(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		stanzas := func() (a, b *stanza) {
			a, b = testStanza("tcp://:80", n, pooltest.Pace), testStanza("tcp://:80", n, pooltest.Pace)
			a.Zones, b.Zones = "a.example.org.", "b.example.org."
			return a, b
		}
		a, b := stanzas()
		g := begin(p, a, b)
		pass(5*time.Second, a, pooltest.Addr(1))
		pass(5*time.Second, b, pooltest.Addr(2), pooltest.Addr(3))
		a, b = stanzas()
		next := candidateOf(p, a, b)
		p.Leave(g)
		p.Confirm(next)
		if sizeOf(p); a.targets != 1 || b.targets != 2 {
			t.Errorf("%d and %d targets, want 1 and 2", a.targets, b.targets)
		}
	})
}

// When the last generation leaves, no series of its checks remains (B73).
func TestStopClearsMetrics(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		before := testutil.ToFloat64(targets[verdict.Up])
		s := testStanza("tcp://:80/last", n, pooltest.Pace)
		g := begin(p, s)
		pass(20*time.Second, s, pooltest.Addr(1))
		p.Leave(g)
		if metrics.Probes.DeleteLabelValues("tcp://:80/last", "success") {
			t.Error("the series of the check is still there")
		}
		if got := testutil.ToFloat64(targets[verdict.Up]); got != before {
			t.Errorf("%v targets are up, %v were before", got, before)
		}
	})
}

// A probe that a stop cancels may return after the next start, and does not affect it: its target is neither counted
// nor probed again (B63, B71).
func TestResultAfterStop(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		var before [len(targets)]float64
		for i, gauge := range targets {
			if gauge != nil {
				before[i] = testutil.ToFloat64(gauge)
			}
		}
		flight := testutil.ToFloat64(metrics.ProbesInFlight)
		s := testStanza("tcp://:80", n, pooltest.Pace)
		g := begin(p, s)
		n.Swallow(pooltest.Addr(1))
		s.Look(owner, pooltest.Addr(1), 0, 30)
		for n.Asked(pooltest.Addr(1)) == 0 {
			pooltest.Elapse(100 * time.Millisecond)
		}
		p.Leave(g)
		if got := testutil.ToFloat64(metrics.ProbesInFlight); got != flight {
			t.Errorf("%v probes are under way after the stop, %v were before", got, flight)
		}
		asked := n.Asked(pooltest.Addr(1))
		n.Set(n.Holes, false, []netip.Addr{pooltest.Addr(1)})
		again := testStanza("tcp://:80", n, pooltest.Pace)
		g = begin(p, again)
		pass(time.Minute, again, pooltest.Addr(2))
		if got := n.Asked(pooltest.Addr(1)); got != asked {
			t.Errorf("probed %d more times after the stop", got-asked)
		}
		p.Leave(g)
		for i, gauge := range targets {
			if gauge != nil && testutil.ToFloat64(gauge) != before[i] {
				t.Errorf("%v targets are %s, %v were before", testutil.ToFloat64(gauge), verdict.State(i), before[i])
			}
		}
	})
}

// A query during the end of a generation does not confirm it: what OnLeave ends would otherwise run forever.
func TestLeavingIsNotConfirmed(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		begin(p, testStanza("tcp://:80", n, pooltest.Pace))
		s, g := testStanza("tcp://:81", n, pooltest.Pace), new(Generation)
		p.AddGroup(g, &s.Group)
		runs := false
		g.OnConfirm = func() { runs = true }
		g.OnLeave = func() {
			runs = false
			s.Look(owner, pooltest.Addr(1), 0, 30)
		}
		p.Join(g)
		p.Leave(g)
		s.Look(owner, pooltest.Addr(1), 0, 30)
		if pooltest.Elapse(time.Second); runs || n.Asked(pooltest.Addr(1)) != 0 {
			t.Error("a generation that has left runs")
		}
	})
}
