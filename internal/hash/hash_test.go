package hash

import (
	"net/netip"
	"strings"
	"testing"
)

// The case of a name does not affect its hash, and everything else does, also beyond the 64 octets that are hashed at
// once.
func TestName(t *testing.T) {
	long := strings.Repeat("label.", 20) + "example.org."
	for _, name := range []string{"www.example.org.", long, ""} {
		if Name(name) != Name(strings.ToUpper(name)) {
			t.Errorf("the case of %q changes the hash", name)
		}
	}
	seen := map[uint64]string{}
	for _, name := range []string{"", ".", "a.", "b.", "[.", "{.", "www.example.org.", long, long + "a.", "x" + long} {
		if other, ok := seen[Name(name)]; ok {
			t.Errorf("%q and %q have the same hash", name, other)
		}
		seen[Name(name)] = name
	}
}

// Every octet of an address, the port and the key affect the hash. The low bits, by which tables choose a slot, are
// evenly spread.
func TestAddrPort(t *testing.T) {
	key := Of("a check")
	seen := map[uint64]bool{}
	slots := map[uint64]int{}
	const n = 1 << 12
	for i := range n {
		h := AddrPort(key, netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i)}), 80)
		seen[h] = true
		slots[h%256]++
	}
	if len(seen) != n {
		t.Errorf("%d hashes of %d addresses", len(seen), n)
	}
	for slot, count := range slots {
		if count > 4*n/256 {
			t.Errorf("slot %d has %d of %d addresses", slot, count, n)
		}
	}
	one := netip.MustParseAddr("2001:db8::1")
	for _, other := range []uint64{AddrPort(key, one, 81), AddrPort(key+1, one, 80), AddrPort(key, netip.MustParseAddr("2001:db9::1"), 80)} {
		if other == AddrPort(key, one, 80) {
			t.Error("a part of an address, its port or the key does not change the hash")
		}
	}
}

func TestHashesAllocateNothing(t *testing.T) {
	addr := netip.MustParseAddr("2001:db8::1")
	var sum uint64
	if n := testing.AllocsPerRun(100, func() { sum += Mix(Name("WWW.example.org."), AddrPort(Of(addr), addr, 80)) }); n != 0 || sum == 0 {
		t.Errorf("%v allocations", n)
	}
}
