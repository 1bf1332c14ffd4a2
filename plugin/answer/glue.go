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
	extra   []dns.RR
	heads   []int32  // by the hash of the name: the first record, counted from one
	links   []int32  // by record: the next with the same hash
	bounds  []uint32 // by record: the highest TTL that what is believed of it allows
	steps   int      // that may still be taken from record to record, or to an address known elsewhere
	built   bool
	stale   bool // an address in it is down or drained, or has a TTL above its bound
	follows bool // it has to follow what became of the answer
}

// index is room for the glue of most answers.
type index struct {
	heads  [2 * lent]int32
	links  [lent]int32
	bounds [lent]uint32
}

// maxSteps is how many addresses of hosts are looked at for one answer, each as often as a record names its host. One
// made to have a thousand records that name a host of a thousand addresses must not cost millions. The records behind
// that count as unchecked, and the additional section stays as it is.
const maxSteps = 1 << 15

// read builds the index, once an answer.
func (g *glue) read(room *scratch) {
	if g.built {
		return
	}
	g.extra, g.built, g.steps = room.m.Extra, true, maxSteps
	g.heads, g.links, g.bounds = room.index.heads[:], room.index.links[:], room.index.bounds[:]
	if n := len(g.extra); n > lent {
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

// find is the place of the first address of a host, -1 if there is none; after is that of the next.
func (g *glue) find(host string) int {
	return g.match(int(g.heads[int(hash.Name(host))&(len(g.heads)-1)])-1, host)
}

func (g *glue) after(i int, host string) int { return g.match(int(g.links[i])-1, host) }

func (g *glue) match(i int, host string) int {
	for ; i >= 0 && g.spend(1); i = int(g.links[i]) - 1 {
		if sameName(g.extra[i].Header().Name, host) {
			return i
		}
	}
	return -1
}

// spend takes some steps, and reports whether there were as many left.
func (g *glue) spend(steps int) bool {
	g.steps -= steps
	return g.steps >= 0
}

// saw takes note of what is believed of an address in the section, and of the TTL that this allows.
func (g *glue) saw(i int, v verdict.Brief, bound uint32) {
	g.bounds[i] = min(g.bounds[i], bound)
	if !v.State().Fit() || v.Drained() || g.extra[i].Header().Ttl > bound {
		g.stale = true
	}
}

// What a record of the additional section is to those of the answer.
const (
	wasNamed  = 1 << iota // a record of a judged set named its owner
	isNamed               // a record that goes out does
	isWelcome             // and it is fit and not drained, or no rule keeps it out
	isSigned              // a signature covers the set that it is in
)

// followGlue makes the additional section fit the answer: the addresses of hosts that no record names any longer go, and
// so do those that are down; what others name stays.
func (room *scratch) followGlue() {
	marks := make([]uint8, len(room.m.Extra))
	for _, rr := range room.m.Answer {
		if s := room.setOf(rr); s != nil && s.outcome != None {
			if host, _ := room.followed(rr); host != "." {
				room.mark(marks, host, func(int) uint8 { return wasNamed })
			}
		}
	}
	for _, section := range [][]dns.RR{room.out.Answer, room.out.Ns} {
		for _, rr := range section {
			room.welcome(marks, rr)
		}
	}
	room.markSigned(marks)
	if extra, changed := room.fitting(marks); changed && room.glue.spend(0) {
		room.out = own(room.m, room.out)
		room.out.Extra = room.orphanSignatures(extra, marks)
	}
}

// fitting is what stays of the additional section, all of it with the TTL of what may be kept the shortest.
func (room *scratch) fitting(marks []uint8) (extra []dns.RR, changed bool) {
	lowest := uint32(math.MaxUint32)
	for i, mark := range marks {
		if mark&wasNamed != 0 && mark&isWelcome != 0 {
			lowest = min(lowest, room.glue.bounds[i])
		}
	}
	extra = make([]dns.RR, 0, len(marks))
	for i, rr := range room.m.Extra {
		switch mark := marks[i]; {
		case mark&wasNamed == 0: // not ours to judge
		case mark&isNamed == 0, mark&(isWelcome|isSigned) == 0:
			changed = true
			continue
		case mark&isWelcome != 0 && rr.Header().Ttl > lowest:
			changed = true
			rr = dns.Copy(rr)
			rr.Header().Ttl = lowest
		}
		extra = append(extra, rr)
	}
	return extra, changed
}

// setOf is the set that a record of the answer belongs to, or nil.
func (room *scratch) setOf(rr dns.RR) *set {
	for i := range room.sets {
		if room.sets[i].has(rr.Header()) {
			return &room.sets[i]
		}
	}
	return nil
}

// mark adds marks to the addresses of a host.
func (room *scratch) mark(marks []uint8, host string, what func(i int) uint8) {
	for i := room.glue.find(host); i >= 0; i = room.glue.after(i, host) {
		marks[i] |= what(i)
	}
}

// welcome marks the addresses of the host that a record names which goes out.
func (room *scratch) welcome(marks []uint8, rr dns.RR) {
	host, port := target(rr)
	if host == "." {
		return
	}
	s := room.setOf(rr)
	if followed, _ := room.followed(rr); s == nil || s.outcome == None || s.outcome == Open || followed == "." {
		room.mark(marks, host, func(int) uint8 { return isNamed | isWelcome })
		return
	}
	look := func(i int) verdict.Brief {
		addr, _ := Address(room.m.Extra[i])
		return s.rule.Health.Look(s.owner, addr, port, rr.Header().Ttl)
	}
	var fit, drained int
	var better [2]bool // the families with an address that is fit and not drained
	room.mark(marks, host, func(i int) uint8 {
		v := look(i)
		switch {
		case !v.State().Fit():
			return isNamed
		case v.Drained():
			drained++
			return isNamed
		}
		fit++
		better[family(room.m.Extra[i])] = true
		return isNamed | isWelcome
	})
	if drained > 0 {
		room.welcomeDrained(marks, host, better, look)
	}
	if fit+drained == 0 && (service(rr) != nil || !room.known(host)) {
		// The record does not stay for the sake of another address, but whatever these are; so do they.
		room.mark(marks, host, func(int) uint8 { return isNamed | isWelcome })
	}
}

// welcomeDrained marks the drained addresses of a host in the families that have nothing better, as in a set of them.
func (room *scratch) welcomeDrained(marks []uint8, host string, better [2]bool, look func(i int) verdict.Brief) {
	room.mark(marks, host, func(i int) uint8 {
		if better[family(room.m.Extra[i])] || !look(i).Drained() {
			return 0
		}
		return isWelcome
	})
}

// known reports whether all addresses of a host are known.
func (room *scratch) known(host string) bool {
	var seen [2]bool
	for i := room.glue.find(host); i >= 0; i = room.glue.after(i, host) {
		seen[family(room.m.Extra[i])] = true
	}
	for i, rrtype := range families {
		if _, known := room.rules.Addresses(host, rrtype); !known && !seen[i] {
			return false
		}
	}
	return true
}

// markSigned marks the addresses that a signature covers.
func (room *scratch) markSigned(marks []uint8) {
	g := &room.glue
	for _, rr := range g.extra {
		if sig, ok := rr.(*dns.RRSIG); ok {
			for i := g.find(sig.Hdr.Name); i >= 0; i = g.after(i, sig.Hdr.Name) {
				if g.extra[i].Header().Rrtype == sig.TypeCovered {
					marks[i] |= isSigned
				}
			}
		}
	}
}

// orphanSignatures drops the signatures of addresses that are gone.
func (room *scratch) orphanSignatures(extra []dns.RR, marks []uint8) []dns.RR {
	kept := extra[:0]
	for _, rr := range extra {
		if sig, ok := rr.(*dns.RRSIG); ok && room.orphaned(sig, marks) {
			continue
		}
		kept = append(kept, rr)
	}
	return kept
}

// orphaned reports whether a signature covers addresses that no record names any longer.
func (room *scratch) orphaned(sig *dns.RRSIG, marks []uint8) bool {
	if sig.TypeCovered != dns.TypeA && sig.TypeCovered != dns.TypeAAAA {
		return false
	}
	i := room.glue.find(sig.Hdr.Name)
	return i >= 0 && marks[i]&^isSigned == wasNamed
}
