package multivalue

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// testStanza is a stanza whose one check is answered by the network.
// owner is the name whose set the tests' addresses stand in.
const owner = "www.example.org."

func testStanza(name string, n Prober, pace verdict.Pace) *parsedStanza {
	s := &parsedStanza{pace: pace}
	s.account = &Group{Max: defaultTargets}
	s.checks = []CheckSpec{{prober: n, Name: name, withoutPace: verdict.Identify(name, 0), port: 80}}
	s.rule.Types = answer.DefaultTypes
	s.checks[0].SetPace(pace)
	s.seal(pace)
	return s
}

// begin starts a generation with the stanzas on p.
func begin(p *pool, stanzas ...*parsedStanza) *generation {
	g := new(generation)
	for _, s := range stanzas {
		g.add(s, p)
	}
	p.join(g)
	p.confirm(g)
	return g
}

// inBubble runs a test of a pool in fake time, and ends the pool.
func inBubble(t *testing.T, f func(t *testing.T, p *pool, n *pooltest.FakeNetwork)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool()
		f(t, p, pooltest.NewNetwork())
		for _, g := range append([]*generation(nil), p.generations...) {
			for _, l := range g.learners {
				l.close()
			}
			p.leave(g)
		}
	})
}

// size is how much a pool has of everything, counted where nothing else touches it.
type size struct{ generations, checks, watches, memories int }

func sizeOf(p *pool) (s size) {
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() { s = size{len(p.generations), len(p.checks), len(p.monitors), len(p.memories)} })
	return s
}

// verdictOf looks an address up as a query does, and returns all that the pool believes of it, which must agree.
func verdictOf(s *parsedStanza, a netip.Addr) (v verdict.Verdict) {
	brief := s.Look(owner, a, 0, 30)
	if brief.State() == verdict.Unchecked {
		return verdict.Verdict{State: verdict.Unchecked}
	}
	t := verdict.Target{Identity: s.checks[0].identity, Addr: netip.AddrPortFrom(a, s.checks[0].port)}
	s.pool.life.Lock()
	defer s.pool.life.Unlock()
	s.pool.do(func() {
		if w := s.pool.find(&t, s.checks[0].seed); w != nil {
			v = w.verdict()
		}
	})
	if v.Brief() != brief {
		panic(fmt.Sprintf("the pool believes %+v of %s, and the board shows %x", v, a, brief))
	}
	return v
}

// pass lets time pass while queries ask for the addresses every second.
func pass(d time.Duration, s *parsedStanza, addrs ...netip.Addr) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		for _, a := range addrs {
			s.Look(owner, a, 0, 30)
		}
		time.Sleep(time.Second)
		synctest.Wait()
	}
}

func TestPoolLearnsAndBelieves(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
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

// A dead address is out within interval + 2 × max(fast, timeout) + timeout, and a revived one back within interval +
// fast + timeout, wherever in the interval it happens, and whether it refuses or swallows (B51 to B54).
func TestPoolBound(t *testing.T) {
	for _, pace := range []verdict.Pace{pooltest.Pace,
		{Interval: 10 * time.Second, Fast: time.Second, Timeout: 5 * time.Second, Rise: 2, Fall: 3},
		{Interval: time.Second, Fast: time.Second, Timeout: time.Second, Rise: 1, Fall: 1}} {
		inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
			s := testStanza("tcp://:80", n, pace)
			begin(p, s)
			var addrs []netip.Addr
			for i := range 200 {
				addrs = append(addrs, pooltest.Addr(i))
			}
			var living []netip.Addr // or the pool would think that it is alone
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

// While nothing is in doubt, probes of a target come an interval apart, less up to a tenth; targets learned together do
// not stay together (B65).
func TestPoolSpreads(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
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

// Nine of ten targets are black holes. The probes under way stay within their bound, and the living are asked as if
// the dead were not there (B65, B66).
func TestPoolDeadDoNotDelayTheLiving(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		const total = 4000 // with 2 s each at 10 s, the dead alone want 720 places at once
		for i := range total {
			if i%10 > 0 {
				n.Swallow(pooltest.Addr(i))
			}
			s.Look(owner, pooltest.Addr(i), 0, 30)
			if i%1000 == 999 {
				synctest.Wait() // the pool's inbox is bounded
			}
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		for i := 0; i < total; i += 10 {
			times := n.Times(pooltest.Addr(i))
			if last := times[len(times)-1]; time.Since(last) > 11*time.Second {
				t.Fatalf("%s, alive, was last asked %s ago", pooltest.Addr(i), time.Since(last))
			}
		}
		if n.Most > p.schedule.bound {
			t.Errorf("%d probes at once, want at most %d", n.Most, p.schedule.bound)
		}
		n.Set(n.Holes, false, []netip.Addr{pooltest.Addr(1)})
		time.Sleep(time.Minute)
		synctest.Wait()
		if v := verdictOf(s, pooltest.Addr(1)); v.State != verdict.Up {
			t.Errorf("a revived one among the dead is %s after a minute", v.State)
		}
	})
}

// One probe serves all the names, stanzas and listeners that share an address and a check (B64, B72).
func TestPoolSharesTargets(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		a, b := testStanza("tcp://:80", n, pooltest.Pace), testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, a, b)
		other := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, other)
		for range 120 {
			for _, s := range []*parsedStanza{a, b, other} {
				for range 10 {
					s.Look(owner, pooltest.Addr(1), 0, 30)
				}
			}
			time.Sleep(time.Second)
		}
		if got := n.Asked(pooltest.Addr(1)); got < 12 || got > 15 {
			t.Errorf("asked %d times in two minutes", got)
		}
	})
}

