package pool

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
			if state(s, a) != verdict.Up {
				t.Fatalf("%s responds again, but is %s", a, state(s, a))
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
		pooltest.Elapse(keepUnasked + 6*sweepEvery)
		p.life.Lock()
		defer p.life.Unlock()
		p.do(func() {
			queued := len(p.schedule.queues[healthy]) + len(p.schedule.queues[failing])
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

// BenchmarkLearn measures the cost of one new target, beside that many existing ones.
func BenchmarkLearn(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("beside %d", n), func(b *testing.B) {
			p := New()
			s := testStanza("tcp://:80", pooltest.NewNetwork(), pooltest.Pace)
			g := new(Generation)
			p.AddGroup(g, &s.Group)
			g.stage = confirmed
			s.Max = MaxTargets
			p.generations = append(p.generations, g)
			now := time.Now()
			p.reconcile(now)
			learn := func(i int) *monitor {
				t := verdict.Target{Identity: s.checks[0].identity, Addr: netip.AddrPortFrom(pooltest.Addr(i), 80)}
				p.learn(targetRequest{t, t.Identity, &s.Group, owners(i), 30}, now)
				return p.find(&t, s.checks[0].seed)
			}
			for i := range n {
				learn(i)
			}
			b.ReportAllocs()
			for b.Loop() {
				w := learn(n)
				if w == nil {
					b.Fatal("not added")
				}
				b.StopTimer()
				p.forget(w, now)
				b.StartTimer()
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
