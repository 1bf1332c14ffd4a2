package answer

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// drain marks some addresses of a fleet as drained.
func drain(all []candidate, which ...int) []candidate {
	for _, i := range which {
		all[i].verdict = all[i].verdict.Drain()
	}
	return all
}

// down marks some addresses of a fleet as down.
func down(all []candidate, which ...int) []candidate {
	for _, i := range which {
		all[i].verdict = verdict.BriefDown
	}
	return all
}

func indexes(served []candidate) []int {
	var all []int
	for _, c := range served {
		all = append(all, int(c.index))
	}
	return all
}

// If there are too many drained addresses, some are drawn, in addition to all better ones (B55).
func TestDrainedSample(t *testing.T) {
	const n, limit = 20, 4 // a primary, a backup, two that are down, and sixteen drained
	p := Policy{Limit: limit, MinUp: Quorum{Count: 3}, Backup: []Rank{{netip.MustParsePrefix("10.0.0.1/32"), 1}}}
	d, counts := chance(8), make([]float64, 16)
	for range draws {
		all := down(fleet(n), 2, 3)
		for i := 4; i < n; i++ {
			drain(all, i)
		}
		served, outcome := p.choose(all, d)
		if got := indexes(served); outcome != Backup || len(got) != limit || got[0] != 0 || got[1] != 1 {
			t.Fatalf("%s: %v", outcome, got)
		}
		for _, c := range served[2:] {
			counts[c.index-4]++
		}
	}
	likely(t, "drained", counts, equal(16))
}

// A drained address is in no sample, whatever its weight. From a set of only drained addresses samples are drawn by weight as
// usual (B21, B55).
func TestDrainedWeights(t *testing.T) {
	heavy := weighted
	heavy.Limit, heavy.MinUp = 4, Quorum{Percent: 100}
	d, counts := chance(9), make([]float64, 12)
	for range draws / 4 {
		served, outcome := heavy.choose(drain(fleet(12), 8, 9), d)
		if got := indexes(served); outcome != Sample || len(got) != 4 || slices.Contains(got, 8) || slices.Contains(got, 9) {
			t.Fatalf("%s: %v", outcome, got)
		}
		one := heavy
		one.Limit = 1
		served, outcome = one.choose(drain(fleet(12), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), d)
		if outcome != Sample {
			t.Fatalf("all drained: %s", outcome)
		}
		counts[served[0].index]++
	}
	likely(t, "by weight", counts, weights)
}

// Draining an address changes only its own place in what a client gets, as does its failure (B5, B55).
func TestDrainedClient(t *testing.T) {
	const n, size = 20, 8
	p := weighted
	p.Client, p.Limit = true, size
	choose := func(all []candidate, i int) []int {
		d := chance(1)
		d.Client = network(i)
		served, _ := p.choose(all, d)
		return indexes(served)
	}
	for i := range 500 {
		before, after := choose(fleet(n), i), choose(drain(fleet(n), i%n), i)
		left := slices.DeleteFunc(slices.Clone(before), func(c int) bool { return c == i%n })
		if !slices.Equal(after[:len(left)], left) || len(after) != size || slices.Contains(after, i%n) {
			t.Fatalf("with %d drained, %v became %v", i%n, before, after)
		}
	}
}

// all_down does not apply while a drained address is fit, and applies when that is down (B9, B55).
func TestDrainedAllDown(t *testing.T) {
	for _, policy := range []AllDown{Serve, NoData, ServFail, Fixed} {
		p := Policy{Limit: 8, MinUp: Quorum{Count: 1}, AllDown: policy}
		if served, outcome := p.choose(drain(down(fleet(3), 0, 2), 1), chance(1)); outcome != Backup || !slices.Equal(indexes(served), []int{1}) {
			t.Errorf("policy %d: %s %v", policy, outcome, indexes(served))
		}
		want := Closed
		if policy == Serve {
			want = Open
		}
		if served, outcome := p.choose(drain(down(fleet(3), 0, 1, 2), 1), chance(1)); outcome != want || len(served) != 3 && policy == Serve {
			t.Errorf("policy %d, all down: %s %v", policy, outcome, indexes(served))
		}
	}
}
