package answer

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// sites are the places of addresses by their last octet, as letters: a is the client's own site, b and c follow, and x is in no
// order. With a capital O the client has no site, but an order.
type sites string

func (s sites) Place(addr netip.Addr, seed uint64) uint64 {
	switch letter := s[addr.As4()[3]]; letter {
	case 'a', 'b', 'c':
		return uint64(letter - 'a')
	default:
		return 1<<62 + mix(seed^uint64(letter))>>8
	}
}

// nearestCase reads a set: each word is an address, by the letter of its site, perhaps the rank of a backup, and d if it is
// down, or r if it is drained by hand.
func nearestCase(p *Policy, set string) ([]candidate, sites) {
	words := strings.Fields(set)
	all := fleet(len(words))
	var s strings.Builder
	for i, w := range words {
		s.WriteByte(w[0])
		for _, letter := range w[1:] {
			switch letter {
			case 'd':
				down(all, i)
			case 'r':
				drain(all, i)
			default:
				p.Backup = append(p.Backup, Rank{netip.PrefixFrom(all[i].addr, 32), uint8(letter - '0')})
			}
		}
	}
	return all, sites(s.String())
}

// byNumber is what is served, in order, by the place in the set.
func byNumber(served []candidate) string {
	var text strings.Builder
	for _, i := range indexes(served) {
		text.WriteByte(byte('0' + i))
	}
	return text.String()
}

// The rank comes first, by min_up over the primaries of all sites. Inside it a client gets the addresses of its own site, and
// those of the next sites as whole sites until as many are fit as min_up asks of its own site's members (B96).
func TestNearest(t *testing.T) {
	one := Quorum{Count: 1}
	for _, tc := range []struct {
		set    string
		minUp  Quorum
		limit  int
		served string
		want   Outcome
		sites  Sites
	}{
		{"b a c a", one, 8, "13", Sample, OwnSite}, // all are fit, and some stay home
		{"a a", one, 8, "01", Whole, OwnSite},
		{"ad a b", one, 8, "1", Thinned, OwnSite},
		{"ad ad c b b", one, 8, "34", Thinned, NextSites}, // b comes next, as a whole
		{"ad ad bd c", one, 8, "3", Thinned, NextSites},
		{"b c", one, 8, "0", Sample, NextSites}, // the own site has no address
		{"a a a a b b", Quorum{Percent: 50}, 8, "0123", Sample, OwnSite},
		{"ad ad ad a b b c", Quorum{Percent: 50}, 8, "345", Thinned, NextSites}, // two of four are asked for, and b fills up
		{"ad ad ad a bd b c c", Quorum{Percent: 50}, 8, "35", Thinned, NextSites},
		{"ad ad a a b b", Quorum{Percent: 50}, 8, "23", Thinned, OwnSite},
		{"a b b b c", Quorum{Count: 3}, 8, "0", Sample, OwnSite}, // no more than the own site has
		{"ad a a b b c", Quorum{Count: 3}, 8, "1234", Thinned, NextSites},
		{"x a", one, 8, "1", Sample, OwnSite},
		{"x x ad", one, 8, "01", Thinned, NextSites},
		{"a a a a b", one, 2, "", Sample, OwnSite}, // two of the own site, drawn
		// Ranks come before sites.
		{"ad b a1", one, 8, "1", Thinned, NextSites},
		{"ad bd b1 a1", one, 8, "3", Backup, OwnSite},
		{"ad bd b1 a1d", one, 8, "2", Backup, NextSites},
		{"ad bd b1d a1d c2 a2", one, 8, "5", Backup, OwnSite},
		{"ad b a bd a1 b1", Quorum{Count: 3}, 8, "214", Backup, NextSites}, // fit primaries of all sites, the own site first
		{"ad bd br ar", one, 8, "32", Backup, NextSites},                   // drained ones as a whole
		{"bd ad", one, 8, "01", Open, NextSites},                           // the least bad as without sites
		{"bd a ar", Quorum{Count: 2}, 8, "12", Backup, OwnSite},
	} {
		p := Policy{Limit: tc.limit, MinUp: tc.minUp, Nearest: true}
		all, near := nearestCase(&p, tc.set)
		d := chance(1)
		d.Near = near
		served, outcome := p.choose(all, d)
		got := byNumber(served)
		if tc.served == "" {
			tc.served = got
			if len(served) != tc.limit || slices.ContainsFunc(served, func(c candidate) bool { return c.place != 0 }) {
				t.Errorf("%s with limit %d: %s", tc.set, tc.limit, got)
			}
		}
		if got != tc.served || outcome != tc.want || p.sitesOf(served, d) != tc.sites {
			t.Errorf("%s with %+v: %s %s of %s sites, want %s %s of %s sites", tc.set, tc.minUp, outcome, got, p.sitesOf(served, d), tc.want, tc.served, tc.sites)
		}
	}
}

