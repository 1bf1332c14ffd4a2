package answer

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// wanting is healthy for n addresses, from 10.0.0.0 on, whose backends want these parts of their weight, in per cent.
func wanting(p Policy, percent ...uint8) *world {
	w := healthy(p.Limit)
	p.MinUp, p.TTL = w.rule.Policy.MinUp, w.rule.Policy.TTL
	w.rule.Policy = p
	w.health = make(map[netip.Addr]verdict.Verdict)
	for i, n := range percent {
		v := verdict.Verdict{State: verdict.Up, Since: now.Add(-24 * time.Hour), Holds: time.Minute, Said: &report.Said{Shed: 100 - n}}
		w.health[netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})] = v
	}
	return w
}

// Each address is first as often as its weight, scaled by what its backend wants, and a sample draws in the same way. With
// select client each client keeps its order, and over all clients the shares are the same (B101).
func TestReportedWeights(t *testing.T) {
	percent := []uint8{100, 50, 25, 1}
	ten := []Weight{{netip.MustParsePrefix("10.0.0.2/31"), 10}}
	for name, tc := range map[string]struct {
		p      Policy
		shares []float64
	}{
		"alone":         {Policy{Reports: true}, []float64{100, 50, 25, 1}},
		"with weight":   {Policy{Reports: true, Weights: ten}, []float64{100, 50, 250, 10}},
		"in a sample":   {Policy{Reports: true, Limit: 2}, []float64{100, 50, 25, 1}},
		"select client": {Policy{Reports: true, Client: true}, []float64{100, 50, 25, 1}},
	} {
		w, m, d, first := wanting(tc.p, percent...), addresses(4, 30), chance(12), make([]float64, 4)
		for i := range draws {
			d.Client = network(i)
			out, report := Thin(m, w, d)
			got := numbers(out)
			if want := len(got); tc.p.Limit == 0 && want != 4 || tc.p.Limit == 2 && want != 2 || report.Outcome > Sample {
				t.Fatalf("%s: %+v, %v", name, report, got)
			}
			first[got[0]]++
			if again, _ := Thin(m, w, d); tc.p.Client && !slices.Equal(numbers(again), got) {
				t.Fatalf("%s: %v, then %v", name, got, numbers(again))
			}
		}
		likely(t, name, first, tc.shares)
	}
}

// An address that wants nothing is a last resort, like one that is drained by hand. If all of them want nothing, all are
// served. What wants equally much keeps its order, and where no check reports, nothing is drawn (B101).
func TestReportedZero(t *testing.T) {
	for _, tc := range []struct {
		p       Policy
		percent []uint8
		want    string
	}{
		{Policy{Reports: true}, []uint8{0, 100, 0, 100}, "[1 3] whole"},
		{Policy{Reports: true}, []uint8{0, 0, 0, 0}, "[0 1 2 3] whole"},
		{Policy{Reports: true}, []uint8{40, 40, 40, 40}, "[0 1 2 3] whole"},
		{Policy{Reports: true}, []uint8{100, 100, 100, 100}, "[0 1 2 3] whole"},
		{Policy{}, []uint8{10, 90, 20, 80}, "[0 1 2 3] whole"},
	} {
		w, m := wanting(tc.p, tc.percent...), addresses(4, 30)
		for seed := range uint64(20) {
			out, report := Thin(m, w, chance(seed))
			if got := fmt.Sprint(numbers(out), " ", report.Outcome); got != tc.want {
				t.Errorf("%v: %s, want %s", tc.percent, got, tc.want)
			}
		}
	}
	w := wanting(Policy{Reports: true}, 0, 0, 100, 100)
	for addr, v := range w.health {
		if v.Said.Shed == 0 {
			v.State = verdict.Down
			w.health[addr] = v
		}
	}
	if out, report := Thin(addresses(4, 30), w, chance(1)); len(out.Answer) != 2 || report.Outcome != Backup {
		t.Errorf("the last resort: %v, %s", numbers(out), report.Outcome)
	}
}

// Among the drained, one that wants nothing has a hundredth of its weight: there may be nothing else to serve (B101).
func TestReportedZeroAmongDrained(t *testing.T) {
	p, all, first, d := Policy{Reports: true}, fleet(2), make([]float64, 2), chance(13)
	all[0].verdict = verdict.Verdict{State: verdict.Up, Said: &report.Said{Shed: 100}}.Brief()
	all[1].verdict = verdict.Verdict{State: verdict.Up}.Brief().Drain()
	for range draws {
		first[sample(p, all, 2, d)[0]]++
	}
	likely(t, "the last resort", first, []float64{1, 100})
}
