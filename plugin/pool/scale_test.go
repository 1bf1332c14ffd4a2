package pool

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// lookAll looks addresses up, in batches that fit into the pool's inbox.
func lookAll(s *stanza, addrs []netip.Addr) {
	for i, a := range addrs {
		s.Look(owners(i), a, 0, 30)
		if i%1000 == 999 {
			synctest.Wait()
		}
	}
	synctest.Wait()
}

// owners spreads addresses over names.
func owners(i int) string { return fmt.Sprintf("www%d.example.org.", i/64) }

func addrs(from, to int) []netip.Addr {
	var all []netip.Addr
	for i := from; i < to; i++ {
		all = append(all, pooltest.Addr(i))
	}
	return all
}

// If a fifth of ten thousand targets do not respond, every target that responds is probed within its interval and a
// tenth. A target that starts to respond comes up within its time limit (B66).
func TestPoolTenThousand(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		p.schedule.bound = 1024
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		all := addrs(0, 10_000)
		holes, living := all[:2_000], all[2_000:]
		n.Swallow(holes...)
		lookAll(s, all)
		pooltest.Elapse(2 * time.Minute)
		for _, a := range living {
			times := n.Times(a)
			for i := 2; i < len(times); i++ {
				if gap := times[i].Sub(times[i-1]); gap > pooltest.Pace.Interval*11/10 {
					t.Fatalf("%s, alive, waited %s for a probe", a, gap)
				}
			}
		}
		n.Set(n.Holes, false, holes)
		pooltest.Elapse(pooltest.Pace.Interval + pooltest.Pace.Fast + pooltest.Pace.Timeout)
		for _, a := range holes {
			if stateOf(s, a) != verdict.Up {
				t.Fatalf("%s responds again, but is %s", a, stateOf(s, a))
			}
		}
		if n.Most > p.schedule.bound {
			t.Errorf("%d probes at once, want at most %d", n.Most, p.schedule.bound)
		}
	})
}

// Addresses come and go for hours, and none of their state remains (B61 to B63).
func TestPoolChurn(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		pace := pooltest.Pace
		pace.Interval = time.Minute
		s := testStanza("tcp://:80", n, pace)
		begin(p, s)
		var early uint64
		for minute := range 120 {
			lookAll(s, addrs(minute*100, minute*100+100))
			pooltest.Elapse(time.Minute)
			n.Forget() // the test's own records
			if minute == 40 {
				early = heapSize()
			}
		}
		if late := heapSize(); late > early+early/4 {
			t.Errorf("%d KiB of heap after 120 minutes, %d after 40", late>>10, early>>10)
		}
		pooltest.Elapse(25 * time.Hour)
		p.life.Lock()
		defer p.life.Unlock()
		p.do(func() {
			queued := 0
			for _, q := range p.schedule.queues {
				queued += len(q)
			}
			if len(p.monitors)+len(p.memories)+len(p.names)+queued+s.targets+p.isolation.failing() != 0 {
				t.Errorf("%d watches, %d memories, %d names, %d planned, %d counted, %d in doubt are left",
					len(p.monitors), len(p.memories), len(p.names), queued, s.targets, p.isolation.failing())
			}
			for shard := range table.Shards {
				p.table.Each(shard, func(e *table.Entry) { t.Errorf("%s is left in the table", e.Target) })
			}
		})
	})
}

func heapSize() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// benchPool is a pool that does not run, with n targets of a confirmed stanza, in names of 64 addresses. learn adds one more.
func benchPool(n int) (p *Pool, learn func(i int) *monitor) {
	p = New()
	s := testStanza("tcp://:80", pooltest.NewNetwork(), pooltest.Pace)
	g := new(Generation)
	p.AddGroup(g, &s.Group)
	g.stage = confirmed
	s.Max = MaxTargets
	p.generations = append(p.generations, g)
	now := time.Now()
	p.reconcile(now)
	learn = func(i int) *monitor {
		t := verdict.Target{Identity: s.checks[0].identity, Addr: netip.AddrPortFrom(pooltest.Addr(i), 80)}
		at := s.Open(owners(i), dns.TypeA)
		at.Ahead = true
		p.learn(targetRequest{t, t.Identity, &s.Group, at, 30}, now)
		return p.find(&t, s.checks[0].seed)
	}
	for i := range n {
		learn(i)
	}
	return p, learn
}

// BenchmarkLearn measures the cost of one new target, beside that many existing ones.
func BenchmarkLearn(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("beside %d", n), func(b *testing.B) {
			p, learn := benchPool(n)
			b.ReportAllocs()
			for b.Loop() {
				w := learn(n)
				if w == nil {
					b.Fatal("not added")
				}
				b.StopTimer()
				p.forget(w, time.Now())
				b.StartTimer()
			}
		})
	}
}

// BenchmarkReview measures how long the loop is kept at a time by going through the targets of a shard, busy and idle ones.
func BenchmarkReview(b *testing.B) {
	for name, later := range map[string]time.Duration{"busy": 0, "idle": 20 * time.Minute} {
		b.Run(name, func(b *testing.B) {
			p, _ := benchPool(100_000)
			now := time.Now().Add(later)
			p.nextReview = now.Add(-sweepEvery)
			p.reviewSome(now)
			for b.Loop() {
				now = now.Add(sweepEvery / table.Shards)
				p.reviewSome(now)
			}
			if len(p.monitors) != 100_000 {
				b.Fatalf("%d targets", len(p.monitors))
			}
		})
	}
}

