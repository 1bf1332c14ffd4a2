package answer

import (
	"slices"

	"github.com/miekg/dns"
)

// Types is a set of the record types that can be filtered, one bit each.
type Types uint8

// filterable are the record types that can be filtered. Each has a bit in the function bit.
var filterable = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeMX, dns.TypeHTTPS, dns.TypeSVCB}

// Judged returns the record types that can be filtered.
func Judged() []uint16 { return slices.Clone(filterable) }

// DefaultTypes are the types that hold addresses. SRV and MX records name hosts; filtering them must be asked for, since it
// takes a whole record out of the answer.
var DefaultTypes = TypesOf(dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSVCB)

// TypesOf returns the set of types. Types that cannot be filtered are left out.
func TypesOf(types ...uint16) Types {
	var t Types
	for _, rrtype := range types {
		t |= bit(rrtype)
	}
	return t
}

// Has reports whether a type is in the set. It is on the query path.
func (t Types) Has(rrtype uint16) bool { return t&bit(rrtype) != 0 }

// Each returns the types in the set, in the order of Judged.
func (t Types) Each() []uint16 {
	return slices.DeleteFunc(slices.Clone(filterable), func(rrtype uint16) bool { return !t.Has(rrtype) })
}

// bit returns the bit of a type, and 0 for a type that cannot be filtered.
func bit(rrtype uint16) Types {
	switch rrtype {
	case dns.TypeA: // a switch, not a map: this is on the query path
		return 1
	case dns.TypeAAAA:
		return 2
	case dns.TypeSRV:
		return 4
	case dns.TypeMX:
		return 8
	case dns.TypeHTTPS:
		return 16
	case dns.TypeSVCB:
		return 32
	}
	return 0
}
