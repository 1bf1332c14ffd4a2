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
	// maxSets is how many sets of one answer are judged. An answer of a resolver has one or two; one made to have
	// thousands must not cost thousands of comparisons a record. The sets behind it stay as they are.
	maxSets = 16
	// pooledSize is the size of a set up to which judging it needs no new memory.
	pooledSize = 64
	// maxPairwise is the size of most sets: so small that comparing each with each is the quickest way to find what is twice.
	maxPairwise = 12
)

// set is the records of one owner name and type in an answer.
type set struct {
	owner  string
	rrtype uint16
	size   int  // records
	signed bool // an RRSIG in the answer covers it

	rule    *Rule   // it is judged by; nil while it is not
	outcome Outcome // what became of it; None while nothing did
}

// contains reports whether a record with this header belongs to the set.
func (s *set) contains(h *dns.RR_Header) bool {
	return h.Rrtype == s.rrtype && h.Class == dns.ClassINET && sameName(h.Name, s.owner)
}

// containsSameCase is a quick form of has, which does not find every record that has does.
func (s *set) containsSameCase(h *dns.RR_Header) bool {
	return h.Rrtype == s.rrtype && h.Class == dns.ClassINET && h.Name == s.owner
}

// sameName compares names as the DNS does, without regard to case (RFC 4343).
func sameName(a, b string) bool { return a == b || (len(a) == len(b) && strings.EqualFold(a, b)) }

// findSets finds the sets in an answer that can be judged. Mostly a record belongs to the set of the one before.
func findSets(answer []dns.RR, sets []set) []set {
	for _, rr := range answer {
		switch rr := rr.(type) {
		case *dns.A:
			if last := len(sets) - 1; last >= 0 && len(rr.A) == net.IPv4len && sets[last].containsSameCase(&rr.Hdr) {
				sets[last].size++
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

// countRecord adds a record with that header to its set.
func countRecord(sets []set, h *dns.RR_Header) []set {
	if last := len(sets) - 1; last >= 0 && sets[last].contains(h) {
		sets[last].size++
		return sets
	}
	if h.Class != dns.ClassINET {
		return sets
	}
	sets, s := findSet(sets, h.Name, h.Rrtype)
	if s != nil {
		s.size++
	}
	return sets
}

// findSet returns the set of that name and type, which it adds if there is room; else nil.
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

// candidate is one address of a set.
type candidate struct {
	addr    netip.Addr
	index   int32  // of its record in the answer
	ttl     uint32 // of the record
	verdict verdict.Brief
	key     float64 // its place in a weighted draw
	backup  bool
	drained bool
}

// addresses lists the addresses of the set s, each once, in their order.
func (sc *scratch) addresses(answer []dns.RR, s *set) []candidate {
	all := sc.candidates[:]
	if s.size > pooledSize {
		all = make([]candidate, s.size)
	}
	n := 0
	for i, rr := range answer {
		if s.size < len(answer) && !s.contains(rr.Header()) {
			continue
		}
		if addr, ok := Address(rr); ok {
			all[n] = candidate{addr: addr, index: int32(i), ttl: rr.Header().Ttl}
			n++
		}
	}
	if n > maxPairwise {
		return sc.distinctMany(all[:n])
	}
	return distinctFew(all[:n])
}

// distinctFew drops what is there twice, and keeps the order. It compares each with each.
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

// distinctMany is the same for many, by a hash table: it is open, and holds the place of each one kept, counted from one.
func (sc *scratch) distinctMany(all []candidate) []candidate {
	table := sc.table[:]
	if len(all) > pooledSize {
		table = make([]int32, 1<<bits.Len(uint(2*len(all))))
	}
	clear(table)
	mask := len(table) - 1
	kept := all[:0]
	for i := range all {
		slot := int(hash.AddrPort(addressKey, all[i].addr, 0)) & mask
		for table[slot] != 0 && kept[table[slot]-1].addr != all[i].addr {
			slot = (slot + 1) & mask
		}
		if table[slot] == 0 {
			kept = append(kept, all[i])
			table[slot] = int32(len(kept))
		}
	}
	return kept
}

// addressKey keys the hashes of addresses in the table of distinct.
var addressKey = hash.Of("addresses of a set")

// Address is the address that a record holds, if it holds one.
func Address(rr dns.RR) (addr netip.Addr, ok bool) {
	switch rr := rr.(type) {
	case *dns.A:
		switch len(rr.A) {
		case net.IPv4len:
			return netip.AddrFrom4([4]byte(rr.A)), true
		case net.IPv6len: // package net's other form, with twelve octets before the four
			return netip.AddrFrom4([4]byte(rr.A[12:])), true
		}
	case *dns.AAAA:
		if len(rr.AAAA) == net.IPv6len {
			return netip.AddrFrom16([16]byte(rr.AAAA)), true
		}
	}
	return netip.Addr{}, false
}

// appendTo appends the chosen records to a section: copies of those whose TTL has to go down, which share only the
// bytes of the address with the original, the others themselves.
func (c *choice) appendTo(section, answer []dns.RR) []dns.RR {
	var as []dns.A
	var quads []dns.AAAA
	for i := range c.served {
		rr := answer[c.served[i].index]
		if rr.Header().Ttl > c.ttl {
			switch old := rr.(type) {
			case *dns.A:
				as = ensureCapacity(as, len(c.served))
				as = append(as, *old)
				rr = &as[len(as)-1]
			case *dns.AAAA:
				quads = ensureCapacity(quads, len(c.served))
				quads = append(quads, *old)
				rr = &quads[len(quads)-1]
			default:
				rr = dns.Copy(old)
			}
			rr.Header().Ttl = c.ttl
		}
		section = append(section, rr)
	}
	return section
}

// ensureCapacity makes room for n records in one piece, unless there is some.
func ensureCapacity[R any](records []R, n int) []R {
	if records == nil {
		records = make([]R, 0, n)
	}
	return records
}
