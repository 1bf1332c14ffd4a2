package answer

import (
	"net/netip"
	"slices"

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
	Ordered   bool   // the order of those that are served was drawn: by weight, by warm-up, or by the client
	Limit     int    // greatest number of members that are served; 0 for all
	Primaries int    // candidates that are neither backup nor drained, fit or not
	Need      int    // if fewer primaries are fit, others are served too
	TTL       uint32 // the highest that a record may have, in seconds
	// Candidates are the members of the set in the order in which they would be served. The first Served of them are.
	Candidates []Candidate
	Served     int
	Unjudged   int // further members of the set, which are served after these if there is no limit, and else left out
}

// Checked reports whether the checks, or a forced state, say of any candidate whether it is up or down. A set that nothing is
// known of is not healthy.
func (d *Decision) Checked() bool {
	return !d.Alone && slices.ContainsFunc(d.Candidates, func(c Candidate) bool {
		return c.Verdict.State() == verdict.Up || c.Verdict.State() == verdict.Down
	})
}

// Candidate is a member of a set.
type Candidate struct {
	Record  dns.RR     // as it came from the plugins below
	Addr    netip.Addr // invalid for SRV and MX records, which are as healthy as the best address of their host
	Verdict verdict.Brief
	Tier    Tier
	Draw    *Share // in a set that is drawn from by weight, by warm-up or by the client; else nil
}

// Share is what an address has in a draw.
type Share struct {
	Weight int
	Warmth float64 // the share of its weight that it has now, from minWarmupShare to 1
	First  float64 // how likely it is to be the first one of its tier
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
		d.Candidates = append(d.Candidates, Candidate{Record: record, Addr: a.addr, Verdict: a.verdict, Tier: Tier(a.tier())})
		if record == nil {
			d.Candidates[i].Record = sc.out.Answer[a.index]
		}
	}
	if !c.single && p.ordersAnswers(sc.draw) {
		d.Ordered = p.addShares(d.Candidates, c.all, sc.draw)
	}
	s.rule.Observe(d)
}

// addShares adds the share that each candidate has in the draw of its tier. It reports whether there was one, since nothing is
// drawn where all have the same share, unless the client draws.
func (p *Policy) addShares(shown []Candidate, all []candidate, draw *Draw) bool {
	if p.setShares(all, draw) && !p.byClient(draw) || len(all) < 2 {
		return false
	}
	var total [unfit + 1]float64
	for i := range all {
		total[all[i].tier()] += all[i].key
	}
	for i := range all {
		a := &all[i]
		shown[i].Draw = &Share{p.weightOf(a.addr), p.warmupShare(a.verdict, draw.Now), a.key / total[a.tier()]}
	}
	return true
}
