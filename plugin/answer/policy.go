package answer

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Outcome says what the policy did to a set. The outcome of an answer is the worst one of its sets: a later one is worse. The
// comments have the words that operators use, as the status page shows them.
type Outcome uint8

const (
	None    Outcome = iota // not filtered: no rule covers anything in the answer
	Whole                  // all healthy: every primary is fit, and all are served
	Sample                 // limited: every primary is fit, and as many as the limit allows are served
	Thinned                // filtered: unfit primaries are left out
	Backup                 // on backups: too few primaries are fit, so fit backups, or drained addresses, are served too
	Open                   // fail-open: too few addresses are fit, so unfit ones are served too
	Closed                 // fail-closed: no address is fit, and none is served
)

// outcomes are the values in metrics and JSON, which are stable: dashboards and alerts contain them.
var outcomes = [...]string{"none", "whole", "sample", "thin", "backup", "open", "closed"}

// Outcomes is the number of outcomes, for tables by outcome.
const Outcomes = len(outcomes)

// String returns the value that metrics, JSON and metadata use.
func (o Outcome) String() string { return outcomes[o] }

// AllDown says what is answered if no address of a set is fit (all_down).
type AllDown uint8

const (
	Serve    AllDown = iota // fail-open: the unfit addresses, those that were fit most recently first, up to the limit
	NoData                  // fail-closed: the name exists and has no address
	ServFail                // fail-closed: resolvers then ask another name server
	Fixed                   // fail-closed: other addresses, such as that of a maintenance page; NODATA in a family without one
	Named                   // fail-closed: the addresses of another name; as Serve while they are not known, or none of them is fit
)

// Policy says which addresses of a set are served. The zero value serves all healthy ones.
type Policy struct {
	Limit   int           // greatest number of addresses in an answer; 0 for all
	MinUp   Quorum        // if fewer primaries are fit, other addresses are served too
	AllDown AllDown       // what is answered if no address is fit
	Instead []netip.Addr  // the addresses for Fixed
	Another string        // the name for Named, in lower case and with a dot at its end
	Backup  []Rank        // addresses in these networks are served only if too few are fit of those before them; the smallest networks first
	Weights []Weight      // the first one that contains an address counts; an address in none weighs 1
	Reports bool          // the checks may report how much of its weight an address wants (verdict.Brief.Weight)
	Client  bool          // the network of the client decides which addresses it gets, and their order, not chance (select client)
	Nearest bool          // the sites of addresses and client decide first (select nearest)
	Warmup  time.Duration // time in which an address that came up gains its full share of answers
	TTL     TTL
	DryRun  bool // decide and report, but change no answer
}

// Weight is the weight of the addresses in a network, in the choice and in the order of an answer.
type Weight struct {
	Network netip.Prefix
	Weight  int // 1 to 65535
}

// Quorum is a count, or a share: of the addresses in a set (min_up), or of the checks in a stanza (require).
type Quorum struct {
	Count   int // used if Percent is 0
	Percent int // rounded up
}

// String returns the quorum as it is written in the Corefile.
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

// TTL bounds the TTL of filtered sets, in seconds. It never raises a TTL.
type TTL struct {
	Max uint32 // no TTL is higher; 0 for no bound
	Min uint32 // the bound by verdicts is not lower than this; a TTL that is lower already stays
	Off bool   // leave TTLs unchanged
}

// boundAll returns the highest TTL that an answer with these addresses may have, so that a resolver does not keep an answer
// longer than the verdicts on its addresses are sure to hold. It is at least Min and at most Max. Addresses that no check
// covers do not lower it.
func (t TTL) boundAll(served []candidate) uint32 {
	bound := t.boundOne(verdict.Outside.Brief())
	for i := range served {
		bound = min(bound, t.boundOne(served[i].verdict))
	}
	return bound
}

// boundOne returns the bound of one address.
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

// Longest returns the highest TTL that a record can be served with, if its own is ttl and verdicts hold for at most holds.
func (t TTL) Longest(ttl uint32, holds time.Duration) uint32 {
	return min(ttl, t.boundOne(verdict.Verdict{State: verdict.Up, Holds: holds}.Brief()))
}

// choose returns the addresses that are served, in order, and the outcome. It reorders all.
//
//  1. If no address is fit and AllDown is not Serve: none (Closed).
//  2. If at least MinUp of the primaries are fit: those (Whole; Thinned if others are left out).
//  3. Otherwise the tiers after them, each as a whole, until there are enough: backups, drained addresses (Backup), and then
//     the unfit ones, the latest fit first (Open).
//  4. With Nearest, a client gets the addresses of that tier in its own site, and of further sites only as far as it needs them
//     (Policy.nearest).
//  5. Never more than Limit: of the last tier some are drawn, and of the unfit the latest fit are taken. If all primaries are
//     fit and some are left out by this or by 4, the outcome is Sample.
//
// Addresses that are not drawn keep their order from the answer. Drawn ones are in the order of the draw. If the policy has
// weights or a warm-up, or the client draws, each tier is drawn, also if all of it is served, and an earlier tier comes first.
func (p *Policy) choose(all []candidate, draw *Draw) ([]candidate, Outcome) {
	limit := p.Limit
	if limit == 0 {
		limit = len(all)
	}
	n := p.countTiers(all)
	if n.upTo[drained] == 0 && p.AllDown != Serve {
		return nil, Closed
	}
	p.setPlaces(all, draw)
	need := p.need(n.primaries, limit)
	fit := n.upTo[primary]
	if fit < need {
		return p.fillUp(all, n, need, limit, draw)
	}
	outcome := Whole
	if fit < len(all) {
		slices.SortStableFunc(all, leastBad)
	}
	near := p.nearest(all, 0, fit, limit, draw)
	if fit < n.primaries {
		outcome = Thinned
	} else if near < fit || fit > limit {
		outcome = Sample
	}
	return p.sampleTier(all[:near], limit, draw), outcome
}

