package multivalue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

var testPace = verdict.Pace{Interval: 10 * time.Second, Fast: 2 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3}

var errDead = errors.New("connection refused")

// fakeNetwork is the world that a pool probes in these tests, where time is not real: an address is alive, dead, or a black
// hole that answers nobody.
type fakeNetwork struct {
	mu     sync.Mutex
	dead   map[netip.Addr]bool
	holes  map[netip.Addr]bool
	broken error // what every probe returns, if set
	panics bool
	probes map[netip.Addr][]time.Time // when each was asked
	under  int                        // probes under way
	most   int
}

func newFakeNetwork() *fakeNetwork {
	return &fakeNetwork{dead: make(map[netip.Addr]bool), holes: make(map[netip.Addr]bool), probes: make(map[netip.Addr][]time.Time)}
}

func (n *fakeNetwork) Probe(ctx context.Context, addr netip.AddrPort) error {
	err, hole := n.arrive(addr.Addr())
	defer n.leave()
	if hole {
		<-ctx.Done()
		if errors.Is(ctx.Err(), context.Canceled) {
			return check.ErrAbstain
		}
		return errors.New("timed out")
	}
	return err
}

func (n *fakeNetwork) arrive(addr netip.Addr) (error, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.under++
	n.most = max(n.most, n.under)
	n.probes[addr] = append(n.probes[addr], time.Now())
	if n.panics {
		panic("a fault in the check")
	}
	if n.broken != nil {
		return n.broken, false
	}
	if n.dead[addr] {
		return errDead, false
	}
	return nil, n.holes[addr]
}

func (n *fakeNetwork) leave() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.under--
}

func (n *fakeNetwork) kill(addrs ...netip.Addr)    { n.set(n.dead, true, addrs) }
func (n *fakeNetwork) revive(addrs ...netip.Addr)  { n.set(n.dead, false, addrs) }
func (n *fakeNetwork) swallow(addrs ...netip.Addr) { n.set(n.holes, true, addrs) }

func (n *fakeNetwork) set(m map[netip.Addr]bool, to bool, addrs []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		m[a] = to
	}
}

// asked is how often an address was probed so far.
func (n *fakeNetwork) asked(addr netip.Addr) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.probes[addr])
}

func (n *fakeNetwork) times(addr netip.Addr) []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]time.Time(nil), n.probes[addr]...)
}

func addr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// testStanza is a stanza whose one check is answered by the network.
// owner is the name whose set the tests' addresses stand in.
const owner = "www.example.org."

func testStanza(name string, n prober, pace verdict.Pace) *parsedStanza {
	s := &parsedStanza{pace: pace}
	s.account = &account{max: defaultTargets}
	s.checks = []checkSpec{{prober: n, name: name, bare: verdict.Identify(name, 0), port: 80}}
	s.rule.Types = answer.DefaultTypes
	s.checks[0].setPace(pace)
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
func inBubble(t *testing.T, f func(t *testing.T, p *pool, n *fakeNetwork)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool()
		f(t, p, newFakeNetwork())
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
	p.do(func() { s = size{len(p.generations), len(p.checks), len(p.watches), len(p.memories)} })
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
		if w := s.pool.watchOf(&t, s.checks[0].seed); w != nil {
			v = w.verdict()
		}
	})
	if v.Brief() != brief {
		panic(fmt.Sprintf("the pool believes %+v of %s, and the board shows %x", v, a, brief))
	}
	return v
}

// elapse lets time go by in a bubble, where that takes none, until everybody there waits for something again.
func elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
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
	inBubble(t, func(t *testing.T, p *pool, n *fakeNetwork) {
		s := testStanza("tcp://:80", n, testPace)
		begin(p, s)
		n.kill(addr(2))
		if v := verdictOf(s, addr(1)); v != (verdict.Verdict{}) {
			t.Errorf("before the first probe: %+v", v)
		}
		pass(30*time.Second, s, addr(1), addr(2))
		if v := verdictOf(s, addr(1)); v.State != verdict.Up || v.Reason != "" {
			t.Errorf("alive: %+v", v)
		}
		if v := verdictOf(s, addr(2)); v.State != verdict.Down || v.Reason != "connection refused" {
			t.Errorf("dead: %+v", v)
		}
	})
}

