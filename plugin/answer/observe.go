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
	BySite    bool   // the sites of addresses and client decided which are served, and in which order
	Limit     int    // greatest number of members that are served; 0 for all
	Primaries int    // candidates that are neither backup nor drained, fit or not
	Need      int    // if fewer primaries are fit, others are served too
	TTL       uint32 // the highest that a record may have, in seconds
	// Candidates are the members of the set in the order in which they would be served. The first Served of them are.
	Candidates []Candidate
	Served     int
	Unjudged   int // further members of the set, which are served after these if there is no limit, and else left out
	// Instead is how it went with the name that all_down has for the set. Others are the addresses of that name, whose Record is
	// nil; the first OthersServed of them are served.
	Instead      Instead
	Others       []Candidate
	OthersServed int
}

// Checked reports whether the checks, or a forced state, say of any candidate whether it is up or down. A set that nothing is
// known of is not healthy, nor is an only member, which was not looked up.
func (d *Decision) Checked() bool {
	return slices.ContainsFunc(d.Candidates, func(c Candidate) bool {
		return c.Verdict.State() == verdict.Up || c.Verdict.State() == verdict.Down
	})
}

// Candidate is a member of a set.
type Candidate struct {
	Record  dns.RR     // as it came from the plugins below
	Addr    netip.Addr // invalid for SRV and MX records, which are as healthy as the best address of their host
	Verdict verdict.Brief
	Tier    Tier
	Draw    *Share // nil unless its tier is drawn from by weight, by warm-up or by the client
	// Share is how likely it is to be in an answer, and Lead to be the first one in it, see addOdds. They are negative where that is
	// not known: an order of sites may be drawn, and what is not drawn keeps the order of the plugins below.
	Share, Lead float64
}

// Share is what an address has in a draw.
type Share struct {
	Weight int
	Report uint8   // how much of its weight it wants, in per cent, as its backend says; 100 if the checks do not ask
	Warmth float64 // the share of its weight that it has now, from minWarmupShare to 1
	First  float64 // how likely it is to be the first one of its tier in an answer
}

// Tier is a group of candidates: primary, backup by rank, drained or unfit. An earlier tier is served first.
type Tier uint8

// String returns the tier as it appears in JSON.
func (t Tier) String() string {
	switch t {
	case primary:
		return "primary"
	case drained:
		return "drained"
	case unfit:
		return "unfit"
	}
	return "backup"
}

// IsPrimary reports whether it is the tier that is served first.
func (t Tier) IsPrimary() bool { return t == primary }

// Rank is the rank of a backup that is fit; 0 for the other tiers.
func (t Tier) Rank() int {
	if t < drained {
		return int(t)
	}
	return 0
}

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
	if c.other != nil {
		d.Instead, d.OthersServed = c.other.Instead, len(c.other.served)
		for i := range c.other.all {
			a := &c.other.all[i]
			d.Others = append(d.Others, Candidate{Addr: a.addr, Verdict: a.verdict, Tier: Tier(a.tier())})
		}
	}
	d.BySite = !c.single && p.bySite(sc.draw)
	p.addOdds(d.Candidates, c, sc.draw)
	if !c.single && p.hasShares(sc.draw) {
		d.Ordered = p.addDraws(d.Candidates, c, sc.draw)
	}
	s.rule.Observe(d)
}

// addDraws adds the shares of the tiers that are served, of which each, and each site in it, is drawn for itself. It reports whether that decides the
// order of any of them.
func (p *Policy) addDraws(shown []Candidate, c *choice, draw *Draw) (ordered bool) {
	for first := 0; first < len(c.served); {
		tier, end := c.all[first].tier(), p.endOfGroup(c.all, first, draw)
		if tier == unfit {
			end = len(c.served) // those that fell earlier are not drawn from
		}
		served := min(end, len(c.served)) - first
		drawn := p.addShares(shown[first:end], c.all[first:end], served, draw)
		ordered = ordered || drawn && served > 1
		first = end
	}
	return ordered
}

// addShares adds the share that each candidate of a tier has in its draw, of which so many are served. It reports whether there
// was one: nothing is drawn if all are served and have the same share, unless the client draws.
func (p *Policy) addShares(shown []Candidate, tier []candidate, served int, draw *Draw) bool {
	if even := p.setShares(tier, draw); len(tier) < 2 || even && served >= len(tier) && !p.byClient(draw) {
		return false
	}
	total := 0.0
	for i := range tier {
		total += tier[i].key
	}
	for i := range tier {
		a := &tier[i]
		shown[i].Draw = &Share{p.weightOf(a.addr), 100, p.warmupShare(a.verdict, draw.Now), a.key / total}
		if p.Reports {
			shown[i].Draw.Report = a.verdict.Weight()
		}
	}
	return true
}
