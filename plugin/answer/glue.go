package answer

import (
	"math"
	"math/bits"

	"github.com/coredns-multivalue/multivalue/internal/hash"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// glue indexes the addresses in the additional section by their owner names. SRV, MX, HTTPS and SVCB records are decided by
// them, and clients use them without another query. So the additional section must not have addresses that were left out.
//
// It is a hash table with a linked list for each slot. Records are numbered from 1 in heads and links; 0 ends a list.
type glue struct {
	extra      []dns.RR
	heads      []int32  // by hash of the name: the first record
	links      []int32  // by record: the next record in the same slot
	bounds     []uint32 // by record: the highest TTL that the verdict on it allows, in seconds
	steps      int      // left of maxSteps
	built      bool
	outdated   bool // an address in the section is down or drained, or its TTL is above its bound
	mustFilter bool // the section must be filtered after the answer
}

// index is the memory of the glue of most answers, as part of scratch.
type index struct {
	heads  [2 * pooledSize]int32
	links  [pooledSize]int32
	bounds [pooledSize]uint32
}

// maxSteps is how many addresses of hosts are visited for one answer, counting an address once for each record that names its
// host. An answer that was made to have a thousand records which name one host of a thousand addresses must not cost millions
// of steps. When the steps are used up the remaining records count as unchecked, and the additional section is left unchanged.
const maxSteps = 1 << 15

// build builds the index when the first set that needs it is decided. It keeps the memory in sc between answers.
func (g *glue) build(sc *scratch) {
	if g.built {
		return
	}
	g.extra, g.built, g.steps = sc.m.Extra, true, maxSteps
	g.heads, g.links, g.bounds = sc.index.heads[:], sc.index.links[:], sc.index.bounds[:]
	if n := len(g.extra); n > pooledSize {
		g.heads, g.links, g.bounds = make([]int32, 1<<bits.Len(uint(2*n))), make([]int32, n), make([]uint32, n)
	}
	clear(g.heads)
	for i := len(g.extra) - 1; i >= 0; i-- { // backwards, so each list is in the order of the section
		if _, ok := Address(g.extra[i]); ok && g.extra[i].Header().Class == dns.ClassINET {
			slot := int(hash.Name(g.extra[i].Header().Name)) & (len(g.heads) - 1)
			g.links[i], g.heads[slot] = g.heads[slot], int32(i+1)
			g.bounds[i] = math.MaxUint32
		}
	}
}

// firstOf returns the index of the first address of a host in the section, and -1 if there is none.
func (g *glue) firstOf(host string) int {
	return g.matchFrom(int(g.heads[int(hash.Name(host))&(len(g.heads)-1)])-1, host)
}

// nextOf returns the index of the next address of the same host after the one at i, and -1 at the end.
func (g *glue) nextOf(i int, host string) int { return g.matchFrom(int(g.links[i])-1, host) }

// matchFrom returns the first record of a host in the list that begins with record i: a slot may have several names.
func (g *glue) matchFrom(i int, host string) int {
	for ; i >= 0 && g.spendSteps(1); i = int(g.links[i]) - 1 {
		if sameName(g.extra[i].Header().Name, host) {
			return i
		}
	}
	return -1
}

// spendSteps uses up steps, and reports whether there were enough. With 0 it reports whether they have been enough so far.
func (g *glue) spendSteps(steps int) bool {
	g.steps -= steps
	return g.steps >= 0
}

// recordVerdict records the verdict on an address in the section, and the TTL that it allows. More than one record may name the
// same host, on another port for instance: then the lowest TTL counts.
func (g *glue) recordVerdict(i int, v verdict.Brief, bound uint32) {
	g.bounds[i] = min(g.bounds[i], bound)
	if !v.State().Fit() || v.Drained() || g.extra[i].Header().Ttl > bound {
		g.outdated = true
	}
}

// The marks of an address in the additional section. It stays if it is not wasNamed, or is isNamed and isServable or isSigned.
const (
	wasNamed   = 1 << iota // a record of a filtered set named its host, before it was filtered
	isNamed                // a record that is served names its host
	isServable             // and the address is fit and not drained, or no rule applies to it
	isSigned               // a signature covers its set, which must stay complete
)

// filterGlue filters the additional section like the answer. It removes the addresses of hosts that no served record names any
// more, and those that are down. Addresses that an unfiltered record names stay, such as those of a name server.
func (sc *scratch) filterGlue() {
	marks := make([]uint8, len(sc.m.Extra))
	for _, rr := range sc.m.Answer {
		if s := sc.setOf(rr); s != nil && s.outcome != None {
			if host, _ := sc.followedTarget(rr); host != "." {
				sc.markHost(marks, host, func(int) uint8 { return wasNamed })
			}
		}
	}
	for _, section := range [][]dns.RR{sc.out.Answer, sc.out.Ns} {
		for _, rr := range section {
			sc.markTarget(marks, rr)
		}
	}
	sc.markSigned(marks)
	if extra, changed := sc.filteredGlue(marks); changed && sc.glue.spendSteps(0) {
		sc.out = copyOnce(sc.m, sc.out)
		sc.out.Extra = sc.dropOrphanSignatures(extra, marks)
	}
}

// filteredGlue returns what stays of the additional section, and whether that differs. All addresses that records of the answer
// name get the lowest TTL that any of them may have, so that a resolver does not keep a part of them longer than the rest.
func (sc *scratch) filteredGlue(marks []uint8) (extra []dns.RR, changed bool) {
	lowest := uint32(math.MaxUint32)
	for i, mark := range marks {
		if mark&wasNamed != 0 && mark&isServable != 0 {
			lowest = min(lowest, sc.glue.bounds[i])
		}
	}
	extra = make([]dns.RR, 0, len(marks))
	for i, rr := range sc.m.Extra {
		switch mark := marks[i]; {
		case mark&wasNamed == 0: // no filtered record names it
		case mark&isNamed == 0, mark&(isServable|isSigned) == 0:
			changed = true
			continue
		case mark&isServable != 0 && rr.Header().Ttl > lowest:
			changed = true
			rr = dns.Copy(rr)
			rr.Header().Ttl = lowest
		}
		extra = append(extra, rr)
	}
	return extra, changed
}

// setOf returns the set of a record in the answer, or nil if it is in none that can be filtered.
func (sc *scratch) setOf(rr dns.RR) *set {
	for i := range sc.sets {
		if sc.sets[i].contains(rr.Header()) {
			return &sc.sets[i]
		}
	}
	return nil
}

// markHost adds marks to all addresses of a host. what returns the marks for the one at index i.
func (sc *scratch) markHost(marks []uint8, host string, what func(i int) uint8) {
	for i := sc.glue.firstOf(host); i >= 0; i = sc.glue.nextOf(i, host) {
		marks[i] |= what(i)
	}
}

// markTarget marks the addresses of the host that a served record names. If the record is not filtered, or its set is
// fail-open, all of them are servable.
func (sc *scratch) markTarget(marks []uint8, rr dns.RR) {
	host, port := targetHost(rr)
	if host == "." {
		return
	}
	s := sc.setOf(rr)
	if followed, _ := sc.followedTarget(rr); s == nil || s.outcome == None || s.outcome == Open || followed == "." {
		sc.markHost(marks, host, func(int) uint8 { return isNamed | isServable })
		return
	}
	look := func(i int) verdict.Brief {
		addr, _ := Address(sc.m.Extra[i])
		return s.rule.Health.Look(s.at, addr, port, rr.Header().Ttl)
	}
	var fit, drained int
	var better [2]bool // by family: an address is fit and not drained
	sc.markHost(marks, host, func(i int) uint8 {
		v := look(i)
		switch {
		case !v.State().Fit():
			return isNamed
		case v.Drained():
			drained++
			return isNamed
		}
		fit++
		better[familyIndex(sc.m.Extra[i])] = true
		return isNamed | isServable
	})
	if drained > 0 {
		sc.markDrained(marks, host, better, look)
	}
	if fit+drained == 0 && (svcbOf(rr) != nil || !sc.addressesKnown(host)) {
		// The record is not served because of a healthy address elsewhere, but whatever its addresses are; so they stay, too.
		sc.markHost(marks, host, func(int) uint8 { return isNamed | isServable })
	}
}

// markDrained marks the drained addresses of a host as servable in each family that has no better one, as choose does for a set.
func (sc *scratch) markDrained(marks []uint8, host string, better [2]bool, look func(i int) verdict.Brief) {
	sc.markHost(marks, host, func(i int) uint8 {
		if better[familyIndex(sc.m.Extra[i])] || !look(i).Drained() {
			return 0
		}
		return isServable
	})
}

// addressesKnown reports whether the addresses of a host are known in both families.
func (sc *scratch) addressesKnown(host string) bool {
	var seen [2]bool
	for i := sc.glue.firstOf(host); i >= 0; i = sc.glue.nextOf(i, host) {
		seen[familyIndex(sc.m.Extra[i])] = true
	}
	for i, rrtype := range families {
		if _, known := sc.rules.Addresses(host, rrtype); !known && !seen[i] {
			return false
		}
	}
	return true
}

// markSigned marks the addresses whose set a signature covers.
func (sc *scratch) markSigned(marks []uint8) {
	g := &sc.glue
	for _, rr := range g.extra {
		if sig, ok := rr.(*dns.RRSIG); ok {
			for i := g.firstOf(sig.Hdr.Name); i >= 0; i = g.nextOf(i, sig.Hdr.Name) {
				if g.extra[i].Header().Rrtype == sig.TypeCovered {
					marks[i] |= isSigned
				}
			}
		}
	}
}

// dropOrphanSignatures removes the signatures of addresses that were removed. It reuses the slice.
func (sc *scratch) dropOrphanSignatures(extra []dns.RR, marks []uint8) []dns.RR {
	kept := extra[:0]
	for _, rr := range extra {
		if sig, ok := rr.(*dns.RRSIG); ok && sc.isOrphan(sig, marks) {
			continue
		}
		kept = append(kept, rr)
	}
	return kept
}

// isOrphan reports whether a signature covers addresses that no served record names.
func (sc *scratch) isOrphan(sig *dns.RRSIG, marks []uint8) bool {
	if sig.TypeCovered != dns.TypeA && sig.TypeCovered != dns.TypeAAAA {
		return false
	}
	i := sc.glue.firstOf(sig.Hdr.Name)
	return i >= 0 && marks[i]&^isSigned == wasNamed
}