// Two replicas that start together do not probe at the same times (B65).
func TestReplicasAreNotInStep(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		other := New()
		twin := pooltest.NewNetwork()
		a, b := testStanza("tcp://:80", n, pooltest.Pace), testStanza("tcp://:80", twin, pooltest.Pace)
		begin(p, a)
		defer other.Leave(begin(other, b))
		all := addrs(0, 500)
		lookAll(a, all)
		lookAll(b, all)
		pooltest.Elapse(10 * time.Minute)
		close := 0
		for _, x := range all {
			mine, theirs := n.Times(x), twin.Times(x)
			apart := mine[len(mine)-1].Sub(theirs[len(theirs)-1]).Abs()
			if min(apart, pooltest.Pace.Interval-apart) < pooltest.Pace.Interval/20 {
				close++
			}
		}
		if close > len(all)/4 { // a tenth would be expected by chance
			t.Errorf("%d of %d targets are probed by both within half a second", close, len(all))
		}
	})
}

// Beside a full pool of targets of any one kind, busy targets leave the answers within the bound of their pace when they
// die, and return when they are back: with all places, and with the few that 1,024 descriptors allow. Fewer die than half of
// the places can ask, and some go on answering, so that the pool does not believe that its own network is lost (B54, B89).
func TestFloodsDelayNothing(t *testing.T) {
	kinds := map[string]func(n *pooltest.FakeNetwork, flood []netip.Addr){
		"black holes": func(n *pooltest.FakeNetwork, flood []netip.Addr) { n.Swallow(flood...) },
		"slow ones":   func(n *pooltest.FakeNetwork, flood []netip.Addr) { n.Slow(1800*time.Millisecond, flood...) },
		"dead ones":   func(n *pooltest.FakeNetwork, flood []netip.Addr) { n.Kill(flood...) },
		"living ones": func(*pooltest.FakeNetwork, []netip.Addr) {},
	}
	for kind, answer := range kinds {
		t.Run(kind+", few descriptors", func(t *testing.T) { besideFlood(t, 256, 15_000, 100, answer) })
		if !raced {
			t.Run(kind, func(t *testing.T) { besideFlood(t, maxInFlight, MaxTargets-1000, 900, answer) })
		}
	}
}

// besideFlood has a thousand busy targets beside a flood. Some of them die, and come back.
func besideFlood(t *testing.T, bound, flood, die int, answer func(n *pooltest.FakeNetwork, flood []netip.Addr)) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		p.schedule.bound = bound
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.Max = MaxTargets
		begin(p, s)
		busy, all := addrs(0, 1000), addrs(1000, 1000+flood)
		lookAll(s, busy)
		pooltest.Elapse(15 * time.Second)
		answer(n, all)
		lookAll(s, all)
		pooltest.Elapse(20 * time.Second) // until each has been probed once, as far as there are places
		n.Swallow(busy[:die]...)
		pooltest.Elapse(pooltest.Pace.Bound())
		expect(t, s, busy[:die], verdict.Down)
		n.Set(n.Holes, false, busy)
		pooltest.Elapse(pooltest.Pace.Interval + pooltest.Pace.Timeout + pooltest.Pace.Fast)
		expect(t, s, busy, verdict.Up)
	})
}

// expect fails if a query sees another state of one of the addresses.
func expect(t *testing.T, s *stanza, all []netip.Addr, want verdict.State) {
	t.Helper()
	for _, a := range all {
		if got := stateOf(s, a); got != want {
			t.Fatalf("%s is %s, want %s", a, got, want)
		}
	}
}

// A refusal is known within a second and a half of when it was learned, for two thousand targets that are learned at once
// (B86).
func TestRefusalIsKnownSoon(t *testing.T) {
	for _, bound := range []int{minInFlight, maxInFlight} {
		inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
			p.schedule.bound = bound
			s := testStanza("tcp://:80", n, pooltest.Pace)
			begin(p, s)
			s.Look(owner, pooltest.Addr(2000), 0, 30) // it answers, so that the pool does not believe that its own network is lost
			pooltest.Elapse(3 * time.Second)
			dead := addrs(0, 2000)
			n.Kill(dead...)
			lookAll(s, dead)
			pooltest.Elapse(1500 * time.Millisecond)
			expect(t, s, dead, verdict.Down)
			for _, a := range dead[:10] {
				if got := n.Asked(a); got < 3 || got > 4 { // the first whole interval is drawn from zero on
					t.Errorf("%s was asked %d times, want 3 or 4", a, got)
				}
			}
		})
	}
}

// What cannot be decided is probed quickly for as many probes as could have decided it, and at the fast pace after that: at
// most ten times a second, however short the fast interval is (B86).
func TestUndecidedIsProbedQuicklyAtFirst(t *testing.T) {
	for fast, early := range map[time.Duration]time.Duration{2 * time.Second: 500 * time.Millisecond, 200 * time.Millisecond: 100 * time.Millisecond} {
		inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
			n.Broken = fmt.Errorf("%w: too many open files", check.ErrAbstain)
			pace := pooltest.Pace
			pace.Fast = fast
			s := testStanza("tcp://:80", n, pace)
			begin(p, s)
			began := time.Now()
			s.Look(owner, pooltest.Addr(1), 0, 30)
			pooltest.Elapse(20 * time.Second)
			times := n.Times(pooltest.Addr(1))
			if first := times[0].Sub(began); first > fast/4 {
				t.Errorf("fast %s: first probed after %s", fast, first)
			}
			for i, gap := range gapsOf(times) {
				want := fast
				if i < pace.Fall-1 {
					want = early
				}
				if gap > want || gap < want*8/10 {
					t.Errorf("fast %s: wait %d is %s, want %s", fast, i, gap, want)
				}
			}
		})
	}
}