// A dead address is out within interval + 2 × max(fast, timeout) + timeout, and a revived one back within interval +
// fast + timeout, wherever in the interval it happens, and whether it refuses or swallows (B51 to B54).
func TestPoolBound(t *testing.T) {
	for _, pace := range []verdict.Pace{testPace,
		{Interval: 10 * time.Second, Fast: time.Second, Timeout: 5 * time.Second, Rise: 2, Fall: 3},
		{Interval: time.Second, Fast: time.Second, Timeout: time.Second, Rise: 1, Fall: 1}} {
		inBubble(t, func(t *testing.T, p *pool, n *fakeNetwork) {
			s := testStanza("tcp://:80", n, pace)
			begin(p, s)
			var addrs []netip.Addr
			for i := range 200 {
				addrs = append(addrs, addr(i))
			}
			var living []netip.Addr // or the pool would think that it is alone
			for i := range 100 {
				living = append(living, addr(1000+i))
			}
			pass(60*time.Second, s, slices.Concat(addrs, living)...)
			n.kill(addrs[:100]...)
			n.swallow(addrs[100:]...)
			killed := time.Now()
			time.Sleep(pace.Bound() + time.Millisecond)
			synctest.Wait()
			for _, a := range addrs {
				if v := verdictOf(s, a); v.State != verdict.Down {
					t.Fatalf("%s: %s is %s, %s after the kill: probes at %v", pace, a, v.State, time.Since(killed), n.times(a))
				}
			}
			n.revive(addrs[:100]...)
			n.set(n.holes, false, addrs)
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
	inBubble(t, func(t *testing.T, p *pool, n *fakeNetwork) {
		s := testStanza("tcp://:80", n, testPace)
		begin(p, s)
		var addrs []netip.Addr
		for i := range 1000 {
			addrs = append(addrs, addr(i))
			s.Look(owner, addr(i), 0, 30)
		}
		time.Sleep(40 * time.Second)
		from := time.Now()
		time.Sleep(10 * time.Second)
		var second [10]int
		for _, a := range addrs {
			times := n.times(a)
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
	inBubble(t, func(t *testing.T, p *pool, n *fakeNetwork) {
		s := testStanza("tcp://:80", n, testPace)
		begin(p, s)
		const total = 4000 // with 2 s each at 10 s, the dead alone want 720 places at once
		for i := range total {
			if i%10 > 0 {
				n.swallow(addr(i))
			}
			s.Look(owner, addr(i), 0, 30)
			if i%1000 == 999 {
				synctest.Wait() // the pool's inbox is bounded
			}
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		for i := 0; i < total; i += 10 {
			times := n.times(addr(i))
			if last := times[len(times)-1]; time.Since(last) > 11*time.Second {
				t.Fatalf("%s, alive, was last asked %s ago", addr(i), time.Since(last))
			}
		}
		if n.most > p.schedule.bound {
			t.Errorf("%d probes at once, want at most %d", n.most, p.schedule.bound)
		}
		n.set(n.holes, false, []netip.Addr{addr(1)})
		time.Sleep(time.Minute)
		synctest.Wait()
		if v := verdictOf(s, addr(1)); v.State != verdict.Up {
			t.Errorf("a revived one among the dead is %s after a minute", v.State)
		}
	})
}

// One probe serves all the names, stanzas and listeners that share an address and a check (B64, B72).
func TestPoolSharesTargets(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *fakeNetwork) {
		a, b := testStanza("tcp://:80", n, testPace), testStanza("tcp://:80", n, testPace)
		begin(p, a, b)
		other := testStanza("tcp://:80", n, testPace)
		begin(p, other)
		for range 120 {
			for _, s := range []*parsedStanza{a, b, other} {
				for range 10 {
					s.Look(owner, addr(1), 0, 30)
				}
			}
			time.Sleep(time.Second)
		}
		if got := n.asked(addr(1)); got < 12 || got > 15 {
			t.Errorf("asked %d times in two minutes", got)
		}
	})
}

// Of several checks all must pass (B45).
func TestAllChecksMustPass(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *fakeNetwork) {
		other := newFakeNetwork()
		s := testStanza("tcp://:80", n, testPace)
		s.checks = append(s.checks, testStanza("tcp://:81", other, testPace).checks...)
		s.seal(testPace)
		begin(p, s)
		n.kill(addr(2))
		other.kill(addr(3))
		pass(30*time.Second, s, addr(1), addr(2), addr(3))
		for i, want := range map[int]verdict.State{1: verdict.Up, 2: verdict.Down, 3: verdict.Down} {
			if got := state(s, addr(i)); got != want {
				t.Errorf("%s is %s, want %s", addr(i), got, want)
			}
		}
	})
}

// Caps: over one, an address is served unchecked and counted; no flood makes room for itself (B61).
func TestPoolCaps(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *fakeNetwork) {
		s := testStanza("tcp://:80", n, testPace)
		s.account.max = 10
		begin(p, s)
		for i := range 10 {
			s.Look(owner, addr(i), 0, 30)
		}
		synctest.Wait()
		before := testutil.ToFloat64(skippedCap)
		for i := 10; i < 1000; i++ {
			s.Look(owner, addr(i), 0, 30)
			synctest.Wait()
		}
		if v := verdictOf(s, addr(999)); v.State != verdict.Unchecked {
			t.Errorf("over the cap: %+v", v)
		}
		if got := testutil.ToFloat64(skippedCap) - before; got < 900 {
			t.Errorf("%v counted", got)
		}
		if got := sizeOf(p).watches; got != 10 || n.asked(addr(999)) != 0 {
			t.Errorf("%d targets, want 10", got)
		}
		pass(20*time.Minute, s, addr(0), addr(1)) // the other eight are forgotten
		s.Look(owner, addr(500), 0, 30)
		pass(10*time.Second, s, addr(500))
		if v := verdictOf(s, addr(500)); v.State != verdict.Up {
			t.Errorf("there is room again, but %+v", v)
		}
	})
}

// What nobody asks for is probed no longer after a quarter of an hour, or three times the TTL it went out with; and
// comes back with its last verdict if that is fresh (B62, B63).
func TestPoolForgets(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *fakeNetwork) {
		s := testStanza("tcp://:80", n, testPace)
		s.longest = 3600
		begin(p, s)
		n.kill(addr(1), addr(2))
		s.Look(owner, addr(1), 0, 30)
		s.Look(owner, addr(2), 0, 1200)
		time.Sleep(18 * time.Minute)
		synctest.Wait()
		count := n.asked(addr(1))
		time.Sleep(10 * time.Minute)
		if n.asked(addr(1)) != count {
			t.Error("still asked, long after the last query")
		}
		if v := verdictOf(s, addr(2)); v.State != verdict.Down {
			t.Errorf("asked for again within three TTLs, but %+v", v)
		}
		if v := verdictOf(s, addr(1)); v != (verdict.Verdict{}) {
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
		if got := keep(ttl); got != want {
			t.Errorf("kept for %s with a TTL of %d seconds, want %s", got, ttl, want)
		}
	}
	inBubble(t, func(t *testing.T, p *pool, n *fakeNetwork) {
		pace := testPace
		pace.Interval = time.Hour
		s := testStanza("tcp://:80", n, pace)
		s.longest = math.MaxUint32
		begin(p, s)
		s.Look(owner, addr(1), 0, math.MaxUint32)
		elapse(23 * time.Hour)
		if got := sizeOf(p).watches; got != 1 {
			t.Errorf("%d targets after 23 hours", got)
		}
		elapse(time.Hour + 3*time.Minute)
		if got := sizeOf(p).watches; got != 0 {
			t.Errorf("%d targets after a day", got)
		}
	})
}

// A target asked for again soon after it was forgotten is believed what it was.
func TestPoolRemembers(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *fakeNetwork) {
		pace := testPace
		pace.Interval = 10 * time.Minute
		s := testStanza("tcp://:80", n, pace)
		begin(p, s)
		n.kill(addr(1))
		s.Look(owner, addr(1), 0, 30)
		for time.Sleep(time.Second); sizeOf(p).watches > 0; time.Sleep(time.Second) {
		}
		s.Look(owner, addr(1), 0, 30)
		synctest.Wait()
		if v := verdictOf(s, addr(1)); v.State != verdict.Down || v.Reason != "connection refused" {
			t.Errorf("just forgotten, but %+v", v)
		}
	})
}

