package network

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
)

// reachesItself describes a special address in another way than the tables, by its bytes.
func reachesItself(addr netip.Addr) bool {
	raw := addr.As16()
	zeros := make([]byte, 16)
	inner := func(at int) bool {
		a, b := raw[at], raw[at+1]
		c, d := raw[at+2], raw[at+3]
		return a == 0 || a == 127 || a == 169 && b == 254 || a >= 224 ||
			a == 192 && (b == 0 && c == 0 || b == 88 && c == 99) ||
			a == 100 && b == 100 && c == 100 && d == 200 || a == 168 && b == 63 && c == 129 && d == 16
	}
	if !addr.Is4() && (raw[8] == 0 || raw[8] == 2) && bytes.Equal(raw[9:12], []byte{0, 0x5e, 0xfe}) {
		return true // ISATAP
	}
	switch {
	case addr.Is4(), bytes.Equal(raw[:12], append(zeros[:10:10], 0xff, 0xff)):
		return inner(12)
	case bytes.Equal(raw[:12], zeros[:12]), bytes.Equal(raw[:12], append([]byte{0, 0x64, 0xff, 0x9b}, zeros[:8]...)):
		return inner(12) // ::1 contains 0.0.0.1
	case raw[0] == 0x20 && raw[1] == 2:
		return inner(2)
	case bytes.Equal(raw[:6], []byte{0, 0x64, 0xff, 0x9b, 0, 1}), raw[0] == 0xfe && raw[1] >= 0x80, raw[0] == 0xff:
		return true
	case bytes.Equal(raw[:12], append(zeros[:8:8], 0xff, 0xff, 0, 0)), bytes.Equal(raw[:8], append([]byte{1}, zeros[:7]...)):
		return true // IPv4-translated, discard
	case bytes.Equal(raw[:4], []byte{0x20, 1, 0, 0}), bytes.Equal(raw[:4], []byte{0xfd, 0, 0x0e, 0xc2}):
		return true // Teredo, Amazon
	}
	return addr == netip.MustParseAddr("fd20:ce::254")
}

// FuzzWithin tests the rule for what may be probed (B60): a special address only if a network inside a special range
// holds it, and no address outside the networks, in whatever form it comes.
func FuzzWithin(f *testing.F) {
	for _, text := range []string{"127.0.0.1", "169.254.169.254", "192.0.2.1", "::1", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
		"64:ff9b:1::1", "fe80::1", "ff02::1", "fd00:ec2::254", "2001:db8::1", "::127.0.0.1", "255.255.255.255", "240.0.0.1", "0.1.2.3",
		"192.0.0.192", "192.88.99.1", "100.100.100.200", "168.63.129.16", "2001::1", "2001:db8::5efe:c000:201", "2001:db8::200:5efe:c000:201", "::ffff:0:c000:201",
		"fec0::1", "100::1", "fd00:ec2::23", "::ffff:100.100.100.200", "64:ff9b::f000:1", "2002:a83f:8110::1"} {
		addr := netip.MustParseAddr(text)
		f.Add(addr.AsSlice(), uint8(addr.BitLen()), addr.AsSlice(), uint8(8))
		f.Add(addr.AsSlice(), uint8(0), addr.AsSlice(), uint8(64))
	}
	f.Fuzz(func(t *testing.T, raw []byte, bits uint8, base []byte, more uint8) {
		addr, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		if got, want := List(nil).Allows(addr), !reachesItself(addr); got != want {
			t.Errorf("without within, %s: %t, want %t", addr, got, want)
		}
		inside, meant := false, false
		var within List
		for _, bits := range []uint8{bits, more} {
			b, ok := netip.AddrFromSlice(base)
			if !ok {
				return
			}
			p, err := b.Prefix(int(bits))
			if err != nil {
				return
			}
			n := New(p)
			within = append(within, n)
			inside = inside || p.Contains(addr)
			meant = meant || p.Contains(addr) && n.special
		}
		if got, want := within.Allows(addr), inside && (meant || !reachesItself(addr)); got != want {
			t.Errorf("within %v, %s: %t, want %t", within, addr, got, want)
		}
	})
}

