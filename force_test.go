package multivalue

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// The smallest network that holds an address decides, whatever the order of the lines (B55).
func TestOrders(t *testing.T) {
	o, err := parseOrders([]byte(`
# everything of a rack but one host
down  10.0.0.0/24   # until Monday
up 10.0.0.7 10.0.0.9/32
	drain 10.0.0.0/30 2001:db8::/32` + "\r\n" + `
down 2001:db8::1
up 0.0.0.0/0
#drain ::/0
drain 10.0.0.6/31
down 10.0.0.0/24
up 10.0.0.0/8`))
	if err != nil {
		t.Fatal(err)
	}
	for list, want := range map[string]force{
		"10.0.0.4 10.0.0.5 10.0.0.8 10.0.0.255": forceDown,
		"10.0.0.7 10.0.0.9":                     forceUp,
		"10.0.0.0 10.0.0.3 10.0.0.6":            forceDrain,
		"10.0.1.0 9.255.255.255 192.0.2.1":      forceUp,
		"2001:db8::1":                           forceDown,
		"2001:db8::2 2001:db8:ffff::":           forceDrain,
		"2001:db9:: ::1 ::ffff:10.0.0.4 ::":     forceNone,
	} {
		for _, a := range strings.Fields(list) {
			if got := o.of(netip.MustParseAddr(a)); got != want {
				t.Errorf("%s: %d, want %d", a, got, want)
			}
		}
	}
	if want := [...]int{0, 4, 2, 3}; o.count != want {
		t.Errorf("%v networks by state, want %v", o.count, want)
	}
	for _, empty := range []string{"", "\n\n", "# down 192.0.2.1", " \t\r\n"} {
		if o, err := parseOrders([]byte(empty)); err != nil || o.of(netip.MustParseAddr("192.0.2.1")) != forceNone {
			t.Errorf("%q: %v, %v", empty, o, err)
		}
	}
}

// Every mistake names its line, and what would be right (B55, B78).
func TestOrdersErrors(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"down 192.0.2.1\n\ndwon 192.0.2.2", `3: unknown state "dwon": did you mean "down"?`},
		{"Drain 192.0.2.1", `1: unknown state "Drain": did you mean "drain"?`},
		{"192.0.2.1 down", `1: unknown state "192.0.2.1": use one of down, drain, up`},
		{strings.Repeat("x", 1<<20), `1: unknown state "` + strings.Repeat("x", 64) + `…": use one of`},
		{"down", "1: down is said of no address: want down ADDRESS|NETWORK..., such as down 192.0.2.1"},
		{"up # 192.0.2.1", "1: up is said of no address"},
		{"down 192.0.2", `1: "192.0.2" is neither an address nor a network: want one such as 192.0.2.1 or 2001:db8::/32`},
		{"down 192.0.2.1 up 192.0.2.2", `1: "up" is neither`},
		{"down 192.0.2.0/33", `1: "192.0.2.0/33" is neither`},
		{"down www.example.org", `1: "www.example.org" is neither`},
		{"down 192.0.2.1,192.0.2.2", "is neither"},
		{"down 192.0.2.1:53", "is neither"},
		{"down " + strings.Repeat("1", 1<<20), "is neither"},
		{"up 192.0.2.1\ndown 192.0.2.1/24", `2: "192.0.2.1/24" has bits set after its length: use 192.0.2.0/24`},
		{"down fe80::1%eth0", `1: "fe80::1%eth0" has a zone, and no record does: want it without one`},
		{"down fe80::%eth0/64", "has a zone"},
		{"down ::ffff:192.0.2.1", `1: "::ffff:192.0.2.1" is an IPv4 address in the form of IPv6: want 192.0.2.1`},
		{"down ::ffff:192.0.2.0/120", `1: "::ffff:192.0.2.0/120" is an IPv4 network in the form of IPv6: want 192.0.2.0/24`},
		{"down ::ffff:0:0/96", "want 0.0.0.0/0"},
		{"down 192.0.2.1\nup 192.0.2.2\nup 192.0.2.1/32", "3: 192.0.2.1/32 is up here, and down on line 1: want one of the two"},
		{"drain 192.0.2.1 192.0.2.1\ndrain 192.0.2.1\ndown 192.0.2.1", "3: 192.0.2.1/32 is down here, and drain on line 1"},
	} {
		_, err := parseOrders([]byte(tc.text))
		if err == nil || !strings.Contains(err.Error(), tc.want) || len(err.Error()) > 300 {
			t.Errorf("%.80q: error %.400v, want %s", tc.text, err, tc.want)
		}
	}
}

