package pool

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// isIdle reports whether a target is idle, and whether it is watched at all.
func isIdle(s *stanza, i int) (idle, watched bool) {
	t, seed := s.checks[0].target(owner, pooltest.Addr(i), 0)
	s.pool.life.Lock()
	defer s.pool.life.Unlock()
	s.pool.do(func() {
		if m := s.pool.find(&t, seed); m != nil {
			idle, watched = m.idle, true
		}
	})
	return idle, watched
}

// query looks up addresses of a set, as one query does.
func query(s *stanza, owner string, rrtype uint16, numbers ...int) {
	at := s.Open(owner, rrtype)
	for _, i := range numbers {
		s.lookIn(at, pooltest.Addr(i), 0, 30)
	}
	synctest.Wait()
}

// An address whose name is quiet stays known: it is probed at a tenth of the pace, its changes of state are logged and
// counted, and the first query gets what is true. It becomes busy with that, and is probed at once (B84).
func TestQuietNameStaysKnown(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		text := pooltest.Logged(t)
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		n.Kill(pooltest.Addr(1))
		query(s, owner, dns.TypeA, 1, 2)
		pooltest.Elapse(17 * time.Minute)
		if idle, watched := isIdle(s, 1); !idle || !watched {
			t.Fatalf("idle %t, watched %t after 17 minutes without a query", idle, watched)
		}
		if up, down, quiet := testutil.ToFloat64(targets[verdict.Up]), testutil.ToFloat64(targets[verdict.Down]), testutil.ToFloat64(metrics.IdleTargets); up != 1 || down != 1 || quiet != 2 {
			t.Errorf("%v up, %v down, %v idle, want 1, 1, 2", up, down, quiet)
		}
		n.Forget()
		pooltest.Elapse(20 * time.Minute)
		for i := 1; i <= 2; i++ {
			for _, gap := range gapsOf(n.Times(pooltest.Addr(i))) {
				if gap < 90*time.Second || gap > 100*time.Second {
					t.Errorf("%s was probed again after %s, want 90 to 100 seconds", pooltest.Addr(i), gap)
				}
			}
			if got := n.Asked(pooltest.Addr(i)); got < 11 || got > 14 {
				t.Errorf("%s was probed %d times in 20 minutes", pooltest.Addr(i), got)
			}
		}
		n.Revive(pooltest.Addr(1))
		n.Kill(pooltest.Addr(2))
		pooltest.Elapse(100*time.Second + 2*pooltest.Pace.Fast)
		if a, b := pooltest.CountLines(text, "10.0.0.1:80 is up after 2 successes"), pooltest.CountLines(text, "10.0.0.2:80 is down after 3 failures"); a != 1 || b != 1 {
			t.Errorf("changes of idle targets are not logged: %s", text)
		}
		for quiet := 0; quiet <= 11; quiet++ { // until the last probes are older than an interval
			n.Forget()
			if pooltest.Elapse(time.Second); n.Asked(pooltest.Addr(1))+n.Asked(pooltest.Addr(2)) > 0 {
				quiet = 0
			}
		}
		if up, down := stateOf(s, pooltest.Addr(1)), stateOf(s, pooltest.Addr(2)); up != verdict.Up || down != verdict.Down {
			t.Errorf("the first query after half an hour sees %s and %s", up, down)
		}
		pooltest.Elapse(50 * time.Millisecond)
		if a, b := n.Asked(pooltest.Addr(1)), n.Asked(pooltest.Addr(2)); a != 1 || b != 1 {
			t.Errorf("probed %d and %d times at once, want 1", a, b)
		}
		if idle, _ := isIdle(s, 1); idle {
			t.Error("still idle after a query")
		}
		n.Forget()
		pooltest.Elapse(time.Minute)
		if got := n.Asked(pooltest.Addr(2)); got < 5 {
			t.Errorf("probed %d times in the minute after a query", got)
		}
	})
}

// The pace of idle targets: ten intervals, but five minutes at most, and never less than the interval.
func TestIdlePace(t *testing.T) {
	for interval, want := range map[time.Duration]time.Duration{
		time.Second: 10 * time.Second, 10 * time.Second: 100 * time.Second, 30 * time.Second: 5 * time.Minute,
		time.Minute: 5 * time.Minute, time.Hour: time.Hour,
	} {
		if got := (verdict.Pace{Interval: interval}).Idle(); got != want {
			t.Errorf("interval %s: %s, want %s", interval, got, want)
		}
	}
}

