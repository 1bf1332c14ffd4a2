package answer

import (
	"slices"

	"github.com/miekg/dns"
)

// Types is a set of the record types that can be judged.
type Types uint8

// judged are they, each with its bit.
var judged = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeMX, dns.TypeHTTPS, dns.TypeSVCB}

// Judged are the record types that can be judged.
func Judged() []uint16 { return slices.Clone(judged) }

// DefaultTypes are the types that hold addresses. SRV and MX only name hosts, which may be judged as well.
var DefaultTypes = TypesOf(dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSVCB)

// TypesOf is the set of those of the types that can be judged.
func TypesOf(types ...uint16) Types {
	var t Types
	for _, rrtype := range types {
		t |= bit(rrtype)
	}
	return t
}

// Has reports whether a type is in the set.
func (t Types) Has(rrtype uint16) bool { return t&bit(rrtype) != 0 }

// Each is the types in the set.
func (t Types) Each() []uint16 {
	return slices.DeleteFunc(slices.Clone(judged), func(rrtype uint16) bool { return !t.Has(rrtype) })
}

// bit is 0 for a type that cannot be judged.
func bit(rrtype uint16) Types {
	switch rrtype {
	case dns.TypeA:
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
