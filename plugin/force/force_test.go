package force

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// The smallest network that holds an address decides, whatever the order of the lines (B55).
func TestForceParse(t *testing.T) {
	o, err := Parse([]byte(`
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
	for list, want := range map[string]State{
		"10.0.0.4 10.0.0.5 10.0.0.8 10.0.0.255": Down,
		"10.0.0.7 10.0.0.9":                     Up,
		"10.0.0.0 10.0.0.3 10.0.0.6":            Drain,
		"10.0.1.0 9.255.255.255 192.0.2.1":      Up,
		"2001:db8::1":                           Down,
		"2001:db8::2 2001:db8:ffff::":           Drain,
		"2001:db9:: ::1 ::ffff:10.0.0.4 ::":     None,
	} {
		for _, a := range strings.Fields(list) {
			if got := o.For(netip.MustParseAddr(a)); got != want {
				t.Errorf("%s: %d, want %d", a, got, want)
			}
		}
	}
	if want := [...]int{0, 4, 2, 3}; o.count != want {
		t.Errorf("%v networks by state, want %v", o.count, want)
	}
	for _, empty := range []string{"", "\n\n", "# down 192.0.2.1", " \t\r\n"} {
		if o, err := Parse([]byte(empty)); err != nil || o.For(netip.MustParseAddr("192.0.2.1")) != None {
			t.Errorf("%q: %v, %v", empty, o, err)
		}
	}
}

// The error for every mistake names its line and the fix (B55, B78).
func TestForceParseErrors(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"down 192.0.2.1\n\ndwon 192.0.2.2", `3: unknown state "dwon": did you mean "down"?`},
		{"Drain 192.0.2.1", `1: unknown state "Drain": did you mean "drain"?`},
		{"192.0.2.1 down", `1: unknown state "192.0.2.1": use one of down, drain, up`},
		{strings.Repeat("x", 1<<20), `1: unknown state "` + strings.Repeat("x", 64) + `…": use one of`},
		{"down", "1: down without an address: use down ADDRESS|NETWORK..., such as down 192.0.2.1"},
		{"up # 192.0.2.1", "1: up without an address"},
		{"down 192.0.2", `1: "192.0.2" is neither an address nor a network: use one such as 192.0.2.1 or 2001:db8::/32`},
		{"down 192.0.2.1 up 192.0.2.2", `1: "up" is neither`},
		{"down 192.0.2.0/33", `1: "192.0.2.0/33" is neither`},
		{"down www.example.org", `1: "www.example.org" is neither`},
		{"down 192.0.2.1,192.0.2.2", "is neither"},
		{"down 192.0.2.1:53", "is neither"},
		{"down " + strings.Repeat("1", 1<<20), "is neither"},
		{"up 192.0.2.1\ndown 192.0.2.1/24", `2: "192.0.2.1/24" has bits set after its length: use 192.0.2.0/24`},
		{"down fe80::1%eth0", `1: "fe80::1%eth0" has a zone, which no record has: leave it out`},
		{"down fe80::%eth0/64", "has a zone"},
		{"down ::ffff:192.0.2.1", `1: "::ffff:192.0.2.1" is an IPv4 address in IPv6 form: use 192.0.2.1`},
		{"down ::ffff:192.0.2.0/120", `1: "::ffff:192.0.2.0/120" is an IPv4 network in IPv6 form: use 192.0.2.0/24`},
		{"down ::ffff:0:0/96", "use 0.0.0.0/0"},
		{"down 192.0.2.1\nup 192.0.2.2\nup 192.0.2.1/32", "3: 192.0.2.1/32 is up here, and down on line 1: remove one of the two"},
		{"drain 192.0.2.1 192.0.2.1\ndrain 192.0.2.1\ndown 192.0.2.1", "3: 192.0.2.1/32 is down here, and drain on line 1"},
	} {
		_, err := Parse([]byte(tc.text))
		if err == nil || !strings.Contains(err.Error(), tc.want) || len(err.Error()) > 300 {
			t.Errorf("%.80q: error %.400v, want %s", tc.text, err, tc.want)
		}
	}
}

// megabyte returns a file of a megabyte, with networks of all lengths.
func megabyte() []byte {
	var b strings.Builder
	for i := 0; b.Len() < 1<<20; i++ {
		bits := 16 + i%17
		p, _ := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).Prefix(bits)
		fmt.Fprintf(&b, "down %s # %d\n", p, i)
	}
	return []byte(b.String())
}

// A large file is read like a small one (B55). BenchmarkParseOrders measures how long it takes.
func TestForceParsesAMegabyte(t *testing.T) {
	if o, err := Parse(megabyte()); err != nil || o.count[Down] < 1000 {
		t.Fatal(o, err)
	}
}

func BenchmarkParseOrders(b *testing.B) {
	text := megabyte()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}

// A forced address has the forced state, derived from its measured verdict (B55).
func TestForceOn(t *testing.T) {
	since := time.UnixMilli(1e12)
	up := verdict.Verdict{State: verdict.Up, Since: since, Holds: 20 * time.Second}.Brief()
	down := verdict.Verdict{State: verdict.Down, Since: since, Holds: 20 * time.Second}.Brief()
	unknown, unchecked := verdict.Brief(0), verdict.Outside.Brief()
	upSinceEver := verdict.Verdict{State: verdict.Up, Holds: 20 * time.Second}.Brief() // it does not warm up
	upForNow := verdict.Brief(0).ForceUp()                                             // its TTL is the lowest
	for _, tc := range []struct {
		State
		believed, want verdict.Brief
	}{
		{None, up, up}, {None, down, down}, {None, unknown, unknown}, {None, unchecked, unchecked},
		{Up, up, upSinceEver}, {Up, down, upForNow}, {Up, unknown, upForNow}, {Up, unchecked, unchecked},
		{Down, up, verdict.BriefDown}, {Down, down, verdict.BriefDown}, {Down, unknown, verdict.BriefDown}, {Down, unchecked, verdict.BriefDown},
		{Drain, up, up.Drain()}, {Drain, down, down}, {Drain, unknown, unknown.Drain()}, {Drain, unchecked, unchecked.Drain()},
	} {
		if got := tc.Apply(tc.believed); got != tc.want {
			t.Errorf("%d on %s: %x, want %x", tc.State, tc.believed.State(), got, tc.want)
		}
	}
	if upForNow.State() != verdict.Up || upForNow.Holds() != 0 || upForNow.Drained() || upForNow.Weight() != 100 || !upForNow.ForcedUp() || upSinceEver.ForcedUp() || up.ForcedUp() {
		t.Errorf("forced up against what is measured: %x", upForNow)
	}
}

// FuzzForce reads any input as a file of forced states. There is no panic, an error names a line, and a file that is
// accepted forces what a search through all its lines says.
func FuzzForce(f *testing.F) {
	for _, seed := range []string{
		"down 192.0.2.1\nup 192.0.2.0/24 # text\ndrain 2001:db8::/32 2001:db8::1", "up 0.0.0.0/0 ::/0\ndown 128.0.0.0/1\r\n", "drain",
		"up ::ffff:1.2.3.4", "down 10.0.0.0/8 10.0.0.0/9 10.0.0.0/10", "up 1.1.1.1\ndown 1.1.1.1", "dwon 1.1.1.1", "\x00", "up fe80::1%x",
		"down 10.0.0.0/8\nup 10.1.0.0/16 until 2026-11-30T07:00:00Z # gone\ndrain 10.2.0.0/16 until 2026-11-30T09:00:00+00:30 # not yet",
		"up 10.0.0.1 until 2026-11-30T07:00:00Z\nup 10.0.0.1 until 2026-11-30T09:00:00Z", "up 10.0.0.1 until 2026-11-30T08:00:00Z", "up 10.0.0.1 until",
	} {
		f.Add(seed)
	}
	now := time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		o, err := Parse([]byte(text))
		if err != nil {
			line, _, _ := strings.Cut(err.Error(), ":")
			if n, e := strconv.Atoi(line); e != nil || n < 1 || n > 1+strings.Count(text, "\n") || o != nil {
				t.Errorf("an error without a line: %v", err)
			}
			return
		}
		o = o.at(nil, now)
		forced := make(map[netip.Prefix]State)
		for line := range strings.Lines(text) {
			line, _, _ = strings.Cut(line, "#")
			words := strings.Fields(line)
			if i := slices.Index(words, "until"); i > 0 {
				end, err := time.Parse(time.RFC3339, words[i+1])
				if err != nil {
					t.Fatal(err)
				}
				if words = words[:i]; !end.After(now) {
					continue // this line does not count
				}
			}
			for i := 1; i < len(words); i++ {
				p, err := netip.ParsePrefix(words[i])
				if err != nil {
					a := netip.MustParseAddr(words[i])
					p = netip.PrefixFrom(a, a.BitLen())
				}
				forced[p] = map[string]State{"up": Up, "down": Down, "drain": Drain}[words[0]]
			}
		}
		if n := o.count[Up] + o.count[Down] + o.count[Drain]; n != len(forced) {
			t.Errorf("%d networks are counted, want %d", n, len(forced))
		}
		for p := range forced {
			for _, a := range []netip.Addr{p.Addr(), p.Addr().Next(), p.Addr().Prev()} {
				want, bits := None, -1
				for q, state := range forced {
					if q.Contains(a) && q.Bits() > bits {
						want, bits = state, q.Bits()
					}
				}
				if got := o.For(a); got != want && a.IsValid() {
					t.Errorf("%s is forced to %d, want %d", a, got, want)
				}
			}
		}
	})
}