// The TTL that the first query of a quiet name gets is true: what it sees cannot change before, although it causes a probe at
// once (B84).
func TestHoldOfAnIdleTarget(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		query(s, owner, dns.TypeA, 1)
		pooltest.Elapse(20 * time.Minute)
		for range 20 {
			n.Kill(pooltest.Addr(1))
			asked := time.Now()
			v := s.Look(owner, pooltest.Addr(1), 0, 30)
			for stateOf(s, pooltest.Addr(1)) == verdict.Up {
				pooltest.Elapse(100 * time.Millisecond)
			}
			if lasted := time.Since(asked); v.State() == verdict.Up && lasted < time.Duration(v.Holds())*time.Second {
				t.Fatalf("it held for %s, and %d seconds were promised", lasted, v.Holds())
			}
			n.Revive(pooltest.Addr(1))
			pooltest.Elapse(18 * time.Minute)
		}
	})
}

// The TTL is true from the moment on at which a target becomes idle, and not only after its first probe at the slow pace: a query
// causes a probe at once then, sooner than was promised at the last one (B84).
func TestHoldSinceIdle(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		for i := 1; i <= 10; i++ {
			query(s, owner, dns.TypeA, i)
			for idle := false; !idle; idle, _ = isIdle(s, i) {
				pooltest.Elapse(time.Second)
			}
			n.Forget()
			pooltest.Elapse(time.Duration(15+5*i) * time.Second) // the last probe is older than an interval
			if n.Asked(pooltest.Addr(i)) > 0 {
				t.Fatalf("%s was probed within %d seconds", pooltest.Addr(i), 15+5*i)
			}
			n.Kill(pooltest.Addr(i))
			asked := time.Now()
			v := s.Look(owner, pooltest.Addr(i), 0, 30)
			for stateOf(s, pooltest.Addr(i)) == verdict.Up {
				pooltest.Elapse(100 * time.Millisecond)
			}
			if lasted := time.Since(asked); v.State() != verdict.Up || lasted < time.Duration(v.Holds())*time.Second {
				t.Errorf("%s: %s held for %s, and %d seconds were promised", pooltest.Addr(i), v.State(), lasted, v.Holds())
			}
		}
	})
}

