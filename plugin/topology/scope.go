package topology

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
)

// bounds are the networks of a table in order, each family for itself. They tell how far from a client's address the next
// network is that may give another site.
type bounds struct {
	four, six []netip.Prefix // by address, the shorter one of two at the same address first
}

// newBounds sorts the networks, of which there may be duplicates.
func newBounds(networks []netip.Prefix) (b bounds) {
	for _, p := range networks {
		if p.Addr().Is4() {
			b.four = append(b.four, p)
		} else {
			b.six = append(b.six, p)
		}
	}
	for _, list := range []*[]netip.Prefix{&b.four, &b.six} {
		slices.SortFunc(*list, compare)
		*list = slices.Compact(*list)
	}
	return b
}

func compare(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// scope returns the length of the shortest network of the address that has no longer network of the table in it, and is at least
// as long as holds, the longest network that holds the address. Answers for two clients then have scopes that do not overlap
// (deaggregation; RFC 7871, section 7.2.1).
//
// Of the networks that do not hold the address only two neighbours matter: the last one that begins before it, and the first one
// behind it. All others have a shorter common part with the address.
func (b *bounds) scope(addr netip.Addr, holds int) int {
	list := b.six
	if addr.Is4() {
		list = b.four
	}
	// What begins at the address counts as before it, whatever its length.
	next, found := slices.BinarySearchFunc(list, netip.PrefixFrom(addr, addr.BitLen()), compare)
	if found {
		next++
	}
	length := holds
	for _, i := range [2]int{next - 1, next} {
		if i >= 0 && i < len(list) && !list[i].Contains(addr) {
			length = max(length, common(list[i].Addr(), addr)+1)
		}
	}
	return length
}

// common returns how many leading bits two addresses of one family share.
func common(a, b netip.Addr) int {
	if a.Is4() {
		x, y := a.As4(), b.As4()
		return bits.LeadingZeros32(binary.BigEndian.Uint32(x[:]) ^ binary.BigEndian.Uint32(y[:]))
	}
	x, y := a.As16(), b.As16()
	if high := binary.BigEndian.Uint64(x[:8]) ^ binary.BigEndian.Uint64(y[:8]); high != 0 {
		return bits.LeadingZeros64(high)
	}
	return 64 + bits.LeadingZeros64(binary.BigEndian.Uint64(x[8:])^binary.BigEndian.Uint64(y[8:]))
}
