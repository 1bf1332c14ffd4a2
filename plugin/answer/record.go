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
	// maxPairwise is the size of a set up to which comparing each address with each other is the fastest way to find
	// duplicates. Most sets are smaller.
	maxPairwise = 12
)

// set is the records of one owner name and type in an answer.
type set struct {
	owner  string
	rrtype uint16
	size   int  // number of records
	signed bool // an RRSIG in the answer covers it

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
// the set of the record before first. Address records with data of a wrong length are not counted: no wire format has them.
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

// countRecord counts a record with this header in its set.
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
	key     float64 // in a weighted draw: the lowest win
	backup  bool    // set by countTiers, as is drained
	drained bool
}

// addresses lists the addresses of a set in their order, each once. A duplicate would be counted twice by the policy.
func (sc *scratch) addresses(answer []dns.RR, s *set) []candidate {
	all := sc.candidates[:]
	if s.size > pooledSize {
		all = make([]candidate, s.size)
	}
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
		return sc.distinctMany(all[:n])
	}
	return distinctFew(all[:n])
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

// distinctMany does the same for large sets with a hash table (open addressing). The table has the index of each kept address
// plus one; 0 is a free slot.
func (sc *scratch) distinctMany(all []candidate) []candidate {
	table := sc.table[:]
	if len(all) > pooledSize {
		table = make([]int32, 1<<bits.Len(uint(2*len(all))))
	}
	clear(table) // it has the indexes of the set before
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

// addressKey is the key of the hashes in distinctMany.
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

// appendTo appends the chosen records to a section. Records whose TTL is too high are copied; the copies share the bytes of the
// address with the original, which never changes. The others are appended as they are. The copies of one set are allocated in
// one piece.
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

// ensureCapacity returns records, or memory for n records if it is nil.
func ensureCapacity[R any](records []R, n int) []R {
	if records == nil {
		records = make([]R, 0, n)
	}
	return records
}
