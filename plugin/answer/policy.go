package answer

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Outcome is what became of a set, or of the worst of an answer's sets: a later one counts for more.
type Outcome uint8

const (
	None    Outcome = iota // nothing was judged
	Whole                  // every address is fit, and went out
	Sample                 // every address is fit, and some went out
	Thinned                // the unfit ones were left out
	Open                   // too few are fit: unfit ones went out too
	Closed                 // none is fit, and none went out
)

var outcomes = [...]string{"none", "whole", "sample", "thin", "open", "closed"}

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
)

// Policy says which addresses of a set go out.
type Policy struct {
	Limit   int    // addresses in an answer; 0 for all
	MinUp   Quorum // fit addresses below which the answer is filled up with others
	AllDown AllDown
	TTL     TTL
	DryRun  bool // decide and report, but change nothing
}

// Quorum is a count, or a share of the addresses in a set.
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

// of is how many out of n.
func (q Quorum) of(n int) int {
	if q.Percent > 0 {
		return (n*q.Percent + 99) / 100
	}
	return min(q.Count, n)
}

// TTL bounds the TTL of judged sets, in seconds. It never raises one.
type TTL struct {
	Max uint32 // 0 for none
	Min uint32 // what the verdicts ask for does not lower a TTL below this
	Off bool   // leave TTLs alone
}

// bound is the highest TTL that an answer with these addresses may have: as long as the verdicts on all of them hold
// for sure, but at least Min and at most Max. Addresses that no check covers bound nothing.
func (t TTL) bound(served []candidate) uint32 {
	if t.Off {
		return math.MaxUint32
	}
	bound := uint32(math.MaxUint32)
	if t.Max > 0 {
		bound = t.Max
	}
	for i := range served {
		if v := served[i].verdict; v.State() != verdict.Unchecked {
			bound = min(bound, max(t.Min, v.Holds()))
		}
	}
	return bound
}

// Longest is the highest TTL that can go out while verdicts hold for at most holds, if the record's own is ttl.
func (t TTL) Longest(ttl uint32, holds time.Duration) uint32 {
	return min(ttl, t.bound([]candidate{{verdict: verdict.Verdict{State: verdict.Up, Holds: holds}.Brief()}}))
}

// choose returns the addresses that go out, and how that came about. It reorders all.
//
// The fit ones go out. If they are fewer than MinUp, the least bad follow, up to the limit; if there are none, AllDown
// says what to do. Where there are more than the limit, every one has the same chance. What goes out whole keeps its
// order; what is drawn comes in the order of the draw, which is random too.
func (p *Policy) choose(all []candidate, intn func(int) int) ([]candidate, Outcome) {
	limit := p.Limit
	if limit == 0 {
		limit = len(all)
	}
	fit := 0
	for i := range all {
		if all[i].verdict.State().Fit() {
			fit++
		}
	}
	if fit == 0 && p.AllDown != Serve {
		return nil, Closed
	}
	if fit < max(1, p.MinUp.of(len(all))) {
		return open(all, fit, limit, intn), Open
	}
	outcome := Whole
	if fit < len(all) {
		slices.SortStableFunc(all, leastBad)
		outcome = Thinned
	} else if fit > limit {
		outcome = Sample
	}
	return draw(all[:fit], limit, intn), outcome
}

// open fills the answer with unfit addresses up to the limit, the least bad first.
func open(all []candidate, fit, limit int, intn func(int) int) []candidate {
	if len(all) <= limit {
		return all
	}
	slices.SortStableFunc(all, leastBad)
	if fit > limit {
		return draw(all[:fit], limit, intn)
	}
	return all[:limit]
}

// leastBad orders the fit before the unfit, and those by when they were last fit, the latest first.
func leastBad(a, b candidate) int {
	if x, y := a.verdict.State().Fit(), b.verdict.State().Fit(); x || y {
		return cmp.Compare(unfit(x), unfit(y))
	}
	return cmp.Compare(b.verdict.Since(), a.verdict.Since())
}

func unfit(fit bool) int {
	if fit {
		return 0
	}
	return 1
}

// draw takes n of the candidates at random, each with the same chance, by the first n steps of a Fisher-Yates
// shuffle. It takes all, in their order, if there are no more than n.
func draw(from []candidate, n int, intn func(int) int) []candidate {
	if len(from) <= n {
		return from
	}
	for i := range n {
		j := i + intn(len(from)-i)
		from[i], from[j] = from[j], from[i]
	}
	return from[:n]
}