// Special ranges are probed only if a network inside them is named (B60).
func TestWithin(t *testing.T) {
	for _, tc := range []struct{ within, allowed, refused string }{
		{"", "192.0.2.1 10.0.0.1 172.16.0.1 192.168.1.1 100.64.0.1 2001:db8::1 fd00::1 2600::1 64:ff9b::808:808 2002:808:808::1 ::ffff:8.8.8.8",
			"127.0.0.1 127.255.255.255 0.0.0.0 0.1.2.3 169.254.169.254 224.0.0.1 239.1.1.1 255.255.255.255 " +
				":: ::1 fe80::1 ff02::1 fd00:ec2::254 fd20:ce::254 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 " +
				"64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::7f00:1 2002:7f00:1::1 2002:a9fe:a9fe::"},
		// Neighbours of the special ranges are not special, and what IPv6 embeds is as special as the address itself.
		{"", "192.0.1.0 191.255.255.255 192.88.98.255 192.88.100.0 223.255.255.255 100.100.100.199 100.100.100.201 168.63.129.15 168.63.129.17 169.253.255.255 128.0.0.1 " +
			"2001:1::1 2001:db8::5efd:a00:1 2001:db8::100:5efe:a00:1 2001:db8:0:5efe::1 101:: 100:0:0:1:: fd00:ec1::254 fd00:ec3:: fd20:ce::253 fd20:ce::255 " +
			"::fffe:0:a00:1 ::ffff:1:a00:1 64:ff9b:2::1 64:ff9b::a00:1 2002:a00:1::1 ::10.0.0.1 ::ffff:192.0.2.1 fe7f::1 1fff::1 4000::1",
			"192.0.0.0 192.0.0.192 192.0.0.255 192.88.99.1 240.0.0.0 254.255.255.255 100.100.100.200 168.63.129.16 " +
				"2001:: 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:db8::5efe:a00:1 2001:db8::200:5efe:a00:1 fd00::5efe:7f00:1 64:ff9b::5efe:a00:1 " +
				"::ffff:0:0:0 ::ffff:0:a00:1 ::ffff:0:ffff:ffff fec0:: feff:ffff::1 100:: 100::ffff:ffff:ffff:ffff fd00:ec2:: fd00:ec2::23 fd00:ec2::254 fd00:ec2:ffff::1 " +
				"::ffff:240.0.0.1 ::ffff:100.100.100.200 ::ffff:168.63.129.16 64:ff9b::6464:64c8 64:ff9b::f000:1 64:ff9b::192.0.0.192 2002:a83f:8110::1 2002:c058:6301::1 ::192.88.99.1"},
		{"240.0.0.0/4", "240.0.0.1 255.255.255.255", "::ffff:240.0.0.1 239.0.0.1"},
		{"100.100.100.200/32 168.63.129.16/32 fd00:ec2::/32 fd20:ce::254/128", "100.100.100.200 168.63.129.16 fd00:ec2::253 fd20:ce::254", "100.100.100.201"},
		{"100.64.0.0/10 168.0.0.0/8 192.0.0.0/8 fd00::/8", "100.64.0.1 168.1.1.1 192.0.2.1 fd00::1", "100.100.100.200 168.63.129.16 192.0.0.1 192.88.99.1 fd00:ec2::253 fd20:ce::254"},
		{"2001::/16", "2001:db8::1", "2001::1"},
		{"2001::/32", "2001:0:1::1", "2001:db8::1"},
		{"2001:db8::/64", "2001:db8::1", "2001:db8::5efe:a00:1 2001:db8::200:5efe:a00:1"},
		{"2001:db8::5efe:0:0/96", "2001:db8::5efe:a00:1", "2001:db8::200:5efe:a00:1 2001:db8:1::5efe:a00:1"},
		{"2001:db8::200:5efe:0:0/104", "2001:db8::200:5efe:a0:1", "2001:db8::200:5efe:a00:1"},
		{"fe80::/9", "", "fe80::1 fec0::1"},
		{"fec0::/10 100::/64 ::ffff:0:0:0/96", "fec0::1 100::1 ::ffff:0:a00:1", "100:0:0:1::1"},
		{"::ffff:0:0/96", "::ffff:192.0.2.1", "::ffff:127.0.0.1 ::ffff:240.0.0.1 192.0.2.1"},
		{"0.0.0.0/0 ::/0", "192.0.2.1 2001:db8::1", "127.0.0.1 169.254.169.254 ::1 fe80::1 ::ffff:127.0.0.1 2002:7f00:1::1"},
		{"192.0.2.0/24", "192.0.2.1 192.0.2.255", "192.0.3.1 127.0.0.1 2001:db8::1 ::ffff:192.0.2.1"},
		{"127.0.0.0/8", "127.0.0.1 127.9.9.9", "192.0.2.1 ::1 ::ffff:127.0.0.1"},
		{"127.0.0.8/29 192.0.2.0/24", "127.0.0.8 127.0.0.15 192.0.2.1", "127.0.0.1"},
		{"::1/128", "::1", "127.0.0.1 2001:db8::1"},
		{"::ffff:127.0.0.0/104", "::ffff:127.0.0.1", "127.0.0.1"},
		{"0.0.0.0/1", "10.0.0.1", "127.0.0.1 0.0.0.0"},
		{"169.254.169.254/32", "169.254.169.254", "169.254.169.253"},
	} {
		var n List
		for _, text := range strings.Fields(tc.within) {
			p, err := Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			n = append(n, p)
		}
		for want, list := range map[bool]string{true: tc.allowed, false: tc.refused} {
			for _, a := range strings.Fields(list) {
				if got := n.Allows(netip.MustParseAddr(a)); got != want {
					t.Errorf("within %q: %s is allowed: %t", tc.within, a, got)
				}
			}
		}
	}
}

// ordinary and ordinary4 never return true for a special address.
func TestOrdinary(t *testing.T) {
	for _, p := range special {
		for _, fill := range []byte{0x00, 0xff, 0x20} { // for the bits that are free
			fill := uint64(fill) * 0x0101010101010101
			addr := addrOf(words{p.value.high | fill&^p.mask.high, p.value.low | fill&^p.mask.low})
			four := addr.Unmap()
			if !p.matches(wordsOf(addr.As16())) || !isSpecial(addr) || !isSpecial(four) {
				t.Errorf("%s is not special", addr)
			}
			if four.Is4() && ordinary4(bits4(four)) || ordinary(addr) {
				t.Errorf("%s is special, and passes for ordinary", addr)
			}
		}
	}
}

func addrOf(w words) netip.Addr {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], w.high)
	binary.BigEndian.PutUint64(raw[8:], w.low)
	return netip.AddrFrom16(raw)
}

// The table is well formed: a value has no bits outside its mask, every row is another range, and has a source.
func TestRanges(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range ranges {
		if seen[r.value] || !strings.Contains(r.source, ": ") {
			t.Errorf("%s%s: %q", r.value, r.mask, r.source)
		}
		seen[r.value] = true
	}
	for _, p := range special {
		if p.value.high&^p.mask.high != 0 || p.value.low&^p.mask.low != 0 {
			t.Errorf("%s has bits outside its mask %s", addrOf(p.value), addrOf(p.mask))
		}
	}
}
