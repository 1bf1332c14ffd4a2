package pool

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// owner is the name of the set that the tests' addresses are in.
const owner = "www.example.org."

// stanza is the part of a stanza that the pool uses: a group, and the checks that each of its addresses must pass.
type stanza struct {
	Group
	checks []CheckSpec
	within network.List
	maxTTL uint32 // seconds
}

func (s *stanza) For(string) []CheckSpec { return s.checks }
func (s *stanza) All() []CheckSpec       { return s.checks }

// Look looks up an address as a query does, except that what it teaches is not rationed: most tests need many addresses at
// once.
func (s *stanza) Look(owner string, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	at := s.Open(owner, dns.TypeA)
	at.Ahead = true
	return s.lookIn(at, addr, port, ttl)
}

// lookIn looks up an address of a set, as a query does.
func (s *stanza) lookIn(at verdict.RecordSet, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	worst := verdict.Outside.Brief()
	if !s.Allow(addr) {
		return worst
	}
	for i := range s.checks {
		v := s.Group.Look(&s.checks[i], at, addr, port, min(ttl, s.maxTTL))
		if worst = verdict.Worse(worst, v); i == 0 {
			worst = v
		}
	}
	return worst
}

// newStanza returns a stanza with one check that may probe any address.
func newStanza(spec CheckSpec, pace verdict.Pace) *stanza {
	s := &stanza{checks: []CheckSpec{spec}, maxTTL: uint32(pace.LongestHold() / time.Second)}
	s.checks[0].SetPace(pace)
	s.Max, s.Checks = 65536, s
	s.Allow = func(addr netip.Addr) bool { return s.within.Allows(addr) }
	return s
}

// testStanza returns a stanza. The network answers its one check.
func testStanza(name string, n Prober, pace verdict.Pace) *stanza {
	return newStanza(CheckSpec{prober: n, Name: name, withoutPace: verdict.Identify(name, 0), port: 80}, pace)
}

// candidateOf returns a generation that has joined, and whose servers do not run yet.
func candidateOf(p *Pool, stanzas ...*stanza) *Generation {
	g := new(Generation)
	for _, s := range stanzas {
		p.AddGroup(g, &s.Group)
	}
	p.Join(g)
	return g
}

// begin starts a generation with the stanzas on p.
func begin(p *Pool, stanzas ...*stanza) *Generation {
	g := candidateOf(p, stanzas...)
	p.Confirm(g)
	return g
}

// inBubble runs a test of a pool in fake time, and stops the pool.
func inBubble(t *testing.T, f func(t *testing.T, p *Pool, n *pooltest.FakeNetwork)) {
	synctest.Test(t, func(t *testing.T) {
		p := New()
		defer func() {
			for _, g := range append([]*Generation(nil), p.generations...) {
				p.Leave(g)
			}
		}()
		f(t, p, pooltest.NewNetwork())
	})
}

// size counts everything that a pool holds, at a moment when nothing else changes it.
type size struct{ generations, checks, monitors, memories int }

func sizeOf(p *Pool) (s size) {
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() { s = size{len(p.generations), len(p.checks), len(p.monitors), len(p.memories)} })
	return s
}

// verdictOf looks an address up as a query does, and returns everything that the pool believes about it. All of that
// must agree.
func verdictOf(s *stanza, a netip.Addr) (v verdict.Verdict) {
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
		panic(fmt.Sprintf("the pool believes %+v of %s, and the table has %x", v, a, brief))
	}
	return v
}

// stateOf returns the state that a query sees.
func stateOf(s *stanza, a netip.Addr) verdict.State { return s.Look(owner, a, 0, 30).State() }

// pass lets time pass while queries look up the addresses every second.
func pass(d time.Duration, s *stanza, addrs ...netip.Addr) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		for _, a := range addrs {
			s.Look(owner, a, 0, 30)
		}
		time.Sleep(time.Second)
		synctest.Wait()
	}
}

// abandon lets time pass while queries look at the A sets of the owners, and find none of the addresses there that were in
// them, so that all are forgotten.
func abandon(s *stanza, owners ...string) {
	for range (keepUnasked + 3*sweepEvery) / sweepEvery {
		for _, o := range owners {
			s.Open(o, dns.TypeA)
		}
		pooltest.Elapse(sweepEvery)
	}
}

// upTable makes a stanza on a pool that does not run. Its table has n addresses that are up.
func upTable(n int) *stanza {
	p := New()
	s := testStanza("tcp://:80", pooltest.NewNetwork(), pooltest.Pace)
	candidateOf(p, s)
	for i := range n {
		t := verdict.Target{Identity: s.checks[0].identity, Addr: netip.AddrPortFrom(pooltest.Addr(i), 80)}
		e := &table.Entry{Target: t}
		p.table.Insert(e, table.Hash(&t, s.checks[0].seed))
		e.Store(verdict.Verdict{State: verdict.Up, Holds: 13 * time.Second})
	}
	return s
}
