package verdict

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A quorum agrees with a slow count: on its state, on the first moment when it could change, and on the moment since when
// it has held (B45).
func TestQuorum(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 5))
	for range 20_000 {
		all := make([]Brief, 1+rng.IntN(6))
		for i := range all {
			v := Verdict{State: State(rng.IntN(4))}
			if v.State == Up || v.State == Down {
				v.Since, v.Holds = time.UnixMilli(1+rng.Int64N(20)), time.Duration(rng.IntN(20))*time.Second
			}
			all[i] = v.Brief()
		}
		need := 1 + rng.IntN(len(all))
		got := Quorum(slices.Clone(all), need)
		if want := counted(all, need); got != want {
			t.Fatalf("%d of %v: %s since %d for %d, want %s since %d for %d", need, all,
				got.State(), got.Since(), got.Holds(), want.State(), want.Since(), want.Holds())
		}
		if need == len(all) {
			worst := Outside.Brief()
			for _, b := range all {
				worst = Worse(worst, b)
			}
			if got.State() != worst.State() {
				t.Fatalf("all of %v: %s, and the worst is %s", all, got.State(), worst.State())
			}
		}
	}
}

// counted computes Quorum the slow way, by counting.
func counted(all []Brief, need int) Brief {
	count := func(is func(Brief) bool) (n int) {
		for _, b := range all {
			if is(b) {
				n++
			}
		}
		return n
	}
	in := func(states ...State) func(Brief) bool {
		return func(b Brief) bool { return slices.Contains(states, b.State()) }
	}
	first := func(is func(at uint64) bool) (at uint64) {
		for !is(at) {
			at++
		}
		return at
	}
	switch {
	case count(in(Unchecked)) >= need:
		return Outside.Brief()
	case count(in(Unchecked, Up)) >= need:
		return pack(Up,
			first(func(at uint64) bool {
				return count(func(b Brief) bool { return b.State() == Unchecked || b.State() == Up && b.Since() <= at }) >= need
			}),
			first(func(at uint64) bool {
				return count(func(b Brief) bool { return b.State() == Unchecked || b.State() == Up && uint64(b.Holds()) > at }) < need
			}))
	case count(in(Unchecked, Up, Unknown)) >= need:
		return 0
	}
	return pack(Down,
		first(func(at uint64) bool {
			return count(func(b Brief) bool { return b.State() != Down || b.Since() > at }) < need
		}),
		first(func(at uint64) bool {
			return count(func(b Brief) bool { return b.State() != Down || uint64(b.Holds()) <= at }) >= need
		}))
}
