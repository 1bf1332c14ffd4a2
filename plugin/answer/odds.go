package answer

import "math"

// Here is how likely each candidate is to be in an answer, for the explanations on the status page. Queries never ask.

const (
	// exactWork bounds the candidates times the places that odds are computed exactly for, at some 20 ms. Beyond that they are
	// approximate, within some thousandths.
	exactWork = 1 << 16
	// tail is what the integral over all times leaves out at its early end, as a share of the greatest rate.
	tail = 1e-7
)

// addOdds says how likely each candidate is to be in an answer, and the first one in it, if the same decision is taken again:
// over all draws, or over all clients of the same site if the client draws. What is left to an order of sites that is drawn
// itself is not known.
func (p *Policy) addOdds(shown []Candidate, c *choice, draw *Draw) {
	sites := p.bySite(draw) && !c.single && len(c.served) > 0
	unsure, reached := len(shown), 0
	if sites { // of the last tier that is reached, another draw may take another site; those before it are served as a whole
		reached = c.all[len(c.served)-1].tier()
		unsure = firstDrawnSite(c.all, reached, draw)
	}
	lead := -1.0 // of what is not in the first group: 0 if the first place is drawn in that one
	for first := 0; first < len(c.all); {
		end := p.endOfGroup(c.all, first, draw)
		group, served := shown[first:end], min(max(0, len(c.served)-first), end-first)
		if first >= unsure && len(c.served) > unsure && c.all[first].tier() == reached {
			setOdds(group, -1, -1)
		} else {
			setOdds(group, 0, lead)
			p.addGroupOdds(group, c.all[first:end], served, draw)
		}
		if first == 0 && served > 0 && group[0].Lead >= 0 {
			lead = 0
		}
		first = end
	}
	if sites && firstDrawnSite(c.all, c.all[0].tier(), draw) == 0 {
		for i := range shown {
			shown[i].Lead = -1
		}
	}
}

// setOdds gives all candidates of a group the same odds.
func setOdds(group []Candidate, in, lead float64) {
	for i := range group {
		group[i].Share, group[i].Lead = in, lead
	}
}

// endOfGroup returns the end of those candidates from the first on that are drawn from together: one tier, or one site of it.
func (p *Policy) endOfGroup(all []candidate, first int, draw *Draw) int {
	end := first + 1
	for end < len(all) && all[end].tier() == all[first].tier() && (!p.bySite(draw) || all[end].place == all[first].place) {
		end++
	}
	return end
}

// addGroupOdds adds the odds of the candidates of a group, so many of which are served. Lead is set only where the group is the
// first one, and its order is drawn.
func (p *Policy) addGroupOdds(shown []Candidate, group []candidate, served int, draw *Draw) {
	front := shown[0].Lead < 0 // no group before it has the first place
	if group[0].tier() == unfit {
		group, shown = group[:served], shown[:served] // those that fell earlier are not drawn from
	}
	if len(group) == 0 {
		return
	}
	rates := make([]float64, len(group))
	even := true
	if p.hasShares(draw) {
		even = p.setShares(group, draw)
		for i := range group {
			rates[i] = group[i].key
		}
	} else {
		for i := range rates {
			rates[i] = 1
		}
	}
	ordered := served > 0 && (served < len(group) || !even || p.byClient(draw) || len(group) == 1)
	total := sum(rates)
	for i, in := range inclusion(rates, served) {
		if shown[i].Share = in; front && ordered {
			shown[i].Lead = rates[i] / total
		}
	}
}

// firstDrawnSite returns the index of the first candidate of a tier whose site has a place that is drawn, if there are two such
// sites at least: which of them comes first differs from answer to answer. It is the number of candidates if there are not.
func firstDrawnSite(all []candidate, tier int, draw *Draw) int {
	first := len(all)
	for i := range all {
		switch c := &all[i]; {
		case c.tier() != tier || !isDrawn(c, draw):
		case first == len(all):
			first = i
		case c.place != all[first].place:
			return first
		}
	}
	return len(all)
}

// isDrawn reports whether the place of a candidate's site depends on the seed.
func isDrawn(c *candidate, draw *Draw) bool {
	return draw.Near.Place(c.addr, 1) != draw.Near.Place(c.addr, 2)
}