// An address that has left the DNS is forgotten, as its sets are looked at without it; one of a quiet name is not (B63, B85).
func TestForgottenOrIdle(t *testing.T) {
	const other = "api.example.org."
	every := func(d time.Duration, f func()) {
		for range int(d / time.Minute) {
			f()
			pooltest.Elapse(time.Minute)
		}
	}
	for name, tc := range map[string]struct {
		do   func(s *stanza)
		want map[int]string // by the number of an address: busy, idle or gone
	}{
		"a roll-out that replaces every address": {func(s *stanza) {
			query(s, owner, dns.TypeA, 1, 2)
			every(20*time.Minute, func() { query(s, owner, dns.TypeA, 3, 4) })
		}, map[int]string{1: "gone", 2: "gone", 3: "busy", 4: "busy"}},
		"a name that is asked for A alone": {func(s *stanza) {
			query(s, owner, dns.TypeA, 1, 2)
			query(s, owner, dns.TypeAAAA, 3, 4)
			every(20*time.Minute, func() { query(s, owner, dns.TypeA, 1, 2) })
		}, map[int]string{1: "busy", 2: "busy", 3: "idle", 4: "idle"}},
		"hints and addresses": {func(s *stanza) {
			query(s, owner, dns.TypeHTTPS, 1, 2)
			every(20*time.Minute, func() { query(s, owner, dns.TypeA, 1) })
		}, map[int]string{1: "busy", 2: "idle"}},
		"hints that lose an address": {func(s *stanza) {
			query(s, owner, dns.TypeHTTPS, 1, 2)
			query(s, owner, dns.TypeA, 1, 2)
			every(20*time.Minute, func() { query(s, owner, dns.TypeA, 1); query(s, owner, dns.TypeHTTPS, 1) })
		}, map[int]string{1: "busy", 2: "gone"}},
		"two names, of which one loses the address, and the other is quiet": {func(s *stanza) {
			query(s, owner, dns.TypeA, 1, 2)
			query(s, other, dns.TypeA, 1, 2)
			every(20*time.Minute, func() { query(s, owner, dns.TypeA, 2) })
		}, map[int]string{1: "idle", 2: "busy"}},
		"two names that both lose the address": {func(s *stanza) {
			query(s, owner, dns.TypeA, 1, 2)
			query(s, other, dns.TypeA, 1, 2)
			every(20*time.Minute, func() { query(s, owner, dns.TypeA, 2); query(s, other, dns.TypeA, 2) })
		}, map[int]string{1: "gone", 2: "busy"}},
		"a name that is gone": {func(s *stanza) {
			query(s, owner, dns.TypeA, 1, 2)
			every(20*time.Minute, func() { query(s, owner, dns.TypeA) })
		}, map[int]string{1: "gone", 2: "gone"}},
		"a roll-out of a quiet name, seen by its next query": {func(s *stanza) {
			query(s, owner, dns.TypeA, 1, 2)
			pooltest.Elapse(40 * time.Minute)
			query(s, owner, dns.TypeA, 3, 4)
			pooltest.Elapse(2 * time.Minute)
		}, map[int]string{1: "gone", 2: "gone", 3: "busy"}},
		"a source that answers with different addresses, and a name that gets quiet then": {func(s *stanza) {
			for i := range 5 {
				query(s, owner, dns.TypeA, 1+i, 2+i)
				pooltest.Elapse(time.Second)
			}
			pooltest.Elapse(20 * time.Minute)
		}, map[int]string{1: "idle", 3: "idle", 6: "idle"}},
		"more names than are told apart": {func(s *stanza) {
			for i := range 3 * maxSets {
				query(s, fmt.Sprintf("x%d.example.org.", i), dns.TypeA, 1, 2)
			}
			every(20*time.Minute, func() {
				for i := range 3 * maxSets {
					query(s, fmt.Sprintf("x%d.example.org.", i), dns.TypeA, 2)
				}
			})
		}, map[int]string{1: "gone", 2: "busy"}},
		"more names than are told apart, all quiet": {func(s *stanza) {
			for i := range 3 * maxSets {
				query(s, fmt.Sprintf("x%d.example.org.", i), dns.TypeA, 1, 2)
			}
			pooltest.Elapse(20 * time.Minute)
		}, map[int]string{1: "idle", 2: "idle"}},
		"more names than are told apart, one of which is quiet": {func(s *stanza) {
			for i := range 3 * maxSets {
				query(s, fmt.Sprintf("x%d.example.org.", i), dns.TypeA, 1, 2)
			}
			every(20*time.Minute, func() {
				for i := range 3*maxSets - 1 {
					query(s, fmt.Sprintf("x%d.example.org.", i+1), dns.TypeA, 2)
				}
			})
		}, map[int]string{1: "idle", 2: "busy"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
				s := testStanza("tcp://:80", n, pooltest.Pace)
				begin(p, s)
				tc.do(s)
				for i, want := range tc.want {
					got := "busy"
					if idle, watched := isIdle(s, i); !watched {
						got = "gone"
					} else if idle {
						got = "idle"
					}
					if got != want {
						t.Errorf("%s is %s, want %s", pooltest.Addr(i), got, want)
					}
				}
			})
		})
	}
}

// Two views of a zone give a name different addresses. Queries of one view do not make the other forget its own (B85).
func TestViewsForgetApart(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		in := func(view string) *stanza {
			s := testStanza("tcp://:80", n, pooltest.Pace)
			s.Zones = "example.org."
			s.Identify("example.org:53 " + view)
			return s
		}
		inside, outside := in("inside"), in("outside")
		g := begin(p, inside, outside)
		query(inside, owner, dns.TypeA, 1, 2)
		for round := range 2 { // the second one after a reload
			for range 20 {
				query(outside, owner, dns.TypeA, 3, 4)
				pooltest.Elapse(time.Minute)
			}
			for i, want := range map[int]bool{1: true, 2: true, 3: false, 4: false} {
				if idle, watched := isIdle(inside, i); !watched || idle != want {
					t.Errorf("round %d: %s is idle %t, watched %t", round, pooltest.Addr(i), idle, watched)
				}
			}
			inside, outside = in("inside"), in("outside")
			next := begin(p, in("new"), outside, inside) // one more, and in another order
			p.Leave(g)
			g = next
		}
	})
}

