package answer

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// oddsDraws is how many answers are drawn to see whether what an explanation tells is so.
const oddsDraws = 100_000

// oddsWorld is a set of addresses with their verdicts, for one policy.
type oddsWorld struct {
	policy   Policy
	verdicts []verdict.Brief // of 10.0.0.0 and those after it
	rule     *Rule
}

func (w *oddsWorld) Rule(string) *Rule                             { return w.rule }
func (w *oddsWorld) SOA(string) *dns.SOA                           { return nil }
func (w *oddsWorld) Follow(string, string) bool                    { return false }
func (w *oddsWorld) Absent(string, uint16)                         {}
func (w *oddsWorld) Addresses(string, uint16) ([]netip.Addr, bool) { return nil, false }
func (w *oddsWorld) Fallback(string, string, uint16) Fallback      { return Fallback{} }
func (w *oddsWorld) Open(owner string, _ uint16) verdict.RecordSet {
	return verdict.RecordSet{Owner: owner}
}
func (w *oddsWorld) Look(_ verdict.RecordSet, a netip.Addr, _ uint16, _ uint32) verdict.Brief {
	return w.verdicts[a.As4()[3]]
}

// answer is the set as it comes from below.
func (w *oddsWorld) answer() *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion("www.example.org.", dns.TypeA)
	for i := range w.verdicts {
		m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: "www.example.org.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30}, A: []byte{10, 0, 0, byte(i)}})
	}
	return m
}

// tellOdds is what an explanation tells of each address, by the last number of it.
func (w *oddsWorld) tellOdds(draw *Draw) []Candidate {
	told := make([]Candidate, len(w.verdicts))
	w.rule = &Rule{Types: DefaultTypes, Policy: w.policy, Health: w, Observe: func(d Decision) {
		for _, c := range d.Candidates {
			told[c.Addr.As4()[3]] = c
		}
	}}
	Thin(w.answer(), w, draw)
	w.rule.Observe = nil
	return told
}

// places is a client that is near to addresses by their last bits: those that divide by three are in its own site, then come two
// sites whose order is drawn.
type places struct{ drawn bool }

func (p places) Place(addr netip.Addr, seed uint64) uint64 {
	site := uint64(addr.As4()[3] % 3)
	if site == 0 || !p.drawn {
		return site
	}
	return 1<<20 | mix(seed^site)>>20
}

// oddsCases are the ways in which an answer comes about. A line has a plus for each address that is up, a minus for one that is
// down, and a digit for one that has been up for so many tenths of the warm-up.
func oddsCases() map[string]*oddsWorld {
	skewed := []Weight{{netip.MustParsePrefix("10.0.0.0/31"), 50}, {netip.MustParsePrefix("10.0.0.2/32"), 5}}
	backups := []Rank{{netip.MustParsePrefix("10.0.0.4/30"), 1}}
	all := map[string]*oddsWorld{
		"all are served ++++":                    {policy: Policy{}},
		"a limit ++++++":                         {policy: Policy{Limit: 4}},
		"a limit, and some are down +-++-+++":    {policy: Policy{Limit: 2}},
		"weights, and all are served +++++":      {policy: Policy{Weights: skewed}},
		"weights and a limit ++++++":             {policy: Policy{Weights: skewed, Limit: 3}},
		"weights and a limit of one +++-++":      {policy: Policy{Weights: skewed, Limit: 1}},
		"weights, and one place too few +++++++": {policy: Policy{Weights: skewed, Limit: 6}},
		"a warm-up 19+++":                        {policy: Policy{Warmup: time.Hour, Limit: 2}},
		"a warm-up, weights 1+5++":               {policy: Policy{Warmup: time.Hour, Weights: skewed, Limit: 3}},
		"backups that are not needed ++++++++":   {policy: Policy{Backup: backups, Limit: 3, MinUp: Quorum{Count: 2}}},
		"backups that fill up +---+++-":          {policy: Policy{Backup: backups, Limit: 3, MinUp: Quorum{Count: 3}, Weights: skewed}},
		"all are down, weights -----":            {policy: Policy{Limit: 2, Weights: skewed}},
		"the client draws ++++++":                {policy: Policy{Client: true, Limit: 2, Weights: skewed}},
		"sites ++++++":                           {policy: Policy{Nearest: true, Limit: 2, MinUp: Quorum{Count: 1}, Weights: skewed}},
		"sites in need of the next -++-++":       {policy: Policy{Nearest: true, Limit: 3, MinUp: Quorum{Count: 3}}},
		"sites, and all_down is nodata ------":   {policy: Policy{Nearest: true, AllDown: NoData}},
	}
	for name, w := range all {
		line := name[len(name)-len(lastWord(name)):]
		for i, sign := range line {
			v := upFor(24 * time.Hour)
			switch {
			case sign == '-':
				v = verdict.Verdict{State: verdict.Down, Since: now.Add(-time.Duration(1+i) * time.Minute)}.Brief()
			case sign != '+':
				v = upFor(time.Hour / 10 * time.Duration(sign-'0'))
			}
			w.verdicts = append(w.verdicts, v)
		}
	}
	return all
}

func lastWord(s string) string {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == ' ' {
			return s[i+1:]
		}
	}
	return s
}

// drawFor is one draw of a world: by chance, or by another client each time.
func (w *oddsWorld) drawFor(d *Draw) *Draw {
	if w.policy.Nearest {
		d.Near = places{}
	}
	if w.policy.Client {
		n := d.IntN(1 << 30)
		d.Client = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 16), byte(n >> 8), byte(n), 0}), 24)
	}
	return d
}

