package multivalue

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// List are where a stanza may probe. The zero value allows every address but the special ones.
type List []Network

// Network is a prefix that within names, with the bits of an IPv4 one at hand: every address of an answer is compared.
type Network struct {
	netip.Prefix
	special bool // it lies inside a special range, and so was meant
	four    bool // it is of IPv4; base and mask say which
	base    uint32
	mask    uint32
}

func New(p netip.Prefix) Network {
	n := Network{Prefix: p}
	n.special = slices.ContainsFunc(special, func(s netip.Prefix) bool { return Contains(s, p) })
	if p.Addr().Is4() {
		n.four, n.base, n.mask = true, bits4(p.Addr()), ^uint32(0)<<(32-p.Bits())
	}
	return n
}

// Contains reports whether a network lies in another.
func Contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

func bits4(addr netip.Addr) uint32 {
	four := addr.As4()
	return binary.BigEndian.Uint32(four[:])
}

// Allows reports whether an address may be probed: it lies in one of the networks, if there are any; and if it is special,
// then in one that lies inside a special range itself, so that 0.0.0.0/0 never means the server's own loopback.
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

// ordinary4 and ordinary are quick tests that most addresses pass: one that does is not special.
func ordinary4(bits uint32) bool {
	first := bits >> 24
	return first != 0 && first != 127 && first != 169 && first < 224
}

func ordinary(addr netip.Addr) bool {
	raw := addr.As16()
	return raw[0] >= 0x20 && raw[0] < 0x40 && (raw[0] != 0x20 || raw[1] != 0x02)
}

// special4 are the IPv4 ranges that an answer must not be able to point probes at: IANA's special-purpose registry
// (RFC 6890) has them as never reachable from another host, or as not one host.
var special4 = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),          // this network, which Linux takes for this host
	netip.MustParsePrefix("127.0.0.0/8"),        // loopback
	netip.MustParsePrefix("169.254.0.0/16"),     // link-local, with the metadata services of clouds
	netip.MustParsePrefix("224.0.0.0/4"),        // multicast
	netip.MustParsePrefix("255.255.255.255/32"), // broadcast
}

// special is special4, the forms in which IPv6 holds it, and what IPv6 has of its own.
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

// embed is the form of an IPv4 range whose addresses stand behind the first bits of prefix.
func embed(prefix string, bits int, p netip.Prefix) netip.Prefix {
	raw := netip.MustParseAddr(prefix).As16()
	four := p.Addr().As4()
	copy(raw[bits/8:], four[:])
	return netip.PrefixFrom(netip.AddrFrom16(raw), bits+p.Bits())
}

func isSpecial(addr netip.Addr) bool {
	return slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Parse reads a network. An address alone is refused, since nobody can tell whether its length was forgotten.
func Parse(text string) (Network, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return Network{}, fmt.Errorf("%q is an address: want a network, such as %s/%d", text, addr, addr.BitLen())
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return Network{}, fmt.Errorf("%q is no network: want an address and a length, such as 192.0.2.0/24 or 2001:db8::/32", text)
	}
	if p != p.Masked() {
		return Network{}, fmt.Errorf("%q has bits set behind its length: want %s", text, p.Masked())
	}
	return New(p), nil
}
