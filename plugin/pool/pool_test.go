package pool

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestPoolLearnsAndBelieves(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		n.Kill(pooltest.Addr(2))
		if v := verdictOf(s, pooltest.Addr(1)); v != (verdict.Verdict{}) {
			t.Errorf("before the first probe: %+v", v)
		}
		pass(30*time.Second, s, pooltest.Addr(1), pooltest.Addr(2))
		if v := verdictOf(s, pooltest.Addr(1)); v.State != verdict.Up || v.Reason != "" {
			t.Errorf("alive: %+v", v)
		}
		if v := verdictOf(s, pooltest.Addr(2)); v.State != verdict.Down || v.Reason != "connection refused" {
			t.Errorf("dead: %+v", v)
		}
	})
}

// A dead address goes down within interval + 2 × max(fast, timeout) + timeout, and comes up again within interval +
// fast + timeout. The phase of the interval does not matter, nor whether the backend refuses or drops connections
// (B51 to B54).
func TestPoolBound(t *testing.T) {
	for _, pace := range []verdict.Pace{pooltest.Pace,
		{Interval: 10 * time.Second, Fast: time.Second, Timeout: 5 * time.Second, Rise: 2, Fall: 3},
		{Interval: time.Second, Fast: time.Second, Timeout: time.Second, Rise: 1, Fall: 1}} {
		inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
			s := testStanza("tcp://:80", n, pace)
			begin(p, s)
			var addrs []netip.Addr
			for i := range 200 {
				addrs = append(addrs, pooltest.Addr(i))
			}
			var living []netip.Addr // otherwise the pool would conclude that it is isolated
			for i := range 100 {
				living = append(living, pooltest.Addr(1000+i))
			}
			pass(60*time.Second, s, slices.Concat(addrs, living)...)
			n.Kill(addrs[:100]...)
			n.Swallow(addrs[100:]...)
			killed := time.Now()
			time.Sleep(pace.Bound() + time.Millisecond)
			synctest.Wait()
			for _, a := range addrs {
				if v := verdictOf(s, a); v.State != verdict.Down {
					t.Fatalf("%s: %s is %s, %s after the kill: probes at %v", pace, a, v.State, time.Since(killed), n.Times(a))
				}
			}
			n.Revive(addrs[:100]...)
			n.Set(n.Holes, false, addrs)
			time.Sleep(pace.Interval + time.Duration(pace.Rise-1)*pace.Fast + pace.Timeout + time.Millisecond)
			synctest.Wait()
			for _, a := range addrs {
				if v := verdictOf(s, a); v.State != verdict.Up {
					t.Fatalf("%s: %s is still %s after its revival", pace, a, v.State)
				}
			}
		})
	}
}

// If nothing is in doubt, a target is probed once an interval, less up to a tenth of it. Targets that were added
// together do not stay together (B65).
func TestPoolSpreads(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		var addrs []netip.Addr
		for i := range 1000 {
			addrs = append(addrs, pooltest.Addr(i))
			s.Look(owner, pooltest.Addr(i), 0, 30)
		}
		time.Sleep(40 * time.Second)
		from := time.Now()
		time.Sleep(10 * time.Second)
		var second [10]int
		for _, a := range addrs {
			times := n.Times(a)
			for i := 2; i < len(times); i++ {
				if gap := times[i].Sub(times[i-1]); gap < 9*time.Second || gap > 10*time.Second {
					t.Fatalf("%s: %s between two probes", a, gap)
				}
			}
			for _, at := range times {
				if since := at.Sub(from); since >= 0 && since < 10*time.Second {
					second[since/time.Second]++
				}
			}
		}
		for i, count := range second {
			if count < 60 || count > 160 { // about 105 in each
				t.Errorf("second %d has %d of about 1050 probes: %v", i, count, second)
			}
		}
	})
}