// What an explanation tells of each address, how likely it is to be in an answer and to be the first one, is what happens: over
// 100,000 answers each count is within five standard deviations of the binomial distribution.
func TestOdds(t *testing.T) {
	for name, w := range oddsCases() {
		t.Run(name, func(t *testing.T) {
			draw := chance(22)
			told := w.tellOdds(w.drawFor(draw))
			in, lead := make([]int, len(told)), make([]int, len(told))
			for range oddsDraws {
				out, _ := Thin(w.answer(), w, w.drawFor(draw))
				for i, rr := range out.Answer {
					if a, ok := rr.(*dns.A); ok {
						if in[a.A[3]]++; i == 0 {
							lead[a.A[3]]++
						}
					}
				}
			}
			for i, c := range told {
				binomial(t, fmt.Sprintf("%d is in an answer", i), in[i], c.Share)
				if c.Lead >= 0 {
					binomial(t, fmt.Sprintf("%d is the first", i), lead[i], c.Lead)
				}
			}
		})
	}
}

// binomial fails unless a count of all draws agrees with a chance.
func binomial(t *testing.T, what string, count int, chance float64) {
	t.Helper()
	if chance < 0 || chance > 1 {
		t.Fatalf("%s with a chance of %v", what, chance)
	}
	want := chance * oddsDraws
	if off := math.Abs(float64(count) - want); off > 5*math.Sqrt(want*(1-chance))+0.5 {
		t.Errorf("%s in %d of %d answers, want %.0f", what, count, oddsDraws, want)
	}
}

// The order is told only where it is drawn: what is not drawn comes as the plugins below have it.
func TestOddsOfTheFirst(t *testing.T) {
	for name, want := range map[string]string{
		"all are served ++++":               "-1 -1 -1 -1",
		"a limit ++++++":                    "0.17 0.17 0.17 0.17 0.17 0.17",
		"weights and a limit of one +++-++": "0.47 0.47 0.05 0 0.01 0.01",
		"all are down, weights -----":       "-1 -1 -1 -1 -1",
	} {
		w, got := oddsCases()[name], ""
		for i, c := range w.tellOdds(w.drawFor(chance(1))) {
			if i > 0 {
				got += " "
			}
			got += fmt.Sprint(math.Round(c.Lead*100) / 100)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// Where the order of sites is drawn itself, the odds of what depends on it are not told, and those of the rest are.
func TestOddsOfDrawnSites(t *testing.T) {
	for line, want := range map[string]string{
		"++++++": "1 0 0 1 0 0",     // the own site is enough
		"-++-++": "0 -1 -1 0 -1 -1", // one of the two others is
		"+-+-++": "1 0 -1 0 -1 -1",  // 1 is down
	} {
		w := &oddsWorld{policy: Policy{Nearest: true, MinUp: Quorum{Count: 2}}}
		for _, sign := range line {
			v := upFor(time.Hour)
			if sign == '-' {
				v = verdict.Verdict{State: verdict.Down, Since: now}.Brief()
			}
			w.verdicts = append(w.verdicts, v)
		}
		draw := chance(1)
		draw.Near = places{drawn: true}
		got := ""
		for i, c := range w.tellOdds(draw) {
			if i > 0 {
				got += " "
			}
			got += fmt.Sprint(c.Share)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}

// The exact odds agree with an enumeration of all orders, and the approximate ones with the exact ones within some thousandths.
// All of them add up to the places.
func TestInclusion(t *testing.T) {
	for _, rates := range [][]float64{{1, 2}, {1, 1, 5}, {0.01, 3, 65535, 7}, {1, 2, 3, 4, 5, 6}, {1e-4, 1e-4, 1, 1, 65535}} {
		for k := range len(rates) + 1 {
			want := make([]float64, len(rates))
			enumerate(rates, nil, k, 1, want)
			for i, got := range inclusion(rates, k) {
				if math.Abs(got-want[i]) > 1e-5 {
					t.Errorf("%v, %d places: %d has %v, want %v", rates, k, i, got, want[i])
				}
			}
		}
	}
	many := make([]float64, 700)
	for i := range many {
		many[i] = 1 + float64(i%7)*3
	}
	exact, near := inclusion(many, 90), approximateInclusion(many, 90)
	for i := range many {
		if math.Abs(exact[i]-near[i]) > 0.003 {
			t.Errorf("%d has %v, approximately %v", i, exact[i], near[i])
		}
	}
	for _, odds := range [][]float64{exact, near, inclusion(slices.Concat(many, many), 90)} {
		if got := sum(odds); math.Abs(got-90) > 0.001 {
			t.Errorf("%d odds add up to %v, want 90", len(odds), got)
		}
	}
}

// enumerate adds, for each order in which k candidates can be drawn, how likely it is.
func enumerate(rates []float64, picked []int, k int, chance float64, in []float64) {
	if len(picked) == k {
		for _, i := range picked {
			in[i] += chance
		}
		return
	}
	left := 0.0
	for i, rate := range rates {
		if !slices.Contains(picked, i) {
			left += rate
		}
	}
	for i, rate := range rates {
		if !slices.Contains(picked, i) {
			enumerate(rates, append(slices.Clone(picked), i), k, chance*rate/left, in)
		}
	}
}