// Of several checks all must pass (B45).
func TestAllChecksMustPass(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		other := pooltest.NewNetwork()
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.checks = append(s.checks, testStanza("tcp://:81", other, pooltest.Pace).checks...)
		s.seal(pooltest.Pace)
		begin(p, s)
		n.Kill(pooltest.Addr(2))
		other.Kill(pooltest.Addr(3))
		pass(30*time.Second, s, pooltest.Addr(1), pooltest.Addr(2), pooltest.Addr(3))
		for i, want := range map[int]verdict.State{1: verdict.Up, 2: verdict.Down, 3: verdict.Down} {
			if got := state(s, pooltest.Addr(i)); got != want {
				t.Errorf("%s is %s, want %s", pooltest.Addr(i), got, want)
			}
		}
	})
}

// Caps: over one, an address is served unchecked and counted; no flood makes room for itself (B61).
func TestPoolCaps(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.account.Max = 10
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
			t.Errorf("over the cap: %+v", v)
		}
		if got := testutil.ToFloat64(metrics.SkippedMaxTargets) - before; got < 900 {
			t.Errorf("%v counted", got)
		}
		if got := sizeOf(p).watches; got != 10 || n.Asked(pooltest.Addr(999)) != 0 {
			t.Errorf("%d targets, want 10", got)
		}
		pass(20*time.Minute, s, pooltest.Addr(0), pooltest.Addr(1)) // the other eight are forgotten
		s.Look(owner, pooltest.Addr(500), 0, 30)
		pass(10*time.Second, s, pooltest.Addr(500))
		if v := verdictOf(s, pooltest.Addr(500)); v.State != verdict.Up {
			t.Errorf("there is room again, but %+v", v)
		}
	})
}

// What nobody asks for is probed no longer after a quarter of an hour, or three times the TTL it went out with; and
// comes back with its last verdict if that is fresh (B62, B63).
func TestPoolForgets(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.longest = 3600
		begin(p, s)
		n.Kill(pooltest.Addr(1), pooltest.Addr(2))
		s.Look(owner, pooltest.Addr(1), 0, 30)
		s.Look(owner, pooltest.Addr(2), 0, 1200)
		time.Sleep(18 * time.Minute)
		synctest.Wait()
		count := n.Asked(pooltest.Addr(1))
		time.Sleep(10 * time.Minute)
		if n.Asked(pooltest.Addr(1)) != count {
			t.Error("still asked, long after the last query")
		}
		if v := verdictOf(s, pooltest.Addr(2)); v.State != verdict.Down {
			t.Errorf("asked for again within three TTLs, but %+v", v)
		}
		if v := verdictOf(s, pooltest.Addr(1)); v != (verdict.Verdict{}) {
			t.Errorf("forgotten for long, but %+v", v)
		}
		if got := sizeOf(p); got.watches > 2 || got.memories > 1 {
			t.Errorf("%+v", got)
		}
	})
}