// megabyte is a file of a megabyte, with networks of all lengths.
func megabyte() []byte {
	var b strings.Builder
	for i := 0; b.Len() < 1<<20; i++ {
		bits := 16 + i%17
		p, _ := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).Prefix(bits)
		fmt.Fprintf(&b, "down %s # %d\n", p, i)
	}
	return []byte(b.String())
}

// A large file is read as a small one is (B55). BenchmarkParseOrders has the time that it takes.
func TestOrdersOfAMegabyte(t *testing.T) {
	if o, err := parseOrders(megabyte()); err != nil || o.count[forceDown] < 1000 {
		t.Fatal(o, err)
	}
}

func BenchmarkParseOrders(b *testing.B) {
	text := megabyte()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := parseOrders(text); err != nil {
			b.Fatal(err)
		}
	}
}

// What a forced address counts as, by what is believed of it (B55).
func TestForceOn(t *testing.T) {
	since := time.UnixMilli(1e12)
	up := verdict.Verdict{State: verdict.Up, Since: since, Holds: 20 * time.Second}.Brief()
	down := verdict.Verdict{State: verdict.Down, Since: since, Holds: 20 * time.Second}.Brief()
	unknown, unchecked := verdict.Brief(0), verdict.BriefUnchecked
	upSinceEver := verdict.Verdict{State: verdict.Up, Holds: 20 * time.Second}.Brief() // it does not warm up
	upForNow := verdict.Verdict{State: verdict.Up}.Brief()                             // its TTL is the lowest
	for _, tc := range []struct {
		force
		believed, want verdict.Brief
	}{
		{forceNone, up, up}, {forceNone, down, down}, {forceNone, unknown, unknown}, {forceNone, unchecked, unchecked},
		{forceUp, up, upSinceEver}, {forceUp, down, upForNow}, {forceUp, unknown, upForNow}, {forceUp, unchecked, unchecked},
		{forceDown, up, verdict.BriefDown}, {forceDown, down, verdict.BriefDown}, {forceDown, unknown, verdict.BriefDown}, {forceDown, unchecked, verdict.BriefDown},
		{forceDrain, up, up.Drain()}, {forceDrain, down, down}, {forceDrain, unknown, unknown.Drain()}, {forceDrain, unchecked, unchecked.Drain()},
	} {
		if got := tc.on(tc.believed); got != tc.want {
			t.Errorf("%d on %s: %x, want %x", tc.force, tc.believed.State(), got, tc.want)
		}
	}
}

// FuzzForce reads anything as a file of forced states: no panic; an error has a line; and what is accepted forces what a
// look at every line says.
func FuzzForce(f *testing.F) {
	for _, seed := range []string{
		"down 192.0.2.1\nup 192.0.2.0/24 # text\ndrain 2001:db8::/32 2001:db8::1", "up 0.0.0.0/0 ::/0\ndown 128.0.0.0/1\r\n", "drain",
		"up ::ffff:1.2.3.4", "down 10.0.0.0/8 10.0.0.0/9 10.0.0.0/10", "up 1.1.1.1\ndown 1.1.1.1", "dwon 1.1.1.1", "\x00", "up fe80::1%x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		o, err := parseOrders([]byte(text))
		if err != nil {
			line, _, _ := strings.Cut(err.Error(), ":")
			if n, e := strconv.Atoi(line); e != nil || n < 1 || n > 1+strings.Count(text, "\n") || o != nil {
				t.Errorf("an error without a line: %v", err)
			}
			return
		}
		forced := make(map[netip.Prefix]force)
		for line := range strings.Lines(text) {
			line, _, _ = strings.Cut(line, "#")
			words := strings.Fields(line)
			for i := 1; i < len(words); i++ {
				p, err := netip.ParsePrefix(words[i])
				if err != nil {
					a := netip.MustParseAddr(words[i])
					p = netip.PrefixFrom(a, a.BitLen())
				}
				forced[p] = map[string]force{"up": forceUp, "down": forceDown, "drain": forceDrain}[words[0]]
			}
		}
		for p := range forced {
			for _, a := range []netip.Addr{p.Addr(), p.Addr().Next(), p.Addr().Prev()} {
				want, bits := forceNone, -1
				for q, state := range forced {
					if q.Contains(a) && q.Bits() > bits {
						want, bits = state, q.Bits()
					}
				}
				if got := o.of(a); got != want && a.IsValid() {
					t.Errorf("%s is forced to %d, want %d", a, got, want)
				}
			}
		}
	})
}
