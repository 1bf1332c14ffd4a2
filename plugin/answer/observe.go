package answer

import (
	"net/netip"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// Decision is how a set was decided, for whoever has to explain it.
type Decision struct {
	Owner     string
	Type      uint16
	Outcome   Outcome
	Signed    bool // a signature covers the set, which stays whole
	Alone     bool // its one member goes out whatever is believed of it, and is not looked up
	DryRun    bool // the set goes out as it came, whatever was decided
	Limit     int  // the most that go out; 0 for all
	Primaries int  // candidates that are neither backup nor drained
	Need      int  // fit primaries below which others fill up
	TTL       uint32
	// Candidates are the members of the set in the order in which they would go out. The first Served of them do.
	Candidates []Candidate
	Served     int
}

// Candidate is a member of a set.
type Candidate struct {
	Record  dns.RR     // as it came
	Addr    netip.Addr // invalid for a record of SRV or MX, which is as good as the best address of its host
	Verdict verdict.Brief
	Tier    Tier
}

// Tier is a group of candidates. Those of an earlier one go out first.
type Tier uint8

// String is a word for the tier.
func (t Tier) String() string { return [...]string{"primary", "backup", "drained", "unfit"}[t] }

// observe tells what became of a set, before the answer is changed. For a hint, whose candidates are numbered by their
// places in the parameter, it is given the record.
func (sc *scratch) observe(s *set, c *choice, record dns.RR) {
	p := s.rule.Policy
	if s.rrtype != dns.TypeA && s.rrtype != dns.TypeAAAA {
		p = Policy{MinUp: p.MinUp} // what these sets are judged by
	}
	n := p.countTiers(c.all)
	limit := p.Limit
	if limit == 0 {
		limit = len(c.all)
	}
	d := Decision{
		Owner: s.owner, Type: s.rrtype, Outcome: c.outcome, Alone: c.single, DryRun: s.rule.Policy.DryRun,
		Limit: p.Limit, Primaries: n.primaries, Need: p.need(n.primaries, limit), TTL: c.ttl, Served: len(c.served),
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
