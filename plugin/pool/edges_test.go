package pool

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/state"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// A reload that lowers max_targets: idle targets above the limit must not keep the stanza above it for ever (B61, B85).
func TestLoweredMaxTargets(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.Max = 100
		g := begin(p, s)
		for i := range 100 {
			query(s, fmt.Sprintf("q%d.example.org.", i), dns.TypeA, i)
		}
		pooltest.Elapse(20 * time.Minute)
		s = testStanza("tcp://:80", n, pooltest.Pace)
		s.Max = 10
		next := begin(p, s)
		p.Leave(g)
		_ = next
		for i := range 200 {
			query(s, fmt.Sprintf("n%d.example.org.", i), dns.TypeA, 1000+i)
		}
		pooltest.Elapse(time.Second)
		busy := 0
		p.life.Lock()
		p.do(func() {
			for _, m := range p.monitors {
				if !m.idle {
					busy++
				}
			}
		})
		p.life.Unlock()
		if got := sizeOf(p).monitors; got > 10 || busy > 10 {
			t.Errorf("max_targets 10, but %d targets, %d of them busy", got, busy)
		}
	})
}

// Names that a limit turns away must not take up memory (B61, B90).
func TestNamesThatAreTurnedAway(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := ownerStanza(nil, pooltest.Pace)
		s.checks[0].forOwner = func(string) Prober { return n }
		begin(p, s)
		for i := range 20000 {
			at := s.Open(fmt.Sprintf("x%d.example.org.", i), dns.TypeA)
			s.lookIn(at, pooltest.Addr(1), 0, 30)
			if i%1000 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		names := 0
		p.life.Lock()
		p.do(func() { names = len(p.names) })
		p.life.Unlock()
		if names > 2*maxOwners {
			t.Errorf("%d targets, but %d names are counted", sizeOf(p).monitors, names)
		}
	})
}

// Queries for many names of one address must not use up the steps by which a stanza makes room (B85).
func TestFloodOfNamesLeavesRoom(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := ownerStanza(nil, pooltest.Pace)
		s.checks[0].forOwner = func(string) Prober { return n }
		s.Max = 4000
		begin(p, s)
		for i := range 3700 { // quiet names, on an address each
			s.Look(fmt.Sprintf("q%d.example.org.", i), pooltest.Addr(10+i), 0, 30)
			if i%500 == 0 {
				synctest.Wait()
			}
		}
		pooltest.Elapse(20 * time.Minute)
		for i := range maxOwners + 300 + 300 { // a flood below a wildcard
			s.lookIn(s.Open(fmt.Sprintf("x%d.example.org.", i), dns.TypeA), pooltest.Addr(1), 0, 30)
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		for i := range 100 { // fill up
			s.Look(fmt.Sprintf("f%d.example.org.", i), pooltest.Addr(100_000+i), 0, 30)
		}
		synctest.Wait()
		s.Look("honest.example.org.", pooltest.Addr(200_000), 0, 30)
		pooltest.Elapse(10 * time.Second)
		steps := 0
		p.life.Lock()
		p.do(func() { steps = s.steps })
		p.life.Unlock()
		if v := s.Look("honest.example.org.", pooltest.Addr(200_000), 0, 30); v.State() != verdict.Up {
			t.Errorf("an honest name is %s with %d targets, %d idle ones can make room, %d steps", v.State(), sizeOf(p).monitors, s.idle[0].Len()+s.idle[1].Len(), steps)
		}
	})
}

// A reload that adds a zone to a stanza: an address that leaves the DNS afterwards is forgotten (B63, B69).
func TestReloadWithAnotherZone(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.Zones = "example.org."
		g := begin(p, s)
		query(s, owner, dns.TypeA, 1, 2)
		pooltest.Elapse(time.Minute)
		s = testStanza("tcp://:80", n, pooltest.Pace)
		s.Zones = "example.org. example.net."
		begin(p, s)
		p.Leave(g)
		query(s, owner, dns.TypeA, 1, 2)
		for range 30 {
			query(s, owner, dns.TypeA, 2)
			pooltest.Elapse(time.Minute)
		}
		if idle, watched := isIdle(s, 1); watched {
			t.Errorf("it left the DNS half an hour ago, and is watched, idle %t", idle)
		}
	})
}

