package answer

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// Outcome is what became of a set, or of the worst of an answer's sets: a later one counts for more.
type Outcome uint8

const (
	None    Outcome = iota // nothing was judged
	Whole                  // every primary is fit, and went out
	Sample                 // every primary is fit, and some went out
	Thinned                // the unfit ones were left out
	Backup                 // too few primaries are fit: fit backups, or drained ones, went out too
	Open                   // too few are fit: unfit ones went out too
	Closed                 // none is fit, and none went out
)

var outcomes = [...]string{"none", "whole", "sample", "thin", "backup", "open", "closed"}

// Outcomes is how many there are.
const Outcomes = len(outcomes)

// String is the name that metrics, logs and metadata use.
func (o Outcome) String() string { return outcomes[o] }

// AllDown says what goes out when no address of a set is fit.
type AllDown uint8

const (
	Serve    AllDown = iota // the least bad ones, up to the limit
	NoData                  // NODATA
	ServFail                // SERVFAIL
	Fixed                   // other addresses; NODATA in a family that has none
)

// Policy says which addresses of a set go out.
type Policy struct {
	Limit   int            // addresses in an answer; 0 for all
	MinUp   Quorum         // fit primaries below which the answer is filled up with others
	AllDown AllDown        // when nothing at all is fit
	Instead []netip.Addr   // the addresses of Fixed
	Backup  []netip.Prefix // addresses in these are used only when the primaries are too few
	Weights []Weight       // the first that holds an address counts; without one it weighs 1
	Client  bool           // the client's network chooses, not chance
	Warmup  time.Duration  // over which an address that came up gains its full share of samples
	TTL     TTL
	DryRun  bool // decide and report, but change nothing
}

// Weight is what the addresses in a network weigh when a sample is drawn.
type Weight struct {
	Network netip.Prefix
	Weight  int // 1 to 65535
}

// Quorum is a count, or a share: of the addresses in a set (min_up), or of the checks in a stanza (require).
type Quorum struct {
	Count   int // used if Percent is 0
	Percent int // rounded up
}

// String is the quorum as the Corefile has it.
func (q Quorum) String() string {
	if q.Percent > 0 {
		return fmt.Sprintf("%d%%", q.Percent)
	}
	return fmt.Sprint(q.Count)
}

// Of is how many out of n. A share is rounded up; a count may be more than n.
func (q Quorum) Of(n int) int {
	if q.Percent > 0 {
		return (n*q.Percent + 99) / 100
	}
	return q.Count
}

// need is how many of the primaries have to be fit, or the answer is filled up with others.
func (p *Policy) need(primaries, limit int) int {
	return min(limit, max(1, min(primaries, p.MinUp.Of(primaries))))
}

// TTL bounds the TTL of judged sets, in seconds. It never raises one.
type TTL struct {
	Max uint32 // 0 for none
	Min uint32 // what the verdicts ask for does not lower a TTL below this
	Off bool   // leave TTLs alone
}

// boundAll is the highest TTL that an answer with these addresses may have: as long as the verdicts on all of them hold
// for sure, but at least Min and at most Max. Addresses that no check covers bound nothing.
func (t TTL) boundAll(served []candidate) uint32 {
	bound := t.boundOne(verdict.BriefUnchecked)
	for i := range served {
		bound = min(bound, t.boundOne(served[i].verdict))
	}
	return bound
}

// boundOne is the bound of one address.
func (t TTL) boundOne(v verdict.Brief) uint32 {
	if t.Off {
		return math.MaxUint32
	}
	bound := uint32(math.MaxUint32)
	if t.Max > 0 {
		bound = t.Max
	}
	if v.State() != verdict.Unchecked {
		bound = min(bound, max(t.Min, v.Holds()))
	}
	return bound
}

// Longest is the highest TTL that can go out while verdicts hold for at most holds, if the record's own is ttl.
func (t TTL) Longest(ttl uint32, holds time.Duration) uint32 {
	return min(ttl, t.boundOne(verdict.Verdict{State: verdict.Up, Holds: holds}.Brief()))
}