// A probe that could not be made proves nothing, is counted, and is tried again (B49).
func TestPoolAbstains(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *fakeNetwork) {
		s := testStanza("abstaining", n, testPace)
		begin(p, s)
		pass(20*time.Second, s, addr(1))
		for _, fault := range []func(){
			func() { n.broken = fmt.Errorf("%w: too many open files", check.ErrAbstain) },
			func() { n.panics = true },
		} {
			n.mu.Lock()
			fault()
			n.mu.Unlock()
			before := n.asked(addr(1))
			pass(2*time.Minute, s, addr(1))
			if v := verdictOf(s, addr(1)); v.State != verdict.Up {
				t.Errorf("%+v", v)
			}
			if got := n.asked(addr(1)) - before; got < 20 {
				t.Errorf("tried %d times in two minutes", got)
			}
		}
		if got := testutil.ToFloat64(probesTotal.WithLabelValues("abstaining", "abstained")); got < 40 {
			t.Errorf("%v abstentions counted", got)
		}
	})
}

// A panic of the loop itself loses the verdicts, and nothing else.
func TestPoolSurvivesItself(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *fakeNetwork) {
		s := testStanza("tcp://:80", n, testPace)
		begin(p, s)
		n.kill(addr(1))
		pass(20*time.Second, s, addr(1), addr(2))
		before := testutil.ToFloat64(panics)
		p.orders <- func() { panic("a fault in the pool") }
		synctest.Wait()
		if v := verdictOf(s, addr(1)); v.State != verdict.Unknown {
			t.Errorf("right after: %+v", v)
		}
		if got := testutil.ToFloat64(panics) - before; got != 1 {
			t.Errorf("%v panics counted", got)
		}
		pass(20*time.Second, s, addr(1), addr(2))
		if v := verdictOf(s, addr(1)); v.State != verdict.Down {
			t.Errorf("a while later: %+v", v)
		}
	})
}