// An idle target that made room and is asked for soon after is probed at once, if its last probe is old (B84).
func TestEvictedAndAskedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.Max = 2
		begin(p, s)
		query(s, "a.example.org.", dns.TypeA, 1)
		pooltest.Elapse(5 * time.Minute)
		query(s, "b.example.org.", dns.TypeA, 2)
		pooltest.Elapse(20 * time.Minute)
		for quiet := 0; quiet <= 30; quiet++ { // the last probe is old
			n.Forget()
			if pooltest.Elapse(time.Second); n.Asked(pooltest.Addr(1)) > 0 {
				quiet = 0
			}
		}
		query(s, "n.example.org.", dns.TypeA, 3) // which makes room by forgetting 1
		n.Forget()
		query(s, "a.example.org.", dns.TypeA, 1)
		pooltest.Elapse(time.Second)
		if v := s.Look("a.example.org.", pooltest.Addr(1), 0, 30); n.Asked(pooltest.Addr(1)) == 0 {
			t.Errorf("%s by a probe of half a minute ago or more, and not probed for a second", v.State())
		}
	})
}

// A stale record of an earlier process must not win over what this process has found out since (B88).
func TestNewerThanTheStateFile(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		now := time.Now()
		key := s.checks[0].stateKey(netip.AddrPortFrom(pooltest.Addr(1), 80), owner)
		p.Restore(map[state.Key]state.Record{key: {State: verdict.Down, Since: now.Add(-time.Minute), At: now.Add(-time.Minute), Reason: "connection refused"}})
		g := begin(p, s)
		pass(time.Minute, s, pooltest.Addr(1))
		if got := stateOf(s, pooltest.Addr(1)); got != verdict.Up {
			t.Fatalf("%s", got)
		}
		other := testStanza("tcp://:81", n, pooltest.Pace) // the check is edited away
		g2 := begin(p, other)
		p.Leave(g)
		pooltest.Elapse(time.Minute)
		s = testStanza("tcp://:80", n, pooltest.Pace) // and back
		begin(p, s)
		p.Leave(g2)
		stateOf(s, pooltest.Addr(1))
		synctest.Wait()
		if v := verdictOf(s, pooltest.Addr(1)); v.State == verdict.Down {
			t.Errorf("up for a minute in this process, and now %+v", v)
		}
	})
}

// A query that finds nothing in the table may look at what an earlier process believed when the pool has just taken it over. It
// must find one of the two (B88).
func TestRestoredWhileItIsTakenOver(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		const many = 2000
		s := testStanza("tcp://:80", n, pooltest.Pace)
		records, now := make(map[state.Key]state.Record), time.Now()
		for i := range many {
			key := s.checks[0].stateKey(netip.AddrPortFrom(pooltest.Addr(i), 80), owner)
			records[key] = state.Record{State: verdict.Down, Since: now.Add(-time.Minute), At: now.Add(-time.Second)}
		}
		p.Restore(records)
		begin(p, s)
		var queries sync.WaitGroup
		var wrong atomic.Int32
		for range 2 {
			queries.Go(func() {
				for i := range many {
					if stateOf(s, pooltest.Addr(i)) != verdict.Down {
						wrong.Add(1)
					}
				}
			})
		}
		if queries.Wait(); wrong.Load() > 0 {
			t.Errorf("%d of %d queries did not get what the file says", wrong.Load(), 2*many)
		}
	})
}

// A query of a server that has just stopped must not keep the next ones from waking the target (B84).
func TestWakeByAQueryInFlight(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		old := testStanza("tcp://:80", n, pooltest.Pace)
		g := begin(p, old)
		query(old, owner, dns.TypeA, 1)
		pooltest.Elapse(20 * time.Minute)
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		p.Leave(g)
		n.Forget()
		for quiet := 0; quiet <= 11; quiet++ {
			n.Forget()
			if pooltest.Elapse(time.Second); n.Asked(pooltest.Addr(1)) > 0 {
				quiet = 0
			}
		}
		query(old, owner, dns.TypeA, 1) // in flight when its server stopped
		query(s, owner, dns.TypeA, 1)
		pooltest.Elapse(time.Second)
		if idle, _ := isIdle(s, 1); idle || n.Asked(pooltest.Addr(1)) == 0 {
			t.Errorf("a query has come, idle is %t, and it was probed %d times", idle, n.Asked(pooltest.Addr(1)))
		}
	})
}

// One stanza learns 8192 targets a minute (B90).
func TestStanzaLearnsInAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		next := 0
		for range 600 {
			for range 60 {
				s.lookIn(s.Open(fmt.Sprintf("n%d.example.org.", next/16), dns.TypeA), pooltest.Addr(next), 0, 30)
				next++
			}
			pooltest.Elapse(99 * time.Millisecond)
		}
		if got := sizeOf(p).monitors; got > 8192+600 {
			t.Errorf("%d targets were learned in a minute", got)
		}
	})
}
