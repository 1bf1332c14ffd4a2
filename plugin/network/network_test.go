package network

import (
	"bytes"
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
		return a == 0 || a == 127 || a == 169 && b == 254 || a >= 224 && a < 240 || bytes.Equal(raw[at:at+4], []byte{255, 255, 255, 255})
	}
	switch {
	case addr.Is4(), bytes.Equal(raw[:12], append(zeros[:10:10], 0xff, 0xff)):
		return inner(12)
	case bytes.Equal(raw[:12], zeros[:12]), bytes.Equal(raw[:12], append([]byte{0, 0x64, 0xff, 0x9b}, zeros[:8]...)):
		return inner(12) // ::1 contains 0.0.0.1
	case raw[0] == 0x20 && raw[1] == 2:
		return inner(2)
	case bytes.Equal(raw[:6], []byte{0, 0x64, 0xff, 0x9b, 0, 1}), raw[0] == 0xfe && raw[1]&0xc0 == 0x80, raw[0] == 0xff:
		return true
	}
	return addr == netip.MustParseAddr("fd00:ec2::254") || addr == netip.MustParseAddr("fd20:ce::254")
}

// FuzzWithin tests the rule for what may be probed (B60): a special address only if a network inside a special range
// holds it, and no address outside the networks, in whatever form it comes.
func FuzzWithin(f *testing.F) {
	for _, text := range []string{"127.0.0.1", "169.254.169.254", "192.0.2.1", "::1", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
		"64:ff9b:1::1", "fe80::1", "ff02::1", "fd00:ec2::254", "2001:db8::1", "::127.0.0.1", "255.255.255.255", "240.0.0.1", "0.1.2.3"} {
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

// ordinary never returns true for a special address.
func TestOrdinary(t *testing.T) {
	for _, p := range special {
		first, last := p.Addr(), p.Addr().As16()
		bits := p.Bits()
		if p.Addr().Is4() {
			bits += 96
		}
		for i := bits; i < 128; i++ {
			last[i/8] |= 0x80 >> (i % 8)
		}
		end := netip.AddrFrom16(last)
		if p.Addr().Is4() {
			end = end.Unmap()
		}
		if ordinary(first) || ordinary(end) {
			t.Errorf("%s: ordinary(%s) is %t, ordinary(%s) is %t", p, first, ordinary(first), end, ordinary(end))
		}
	}
}
