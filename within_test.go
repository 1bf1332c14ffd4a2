package multivalue

import (
	"bytes"
	"net/netip"
	"testing"
)

// reachesItself is what a special address is, said in another way than in the tables: by the bytes.
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
		return inner(12) // ::1 has 0.0.0.1 inside
	case raw[0] == 0x20 && raw[1] == 2:
		return inner(2)
	case bytes.Equal(raw[:6], []byte{0, 0x64, 0xff, 0x9b, 0, 1}), raw[0] == 0xfe && raw[1]&0xc0 == 0x80, raw[0] == 0xff:
		return true
	}
	return addr == netip.MustParseAddr("fd00:ec2::254") || addr == netip.MustParseAddr("fd20:ce::254")
}

// FuzzWithin holds the rule of what may be probed to its words (B60): nothing special without a network inside a special
// range that holds it, and nothing outside the networks, in whatever form an address comes.
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
		if got, want := networks(nil).allow(addr), !reachesItself(addr); got != want {
			t.Errorf("without within, %s: %t, want %t", addr, got, want)
		}
		inside, meant := false, false
		var within networks
		for _, bits := range []uint8{bits, more} {
			b, ok := netip.AddrFromSlice(base)
			if !ok {
				return
			}
			p, err := b.Prefix(int(bits))
			if err != nil {
				return
			}
			n := newNetwork(p)
			within = append(within, n)
			inside = inside || p.Contains(addr)
			meant = meant || p.Contains(addr) && n.special
		}
		if got, want := within.allow(addr), inside && (meant || !reachesItself(addr)); got != want {
			t.Errorf("within %v, %s: %t, want %t", within, addr, got, want)
		}
	})
}
