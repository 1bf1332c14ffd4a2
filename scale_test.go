package multivalue

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// lookAll looks at addresses, in portions that the pool's inbox takes.
func lookAll(s *parsedStanza, addrs []netip.Addr) {
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

// Of ten thousand targets a fifth are black holes. Every living one is probed within its interval and a tenth, and a hole
// that comes to life is back within the bound (B66).
func TestPoolTenThousand(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
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
			if state(s, a) != verdict.Up {
				t.Fatalf("%s came to life, and is %s", a, state(s, a))
			}
		}
		if n.Most > p.schedule.bound {
			t.Errorf("%d probes at once, want at most %d", n.Most, p.schedule.bound)
		}
	})
}

// Addresses come and go for hours, and nothing of them stays (B61 to B63).
func TestPoolChurn(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		pace := pooltest.Pace
		pace.Interval = time.Minute
		s := testStanza("tcp://:80", n, pace)
		begin(p, s)
		var early uint64
		for minute := range 120 {
			lookAll(s, addrs(minute*100, minute*100+100))
			pooltest.Elapse(time.Minute)
			n.Forget() // the test's own notes
			if minute == 40 {
				early = heapSize()
			}
		}
		if late := heapSize(); late > early+early/4 {
			t.Errorf("%d KiB of heap after 120 minutes, %d after 40", late>>10, early>>10)
		}
		pooltest.Elapse(keepUnasked + 6*sweepEvery)
		p.life.Lock()
		defer p.life.Unlock()
		p.do(func() {
			queued := len(p.schedule.queues[healthy]) + len(p.schedule.queues[failing])
			if len(p.monitors)+len(p.memories)+len(p.names)+queued+s.account.targets+p.isolation.failing() != 0 {
				t.Errorf("%d watches, %d memories, %d names, %d planned, %d on the account, %d in doubt are left",
					len(p.monitors), len(p.memories), len(p.names), queued, s.account.targets, p.isolation.failing())
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

// BenchmarkLearn is what one new target costs the pool, beside so many that it has.
func BenchmarkLearn(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("beside %d", n), func(b *testing.B) {
			p := newPool()
			s := testStanza("tcp://:80", pooltest.NewNetwork(), pooltest.Pace)
			g := new(generation)
			g.add(s, p)
			g.stage = confirmed
			s.account.Max = maxTargets
			p.generations = append(p.generations, g)
			now := time.Now()
			p.reconcile(now)
			learn := func(i int) *monitor {
				t := verdict.Target{Identity: s.checks[0].identity, Addr: netip.AddrPortFrom(pooltest.Addr(i), 80)}
				p.learn(targetRequest{t, t.Identity, s.account, owners(i), 30}, now)
				return p.find(&t, s.checks[0].seed)
			}
			for i := range n {
				learn(i)
			}
			b.ReportAllocs()
			for b.Loop() {
				w := learn(n)
				if w == nil {
					b.Fatal("not learned")
				}
				b.StopTimer()
				p.forget(w, now)
				b.StartTimer()
			}
		})
	}
}

// Two replicas that start together do not probe together (B65).
func TestReplicasAreNotInStep(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		other := newPool()
		twin := pooltest.NewNetwork()
		a, b := testStanza("tcp://:80", n, pooltest.Pace), testStanza("tcp://:80", twin, pooltest.Pace)
		begin(p, a)
		defer other.leave(begin(other, b))
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
		if close > len(all)/4 { // a tenth would be so by chance
			t.Errorf("%d of %d targets are probed by both within half a second", close, len(all))
		}
	})
}