// A target is busy for a quarter of an hour after it was asked for, or for three times its TTL, and for a day at most. It is
// forgotten after a day of being idle, or without a query at all, and leaves nothing behind (B62, B85).
func TestBusyForThreeTTLs(t *testing.T) {
	for ttl, want := range map[uint32]time.Duration{0: 15 * time.Minute, 300: 15 * time.Minute, 1200: time.Hour, 30_000: 24 * time.Hour, math.MaxUint32: 24 * time.Hour} {
		if got := keepFor(ttl); got != want {
			t.Errorf("busy for %s with a TTL of %d seconds, want %s", got, ttl, want)
		}
	}
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.maxTTL = 3600
		begin(p, s)
		s.Look(owner, pooltest.Addr(1), 0, 30)
		s.Look(owner, pooltest.Addr(2), 0, 1200)
		for _, x := range []struct {
			after     time.Duration
			one, both bool // is idle
		}{{14 * time.Minute, false, false}, {20 * time.Minute, true, false}, {58 * time.Minute, true, false}, {63 * time.Minute, true, true}} {
			pooltest.Elapse(time.Until(start.Add(x.after)))
			one, _ := isIdle(s, 1)
			two, _ := isIdle(s, 2)
			if one != x.one || two != x.both {
				t.Errorf("after %s: idle are %t and %t", x.after, one, two)
			}
		}
		pooltest.Elapse(time.Until(start.Add(24*time.Hour + 10*time.Minute)))
		if got := sizeOf(p).monitors; got != 2 {
			t.Errorf("%d targets after a day", got)
		}
		pooltest.Elapse(time.Until(start.Add(25*time.Hour + 10*time.Minute)))
		if got := sizeOf(p); got.monitors != 0 || p.sets.Len() != 0 || testutil.ToFloat64(metrics.IdleTargets) != 0 {
			t.Errorf("%+v, %d sets, %v idle after a day of being idle", got, p.sets.Len(), testutil.ToFloat64(metrics.IdleTargets))
		}
	})
}

// start is when a bubble of testing/synctest begins.
var start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// An address that left the DNS and comes back soon after it was forgotten has its old verdict (B62).
func TestPoolRemembers(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		pace := pooltest.Pace
		pace.Interval = 10 * time.Minute
		s := testStanza("tcp://:80", n, pace)
		begin(p, s)
		n.Kill(pooltest.Addr(1))
		s.Look(owner, pooltest.Addr(1), 0, 30)
		abandon(s, owner)
		if got := sizeOf(p).monitors; got != 0 {
			t.Fatalf("%d targets are left", got)
		}
		s.Look(owner, pooltest.Addr(1), 0, 30)
		synctest.Wait()
		if v := verdictOf(s, pooltest.Addr(1)); v.State != verdict.Down || v.Reason != "connection refused" {
			t.Errorf("just forgotten, but %+v", v)
		}
	})
}

// Idle targets make room for new ones inside their stanza: first those of a flood, then those that have been idle for longest.
// Busy ones never do (B61, B85).
func TestIdleTargetsMakeRoom(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s, other := testStanza("tcp://:80", n, pooltest.Pace), testStanza("tcp://:81", n, pooltest.Pace)
		s.Max, s.Zones, other.Zones = 6, "a.", "b."
		begin(p, s, other)
		query(other, owner, dns.TypeA, 1, 2)
		one := func(i int) { query(s, fmt.Sprintf("x%d.example.org.", i), dns.TypeA, i) }
		one(1)
		pooltest.Elapse(2 * time.Minute)
		one(1) // so it is no flood
		one(2)
		pooltest.Elapse(2 * time.Minute)
		one(2)
		one(3) // these two are asked for once
		pooltest.Elapse(2 * time.Minute)
		one(4)
		pooltest.Elapse(30 * time.Minute)
		one(5)
		one(6)
		if got := watched(s, 1, 6); got != "1 2 3 4 5 6" {
			t.Fatalf("watched: %s", got)
		}
		for i, want := range []string{"1 2 4 5 6 7", "1 2 5 6 7 8", "2 5 6 7 8 9", "5 6 7 8 9 10"} {
			one(7 + i)
			if got := watched(s, 1, 20); got != want {
				t.Errorf("with %d more: watched are %s, want %s", i+1, got, want)
			}
		}
		one(11)
		if got := watched(s, 1, 20); got != "5 6 7 8 9 10" {
			t.Errorf("without an idle one: watched are %s", got)
		}
		if got := s.Look("x11.example.org.", pooltest.Addr(11), 0, 30); got.State() != verdict.Unchecked {
			t.Errorf("an address beyond the limit is %s", got.State())
		}
		if got := watched(other, 1, 2); got != "1 2" {
			t.Errorf("the other stanza watches %s", got)
		}
	})
}

