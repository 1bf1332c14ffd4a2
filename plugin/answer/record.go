package answer

import (
	"math/bits"
	"net"
	"net/netip"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/hash"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

const (
	// maxSets is how many sets of one answer are filtered; the sets after them are left unchanged. A usual answer has one or
	// two sets. One that was made to have thousands must not cost thousands of comparisons for each record.
	maxSets = 16
	// pooledSize is the size of a set up to which filtering it needs no new memory.
	pooledSize = 64
	// maxJudged is how many different addresses of a set are judged, or records that name hosts, or addresses in hints: the
	// first ones. A set may have 65,000, and judging each would cost far more than the rest of the query. Without a limit the
	// rest of the set is served after those that are judged; with one it is left out.
	maxJudged = 4096
	// maxPairwise is the size of a set up to which comparing each address with each other is the fastest way to find
	// duplicates. Most sets are smaller.
	maxPairwise = 12
)

// set is the records of one owner name and type in an answer.
type set struct {
	owner  string
	rrtype uint16
	size   int    // number of records
	ttl    uint32 // the highest of the records, in seconds
	signed bool   // an RRSIG in the answer covers it

	rule    *Rule // that decides it; nil if none does
	at      verdict.RecordSet
	outcome Outcome // None if it was not changed: there is no rule, or it is a dry run
}

// contains reports whether a record with this header is in the set.
func (s *set) contains(h *dns.RR_Header) bool {
	return h.Rrtype == s.rrtype && h.Class == dns.ClassINET && sameName(h.Name, s.owner)
}

// containsSameCase is a faster form of contains: it reports false if the names differ in case.
func (s *set) containsSameCase(h *dns.RR_Header) bool {
	return h.Rrtype == s.rrtype && h.Class == dns.ClassINET && h.Name == s.owner
}

// sameName compares two names as the DNS does, ignoring the case of ASCII letters (RFC 4343).
func sameName(a, b string) bool { return a == b || (len(a) == len(b) && strings.EqualFold(a, b)) }

// findSets appends the sets of an answer that can be filtered to sets. Records of a set usually follow each other, so it tries
// the set of the record before first. Address records with data of a wrong length are not counted: they have no address. Some
// servers send such a record without any data, as dynamic updates have it (RFC 2136, section 2.5.2).
func findSets(answer []dns.RR, sets []set) []set {
	for _, rr := range answer {
		switch rr := rr.(type) {
		case *dns.A:
			if last := len(sets) - 1; last >= 0 && len(rr.A) == net.IPv4len && sets[last].containsSameCase(&rr.Hdr) {
				sets[last].include(&rr.Hdr)
				continue
			}
			if len(rr.A) == net.IPv4len || len(rr.A) == net.IPv6len {
				sets = countRecord(sets, &rr.Hdr)
			}
		case *dns.AAAA:
			if len(rr.AAAA) == net.IPv6len {
				sets = countRecord(sets, &rr.Hdr)
			}
		case *dns.SRV, *dns.MX, *dns.HTTPS, *dns.SVCB:
			sets = countRecord(sets, rr.Header())
		case *dns.RRSIG:
			var s *set
			if sets, s = findSet(sets, rr.Hdr.Name, rr.TypeCovered); s != nil {
				s.signed = true
			}
		}
	}
	return sets
}

// isMember reports whether findSets counts a record that the header says is of a set.
func isMember(rr dns.RR) bool {
	switch rr.(type) {
	case *dns.SRV, *dns.MX, *dns.HTTPS, *dns.SVCB:
		return true
	}
	_, ok := Address(rr)
	return ok
}

// countRecord counts a record with this header in its set.
func countRecord(sets []set, h *dns.RR_Header) []set {
	if last := len(sets) - 1; last >= 0 && sets[last].contains(h) {
		sets[last].include(h)
		return sets
	}
	if h.Class != dns.ClassINET {
		return sets
	}
	sets, s := findSet(sets, h.Name, h.Rrtype)
	if s != nil {
		s.include(h)
	}
	return sets
}

// include counts a record of the set.
func (s *set) include(h *dns.RR_Header) {
	s.size++
	s.ttl = max(s.ttl, h.Ttl)
}

// findSet returns the set of a name and type, which it adds if it is new. If there are maxSets already it returns nil.
func findSet(sets []set, owner string, rrtype uint16) ([]set, *set) {
	for i := range sets {
		if sets[i].rrtype == rrtype && sameName(sets[i].owner, owner) {
			return sets, &sets[i]
		}
	}
	if len(sets) == maxSets {
		return sets, nil
	}
	sets = append(sets, set{owner: owner, rrtype: rrtype})
	return sets, &sets[len(sets)-1]
}

// candidate is one member of a set: an address, or a record that names a host and has no addr.
type candidate struct {
	addr    netip.Addr
	index   int32  // of its record in the answer, or of the hint in its parameter
	ttl     uint32 // of the record
	verdict verdict.Brief
	key     float64 // in a weighted draw: its share, and then what it is sorted by
	place   uint64  // how near it is to the client, with Policy.Nearest; set by setPlaces
	rank    uint8   // of a backup, 0 if it is none; set by countTiers, as is drained
	drained bool
}

// rest are the records of a set after those that are judged.
type rest struct {
	from int  // the index in the answer of the first one
	size int  // how many there are
	pass bool // they are served, because there is no limit
}

// passing returns how many of them are served.
func (r rest) passing() int {
	if r.pass {
		return r.size
	}
	return 0
}

// large is the memory for a set of more than pooledSize members.
type large struct {
	candidates [maxJudged]candidate
	table      [2 * maxJudged]int32
}

// room returns memory for the candidates of a set, and for a table of them. Each set overwrites what the set before had.
func (sc *scratch) room(n int) ([]candidate, addressTable) {
	if n <= pooledSize {
		return sc.candidates[:n], sc.table[:]
	}
	if sc.large == nil {
		sc.large = new(large)
	}
	return sc.large.candidates[:n], sc.large.table[:1<<bits.Len(uint(2*n-1))]
}

// addresses lists the addresses of a set in their order, each once. A duplicate would be counted twice by the policy.
func (sc *scratch) addresses(answer []dns.RR, s *set) ([]candidate, rest) {
	if s.size > maxJudged {
		return sc.firstAddresses(answer, s)
	}
	all, table := sc.room(s.size)
	n := 0
	for i, rr := range answer {
		// If all records of the answer are of this set, as they usually are, their headers need no comparison.
		if s.size < len(answer) && !s.contains(rr.Header()) {
			continue
		}
		if addr, ok := Address(rr); ok {
			all[n] = candidate{addr: addr, index: int32(i), ttl: rr.Header().Ttl}
			n++
		}
	}
	if n > maxPairwise {
		return distinctMany(all[:n], table), rest{}
	}
	return distinctFew(all[:n]), rest{}
}

// firstAddresses does the same for sets of more than maxJudged records. It stops at the first address after maxJudged others.
func (sc *scratch) firstAddresses(answer []dns.RR, s *set) ([]candidate, rest) {
	room, table := sc.room(maxJudged)
	clear(table)
	all, listed := room[:0], 0
	for i, rr := range answer {
		if s.size < len(answer) && !s.contains(rr.Header()) {
			continue
		}
		addr, ok := Address(rr)
		if !ok {
			continue
		}
		if slot := table.slotOf(all, addr); table[slot] == 0 {
			if len(all) == maxJudged {
				return all, rest{from: i, size: s.size - listed}
			}
			all = append(all, candidate{addr: addr, index: int32(i), ttl: rr.Header().Ttl})
			table[slot] = int32(len(all))
		}
		listed++
	}
	return all, rest{}
}

// distinctFew removes duplicates and keeps the order. It compares each address with each other.
func distinctFew(all []candidate) []candidate {
	n := 0
	for i := range all {
		k := 0
		for k < n && all[k].addr != all[i].addr {
			k++
		}
		if k < n {
			continue
		}
		if n < i {
			all[n] = all[i]
		}
		n++
	}
	return all[:n]
}

// addressTable finds addresses among candidates by their hash (open addressing). A slot has the index of a candidate plus
// one; 0 is a free slot. Its length is a power of two, and more than the number of candidates.
type addressTable []int32

// slotOf returns the slot that has an address, or the free one to put it into.
func (t addressTable) slotOf(of []candidate, addr netip.Addr) int {
	mask := len(t) - 1
	slot := int(hash.AddrPort(addressKey, addr, 0)) & mask
	for t[slot] != 0 && of[t[slot]-1].addr != addr {
		slot = (slot + 1) & mask
	}
	return slot
}

// distinctMany does the same for large sets with a table.
func distinctMany(all []candidate, table addressTable) []candidate {
	clear(table) // it has the indexes of the set before
	kept := all[:0]
	for i := range all {
		if slot := table.slotOf(kept, all[i].addr); table[slot] == 0 {
			kept = append(kept, all[i])
			table[slot] = int32(len(kept))
		}
	}
	return kept
}

// addressKey is the key of the hashes in an addressTable.
var addressKey = hash.Of("addresses of a set")

// Address returns the address in an A or AAAA record, and false for other records and for data of a wrong length. It never gives
// an IPv4-mapped IPv6 address for an A record.
func Address(rr dns.RR) (addr netip.Addr, ok bool) {
	switch rr := rr.(type) {
	case *dns.A:
		switch len(rr.A) {
		case net.IPv4len:
			return netip.AddrFrom4([4]byte(rr.A)), true
		case net.IPv6len: // the longer form of package net, with twelve octets before the four
			return netip.AddrFrom4([4]byte(rr.A[12:])), true
		}
	case *dns.AAAA:
		if len(rr.AAAA) == net.IPv6len {
			return netip.AddrFrom16([16]byte(rr.AAAA)), true
		}
	}
	return netip.Addr{}, false
}

// appendTo appends the chosen records to a section. Those of the rest of the set come later, in their places.
func (c *choice) appendTo(section, answer []dns.RR, l *lowering) []dns.RR {
	for i := range c.served {
		section = append(section, l.apply(answer[c.served[i].index]))
	}
	return section
}

// lowering lowers the TTLs of the records of a set. Records whose TTL is too high are copied; the copies share the bytes of the
// address with the original, which never changes. The others stay as they are. The copies are allocated in one piece.
type lowering struct {
	ttl   uint32 // the highest that a record may have, in seconds
	room  int    // how many records the set has at most
	as    []dns.A
	quads []dns.AAAA
}

// apply returns a record, or a copy of it with a TTL that is low enough. It looks at the type first, because calling a method of
// each of many records takes time.
func (l *lowering) apply(rr dns.RR) dns.RR {
	switch old := rr.(type) {
	case *dns.A:
		if old.Hdr.Ttl > l.ttl {
			l.as = append(ensureCapacity(l.as, l.room), *old)
			lowered := &l.as[len(l.as)-1]
			lowered.Hdr.Ttl = l.ttl
			return lowered
		}
	case *dns.AAAA:
		if old.Hdr.Ttl > l.ttl {
			l.quads = append(ensureCapacity(l.quads, l.room), *old)
			lowered := &l.quads[len(l.quads)-1]
			lowered.Hdr.Ttl = l.ttl
			return lowered
		}
	default:
		if rr.Header().Ttl > l.ttl {
			rr = dns.Copy(rr)
			rr.Header().Ttl = l.ttl
		}
	}
	return rr
}

// ensureCapacity returns records, or memory for n records if it is nil.
func ensureCapacity[R any](records []R, n int) []R {
	if records == nil {
		records = make([]R, 0, n)
	}
	return records
}