// What went out with a TTL of years is probed for a day after it was last asked for, by the manual, and no longer (B62).
func TestKeepsForADayAtMost(t *testing.T) {
	for ttl, want := range map[uint32]time.Duration{0: 15 * time.Minute, 300: 15 * time.Minute, 1200: time.Hour, 30_000: 24 * time.Hour, math.MaxUint32: 24 * time.Hour} {
		if got := keepFor(ttl); got != want {
			t.Errorf("kept for %s with a TTL of %d seconds, want %s", got, ttl, want)
		}
	}
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		pace := pooltest.Pace
		pace.Interval = time.Hour
		s := testStanza("tcp://:80", n, pace)
		s.longest = math.MaxUint32
		begin(p, s)
		s.Look(owner, pooltest.Addr(1), 0, math.MaxUint32)
		pooltest.Elapse(23 * time.Hour)
		if got := sizeOf(p).watches; got != 1 {
			t.Errorf("%d targets after 23 hours", got)
		}
		pooltest.Elapse(time.Hour + 3*time.Minute)
		if got := sizeOf(p).watches; got != 0 {
			t.Errorf("%d targets after a day", got)
		}
	})
}

// A target asked for again soon after it was forgotten is believed what it was.
func TestPoolRemembers(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		pace := pooltest.Pace
		pace.Interval = 10 * time.Minute
		s := testStanza("tcp://:80", n, pace)
		begin(p, s)
		n.Kill(pooltest.Addr(1))
		s.Look(owner, pooltest.Addr(1), 0, 30)
		for time.Sleep(time.Second); sizeOf(p).watches > 0; time.Sleep(time.Second) {
		}
		s.Look(owner, pooltest.Addr(1), 0, 30)
		synctest.Wait()
		if v := verdictOf(s, pooltest.Addr(1)); v.State != verdict.Down || v.Reason != "connection refused" {
			t.Errorf("just forgotten, but %+v", v)
		}
	})
}

// A probe that could not be made proves nothing, is counted, and is tried again (B49).
func TestPoolAbstains(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
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

// A panic of the loop itself loses the verdicts, and nothing else.
func TestPoolSurvivesItself(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
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

// A result for a target that was removed meanwhile is dropped (S8).
func TestPoolDropsLateResults(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s, keeper := testStanza("tcp://:80", n, pooltest.Pace), testStanza("tcp://:81", n, pooltest.Pace)
		g := begin(p, s)
		begin(p, keeper)
		n.Swallow(pooltest.Addr(1))
		s.Look(owner, pooltest.Addr(1), 0, 30)
		for n.Asked(pooltest.Addr(1)) == 0 {
			time.Sleep(100 * time.Millisecond)
		}
		p.leave(g)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := sizeOf(p).watches; n.Asked(pooltest.Addr(1)) != 1 || got != 0 || p.schedule.inFlight != [2]int{} {
			t.Errorf("asked %d times, %d watches, %v in flight", n.Asked(pooltest.Addr(1)), got, p.schedule.inFlight)
		}
	})
}

// A query never waits: with the loop stopped and every channel full, looking still returns (B67).
func TestLookNeverWaits(t *testing.T) {
	p, n := newPool(), pooltest.NewNetwork()
	s := testStanza("tcp://:80", n, pooltest.Pace)
	g := new(generation)
	g.add(s, p)
	before := testutil.ToFloat64(metrics.SkippedBusy)
	for i := range 2 * maxRequests {
		s.Look(owner, pooltest.Addr(i), 0, 30)
		p.Warn("line %d", i)
	}
	if got := testutil.ToFloat64(metrics.SkippedBusy) - before; got != maxRequests {
		t.Errorf("%v dropped, want %d", got, maxRequests)
	}
}

