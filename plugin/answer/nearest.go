package answer

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Near says how near addresses are to the client of a query.
type Near interface {
	// Place returns 0 for an address in the client's own site, and more for sites that it goes to later. Addresses of one site
	// have the same place. The seed draws the places of sites without an order. It is on the query path, and must not wait.
	Place(addr netip.Addr, seed uint64) uint64
}

// Sites says from which sites an answer was chosen by Policy.Nearest, for a metric.
type Sites uint8

const (
	AllSites  Sites = iota // the policy does not go by sites
	OwnSite                // all addresses are in the client's own site
	NextSites              // some are in other sites, or all
	NoSite                 // the client is in no site, and has no order to go by
)

// String returns the value that metrics and JSON use.
func (s Sites) String() string { return [...]string{"", "own", "next", "none"}[s] }

// bySite reports whether the sites of addresses count for this client.
func (p *Policy) bySite(d *Draw) bool { return p.Nearest && d.Near != nil }

// setPlaces notes how near each candidate is, if that counts. What the client's network draws is the same each time.
func (p *Policy) setPlaces(all []candidate, d *Draw) {
	if !p.bySite(d) {
		return
	}
	var seed uint64
	if p.byClient(d) {
		client := d.Client.Masked()
		raw := client.Addr().As16()
		seed = mix(binary.BigEndian.Uint64(raw[:8])) ^ uint64(client.Bits())
	} else {
		seed = uint64(d.IntN(1 << 30))
	}
	for i := range all {
		all[i].place = d.Near.Place(all[i].addr, seed)
	}
}

// nearest moves the candidates of a tier, which are all[from:to], into the order of their places, and returns the end of those
// that a client is to get: whole sites, the nearest first, until there are as many as MinUp asks of the members that its own
// site has in this tier, fit or not, and at least one. A site that is down, or has no members, is made up for by the next one.
// It returns to if the policy does not go by sites.
func (p *Policy) nearest(all []candidate, from, to, limit int, d *Draw) int {
	if !p.bySite(d) || from == to {
		return to
	}
	rank, own := all[from].rank, 0
	for i := range all {
		if c := &all[i]; c.rank == rank && !c.drained && c.place == 0 {
			own++
		}
	}
	tier := all[from:to]
	slices.SortStableFunc(tier, byPlace)
	end := min(len(tier), p.need(own, limit))
	for end < len(tier) && tier[end].place == tier[end-1].place { // a site is not cut, except by the limit
		end++
	}
	return from + end
}

// byPlace orders candidates by how near they are.
func byPlace(a, b candidate) int { return cmp.Compare(a.place, b.place) }

// sampleTier is sample for a tier: with Nearest, each of its sites is drawn from for itself, the nearest first.
func (p *Policy) sampleTier(from []candidate, n int, d *Draw) []candidate {
	if !p.bySite(d) {
		return p.sample(from, n, d)
	}
	slices.SortStableFunc(from, byPlace)
	n = min(n, len(from))
	for at := 0; at < n; {
		end := endOfSite(from, at)
		p.sample(from[at:end], n-at, d)
		at = end
	}
	return from[:n]
}

// endOfSite returns the end of the candidates that have the place of the first one, in the order of places.
func endOfSite(tier []candidate, first int) int {
	end := first + 1
	for end < len(tier) && tier[end].place == tier[first].place {
		end++
	}
	return end
}

// sitesOf says from which sites the served candidates are.
func (p *Policy) sitesOf(served []candidate, d *Draw) Sites {
	switch {
	case !p.Nearest || len(served) == 0:
		return AllSites
	case d.Near == nil:
		return NoSite
	case slices.ContainsFunc(served, func(c candidate) bool { return c.place != 0 }):
		return NextSites
	}
	return OwnSite
}
