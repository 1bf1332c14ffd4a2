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
	n.special = slices.ContainsFunc(special, func(s netip.Prefix) bool { return Contains(s, p) })
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

// ordinary4 and ordinary are quick tests that most addresses pass. An address that passes is not special; one that does
// not may be either.
func ordinary4(bits uint32) bool {
	first := bits >> 24
	return first != 0 && first != 127 && first != 169 && first < 224
}

func ordinary(addr netip.Addr) bool {
	raw := addr.As16()
	return raw[0] >= 0x20 && raw[0] < 0x40 && (raw[0] != 0x20 || raw[1] != 0x02)
}

// special4 are the IPv4 ranges that an answer must not be able to aim probes at: by IANA's special-purpose registry
// (RFC 6890) they cannot be reached from another host, or are more than one host.
var special4 = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),          // this network, which Linux treats as this host
	netip.MustParsePrefix("127.0.0.0/8"),        // loopback
	netip.MustParsePrefix("169.254.0.0/16"),     // link-local, with the metadata services of clouds
	netip.MustParsePrefix("224.0.0.0/4"),        // multicast
	netip.MustParsePrefix("255.255.255.255/32"), // broadcast
}

// special is special4, the forms in which IPv6 embeds it, and the special ranges of IPv6.
var special = func() []netip.Prefix {
	all := slices.Concat(special4, []netip.Prefix{
		netip.MustParsePrefix("::/128"),            // unspecified
		netip.MustParsePrefix("::1/128"),           // loopback
		netip.MustParsePrefix("64:ff9b:1::/48"),    // translation inside a network (RFC 8215), where the IPv4 address may stand anywhere
		netip.MustParsePrefix("fe80::/10"),         // link-local
		netip.MustParsePrefix("ff00::/8"),          // multicast
		netip.MustParsePrefix("fd00:ec2::254/128"), // metadata service of Amazon EC2
		netip.MustParsePrefix("fd20:ce::254/128"),  // metadata service of Google Cloud
	})
	for _, p := range special4 {
		all = append(all,
			embed("::", 96, p),         // IPv4-compatible (RFC 4291, section 2.5.5.1)
			embed("::ffff:0:0", 96, p), // IPv4-mapped (RFC 4291, section 2.5.5.2)
			embed("64:ff9b::", 96, p),  // NAT64 (RFC 6052)
			embed("2002::", 16, p))     // 6to4 (RFC 3056)
	}
	return all
}()

// embed is an IPv4 range in IPv6, where its addresses follow the first bits of prefix.
func embed(prefix string, bits int, p netip.Prefix) netip.Prefix {
	raw := netip.MustParseAddr(prefix).As16()
	four := p.Addr().As4()
	copy(raw[bits/8:], four[:])
	return netip.PrefixFrom(netip.AddrFrom16(raw), bits+p.Bits())
}

// isSpecial reports whether an address lies in a special range.
func isSpecial(addr netip.Addr) bool {
	return slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Parse reads a network such as 192.0.2.0/24. An address alone is refused: its length may have been forgotten.
func Parse(text string) (Network, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return Network{}, fmt.Errorf("%q is an address, not a network: add a length, such as %s/%d", text, addr, addr.BitLen())
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return Network{}, fmt.Errorf("invalid network %q: use an address and a length, such as 192.0.2.0/24 or 2001:db8::/32", text)
	}
	if p != p.Masked() {
		return Network{}, fmt.Errorf("%q has bits set after its length: use %s", text, p.Masked())
	}
	return New(p), nil
}