// If nine of ten targets do not respond, the number of probes under way stays within its limit, and the targets that
// respond are probed as if the others did not exist (B65, B66).
func TestPoolDeadDoNotDelayTheLiving(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		const total = 4000 // with 2 s each at 10 s, the unresponsive targets alone would need 720 places at once
		for i := range total {
			if i%10 > 0 {
				n.Swallow(pooltest.Addr(i))
			}
			s.Look(owner, pooltest.Addr(i), 0, 30)
			if i%1000 == 999 {
				synctest.Wait() // the pool's inbox has a limit
			}
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		for i := 0; i < total; i += 10 {
			times := n.Times(pooltest.Addr(i))
			if last := times[len(times)-1]; time.Since(last) > 11*time.Second {
				t.Fatalf("%s, alive, was last probed %s ago", pooltest.Addr(i), time.Since(last))
			}
		}
		if n.Most > p.schedule.bound {
			t.Errorf("%d probes at once, want at most %d", n.Most, p.schedule.bound)
		}
		n.Set(n.Holes, false, []netip.Addr{pooltest.Addr(1)})
		time.Sleep(time.Minute)
		synctest.Wait()
		if v := verdictOf(s, pooltest.Addr(1)); v.State != verdict.Up {
			t.Errorf("a revived target is %s after a minute", v.State)
		}
	})
}

// One probe serves all names, stanzas and listeners that share an address and a check (B64, B72).
func TestPoolSharesTargets(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		a, b := testStanza("tcp://:80", n, pooltest.Pace), testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, a, b)
		other := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, other)
		for range 120 {
			for _, s := range []*stanza{a, b, other} {
				for range 10 {
					s.Look(owner, pooltest.Addr(1), 0, 30)
				}
			}
			time.Sleep(time.Second)
		}
		if got := n.Asked(pooltest.Addr(1)); got < 12 || got > 15 {
			t.Errorf("probed %d times in two minutes", got)
		}
	})
}

// If an address has several checks, all must pass (B45).
func TestAllChecksMustPass(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		other := pooltest.NewNetwork()
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.checks = append(s.checks, testStanza("tcp://:81", other, pooltest.Pace).checks...)
		begin(p, s)
		n.Kill(pooltest.Addr(2))
		other.Kill(pooltest.Addr(3))
		pass(30*time.Second, s, pooltest.Addr(1), pooltest.Addr(2), pooltest.Addr(3))
		for i, want := range map[int]verdict.State{1: verdict.Up, 2: verdict.Down, 3: verdict.Down} {
			if got := stateOf(s, pooltest.Addr(i)); got != want {
				t.Errorf("%s is %s, want %s", pooltest.Addr(i), got, want)
			}
		}
	})
}

// Over a limit, an address is served unchecked and counted. A flood of new addresses does not replace watched ones
// (B61).
func TestPoolCaps(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.Max = 10
		begin(p, s)
		for i := range 10 {
			s.Look(owner, pooltest.Addr(i), 0, 30)
		}
		synctest.Wait()
		before := testutil.ToFloat64(metrics.SkippedMaxTargets)
		for i := 10; i < 1000; i++ {
			s.Look(owner, pooltest.Addr(i), 0, 30)
			synctest.Wait()
		}
		if v := verdictOf(s, pooltest.Addr(999)); v.State != verdict.Unchecked {
			t.Errorf("over the limit: %+v", v)
		}
		if got := testutil.ToFloat64(metrics.SkippedMaxTargets) - before; got < 900 {
			t.Errorf("%v counted", got)
		}
		if got := sizeOf(p).monitors; got != 10 || n.Asked(pooltest.Addr(999)) != 0 {
			t.Errorf("%d targets, want 10", got)
		}
		pass(20*time.Minute, s, pooltest.Addr(0), pooltest.Addr(1)) // the other eight targets are forgotten
		s.Look(owner, pooltest.Addr(500), 0, 30)
		pass(10*time.Second, s, pooltest.Addr(500))
		if v := verdictOf(s, pooltest.Addr(500)); v.State != verdict.Up {
			t.Errorf("after targets were forgotten, the verdict is %+v", v)
		}
	})
}