// A client without a preference gets what it would get without the policy, and so does every client of a policy without it (B96).
func TestNearestOfNoSite(t *testing.T) {
	for _, set := range []string{"b a c a", "ad a b", "ad bd b1 a1"} {
		for _, p := range []Policy{{Nearest: true, MinUp: Quorum{Count: 1}}, {MinUp: Quorum{Count: 1}}} {
			all, near := nearestCase(&p, set)
			d := chance(1)
			if !p.Nearest {
				d.Near = near
			}
			plain := Policy{MinUp: p.MinUp, Backup: p.Backup}
			want, wantOutcome := plain.choose(slices.Clone(all), chance(1))
			served, outcome := p.choose(all, d)
			if byNumber(served) != byNumber(want) || outcome != wantOutcome {
				t.Errorf("%s: %s %s, want %s %s", set, outcome, byNumber(served), wantOutcome, byNumber(want))
			}
			if got, want := p.sitesOf(served, d), map[bool]Sites{true: NoSite, false: AllSites}[p.Nearest]; got != want {
				t.Errorf("%s: sites %q, want %q", set, got, want)
			}
		}
	}
}

// Sites without an order come by chance, each as a whole: each of three is first about equally often, and with select client the
// same one for each client (B96).
func TestNearestByChance(t *testing.T) {
	first := make(map[byte]int)
	for seed := range uint64(3000) {
		p := Policy{MinUp: Quorum{Count: 1}, Nearest: true}
		all, near := nearestCase(&p, "x y z x y z")
		d := chance(seed)
		d.Near = near
		served, _ := p.choose(all, d)
		if len(served) != 2 || served[0].index+3 != served[1].index {
			t.Fatalf("%s served: not one site", byNumber(served))
		}
		first[near[served[0].index]]++
		p.Client, d.Client = true, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(seed), 0}), 24)
		again, _ := p.choose(slices.Clone(all), d)
		once := byNumber(again)
		if again, _ = p.choose(slices.Clone(all), d); byNumber(again) != once {
			t.Fatalf("a client gets %s, and then %s", once, byNumber(again))
		}
	}
	for _, site := range "xyz" {
		if n := first[byte(site)]; n < 850 || n > 1150 {
			t.Errorf("site %c came first %d times of 3000", site, n)
		}
	}
}

// Weights, warm-up, and the steadiness of select client hold inside a site (B4, B7, B93, B96).
func TestNearestDraws(t *testing.T) {
	heavy, warm := 0, 0
	for seed := range uint64(2000) {
		p := Policy{MinUp: Quorum{Count: 1}, Nearest: true, Weights: []Weight{{netip.MustParsePrefix("10.0.0.1/32"), 9}, {netip.MustParsePrefix("10.0.0.2/31"), 1000}}}
		all, near := nearestCase(&p, "a a b b")
		d := chance(seed)
		d.Near = near
		served, _ := p.choose(all, d)
		if len(served) != 2 || served[0].place+served[1].place != 0 {
			t.Fatal("a heavy address of another site came before the own site")
		}
		if served[0].index == 1 {
			heavy++
		}
		p = Policy{MinUp: Quorum{Count: 1}, Nearest: true, Warmup: time.Hour}
		all, _ = nearestCase(&p, "a a b b")
		all[0].verdict = upFor(time.Minute * 6) // a tenth of its share
		if served, _ = p.choose(all, d); served[0].index == 1 {
			warm++
		}
	}
	if heavy < 1740 || heavy > 1860 { // 9 of 10, with 4.5 standard deviations
		t.Errorf("the heavy address came first %d times of 2000", heavy)
	}
	if warm < 1755 || warm > 1880 { // 10 of 11
		t.Errorf("the warm address came first %d times of 2000", warm)
	}
	for client := range 200 {
		p := Policy{Limit: 2, MinUp: Quorum{Count: 1}, Nearest: true, Client: true}
		all, near := nearestCase(&p, "a b a a c a a b")
		d := chance(1)
		d.Near, d.Client = near, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(client), 0}), 24)
		before, _ := p.choose(slices.Clone(all), d)
		was := indexes(before)
		for i := range all {
			if near[i] != 'a' || slices.Contains(was, i) {
				continue
			}
			less := down(slices.Clone(all), i) // one that the client does not get goes down
			if served, _ := p.choose(less, d); !slices.Equal(indexes(served), was) {
				t.Fatalf("client %d gets %v, and without %d %v", client, was, i, indexes(served))
			}
		}
	}
}
