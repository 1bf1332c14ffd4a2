package fleet

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// The state that several vantage points agree on is that of the quorum, the mark that of the majority of those that do not find the
// target down, and the weight the median of theirs, the higher one of the middle two.
func TestAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 20_000 {
		n := 1 + rng.IntN(7)
		need := 1 + rng.IntN(n)
		all, plain := make([]verdict.Brief, n), make([]verdict.Brief, n)
		var weights []uint8
		drains := 0
		for i := range all {
			plain[i] = verdict.Verdict{State: []verdict.State{verdict.Up, verdict.Down}[rng.IntN(2)], Since: at(float64(rng.IntN(5))),
				Holds: time.Duration(rng.IntN(5)) * time.Second}.Brief()
			all[i] = plain[i].Shedding(uint8(max(0, rng.IntN(200)-100)))
			if rng.IntN(3) == 0 {
				all[i] = all[i].Drain()
			}
			if all[i].State() != verdict.Down {
				weights = append(weights, all[i].Weight())
				if all[i].Drained() {
					drains++
				}
			}
		}
		want := verdict.Quorum(plain, need)
		if want.State() == verdict.Up {
			slices.Sort(weights)
			want = want.Shedding(100 - weights[len(weights)/2])
			if drains > len(weights)/2 {
				want = want.Drain()
			}
		}
		if got := agree(slices.Clone(all), need); got != want {
			t.Fatalf("%x of %d: %x, want %x", all, need, got, want)
		}
	}
}