// Nor does it wait while somebody holds the life cycle's lock, and the loop is stuck amid an order: for what is on the board,
// for what is not, and through the whole handler (B67).
func TestLookTakesNoLock(t *testing.T) {
	p, n := newPool(), pooltest.NewNetwork()
	s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
	h := serving(p, zoneOf(www...), s)
	for serve(t, h, query("www.example.org.", dns.TypeA)); sizeOf(p).watches < 2; time.Sleep(time.Millisecond) {
	}
	stuck, free := make(chan struct{}), make(chan struct{})
	p.life.Lock()
	p.calls <- func() { close(stuck); <-free }
	<-stuck
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(t, h, query("www.example.org.", dns.TypeA))
		p.awaits(time.Now())
		for i := range 2 * maxRequests {
			s.Look(owner, pooltest.Addr(i), 0, 30)
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("a query waits")
	}
	close(free)
	p.life.Unlock()
	<-done
	for _, g := range p.generations {
		g.end(p)
	}
}

// The rate of probes is bounded, whatever a Corefile asks for.
func TestScheduleRate(t *testing.T) {
	s := schedule{bound: 512}
	now := time.Unix(1e9, 0)
	for range 10 * maxInFlight {
		s.add(&monitor{check: &checkState{}}, clock.At(now))
	}
	started := 0
	for at := now; at.Before(now.Add(50 * time.Millisecond)); at = at.Add(time.Millisecond) {
		s.dispatch(at, func(w *monitor) { started++; s.done(w) })
	}
	if most := int(60 * time.Millisecond / (time.Second / maxRate)); started > most+1 || started < most/2 {
		t.Errorf("%d probes in 50 ms, want at most %d", started, most)
	}
}

// Everything that is scheduled carries a monotonic reading, by which Go compares and subtracts times; so a system clock
// that is set changes no wait (B58).
func TestSchedulesIgnoreTheWallClock(t *testing.T) {
	p, n := newPool(), pooltest.NewNetwork()
	pace := verdict.Pace{Interval: verdict.MinInterval, Fast: verdict.MinInterval, Timeout: verdict.MinInterval, Rise: 1, Fall: 1}
	s := testStanza("tcp://:80", n, pace)
	g := begin(p, s)
	defer p.leave(g)
	for began := time.Now(); n.Asked(pooltest.Addr(1)) < 3; time.Sleep(time.Millisecond) {
		s.Look(owner, pooltest.Addr(1), 0, 30)
		if time.Since(began) > time.Minute {
			t.Fatal("never asked")
		}
	}
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() {
		for what, at := range map[string]time.Time{"the next sweep": p.nextSweep, "what moments count from": clock.Started} {
			if at == at.Round(0) { // which strips the monotonic reading
				t.Errorf("%s is by the wall clock", what)
			}
		}
		for _, w := range p.monitors {
			if ahead := w.due.Sub(clock.At(time.Now())); ahead > time.Minute || ahead < -time.Minute {
				t.Errorf("%s is due in %s", w.entry.Target, ahead)
			}
		}
	})
}

// A probe whose turn was missed by more than an interval is made once, and counted (B66).
func TestPoolCountsOverdue(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		p.schedule.bound = 512
		const holes = 3 * 384
		for i := range holes { // each holds one of the places of the failing for its timeout
			n.Swallow(pooltest.Addr(i))
			s.Look(owner, pooltest.Addr(i), 0, 30)
		}
		synctest.Wait() // all of them are learned
		p.calls <- func() {
			for _, w := range p.monitors {
				w.check.pace.Timeout = time.Minute // as if the bound were far below what is needed
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
					t.Fatalf("%s was asked twice within %s", pooltest.Addr(i), times[k].Sub(times[k-1]))
				}
			}
		}
	})
}

// When the bound on the rate binds, the failing get their turns among the living: else nothing would go down.
func TestScheduleRateIsFair(t *testing.T) {
	s := schedule{bound: 512}
	now := time.Unix(1e9, 0)
	for i := range 1000 {
		w := &monitor{check: &checkState{}, failing: i%10 == 0}
		s.add(w, clock.At(now.Add(time.Duration(i)*time.Microsecond)))
	}
	var started [2]int
	for at := now.Add(time.Millisecond); at.Before(now.Add(time.Second)); at = at.Add(time.Millisecond) {
		s.dispatch(at, func(w *monitor) {
			started[w.lane]++
			s.done(w)
			s.add(w, clock.At(at)) // due again at once: there is always more than the rate allows
		})
	}
	if share := float64(started[failing]) / float64(started[healthy]+started[failing]); share < 0.05 || share > 0.2 {
		t.Errorf("%d of the living and %d of the failing were started", started[healthy], started[failing])
	}
}