// After a reload, what has been idle for longest still makes room first, whatever order it was learned in (B85).
func TestIdleOrderOverAReload(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		capped := func() *stanza {
			s := testStanza("tcp://:80", n, pooltest.Pace)
			s.Max = 6
			return s
		}
		one := func(s *stanza, i int) { query(s, fmt.Sprintf("x%d.example.org.", i), dns.TypeA, i) }
		s := capped()
		g := begin(p, s)
		for i := range 6 {
			one(s, 1+i)
		}
		for i := 6; i >= 1; i-- { // they become idle in this order
			pooltest.Elapse(3 * time.Minute)
			one(s, i)
		}
		pooltest.Elapse(30 * time.Minute)
		s = capped()
		begin(p, s)
		p.Leave(g)
		for i, want := range []string{"1 2 3 4 5 7", "1 2 3 4 7 8", "1 2 3 7 8 9", "1 2 7 8 9 10", "1 7 8 9 10 11"} {
			one(s, 7+i)
			if got := watched(s, 1, 20); got != want {
				t.Errorf("with %d more: watched are %s, want %s", i+1, got, want)
			}
		}
	})
}

// watched lists which addresses of a range are watched, without asking for them.
func watched(s *stanza, from, to int) (list string) {
	for i := from; i <= to; i++ {
		if _, there := isIdle(s, i); there {
			list += fmt.Sprintf(" %d", i)
		}
	}
	return list[min(1, len(list)):]
}

// If the pool is full, a stanza with idle targets makes room among its own, and one without any does not (B85).
func TestRoomInAFullPool(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		quiet, busy := testStanza("tcp://:80", n, pooltest.Pace), testStanza("tcp://:81", n, pooltest.Pace)
		quiet.Zones, busy.Zones = "a.", "b."
		p.maxTargets = 4
		begin(p, quiet, busy)
		query(quiet, owner, dns.TypeA, 1, 2)
		pooltest.Elapse(20 * time.Minute)
		query(busy, owner, dns.TypeA, 1, 2)
		query(busy, owner, dns.TypeA, 3)
		if got := watched(busy, 1, 3); got != "1 2" {
			t.Errorf("the busy stanza watches %s", got)
		}
		query(quiet, "api.example.org.", dns.TypeA, 3)
		if got := watched(quiet, 1, 3); got != "2 3" && got != "1 3" {
			t.Errorf("the quiet stanza watches %s", got)
		}
	})
}

// A reload keeps idle targets idle, with the sets that they are in, also at another pace (B69, B84).
func TestIdleOverAReload(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		g := begin(p, s)
		n.Kill(pooltest.Addr(1))
		query(s, owner, dns.TypeA, 1)
		pooltest.Elapse(20 * time.Minute)
		slower := pooltest.Pace
		slower.Interval *= 2
		for _, pace := range []verdict.Pace{pooltest.Pace, slower} {
			s = testStanza("tcp://:80", n, pace)
			next := begin(p, s)
			p.Leave(g)
			g = next
			if idle, watched := isIdle(s, 1); !idle || !watched {
				t.Errorf("after a reload: idle %t, watched %t", idle, watched)
			}
			n.Forget()
			pooltest.Elapse(20 * time.Minute)
			if got := n.Asked(pooltest.Addr(1)); got < 5 || got > 14 {
				t.Errorf("probed %d times in 20 minutes", got)
			}
		}
		for range 3 { // its set is looked at without it
			query(s, owner, dns.TypeA)
			pooltest.Elapse(time.Minute)
		}
		if _, watched := isIdle(s, 1); watched {
			t.Error("it left its set, and is still watched")
		}
	})
}

// Looking for idle targets that could make room takes no more than so many steps a minute, and goes on when the minute is over (B85).
func TestStepsToMakeRoom(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		query(s, owner, dns.TypeA, 1, 2, 3, 4)
		pooltest.Elapse(20 * time.Minute)
		among := func(steps int) (looked int, made bool) {
			p.life.Lock()
			defer p.life.Unlock()
			p.do(func() {
				s.Group.steps += steps
				made = p.makeRoomAmong(&s.Group, func(*monitor) bool { looked++; return false }, time.Now())
			})
			return looked, made
		}
		if looked, made := among(0); looked != 4 || made {
			t.Fatalf("%d of 4 were looked at, and one was taken: %t", looked, made)
		}
		if looked, _ := among(maxSteps - 6); looked != 2 {
			t.Errorf("%d were looked at with two steps left", looked)
		}
		if looked, _ := among(0); looked != 0 {
			t.Errorf("%d were looked at with no steps left", looked)
		}
		pooltest.Elapse(time.Minute)
		if looked, _ := among(0); looked != 4 {
			t.Errorf("%d were looked at in the next minute", looked)
		}
	})
}
