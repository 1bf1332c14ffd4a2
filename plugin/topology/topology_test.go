package topology

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

// three is a table of three sites.
const three = `
site ams 192.0.2.0/25 2001:db8:a::/48   # the addresses of a site, and clients who sit there
site fra 192.0.2.128/26 2001:db8:f::/48
site lon 192.0.2.192/27
clients ams 10.0.0.0/8 geoip/continent/code=EU
clients fra 10.1.0.0/16 geoip/country/code=DE
clients lon 10.1.2.0/24 192.0.2.128/26  # beats what fra has, for clients
order ams: fra lon
order *: lon
`

func parse(t testing.TB, content string) *Table {
	t.Helper()
	table, err := Parse([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// prefixOf reads a network, or an address, which is that of a client who asks by itself.
func prefixOf(text string) netip.Prefix {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p
	}
	addr := netip.MustParseAddr(text)
	return netip.PrefixFrom(addr, addr.BitLen())
}

// The smallest network decides about a client, networks before labels, and of labels the first line (B96).
func TestLocate(t *testing.T) {
	table := parse(t, three)
	for _, tt := range []struct{ client, metadata, site, reason string }{
		{"10.9.9.9", "", "ams", "10.0.0.0/8"},
		{"10.1.9.9", "", "fra", "10.1.0.0/16"},
		{"10.1.2.9", "", "lon", "10.1.2.0/24"},
		{"10.1.2.0/24", "", "lon", "10.1.2.0/24"},
		{"10.1.2.0/23", "", "fra", "10.1.0.0/16"}, // less of it is known than would be needed for lon
		{"192.0.2.1", "", "ams", "192.0.2.0/25"},
		{"192.0.2.130", "", "lon", "192.0.2.128/26"},
		{"192.0.2.200", "", "lon", "192.0.2.192/27"},
		{"2001:db8:f::1", "", "fra", "2001:db8:f::/48"},
		{"198.51.100.1", "", "", "no network and no label"},
		{"198.51.100.1", "geoip/continent/code=EU geoip/country/code=DE", "ams", "geoip/continent/code=EU"},
		{"198.51.100.1", "geoip/continent/code=NA geoip/country/code=DE", "fra", "geoip/country/code=DE"},
		{"198.51.100.1", "geoip/continent/code=NA geoip/country/code=US", "", "no network and no label"},
		{"10.9.9.9", "geoip/country/code=DE", "ams", "10.0.0.0/8"},
	} {
		c := table.Locate(prefixOf(tt.client), func(label string) (string, bool) {
			for _, word := range strings.Fields(tt.metadata) {
				if value, found := strings.CutPrefix(word, label+"="); found {
					return value, true
				}
			}
			return "", false
		})
		if c.Name() != tt.site || c.Reason() != tt.reason {
			t.Errorf("%s with %q is in %q by %s, want %q by %s", tt.client, tt.metadata, c.Name(), c.Reason(), tt.site, tt.reason)
		}
	}
	for addr, want := range map[string]string{"192.0.2.1": "ams", "192.0.2.130": "fra", "192.0.2.192": "lon", "10.0.0.1": "", "2001:db8:a::1": "ams"} {
		if got := table.Name(table.Of(netip.MustParseAddr(addr))); got != want {
			t.Errorf("address %s is in %q, want %q", addr, got, want)
		}
	}
}

// A client goes to its own site, then by the order, then to the sites that the order does not name, then to addresses of no
// site. Chance decides among the unnamed ones, by the seed alone (B96).
func TestPlace(t *testing.T) {
	table := parse(t, three+"site nyc 198.51.100.0/25\nsite sfo 198.51.100.128/25\n")
	addr := map[string]netip.Addr{}
	for site, a := range map[string]string{"ams": "192.0.2.1", "fra": "192.0.2.129", "lon": "192.0.2.193", "nyc": "198.51.100.1", "sfo": "198.51.100.129", "": "203.0.113.1"} {
		addr[site] = netip.MustParseAddr(a)
	}
	c := table.Locate(prefixOf("10.9.9.9"), nil)
	nycFirst := 0
	for seed := range uint64(1000) {
		place := func(site string) uint64 { return c.Place(addr[site], seed) }
		if place("ams") != 0 || place("fra") != 1 || place("lon") != 2 || place("") <= max(place("nyc"), place("sfo")) ||
			min(place("nyc"), place("sfo")) <= 2 || place("nyc") == place("sfo") {
			t.Fatalf("seed %d: ams %d, fra %d, lon %d, nyc %d, sfo %d, no site %d", seed, place("ams"), place("fra"), place("lon"), place("nyc"), place("sfo"), place(""))
		}
		if place("nyc") < place("sfo") {
			nycFirst++
		}
	}
	if nycFirst < 400 || nycFirst > 600 {
		t.Errorf("nyc comes before sfo %d times of 1000", nycFirst)
	}
	if stranger := table.Locate(prefixOf("203.0.113.9"), nil); !stranger.Prefers() || stranger.Place(addr["lon"], 0) != 1 || stranger.Place(addr["ams"], 0) <= 1 {
		t.Error("the order * does not count for a client of no site")
	}
	if c := parse(t, "site ams 192.0.2.0/24").Locate(prefixOf("203.0.113.9"), nil); c.Prefers() {
		t.Error("without order *, a client of no site prefers something")
	}
	if got := table.Order(table.Of(addr["ams"])); got != "fra lon" {
		t.Errorf("the order of ams is %q", got)
	}
}

// The scope is as long as it must be, and no longer (B97).
func TestScope(t *testing.T) {
	table := parse(t, three)
	for client, want := range map[string]int{
		"10.9.9.0/24":     13, // 10.8.0.0/13 is the largest part without 10.1.0.0/16
		"10.200.0.0/16":   9,
		"10.1.9.0/24":     21,
		"10.1.2.0/24":     24,
		"10.1.0.0/16":     23, // 10.1.0.0/23 has no longer network in it, and 10.1.0.0/16 has
		"10.0.0.0/8":      16, // 10.0.0.0/16 is before 10.1.0.0/16
		"10.1.2.3/32":     24,
		"198.51.100.0/24": 24, // a label could have decided
		"192.0.2.128/26":  26,
		"192.0.2.0/24":    25, // longer than the client's: there are two sites in it
		"2001:db8:a::/48": 48,
		"2001:db8:a::/56": 48,
		"2001:db8::/32":   45,
	} {
		if got := table.Locate(netip.MustParsePrefix(client), nil).Scope; got != want {
			t.Errorf("scope of %s is %d, want %d", client, got, want)
		}
	}
	plain := parse(t, "site ams 192.0.2.0/24\nsite fra 192.0.2.8/32")
	for client, want := range map[string]int{
		"198.51.100.0/24": 6, // 196.0.0.0/6 is the largest part without 192.0.2.0/24
		"10.0.0.0/8":      1,
		"192.0.2.8/32":    32,
		"192.0.2.8/29":    32, // the longer network holds the address, and does not decide
		"192.0.2.9/32":    32,
		"192.0.2.0/24":    29,
		"2001:db8::/32":   0, // there is no network of this family
	} {
		if got := plain.Locate(netip.MustParsePrefix(client), nil).Scope; got != want {
			t.Errorf("without labels, scope of %s is %d, want %d", client, got, want)
		}
	}
}

// For random tables and clients, no address inside a scope that is at most as long as the client's network gets another
// site; scopes are at least as long as the match, do not overlap, and cannot be shorter (B97; RFC 7871, section 7.2.1).
func TestScopeProperty(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		six := rng.IntN(2) == 0
		networks := make(map[netip.Prefix]string)
		for range rng.IntN(12) {
			networks[randomPrefix(rng, six, 10)] = fmt.Sprint("s", rng.IntN(3))
		}
		var lines strings.Builder
		for p, site := range networks {
			fmt.Fprintf(&lines, "site %s %s\n", site, p)
		}
		table := parse(t, lines.String())
		var seen []netip.Prefix
		for range 8 {
			client := randomPrefix(rng, six, 14)
			c := table.Locate(client, nil)
			scoped := netip.PrefixFrom(client.Addr(), c.Scope).Masked()
			checkScope(t, rng, table, networks, client, scoped)
			for _, other := range seen {
				if other.Overlaps(scoped) && other != scoped {
					t.Fatalf("scopes %s and %s overlap in\n%s", other, scoped, lines.String())
				}
			}
			seen = append(seen, scoped)
		}
	}
}

// checkScope compares a scope with what the networks say.
func checkScope(t *testing.T, rng *rand.Rand, table *Table, networks map[netip.Prefix]string, client, scoped netip.Prefix) {
	t.Helper()
	c := table.Locate(client, nil)
	want, by := "", netip.Prefix{}
	for p, site := range networks {
		if p.Bits() <= client.Bits() && p.Contains(client.Addr()) && (want == "" || p.Bits() > by.Bits()) {
			want, by = site, p
		}
	}
	if c.Name() != want || c.By != by {
		t.Fatalf("%s is in %q by %s, want %q by %s: %v", client, c.Name(), c.By, want, by, networks)
	}
	longer := func(p netip.Prefix) bool { // a longer network lies in p
		for n := range networks {
			if n.Bits() > p.Bits() && p.Contains(n.Addr()) {
				return true
			}
		}
		return false
	}
	if scoped.Bits() < by.Bits() || longer(scoped) {
		t.Fatalf("%s has scope %s, with the match %s: %v", client, scoped, by, networks)
	}
	if scoped.Bits() > max(0, by.Bits()) {
		if shorter, _ := scoped.Addr().Prefix(scoped.Bits() - 1); !longer(shorter) {
			t.Fatalf("%s has scope %s, and %s would do: %v", client, scoped, shorter, networks)
		}
	}
	if scoped.Bits() > client.Bits() {
		return
	}
	for range 20 {
		other := randomIn(rng, scoped)
		if c := table.Locate(netip.PrefixFrom(other, other.BitLen()), nil); c.Name() != want {
			t.Fatalf("%s is in %q, and %s of its scope %s in %q: %v", client, want, other, scoped, c.Name(), networks)
		}
	}
}

// randomPrefix returns a network of one of few addresses, so that many lie in each other, of at most so many bits.
func randomPrefix(rng *rand.Rand, six bool, most int) netip.Prefix {
	addr := netip.AddrFrom4([4]byte{byte(rng.IntN(256)), byte(rng.IntN(4)) << 6})
	if six {
		addr = netip.AddrFrom16([16]byte{byte(rng.IntN(256)), byte(rng.IntN(4)) << 6})
	}
	p, _ := addr.Prefix(rng.IntN(most + 1))
	return p
}

// randomIn returns an address in a network.
func randomIn(rng *rand.Rand, p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for i := range raw {
		for bit := range 8 {
			if i*8+bit >= p.Bits() && rng.IntN(2) == 0 {
				raw[i] |= 0x80 >> bit
			}
		}
	}
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

// A mistake in a file is named with its line, and with what would be right.
func TestParseErrors(t *testing.T) {
	for content, want := range map[string]string{
		"site ams":                             `1: use site NAME NETWORK..., such as site ams 192.0.2.0/24`,
		"\n# none\nsites ams 192.0.2.0/24":     `3: unknown word "sites": did you mean "site"?`,
		"site a/b 192.0.2.0/24":                `1: invalid site "a/b": use letters, digits, dots, - and _`,
		"site ams 192.0.2.1/24":                `1: "192.0.2.1/24" has bits set after its length: use 192.0.2.0/24`,
		"site ams www.example.org":             `1: "www.example.org" is neither an address nor a network: use one such as 192.0.2.1 or 2001:db8::/32`,
		"site ams ::ffff:192.0.2.0/120":        `1: "::ffff:192.0.2.0/120" is an IPv4 network in IPv6 form: use 192.0.2.0/24`,
		"site a 10.0.0.0/8\nsite b 10.0.0.0/8": `2: 10.0.0.0/8 is in site b here, and in site a on line 1: remove one of the two`,
		"site a 10.0.0.0/8\nsite b ::/0\nclients a 10.1.0.0/16\nclients b 10.1.0.0/16": `4: 10.1.0.0/16 is in site b here, and in site a on line 3: remove one of the two`,
		"site a 10.0.0.0/8\nclients b 10.1.0.0/16":                                     `2: site b has no addresses: add a line such as site b 192.0.2.0/24`,
		"site ams ::/0\norder ams: lom\nsite lon 10.0.0.0/8":                           `2: unknown site "lom": did you mean "lon"?`,
		"site ams ::/0\norder lon: ams":                                                `2: unknown site "lon": add a line such as site lon 192.0.2.0/24`,
		"site ams ::/0\norder ams: ams":                                                `2: order of ams names ams itself, which always comes first: leave it out`,
		"site a ::/0\nsite b 10.0.0.0/8\norder a: b b":                                 `3: duplicate site b in the order of a`,
		"site a ::/0\nsite b 10.0.0.0/8\norder a: b\norder a: b":                       `4: duplicate order of a, first on line 3`,
		"order ams lon":                       `1: use order NAME: SITE..., such as order ams: fra lon, or order *: SITE... for clients of no site`,
		"site a ::/0\nclients a continent=EU": `2: invalid label "continent=EU": use PLUGIN/NAME=VALUE, such as geoip/continent/code=EU`,
		"clients a":                           `1: use clients NAME NETWORK...|LABEL=VALUE..., such as clients ams 198.51.100.0/24`,
	} {
		if _, err := Parse([]byte(content)); err == nil || err.Error() != want {
			t.Errorf("%q: %v\nwant %s", content, err, want)
		}
	}
	many := strings.Builder{}
	for i := range maxNetworks + 1 {
		fmt.Fprintf(&many, "site s%d 10.%d.%d.%d\n", i%50, i>>16, i>>8&255, i&255)
	}
	if _, err := Parse([]byte(many.String())); err == nil || err.Error() != "100001: more than 100000 networks: use fewer, larger ones" {
		t.Errorf("too many networks: %v", err)
	}
}

// Zones of a cluster are sites; of two claims on one network, the first one counts.
func TestFromZones(t *testing.T) {
	table := FromZones([]Entry{
		{"a", netip.MustParsePrefix("10.0.0.0/24")}, {"b", netip.MustParsePrefix("10.0.1.0/24")}, {"b", netip.MustParsePrefix("10.0.0.0/24")},
		{"b", netip.MustParsePrefix("10.0.0.7/32")},
	})
	for addr, want := range map[string]string{"10.0.0.1": "a", "10.0.0.7": "b", "10.0.1.1": "b", "10.0.2.1": ""} {
		if got := table.Name(table.Of(netip.MustParseAddr(addr))); got != want {
			t.Errorf("%s is in zone %q, want %q", addr, got, want)
		}
	}
	if table.Sites() != 2 || table.Networks() != 3 {
		t.Errorf("%d sites, %d networks", table.Sites(), table.Networks())
	}
}

// FuzzTopology: no file panics, and what is accepted gives every client at most one site, within a scope that holds for all.
func FuzzTopology(f *testing.F) {
	f.Add([]byte(three), []byte{10, 1, 2, 3}, uint8(24))
	f.Add([]byte("order *: a\nsite a ::/0 # x\nclients a a/b=c"), []byte("0123456789abcdef"), uint8(56))
	f.Fuzz(func(t *testing.T, content, raw []byte, source uint8) {
		table, err := Parse(content)
		if err != nil {
			if !strings.Contains(err.Error(), ": ") {
				t.Fatal("no line in", err)
			}
			return
		}
		addr, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		addr = addr.Unmap()
		client := netip.PrefixFrom(addr, int(source)%(addr.BitLen()+1))
		c := table.Locate(client, nil)
		if c.Scope < 0 || c.Scope > addr.BitLen() || c.By.IsValid() && c.Scope < c.By.Bits() {
			t.Fatalf("scope %d of %s by %s", c.Scope, client, c.By)
		}
		if scoped := netip.PrefixFrom(client.Masked().Addr(), c.Scope); c.Scope <= client.Bits() {
			again := table.Locate(scoped.Masked(), nil)
			if again.Name() != c.Name() {
				t.Fatalf("%s is in %q, and its scope %s in %q", client, c.Name(), scoped, again.Name())
			}
		}
		c.Place(addr, 1)
	})
}

// large returns a table of n networks of 40 sites, and clients in and beside them.
func large(n int) (*Table, []netip.Prefix) {
	var entries []Entry
	var clients []netip.Prefix
	rng := rand.New(rand.NewPCG(7, 8))
	seen := make(map[netip.Prefix]bool)
	for len(entries) < n {
		var addr [4]byte
		for i := range addr {
			addr[i] = byte(rng.IntN(256))
		}
		p, _ := netip.AddrFrom4(addr).Prefix(12 + rng.IntN(15))
		if seen[p] {
			continue
		}
		seen[p] = true
		entries = append(entries, Entry{fmt.Sprint("site", rng.IntN(40)), p})
		if len(clients) < 4096 {
			clients = append(clients, netip.PrefixFrom(netip.AddrFrom4(addr), 32))
		}
	}
	return FromZones(entries), clients
}

// Looking up clients and addresses among 100,000 networks allocates nothing.
func TestLookupAllocatesNothing(t *testing.T) {
	table, clients := large(maxNetworks)
	i := 0
	if allocs := testing.AllocsPerRun(1000, func() {
		c := table.Locate(clients[i%len(clients)], nil)
		c.Place(clients[i%len(clients)].Addr(), 3)
		i++
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// BenchmarkLocate finds a client among 100,000 networks, with the scope of its answer. BenchmarkOf finds an address.
func BenchmarkLocate(b *testing.B) {
	table, clients := large(maxNetworks)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		table.Locate(clients[i%len(clients)], nil)
	}
}

func BenchmarkOf(b *testing.B) {
	table, clients := large(maxNetworks)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		table.Of(clients[i%len(clients)].Addr())
	}
}

// BenchmarkOfByLength is the same look-up with a map for each length, as package force has them, to compare.
func BenchmarkOfByLength(b *testing.B) {
	table, clients := large(maxNetworks)
	var maps [33]map[netip.Addr]Site
	for p, s := range table.members.All() {
		if maps[p.Bits()] == nil {
			maps[p.Bits()] = make(map[netip.Addr]Site)
		}
		maps[p.Bits()][p.Addr()] = s
	}
	find := func(addr netip.Addr) Site {
		for bits := 32; bits >= 0; bits-- {
			if maps[bits] == nil {
				continue
			}
			p, _ := addr.Prefix(bits)
			if s := maps[bits][p.Addr()]; s != 0 {
				return s
			}
		}
		return 0
	}
	for i, c := range clients {
		if find(c.Addr()) != table.Of(c.Addr()) {
			b.Fatal(i, c)
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		find(clients[i%len(clients)].Addr())
	}
}

// A label that no query has in the first thousand is told once, however many lines have it, and not once any query had it.
func TestMissingLabel(t *testing.T) {
	var lines strings.Builder
	lines.WriteString("site a 192.0.2.0/24\n")
	for i := range 200 {
		fmt.Fprintf(&lines, "clients a geoip/country/code=C%d\n", i)
	}
	client := prefixOf("198.51.100.1")
	table, asked := parse(t, lines.String()), 0
	none := func(string) (string, bool) { asked++; return "", false }
	for i := 1; i <= 3*tellAfter; i++ {
		c := table.Locate(client, none)
		if told := c.Missing != ""; told != (i == tellAfter) || !c.Asked {
			t.Fatalf("query %d: missing %q", i, c.Missing)
		}
	}
	if asked != 3*tellAfter {
		t.Errorf("the label was looked up %d times for %d queries", asked, 3*tellAfter)
	}
	if c := table.Locate(client, nil); c.Asked {
		t.Error("without metadata, labels were looked for")
	}
	table = parse(t, lines.String())
	table.Locate(client, func(string) (string, bool) { return "other", true })
	for i := range 2 * tellAfter {
		if c := table.Locate(client, none); c.Missing != "" {
			t.Fatalf("query %d: told as missing, and another one had it", i)
		}
	}
}

// A # inside a word is part of it.
func TestCommentBeginsAWord(t *testing.T) {
	table := parse(t, "site a 192.0.2.0/24 # site b\nclients a x/y=New#York\n#\n")
	c := table.Locate(prefixOf("198.51.100.1"), func(string) (string, bool) { return "New#York", true })
	if c.Name() != "a" || c.Reason() != "x/y=New#York" || table.Sites() != 1 {
		t.Errorf("%q by %s, %d sites", c.Name(), c.Reason(), table.Sites())
	}
}

// A file with as many orders as fit is refused in a time that grows with its length.
func TestManyOrders(t *testing.T) {
	var lines strings.Builder
	for i := range 300_000 {
		fmt.Fprintf(&lines, "order s%d: x\n", i)
	}
	if _, err := Parse([]byte(lines.String())); err == nil || !strings.HasPrefix(err.Error(), `1: unknown site "s0"`) {
		t.Error(err)
	}
}
