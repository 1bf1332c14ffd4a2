package network

import (
	"encoding/binary"
	"net/netip"
)

// ranges are the special ranges: an answer must not be able to aim probes there. By IANA's special-purpose registries (RFC
// 6890) or the platform's own documents, their addresses are this host, a service of the platform that trusts this host, more
// than one host, none, or an IPv4 address in another form. A range is what value and mask have in common; a prefix is written
// by its length. An IPv4 range counts in the forms too in which IPv6 embeds it, see embeddings.
var ranges = []struct{ value, mask, source string }{
	{"0.0.0.0", "/8", "this network, which Linux treats as this host: RFC 1122, section 3.2.1.3"},
	{"127.0.0.0", "/8", "loopback: RFC 1122, section 3.2.1.3"},
	{"169.254.0.0", "/16", "link-local, with the metadata services of most clouds: RFC 3927"},
	{"192.0.0.0", "/24", "protocol assignments, such as DS-Lite, and Oracle's metadata service: RFC 6890, section 2.1"},
	{"192.88.99.0", "/24", "anycast of 6to4 relays, deprecated: RFC 7526"},
	{"224.0.0.0", "/4", "multicast: RFC 5771"},
	{"240.0.0.0", "/4", "reserved, with the broadcast address: RFC 1112, section 4, and RFC 919, section 7"},
	{"100.100.100.200", "/32", "metadata service of Alibaba Cloud: ECS, instance metadata"},
	{"168.63.129.16", "/32", "Azure's services for this host: Azure, what is IP address 168.63.129.16"},

	{"::", "/128", "unspecified: RFC 4291, section 2.5.2"},
	{"::1", "/128", "loopback: RFC 4291, section 2.5.3"},
	{"::ffff:0:0:0", "/96", "IPv4-translated, for SIIT: RFC 2765, section 2.1"},
	{"64:ff9b:1::", "/48", "translation inside a network, where the IPv4 address may stand anywhere: RFC 8215"},
	{"100::", "/64", "discard: RFC 6666"},
	{"2001::", "/32", "Teredo, which embeds a server and a client: RFC 4380"},
	{"::5efe:0:0", "::fdff:ffff:0:0", "ISATAP, the interface identifiers 0:5efe and 200:5efe below any prefix: RFC 5214, section 6.1"},
	{"fe80::", "/10", "link-local: RFC 4291, section 2.5.6"},
	{"fec0::", "/10", "site-local, deprecated: RFC 3879"},
	{"ff00::", "/8", "multicast: RFC 4291, section 2.7"},
	{"fd00:ec2::", "/32", "services of Amazon EC2 for this host, such as fd00:ec2::254: EC2 User Guide, instance metadata"},
	{"fd20:ce::254", "/128", "metadata service of Google Cloud: Compute Engine, VM metadata"},
}

// embeddings are the prefixes after which IPv6 embeds an IPv4 address as it is. Such an address is as special as the embedded
// one. Other forms are special as a whole: they hide the address (Teredo inverts it), or do not say where it is. The
// IPv4-mapped form (RFC 4291, section 2.5.5.2), which a socket takes for IPv4, is that in which a pattern has IPv4 itself.
var embeddings = []struct {
	prefix string
	bits   int
	source string
}{
	{"::", 96, "IPv4-compatible: RFC 4291, section 2.5.5.1"},
	{"64:ff9b::", 96, "NAT64: RFC 6052, section 2.1"},
	{"2002::", 16, "6to4: RFC 3056, section 2"},
}

// pattern is a special range, ready for comparisons: the addresses that are value where mask has ones. Those of IPv4 are in
// IPv4-mapped form.
type pattern struct{ value, mask words }

// words are the bits of an address. Comparing them is several times as fast as comparing bytes, which shows for addresses
// that are not ordinary, such as unique local ones: they are compared with all patterns.
type words struct{ high, low uint64 }

func wordsOf(raw [16]byte) words {
	return words{binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])}
}

// special are the ranges, and the IPv4 ones in each form that embeds them.
var special = func() []pattern {
	var all []pattern
	for _, r := range ranges {
		addr := netip.MustParseAddr(r.value)
		value, mask := addr.As16(), [16]byte{}
		if prefix, err := netip.ParsePrefix(r.value + r.mask); err == nil {
			mask = maskOf(prefix)
		} else { // it is written out
			mask = netip.MustParseAddr(r.mask).As16()
		}
		all = append(all, pattern{wordsOf(value), wordsOf(mask)})
		for _, e := range embeddings {
			if addr.Is4() { // the address follows the first bits of the prefix
				value6, mask6 := netip.MustParseAddr(e.prefix).As16(), ones(e.bits)
				copy(value6[e.bits/8:], value[12:])
				copy(mask6[e.bits/8:], mask[12:])
				all = append(all, pattern{wordsOf(value6), wordsOf(mask6)})
			}
		}
	}
	return all
}()

// maskOf is the mask of a prefix, in the same form as addresses.
func maskOf(p netip.Prefix) [16]byte {
	if p.Addr().Is4() {
		return ones(96 + p.Bits())
	}
	return ones(p.Bits())
}

// ones is a mask of that many leading ones.
func ones(bits int) (mask [16]byte) {
	high, low := ^uint64(0)<<max(0, 64-bits), uint64(0)
	if bits > 64 {
		low = ^uint64(0) << (128 - bits)
	}
	binary.BigEndian.PutUint64(mask[:8], high)
	binary.BigEndian.PutUint64(mask[8:], low)
	return mask
}

// matches reports whether the address lies in the range.
func (p *pattern) matches(addr words) bool {
	return addr.high&p.mask.high == p.value.high && addr.low&p.mask.low == p.value.low
}

// isInsideSpecial reports whether all addresses of a network lie in one special range: its prefix covers the mask.
func isInsideSpecial(n netip.Prefix) bool {
	prefix, first := wordsOf(maskOf(n)), wordsOf(n.Addr().As16())
	for i := range special {
		if p := &special[i]; p.mask.high&^prefix.high == 0 && p.mask.low&^prefix.low == 0 && p.matches(first) {
			return true
		}
	}
	return false
}

// isSpecial reports whether an address lies in a special range.
func isSpecial(addr netip.Addr) bool {
	bits := wordsOf(addr.As16())
	for i := range special {
		if special[i].matches(bits) {
			return true
		}
	}
	return false
}

// ordinary4 and ordinary are quick tests that most addresses pass. An address that passes is not special; one that does
// not may be either.
func ordinary4(bits uint32) bool {
	switch first := bits >> 24; first {
	case 0, 127, 169:
		return false
	case 100:
		return bits != 100<<24|100<<16|100<<8|200
	case 168:
		return bits != 168<<24|63<<16|129<<8|16
	case 192:
		return bits>>8 != 192<<16 && bits>>8 != 192<<16|88<<8|99
	default:
		return first < 224
	}
}

func ordinary(addr netip.Addr) bool {
	raw := addr.As16()
	switch {
	case raw[0] < 0x20 || raw[0] >= 0x40: // not global unicast
		return false
	case raw[0] == 0x20 && raw[1] == 0x02: // 6to4
		return false
	case raw[0] == 0x20 && raw[1] == 0x01 && raw[2] == 0 && raw[3] == 0: // Teredo
		return false
	default:
		return raw[10] != 0x5e || raw[11] != 0xfe // ISATAP
	}
}