// A probe that could not be made proves nothing. It is counted and repeated (B49).
func TestPoolAbstains(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("abstaining", n, pooltest.Pace)
		begin(p, s)
		pass(20*time.Second, s, pooltest.Addr(1))
		for _, fault := range []func(){
			func() { n.Broken = fmt.Errorf("%w: too many open files", check.ErrAbstain) },
			func() { n.Panics = true },
		} {
			n.Do(fault)
			before := n.Asked(pooltest.Addr(1))
			pass(2*time.Minute, s, pooltest.Addr(1))
			if v := verdictOf(s, pooltest.Addr(1)); v.State != verdict.Up {
				t.Errorf("%+v", v)
			}
			if got := n.Asked(pooltest.Addr(1)) - before; got < 20 {
				t.Errorf("tried %d times in two minutes", got)
			}
		}
		if got := testutil.ToFloat64(metrics.Probes.WithLabelValues("abstaining", "abstained")); got < 40 {
			t.Errorf("%v abstentions counted", got)
		}
	})
}

// A panic of the loop itself loses the verdicts and nothing else.
func TestPoolSurvivesItself(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		n.Kill(pooltest.Addr(1))
		pass(20*time.Second, s, pooltest.Addr(1), pooltest.Addr(2))
		before := testutil.ToFloat64(metrics.Panics)
		p.calls <- func() { panic("a fault in the pool") }
		synctest.Wait()
		if v := verdictOf(s, pooltest.Addr(1)); v.State != verdict.Unknown {
			t.Errorf("right after: %+v", v)
		}
		if got := testutil.ToFloat64(metrics.Panics) - before; got != 1 {
			t.Errorf("%v panics counted", got)
		}
		pass(20*time.Second, s, pooltest.Addr(1), pooltest.Addr(2))
		if v := verdictOf(s, pooltest.Addr(1)); v.State != verdict.Down {
			t.Errorf("a while later: %+v", v)
		}
	})
}

// A result for a target that was removed in the meantime is dropped (S8).
func TestPoolDropsLateResults(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s, keeper := testStanza("tcp://:80", n, pooltest.Pace), testStanza("tcp://:81", n, pooltest.Pace)
		g := begin(p, s)
		begin(p, keeper)
		n.Swallow(pooltest.Addr(1))
		s.Look(owner, pooltest.Addr(1), 0, 30)
		for n.Asked(pooltest.Addr(1)) == 0 {
			time.Sleep(100 * time.Millisecond)
		}
		p.Leave(g)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := sizeOf(p).monitors; n.Asked(pooltest.Addr(1)) != 1 || got != 0 || p.schedule.inFlight != [lanes]int{} {
			t.Errorf("probed %d times, %d watches, %v in flight", n.Asked(pooltest.Addr(1)), got, p.schedule.inFlight)
		}
	})
}

// A query never waits: Look returns even if the loop is stopped and every channel is full (B67).
func TestLookNeverWaits(t *testing.T) {
	p, n := New(), pooltest.NewNetwork()
	s := testStanza("tcp://:80", n, pooltest.Pace)
	p.AddGroup(new(Generation), &s.Group)
	before := testutil.ToFloat64(metrics.SkippedBusy)
	for i := range 2 * maxRequests {
		s.Look(owner, pooltest.Addr(i), 0, 30)
		p.Warn("line %d", i)
	}
	if got := testutil.ToFloat64(metrics.SkippedBusy) - before; got != maxRequests {
		t.Errorf("%v dropped, want %d", got, maxRequests)
	}
}

// The rate of probes is limited, whatever the Corefile says.
func TestScheduleRate(t *testing.T) {
	s := schedule{bound: 512}
	now := time.Unix(1e9, 0)
	for range 10 * maxInFlight {
		s.add(in(calm), clock.At(now), now)
	}
	started := 0
	for at := now; at.Before(now.Add(50 * time.Millisecond)); at = at.Add(time.Millisecond) {
		s.dispatch(at, func(w *monitor) { started++; s.done(w) })
	}
	if most := int(60 * time.Millisecond / (time.Second / maxRate)); started > most+1 || started < most/2 {
		t.Errorf("%d probes in 50 ms, want at most %d", started, most)
	}
}