// A result for a target that was removed meanwhile is dropped (S8).
func TestPoolDropsLateResults(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *fakeNetwork) {
		s, keeper := testStanza("tcp://:80", n, testPace), testStanza("tcp://:81", n, testPace)
		g := begin(p, s)
		begin(p, keeper)
		n.swallow(addr(1))
		s.Look(owner, addr(1), 0, 30)
		for n.asked(addr(1)) == 0 {
			time.Sleep(100 * time.Millisecond)
		}
		p.leave(g)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := sizeOf(p).watches; n.asked(addr(1)) != 1 || got != 0 || p.schedule.inFlight != [2]int{} {
			t.Errorf("asked %d times, %d watches, %v in flight", n.asked(addr(1)), got, p.schedule.inFlight)
		}
	})
}

// A query never waits: with the loop stopped and every channel full, looking still returns (B67).
func TestLookNeverWaits(t *testing.T) {
	p, n := newPool(), newFakeNetwork()
	s := testStanza("tcp://:80", n, testPace)
	g := new(generation)
	g.add(s, p)
	before := testutil.ToFloat64(skippedBusy)
	for i := range 2 * wantedBuffer {
		s.Look(owner, addr(i), 0, 30)
		p.say("line %d", i)
	}
	if got := testutil.ToFloat64(skippedBusy) - before; got != wantedBuffer {
		t.Errorf("%v dropped, want %d", got, wantedBuffer)
	}
}

