package answer

import (
	"math"
	"math/bits"

	"github.com/coredns-multivalue/multivalue/internal/hash"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// glue finds the addresses in the additional section by their owner names.
type glue struct {
	extra      []dns.RR
	heads      []int32  // by the hash of the name: the first record, counted from one
	links      []int32  // by record: the next with the same hash
	bounds     []uint32 // by record: the highest TTL that what is believed of it allows
	steps      int      // that may still be taken from record to record, or to an address known elsewhere
	built      bool
	outdated   bool // an address in it is down or drained, or has a TTL above its bound
	mustFilter bool // it has to follow what became of the answer
}

// index is room for the glue of most answers.
type index struct {
	heads  [2 * pooledSize]int32
	links  [pooledSize]int32
	bounds [pooledSize]uint32
}

// maxSteps is how many addresses of hosts are looked at for one answer, each as often as a record names its host. One
// made to have a thousand records that name a host of a thousand addresses must not cost millions. The records behind
// that count as unchecked, and the additional section stays as it is.
const maxSteps = 1 << 15

// build builds the index, once an answer.
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
	for i := len(g.extra) - 1; i >= 0; i-- { // backwards, so that each list is in the order of the section
		if _, ok := Address(g.extra[i]); ok && g.extra[i].Header().Class == dns.ClassINET {
			slot := int(hash.Name(g.extra[i].Header().Name)) & (len(g.heads) - 1)
			g.links[i], g.heads[slot] = g.heads[slot], int32(i+1)
			g.bounds[i] = math.MaxUint32
		}
	}
}

// firstOf is the place of the first address of a host, -1 if there is none; after is that of the next.
func (g *glue) firstOf(host string) int {
	return g.matchFrom(int(g.heads[int(hash.Name(host))&(len(g.heads)-1)])-1, host)
}

func (g *glue) nextOf(i int, host string) int { return g.matchFrom(int(g.links[i])-1, host) }

func (g *glue) matchFrom(i int, host string) int {
	for ; i >= 0 && g.spendSteps(1); i = int(g.links[i]) - 1 {
		if sameName(g.extra[i].Header().Name, host) {
			return i
		}
	}
	return -1
}

// spendSteps takes some steps, and reports whether there were as many left.
func (g *glue) spendSteps(steps int) bool {
	g.steps -= steps
	return g.steps >= 0
}

// recordVerdict takes note of what is believed of an address in the section, and of the TTL that this allows.
func (g *glue) recordVerdict(i int, v verdict.Brief, bound uint32) {
	g.bounds[i] = min(g.bounds[i], bound)
	if !v.State().Fit() || v.Drained() || g.extra[i].Header().Ttl > bound {
		g.outdated = true
	}
}

// What a record of the additional section is to those of the answer.
const (
	wasNamed   = 1 << iota // a record of a judged set named its owner
	isNamed                // a record that goes out does
	isServable             // and it is fit and not drained, or no rule keeps it out
	isSigned               // a signature covers the set that it is in
)

// filterGlue makes the additional section fit the answer: the addresses of hosts that no record names any longer go, and
// so do those that are down; what others name stays.
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

// filteredGlue is what stays of the additional section, all of it with the TTL of what may be kept the shortest.
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
		case mark&wasNamed == 0: // not ours to judge
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

// setOf is the set that a record of the answer belongs to, or nil.
func (sc *scratch) setOf(rr dns.RR) *set {
	for i := range sc.sets {
		if sc.sets[i].contains(rr.Header()) {
			return &sc.sets[i]
		}
	}
	return nil
}

// markHost adds marks to the addresses of a host.
func (sc *scratch) markHost(marks []uint8, host string, what func(i int) uint8) {
	for i := sc.glue.firstOf(host); i >= 0; i = sc.glue.nextOf(i, host) {
		marks[i] |= what(i)
	}
}

// markTarget marks the addresses of the host that a record names which goes out.
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
		return s.rule.Health.Look(s.owner, addr, port, rr.Header().Ttl)
	}
	var fit, drained int
	var better [2]bool // the families with an address that is fit and not drained
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
		// The record does not stay for the sake of another address, but whatever these are; so do they.
		sc.markHost(marks, host, func(int) uint8 { return isNamed | isServable })
	}
}

// markDrained marks the drained addresses of a host in the families that have nothing better, as in a set of them.
func (sc *scratch) markDrained(marks []uint8, host string, better [2]bool, look func(i int) verdict.Brief) {
	sc.markHost(marks, host, func(i int) uint8 {
		if better[familyIndex(sc.m.Extra[i])] || !look(i).Drained() {
			return 0
		}
		return isServable
	})
}

// addressesKnown reports whether all addresses of a host are known.
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

// markSigned marks the addresses that a signature covers.
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

// dropOrphanSignatures drops the signatures of addresses that are gone.
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

// isOrphan reports whether a signature covers addresses that no record names any longer.
func (sc *scratch) isOrphan(sig *dns.RRSIG, marks []uint8) bool {
	if sig.TypeCovered != dns.TypeA && sig.TypeCovered != dns.TypeAAAA {
		return false
	}
	i := sc.glue.firstOf(sig.Hdr.Name)
	return i >= 0 && marks[i]&^isSigned == wasNamed
}
