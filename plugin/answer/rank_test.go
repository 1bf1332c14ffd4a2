package answer

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// Ranks of backups follow one another: each is served only if those before it are together fewer than min_up. The smallest network
// decides. In a set without primaries the lowest rank takes their place, and drained addresses come after all ranks (B99).
//
// The addresses are 10.0.0.0 to 10.0.0.9. Each letter of a set is one: its rank or p for a primary, and behind it d if it is down, or
// r if it is drained by hand. What is served is listed by its number in the set.
func TestRanks(t *testing.T) {
	for _, tc := range []struct {
		set    string
		minUp  Quorum
		limit  int
		served string
		want   Outcome
		rank   int
	}{
		{"p p 1 2", Quorum{Count: 1}, 8, "01", Whole, 0},
		{"pd p 1 2", Quorum{Count: 1}, 8, "1", Thinned, 0},
		{"pd pd 1 2", Quorum{Count: 1}, 8, "2", Backup, 1},
		{"pd pd 1d 2", Quorum{Count: 1}, 8, "3", Backup, 2},
		{"pd p 1d 2 9", Quorum{Count: 2}, 8, "13", Backup, 2},
		{"pd pd p 1d 2 9", Quorum{Count: 3}, 8, "245", Backup, 9},
		{"p pd pd 1 2", Quorum{Percent: 50}, 8, "03", Backup, 1},
		{"pd pd pd 1 2", Quorum{Percent: 50}, 8, "34", Backup, 2}, // the share is one of the primaries
		{"pd pr 1d 2d 1", Quorum{Count: 1}, 8, "4", Backup, 1},
		{"pd pr 1d 2", Quorum{Count: 1}, 8, "3", Backup, 2},
		{"pd pr 1d 2d", Quorum{Count: 1}, 8, "1", Backup, 0}, // drained ones come behind all ranks
		{"pd 1r 2", Quorum{Count: 1}, 8, "2", Backup, 2},
		{"pd 1d 2d", Quorum{Count: 1}, 8, "012", Open, 0},
		{"pd pd 1 2d", Quorum{Count: 2}, 8, "0123", Open, 0}, // health is disregarded
		{"2 2 3", Quorum{Count: 1}, 8, "01", Whole, 0},       // no primaries: rank 2 takes their place
		{"2d 2d 3 4", Quorum{Count: 1}, 8, "2", Backup, 3},
		{"5 5d", Quorum{Count: 1}, 8, "0", Thinned, 0},
		{"pd p pd 1 2", Quorum{Count: 3}, 2, "13", Backup, 1}, // never more than the limit
	} {
		p := Policy{Limit: tc.limit, MinUp: tc.minUp}
		words := strings.Fields(tc.set)
		all := fleet(len(words))
		for i, w := range words {
			if w[0] != 'p' {
				p.Backup = append(p.Backup, Rank{netip.PrefixFrom(all[i].addr, 32), w[0] - '0'})
			}
			switch w[1:] {
			case "d":
				down(all, i)
			case "r":
				drain(all, i)
			}
		}
		p.Backup = append(p.Backup, Rank{netip.MustParsePrefix("10.0.0.32/27"), 1}) // of others
		served, outcome := p.choose(all, chance(1))
		got := indexes(served)
		slices.Sort(got)
		var text strings.Builder
		for _, i := range got {
			text.WriteByte(byte('0' + i))
		}
		var r Report
		r.addChoice(choice{outcome: outcome, served: served})
		if text.String() != tc.served || outcome != tc.want || r.Rank != tc.rank {
			t.Errorf("%s with %+v: %s %s of rank %d, want %s %s of rank %d", tc.set, tc.minUp, outcome, text.String(), r.Rank, tc.want, tc.served, tc.rank)
		}
	}
	p := Policy{Backup: []Rank{{netip.MustParsePrefix("10.0.0.7/32"), 3}, {netip.MustParsePrefix("10.0.0.0/29"), 1}, {netip.MustParsePrefix("0.0.0.0/0"), 2}}}
	for addr, want := range map[string]uint8{"10.0.0.7": 3, "10.0.0.6": 1, "10.0.0.8": 2, "2001:db8::1": 0} {
		if got := p.rankOf(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s has the rank %d, want %d", addr, got, want)
		}
	}
}