// choose returns the addresses that go out, and how that came about. It reorders all.
//
// The fit primaries go out. If they are fewer than MinUp, and than the limit, the fit backups follow, then the drained
// ones, and if those are too few as well, the least bad, up to the limit; if nothing is fit, AllDown says what to do. What
// goes out whole keeps its order; what is drawn comes in the order of the draw.
func (p *Policy) choose(all []candidate, draw *Draw) ([]candidate, Outcome) {
	limit := p.Limit
	if limit == 0 {
		limit = len(all)
	}
	n := p.countTiers(all)
	if n.upTo[drained] == 0 && p.AllDown != Serve {
		return nil, Closed
	}
	need := p.need(n.primaries, limit)
	fit := n.upTo[primary]
	if fit < need {
		return p.fillUp(all, n, need, limit, draw)
	}
	outcome := Whole
	if fit < len(all) {
		slices.SortStableFunc(all, leastBad)
	}
	if fit < n.primaries {
		outcome = Thinned
	} else if fit > limit {
		outcome = Sample
	}
	return p.sample(all[:fit], limit, draw), outcome
}

// chooseInOrder is choose without a limit, for what keeps its order. That would only change where one tier follows another.
func (p *Policy) chooseInOrder(all []candidate, draw *Draw) ([]candidate, Outcome) {
	served, outcome := p.choose(all, draw)
	if outcome == Backup {
		slices.SortFunc(served, func(a, b candidate) int { return cmp.Compare(a.index, b.index) })
	}
	return served, outcome
}

// The tiers of candidates, in the order in which they go out.
const (
	primary = iota // fit, and neither of the next two
	backup         // fit
	drained        // fit
	unfit
)

// counts are how many primaries there are, fit or not, and how many candidates in each tier and those before it.
type counts struct {
	primaries int
	upTo      [unfit + 1]int
}

// countTiers counts, and marks the backups and the drained. A set of nothing but backups is one of primaries, and so is a set of
// nothing but drained ones.
func (p *Policy) countTiers(all []candidate) counts {
	var n counts
	markDrained(all)
	if len(p.Backup) > 0 {
		p.markBackups(all)
	}
	for i := range all {
		c := &all[i]
		if !c.backup && !c.drained {
			n.primaries++
		}
		n.upTo[c.tier()]++
	}
	for tier := backup; tier <= unfit; tier++ {
		n.upTo[tier] += n.upTo[tier-1]
	}
	return n
}

func (p *Policy) markBackups(all []candidate) {
	marked := 0
	for i := range all {
		if all[i].backup = slices.ContainsFunc(p.Backup, func(n netip.Prefix) bool { return n.Contains(all[i].addr) }); all[i].backup {
			marked++
		}
	}
	if marked == len(all) {
		for i := range all {
			all[i].backup = false
		}
	}
}

func markDrained(all []candidate) {
	marked := 0
	for i := range all {
		if all[i].verdict.Drained() {
			all[i].drained = true
			marked++
		}
	}
	if marked == len(all) {
		for i := range all {
			all[i].drained = false
		}
	}
}

// fillUp makes up for primaries that are too few: with the tiers behind them as far as it takes, up to the limit. Of the last
// tier some are drawn if there are too many.
func (p *Policy) fillUp(all []candidate, n counts, need, limit int, draw *Draw) ([]candidate, Outcome) {
	last := backup
	for last < unfit && n.upTo[last] < need {
		last++
	}
	if last == unfit && len(all) <= limit {
		return all, Open
	}
	slices.SortStableFunc(all, leastBad)
	switch {
	case last == unfit:
		return all[:limit], Open
	case n.upTo[last] > limit:
		before := n.upTo[last-1]
		p.sample(all[before:n.upTo[last]], limit-before, draw)
		return all[:limit], Backup
	}
	return all[:n.upTo[last]], Backup
}

// leastBad orders by tier, and the unfit by when they were last fit, the latest first.
func leastBad(a, b candidate) int {
	if x, y := a.tier(), b.tier(); x != y || x < unfit {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(b.verdict.Since(), a.verdict.Since())
}

func (c *candidate) tier() int {
	switch {
	case !c.verdict.State().Fit():
		return unfit
	case c.drained:
		return drained
	case c.backup:
		return backup
	}
	return primary
}

// fixedRecords are the records that stand in for a set that was closed, by AllDown.
func (p *Policy) fixedRecords(s *set, ttl uint32) []dns.RR {
	if p.AllDown != Fixed {
		return nil
	}
	var records []dns.RR
	for _, addr := range p.Instead {
		hdr := dns.RR_Header{Name: s.owner, Rrtype: s.rrtype, Class: dns.ClassINET, Ttl: ttl}
		switch {
		case addr.Is4() && s.rrtype == dns.TypeA:
			records = append(records, &dns.A{Hdr: hdr, A: addr.AsSlice()})
		case addr.Is6() && s.rrtype == dns.TypeAAAA:
			records = append(records, &dns.AAAA{Hdr: hdr, AAAA: addr.AsSlice()})
		}
	}
	return records
}
