// Package network says which addresses may be probed.
//
// List is the main type: the networks of a stanza's within. The rules ask it for each address of an answer, so it
// compares IPv4 addresses as numbers. Addresses in special ranges, such as loopback and link-local, are probed only if
// a network inside such a range is named: the author of a record must not be able to aim probes at the server itself.
package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// List is where a stanza may probe. The zero value allows every address outside the special ranges.
type List []Network

// Network is a prefix, with the bits of an IPv4 one at hand: every address of an answer is compared.
type Network struct {
	netip.Prefix
	special bool // it lies inside a special range, and so was meant
	four    bool // it is an IPv4 network; base and mask say which
	base    uint32
	mask    uint32
}

// New prepares a prefix for comparisons.
func New(p netip.Prefix) Network {
	n := Network{Prefix: p}
	n.special = isInsideSpecial(p)
	if p.Addr().Is4() {
		n.four, n.base, n.mask = true, bits4(p.Addr()), ^uint32(0)<<(32-p.Bits())
	}
	return n
}

// Contains reports whether the inner network lies in the outer one, or is the same.
func Contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

func bits4(addr netip.Addr) uint32 {
	four := addr.As4()
	return binary.BigEndian.Uint32(four[:])
}

// Allows reports whether an address may be probed: it lies in one of the networks, if there are any; and if it is special,
// in one that lies inside a special range itself, so that 0.0.0.0/0 never includes the server's own loopback.
func (n List) Allows(addr netip.Addr) bool {
	if addr.Is4() {
		return n.allow4(bits4(addr), addr)
	}
	inside := len(n) == 0
	for i := range n {
		if n[i].Contains(addr) {
			if n[i].special {
				return true
			}
			inside = true
		}
	}
	return inside && (ordinary(addr) || !isSpecial(addr))
}

// Spares reports whether an address that is not allowed would be, if it were not special.
func (n List) Spares(addr netip.Addr) bool {
	inside := len(n) == 0 || slices.ContainsFunc(n, func(w Network) bool { return w.Contains(addr) })
	return inside && !n.Allows(addr)
}

func (n List) allow4(bits uint32, addr netip.Addr) bool {
	inside := len(n) == 0
	for i := range n {
		if w := &n[i]; w.four && bits&w.mask == w.base {
			if w.special {
				return true
			}
			inside = true
		}
	}
	return inside && (ordinary4(bits) || !isSpecial(addr))
}

// Parse reads a network such as 192.0.2.0/24, or an address, which is the network that holds nothing else.
func Parse(text string) (Network, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		if addr.Zone() != "" {
			return Network{}, fmt.Errorf("%q has a zone, which no record has: leave it out", text)
		}
		if addr.Is4In6() {
			return Network{}, fmt.Errorf("%q is an IPv4 address in IPv6 form: use %s", text, addr.Unmap())
		}
		return New(netip.PrefixFrom(addr, addr.BitLen())), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return Network{}, fmt.Errorf("invalid network %q: use one such as 192.0.2.0/24 or 2001:db8::/32, or an address", text)
	}
	if p != p.Masked() {
		return Network{}, fmt.Errorf("%q has bits set after its length: use %s", text, p.Masked())
	}
	return New(p), nil
}

// ParseWord reads a network or an address in a file of forced states or sites. Unlike Parse, it says of a word that is neither what
// it should be, and refuses networks in IPv6 form that are those of IPv4: no record has such an address.
func ParseWord(word string) (Network, error) {
	_, notAddr := netip.ParseAddr(word)
	if _, err := netip.ParsePrefix(word); err != nil && notAddr != nil {
		return Network{}, fmt.Errorf("%q is neither an address nor a network: use one such as 192.0.2.1 or 2001:db8::/32", word)
	}
	n, err := Parse(word)
	if err != nil {
		return Network{}, err
	}
	if addr := n.Addr(); addr.Is4In6() {
		return Network{}, fmt.Errorf("%q is an IPv4 network in IPv6 form: use %s", word, netip.PrefixFrom(addr.Unmap(), n.Bits()-96))
	}
	return n, nil
}
