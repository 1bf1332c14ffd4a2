package multivalue

import (
	"math"
	"net/netip"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/force"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// stanza is one multivalue stanza of a Corefile, ready to judge by.
type stanza struct {
	rule   answer.Rule // its Health is the stanza
	checks []CheckSpec // all must pass, unless need says how many
	need   int         // 0 for all; else less than there are
	within network.List
	forced *force.File // nil if the stanza names none
	// annotated is nil if the stanza heeds no annotations.
	annotated *annotated
	account   *Group
	pool      *pool
	longest   uint32 // the highest TTL, in seconds, that can go out while verdicts bound it
}

// Look is what the pool believes of an address, by the check that believes the worst of it, or by those that suffice, unless
// that is forced. The pool is asked in any case: looking is watching.
func (s *stanza) Look(owner string, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	worst := verdict.BriefUnchecked
	if s.within.Allows(addr) {
		worst = s.judge(owner, addr, port, min(ttl, s.longest))
	}
	if s.forced != nil {
		return s.forced.For(addr).Apply(worst)
	}
	return worst
}

// judge is what the checks together say.
func (s *stanza) judge(owner string, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	if s.need > 0 {
		return s.some(owner, addr, port, ttl)
	}
	worst := s.ask(&s.checks[0], owner, addr, port, ttl)
	for i := 1; i < len(s.checks); i++ {
		worst = verdict.Worse(worst, s.ask(&s.checks[i], owner, addr, port, ttl))
	}
	return worst
}

// ask is what one check says.
func (s *stanza) ask(c *CheckSpec, owner string, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	t, seed := c.target(owner, addr, port)
	if e := s.pool.table.Find(&t, table.Hash(&t, seed)); e != nil {
		if v, there := e.Load(ttl); there {
			return v
		}
	}
	if c.nowhere(t) {
		return verdict.BriefUnchecked
	}
	return s.pool.request(t, c, s.account, owner, ttl)
}

// target is what the check asks of an address in a record that names this port, and what finds it on the board. The port is
// the one in the check's URL, else the record's, else the scheme's; and 0 where there are no ports, as in icmp, whose
// check decides about that as if its URL had one.
func (c *CheckSpec) target(owner string, addr netip.Addr, port uint16) (verdict.Target, uint64) {
	if port == 0 || c.portNamed {
		port = c.port
	}
	id, seed := c.identityFor(owner)
	return verdict.Target{Identity: id, Addr: netip.AddrPortFrom(addr, port)}, seed
}

// nowhere reports whether nobody says where to ask.
func (c *CheckSpec) nowhere(t verdict.Target) bool { return t.Addr.Port() == 0 && !c.portNamed }

// seal fills in what follows from the rest, once all of that is known.
func (s *stanza) seal(pace verdict.Pace) {
	s.rule.Health = s
	s.account.checks = s.checks
	s.account.within = s.within
	s.account.Warms = s.rule.Policy.Warmup > 0
	s.longest = s.rule.Policy.TTL.Longest(math.MaxUint32, pace.LongestHold())
}