// Nor does it wait while somebody holds the life cycle's lock, and the loop is stuck amid an order: for what is on the board,
// for what is not, and through the whole handler (B67).
func TestLookTakesNoLock(t *testing.T) {
	p, n := newPool(), newFakeNetwork()
	s := forZone(testStanza("tcp://:80", n, testPace), "example.org.")
	h := serving(p, zoneOf(www...), s)
	for serve(t, h, query("www.example.org.", dns.TypeA)); sizeOf(p).watches < 2; time.Sleep(time.Millisecond) {
	}
	stuck, free := make(chan struct{}), make(chan struct{})
	p.life.Lock()
	p.orders <- func() { close(stuck); <-free }
	<-stuck
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(t, h, query("www.example.org.", dns.TypeA))
		p.awaits(time.Now())
		for i := range 2 * wantedBuffer {
			s.Look(owner, addr(i), 0, 30)
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
		s.add(&watch{check: &pacedCheck{}}, when(now))
	}
	started := 0
	for at := now; at.Before(now.Add(50 * time.Millisecond)); at = at.Add(time.Millisecond) {
		s.dispatch(at, func(w *watch) { started++; s.done(w) })
	}
	if most := int(60 * time.Millisecond / (time.Second / maxRate)); started > most+1 || started < most/2 {
		t.Errorf("%d probes in 50 ms, want at most %d", started, most)
	}
}

// Everything that is scheduled carries a monotonic reading, by which Go compares and subtracts times; so a system clock
// that is set changes no wait (B58).
func TestSchedulesIgnoreTheWallClock(t *testing.T) {
	p, n := newPool(), newFakeNetwork()
	pace := verdict.Pace{Interval: verdict.MinInterval, Fast: verdict.MinInterval, Timeout: verdict.MinInterval, Rise: 1, Fall: 1}
	s := testStanza("tcp://:80", n, pace)
	g := begin(p, s)
	defer p.leave(g)
	for began := time.Now(); n.asked(addr(1)) < 3; time.Sleep(time.Millisecond) {
		s.Look(owner, addr(1), 0, 30)
		if time.Since(began) > time.Minute {
			t.Fatal("never asked")
		}
	}
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() {
		for what, at := range map[string]time.Time{"the next sweep": p.nextSweep, "what moments count from": began} {
			if at == at.Round(0) { // which strips the monotonic reading
				t.Errorf("%s is by the wall clock", what)
			}
		}
		for _, w := range p.watches {
			if ahead := w.due.sub(when(time.Now())); ahead > time.Minute || ahead < -time.Minute {
				t.Errorf("%s is due in %s", w.entry.target, ahead)
			}
		}
	})
}

// A probe whose turn was missed by more than an interval is made once, and counted (B66).
func TestPoolCountsOverdue(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *fakeNetwork) {
		s := testStanza("tcp://:80", n, testPace)
		begin(p, s)
		p.schedule.bound = 512
		const holes = 3 * 384
		for i := range holes { // each holds one of the places of the failing for its timeout
			n.swallow(addr(i))
			s.Look(owner, addr(i), 0, 30)
		}
		synctest.Wait() // all of them are learned
		p.orders <- func() {
			for _, w := range p.watches {
				w.check.pace.Timeout = time.Minute // as if the bound were far below what is needed
			}
		}
		before := testutil.ToFloat64(skippedOverdue)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if testutil.ToFloat64(skippedOverdue) == before {
			t.Error("no missed turn was counted")
		}
		for i := range holes {
			times := n.times(addr(i))
			for k := 1; k < len(times); k++ {
				if times[k].Sub(times[k-1]) < time.Second {
					t.Fatalf("%s was asked twice within %s", addr(i), times[k].Sub(times[k-1]))
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
		w := &watch{check: &pacedCheck{}, failing: i%10 == 0}
		s.add(w, when(now.Add(time.Duration(i)*time.Microsecond)))
	}
	var started [2]int
	for at := now.Add(time.Millisecond); at.Before(now.Add(time.Second)); at = at.Add(time.Millisecond) {
		s.dispatch(at, func(w *watch) {
			started[w.lane]++
			s.done(w)
			s.add(w, when(at)) // due again at once: there is always more than the rate allows
		})
	}
	if share := float64(started[failing]) / float64(started[living]+started[failing]); share < 0.05 || share > 0.2 {
		t.Errorf("%d of the living and %d of the failing were started", started[living], started[failing])
	}
}