// chooseInOrder is choose for sets whose order must stay: those of records that name hosts, and hints. Without a limit the order
// only changes if a tier is added, so only then it is restored.
func (p *Policy) chooseInOrder(all []candidate, draw *Draw) ([]candidate, Outcome) {
	served, outcome := p.choose(all, draw)
	if outcome == Backup {
		slices.SortFunc(served, byIndex)
	}
	return served, outcome
}

// byIndex orders candidates as they are in the set.
func byIndex(a, b candidate) int { return cmp.Compare(a.index, b.index) }

// Rank is a network of backups. Those of a lower rank serve before those of a higher one.
type Rank struct {
	Network netip.Prefix
	Rank    uint8 // 1 to MaxRank
}

// MaxRank is the highest rank of a backup. Package metrics has a counter for each.
const MaxRank = 9

// AddBackup adds a network of backups. The smallest network that holds an address decides, so they are kept in that order.
func (p *Policy) AddBackup(network netip.Prefix, rank int) error {
	if rank < 1 || rank > MaxRank {
		return fmt.Errorf("invalid rank %d: use a number from 1 to %d", rank, MaxRank)
	}
	for _, other := range p.Backup {
		switch {
		case other.Network != network:
		case int(other.Rank) != rank:
			return fmt.Errorf("network %s is in rank %d and in rank %d: name it once", network, other.Rank, rank)
		default:
			return fmt.Errorf("duplicate network %s", network)
		}
	}
	p.Backup = append(p.Backup, Rank{network, uint8(rank)})
	slices.SortStableFunc(p.Backup, func(a, b Rank) int { return cmp.Compare(b.Network.Bits(), a.Network.Bits()) })
	return nil
}

// The tiers of candidates, in the order in which they are served. A candidate is in one of them. Between primary and drained are those
// of fit backups, one for each rank.
const (
	primary = 0           // fit, and neither backup nor drained
	drained = MaxRank + 1 // fit, and drained by hand
	unfit   = drained + 1 // down
)

// counts has the number of primaries, fit or not, and the number of candidates in each tier together with those before it.
type counts struct {
	primaries int
	upTo      [unfit + 1]int
}

// countTiers marks the backup and drained candidates, and counts the tiers. If all candidates are backups, those of the lowest rank are
// primaries; if all are drained, none counts as drained: there must be something to serve first.
func (p *Policy) countTiers(all []candidate) counts {
	var n counts
	markDrained(all)
	if len(p.Backup) > 0 {
		p.markBackups(all)
	}
	for i := range all {
		c := &all[i]
		if c.rank == 0 && !c.drained {
			n.primaries++
		}
		n.upTo[c.tier()]++
	}
	for tier := primary + 1; tier <= unfit; tier++ {
		n.upTo[tier] += n.upTo[tier-1]
	}
	return n
}

// markBackups gives the candidates their ranks, and the lowest of them to none if there would be no primaries.
func (p *Policy) markBackups(all []candidate) {
	lowest := uint8(MaxRank)
	for i := range all {
		all[i].rank = p.rankOf(all[i].addr)
		lowest = min(lowest, all[i].rank)
	}
	if lowest == 0 {
		return
	}
	for i := range all {
		if all[i].rank == lowest {
			all[i].rank = 0
		}
	}
}

// RankOf returns the rank that an address has as a backup, 0 for a primary. In a set of backups alone the lowest rank serves as primaries.
func (p *Policy) RankOf(addr netip.Addr) int { return int(p.rankOf(addr)) }

// rankOf returns the rank of an address by the smallest network that contains it, 0 if none does.
func (p *Policy) rankOf(addr netip.Addr) uint8 {
	for i := range p.Backup {
		if p.Backup[i].Network.Contains(addr) {
			return p.Backup[i].Rank
		}
	}
	return 0
}

// markDrained marks the drained candidates, unless all are.
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

// fillUp chooses if too few primaries are fit: it adds the tiers after them until need are served, and no more than limit. If
// the last tier has too many, some of them are drawn. n must be the counts of all.
func (p *Policy) fillUp(all []candidate, n counts, need, limit int, draw *Draw) ([]candidate, Outcome) {
	last := primary + 1
	for last < unfit && n.upTo[last] < need {
		last++
	}
	if last == unfit && len(all) <= limit && !p.ordersAnswers(draw) {
		return all, Open
	}
	slices.SortStableFunc(all, leastBad)
	if last <= MaxRank {
		n.upTo[last] = p.nearest(all, n.upTo[last-1], n.upTo[last], limit, draw)
	}
	served, from := min(n.upTo[last], limit), 0
	for tier, to := range n.upTo[:last+1] { // of each one but the last all are served
		if tier == unfit {
			to = served // the latest fit, whatever their shares and sites are
			p.sample(all[from:to], served-from, draw)
			break
		}
		p.sampleTier(all[from:to], served-from, draw)
		from = to
	}
	if last == unfit {
		return all[:served], Open
	}
	return all[:served], Backup
}

// leastBad orders candidates by tier, and the unfit ones by how recently they were fit: the latest one is the most likely to
// work again.
func leastBad(a, b candidate) int {
	if x, y := a.tier(), b.tier(); x != y || x < unfit {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(b.verdict.Since(), a.verdict.Since())
}

// tier returns the tier of a candidate, after countTiers has marked it.
func (c *candidate) tier() int {
	switch {
	case !c.verdict.State().Fit():
		return unfit
	case c.drained:
		return drained
	}
	return int(c.rank) // 0 is primary
}