// inclusion returns how likely each of some candidates is to be among the first k of a draw by weight without replacement. The
// rates need no unit.
//
// A draw gives each candidate an exponentially distributed time, with its rate (see Policy.sample). A candidate is among the
// first k if fewer than k others come before its own time t:
//
//	∫ rate e^(-rate t) P(fewer than k others have come by t) dt
//
// The others that have come are counted by a distribution that grows by one candidate at a time: from both ends, so that each
// can be left out in turn. The integral is over the logarithm of t, where the trapezoidal rule converges exponentially.
func inclusion(rates []float64, k int) []float64 {
	odds := make([]float64, len(rates))
	low, high := extremes(rates)
	switch {
	case k <= 0:
		return odds
	case k >= len(rates) || low == high:
		for i := range odds {
			odds[i] = min(1, float64(k)/float64(len(rates)))
		}
		return odds
	case len(rates)*k > exactWork:
		return approximateInclusion(rates, k)
	}
	step := 0.25 / math.Sqrt(float64(k)) // the more places, the more suddenly they are taken
	n := newArrivals(len(rates), k)
	for x := math.Log(tail / high); x < math.Log(40/low); x += step {
		t := math.Exp(x)
		n.advance(rates, t)
		if n.suffix[0].upTo(k) < 1e-12 { // all places are taken
			break
		}
		for i, rate := range rates {
			odds[i] += step * rate * t * math.Exp(-rate*t) * n.without(i)
		}
	}
	for i := range odds { // what the tail leaves out is at most as much
		odds[i] = min(1, odds[i]+tail*rates[i]/high)
	}
	return odds
}

// distribution says how likely it is that 0, 1, 2 and more candidates have come, up to fewer than there are places.
type distribution []float64

// upTo is how likely it is that fewer than k have come.
func (d distribution) upTo(k int) float64 { return sum(d[:k]) }

// extend sets d to another distribution with one more candidate, which has come with a chance.
func (d distribution) extend(other distribution, chance float64) {
	d[0] = other[0] * (1 - chance)
	for c := 1; c < len(d); c++ {
		d[c] = other[c]*(1-chance) + other[c-1]*chance
	}
}

// arrivals are the distributions of the candidates before each one, and of those from it on.
type arrivals struct{ prefix, suffix []distribution }

// newArrivals has room for n candidates and k places.
func newArrivals(n, k int) *arrivals {
	c := &arrivals{make([]distribution, n+1), make([]distribution, n+1)}
	for i := range n + 1 {
		c.prefix[i], c.suffix[i] = make(distribution, k), make(distribution, k)
	}
	c.prefix[0][0], c.suffix[n][0] = 1, 1
	return c
}

// advance counts the candidates that have come by a time.
func (c *arrivals) advance(rates []float64, t float64) {
	for i, rate := range rates {
		c.prefix[i+1].extend(c.prefix[i], -math.Expm1(-rate*t))
	}
	for i := len(rates) - 1; i >= 0; i-- {
		c.suffix[i].extend(c.suffix[i+1], -math.Expm1(-rates[i]*t))
	}
}

// without is how likely it is that fewer candidates than there are places have come, one left out.
func (c *arrivals) without(i int) (chance float64) {
	before, after := c.prefix[i], c.suffix[i+1]
	upTo := 0.0
	for left := range after { // the more of the others have come before it, the fewer may have after it
		upTo += after[left]
		chance += before[len(before)-1-left] * upTo
	}
	return chance
}

// approximateInclusion is inclusion for many candidates: the time at which k have come is then almost the same in each draw.
func approximateInclusion(rates []float64, k int) []float64 {
	odds := make([]float64, len(rates))
	low, high := extremes(rates)
	from, to := math.Log(tail/high), math.Log(40*float64(len(rates))/low)
	for range 60 { // halves it until nothing is left of it
		middle := (from + to) / 2
		for i, rate := range rates {
			odds[i] = -math.Expm1(-rate * math.Exp(middle))
		}
		if sum(odds) < float64(k) {
			from = middle
		} else {
			to = middle
		}
	}
	return odds
}

// extremes are the least and the greatest value.
func extremes(values []float64) (low, high float64) {
	low, high = math.Inf(1), 0
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	return low, high
}

// sum adds up values.
func sum(values []float64) (total float64) {
	for _, v := range values {
		total += v
	}
	return total
}