// Every scheduled time has a monotonic reading, which Go uses to compare and subtract times. A change of the system
// clock therefore changes no wait (B58).
func TestSchedulesIgnoreTheWallClock(t *testing.T) {
	p, n := New(), pooltest.NewNetwork()
	pace := verdict.Pace{Interval: verdict.MinInterval, Fast: verdict.MinInterval, Timeout: verdict.MinInterval, Rise: 1, Fall: 1}
	s := testStanza("tcp://:80", n, pace)
	g := begin(p, s)
	defer p.Leave(g)
	for began := time.Now(); n.Asked(pooltest.Addr(1)) < 3; time.Sleep(time.Millisecond) {
		s.Look(owner, pooltest.Addr(1), 0, 30)
		if time.Since(began) > time.Minute {
			t.Fatal("never probed")
		}
	}
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() {
		for what, at := range map[string]time.Time{"the next sweep": p.nextSweep, "what moments count from": clock.Started} {
			if at == at.Round(0) { // Round strips the monotonic reading
				t.Errorf("%s has no monotonic reading", what)
			}
		}
		for _, w := range p.monitors {
			if ahead := w.due.Sub(clock.At(time.Now())); ahead > time.Minute || ahead < -time.Minute {
				t.Errorf("%s is due in %s", w.entry.Target, ahead)
			}
		}
	})
}

// A probe that was late by more than an interval is made once, and counted (B66).
func TestPoolCountsOverdue(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		p.schedule.bound = 512
		const holes = 3 * 384
		for i := range holes { // each occupies one of the places for failing targets until its timeout
			n.Swallow(pooltest.Addr(i))
			s.Look(owner, pooltest.Addr(i), 0, 30)
		}
		synctest.Wait() // all of them are added
		p.calls <- func() {
			for _, w := range p.monitors {
				w.check.pace.Timeout = time.Minute // as if the limit were far below what is needed
			}
		}
		before := testutil.ToFloat64(metrics.SkippedOverdue)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if testutil.ToFloat64(metrics.SkippedOverdue) == before {
			t.Error("no missed turn was counted")
		}
		for i := range holes {
			times := n.Times(pooltest.Addr(i))
			for k := 1; k < len(times); k++ {
				if times[k].Sub(times[k-1]) < time.Second {
					t.Fatalf("%s was probed twice within %s", pooltest.Addr(i), times[k].Sub(times[k-1]))
				}
			}
		}
	})
}

// If the rate limit applies, what is in doubt gets what it needs, and every other lane its share.
func TestScheduleRateIsFair(t *testing.T) {
	s := schedule{bound: 4096}
	now := time.Now()
	for i := range 6000 {
		s.add(in(lane(i)%idle), clock.At(now.Add(time.Duration(i)*time.Microsecond)), now)
	}
	var started [lanes]int
	for at := now.Add(10 * time.Millisecond); at.Before(now.Add(time.Second)); at = at.Add(time.Millisecond) {
		s.dispatch(at, func(m *monitor) {
			started[m.lane]++
			s.done(m)
			s.add(m, clock.At(at), now) // due again at once, so there is always more work than the rate allows
		})
	}
	total := 0
	for _, n := range started {
		total += n
	}
	for l, want := range [lanes]float64{doubt: 8, calm: 8, fallen: 2, undecided: 4, slow: 2} {
		if got := float64(started[l]) / float64(total); got < want/24*0.9 || got > want/24*1.1 {
			t.Errorf("%s had %.3f of the probes, want %.3f", lane(l), got, want/24)
		}
	}
}

// The clock that queries read is at most a second behind during a warm-up, however rarely the pool probes.
func TestClockOfThePool(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.Warms = true
		begin(p, s)
		for range 20 {
			pooltest.Elapse(1700 * time.Millisecond)
			if late := time.Since(time.UnixMilli(int64(p.clock.Load()))); late > time.Second {
				t.Fatalf("the clock is %s behind", late)
			}
		}
	})
}
