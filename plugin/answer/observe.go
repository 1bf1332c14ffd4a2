package answer

import (
	"net/netip"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// Decision says how a set was decided, for the explanations on the status page. The policy itself knows no reasons.
type Decision struct {
	Owner     string
	Type      uint16
	Outcome   Outcome
	Signed    bool   // a DNSSEC signature covers the set, so it is left unchanged
	Alone     bool   // its only member is served whatever its health is, and was not looked up
	DryRun    bool   // the decision is not applied
	Limit     int    // greatest number of members that are served; 0 for all
	Primaries int    // candidates that are neither backup nor drained, fit or not
	Need      int    // if fewer primaries are fit, others are served too
	TTL       uint32 // the highest that a record may have, in seconds
	// Candidates are the members of the set in the order in which they would be served. The first Served of them are.
	Candidates []Candidate
	Served     int
	Unjudged   int // further members of the set, which are served after these if there is no limit, and else left out
}

// Candidate is a member of a set.
type Candidate struct {
	Record  dns.RR     // as it came from the plugins below
	Addr    netip.Addr // invalid for SRV and MX records, which are as healthy as the best address of their host
	Verdict verdict.Brief
	Tier    Tier
}

// Tier is a group of candidates: primary, backup, drained or unfit. An earlier tier is served first.
type Tier uint8

// String returns the tier as it appears in JSON.
func (t Tier) String() string { return [...]string{"primary", "backup", "drained", "unfit"}[t] }

// observe passes the decision on a set to Rule.Observe. Call it before the answer is changed: candidates have the indexes of
// their records in it. The candidates of hints have indexes in their parameter, so for those the record is given.
func (sc *scratch) observe(s *set, c *choice, record dns.RR) {
	p := s.rule.Policy
	if s.rrtype != dns.TypeA && s.rrtype != dns.TypeAAAA {
		p = Policy{MinUp: p.MinUp} // as decideTargets and chooseHints do
	}
	n := p.countTiers(c.all)
	limit := p.Limit
	if limit == 0 {
		limit = len(c.all)
	}
	d := Decision{
		Owner: s.owner, Type: s.rrtype, Outcome: c.outcome, Alone: c.single, DryRun: s.rule.Policy.DryRun,
		Limit: p.Limit, Primaries: n.primaries, Need: p.need(n.primaries, limit), TTL: c.ttl, Served: len(c.served), Unjudged: c.rest.size,
	}
	for i := range c.all {
		a := &c.all[i]
		d.Candidates = append(d.Candidates, Candidate{record, a.addr, a.verdict, Tier(a.tier())})
		if record == nil {
			d.Candidates[i].Record = sc.out.Answer[a.index]
		}
	}
	s.rule.Observe(d)
}
