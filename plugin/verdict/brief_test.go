package verdict

import (
	"math/rand/v2"
	"testing"
	"time"
)

// A Brief keeps the state, the time in milliseconds and the hold in seconds, each within its bounds.
func TestBrief(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	for range 1000 {
		v := Verdict{
			State: State(rng.IntN(4)),
			Since: time.UnixMilli(rng.Int64N(1 << sinceBits)),
			Holds: time.Duration(rng.Int64N(int64(1<<holdsBits) * int64(time.Second))),
		}
		b := v.Brief()
		if v.State == Unchecked {
			if b != Outside.Brief() {
				t.Fatalf("%+v became %x", v, b)
			}
			continue
		}
		if b.State() != v.State || b.Since() != uint64(v.Since.UnixMilli()) || b.Holds() != uint32(v.Holds/time.Second) {
			t.Fatalf("%+v became %s since %d for %d", v, b.State(), b.Since(), b.Holds())
		}
	}
	for _, v := range []Verdict{
		{State: Down, Since: time.Unix(1<<40, 0), Holds: 1 << 62},
		{State: Down, Since: time.Unix(-1, 0), Holds: -1},
	} {
		if b := v.Brief(); b.State() != Down {
			t.Errorf("%+v became %s", v, b.State())
		}
	}
	if (Verdict{}).Brief() != 0 || Brief(0).State() != Unknown {
		t.Error("the zero values differ")
	}
	if Outside.Brief() != (Verdict{State: Unchecked}).Brief() || BriefDown != (Verdict{State: Down}).Brief() {
		t.Error("Outside.Brief() or BriefDown is no such brief")
	}
}

// An unchecked Brief keeps why it is unchecked, drained or not, and is better than any other one of several checks.
func TestGaps(t *testing.T) {
	seen := make(map[string]bool)
	for g := range Gaps {
		b := g.Brief()
		if b.State() != Unchecked || b.Gap() != g || b.Drain().Gap() != g || b.Holds() != 0 || seen[g.String()] || g.String() == "" {
			t.Errorf("%s: %x, %s", g, b, b.Gap())
		}
		seen[g.String()] = true
		if got := Worse(b, Outside.Brief()); got != b {
			t.Errorf("%s and then within: %s", g, got.Gap())
		}
		if up := (Verdict{State: Up, Holds: time.Second}).Brief(); Worse(b, up) != up || Worse(up, b) != up || Better(b, up) != b {
			t.Errorf("%s is not better than up", g)
		}
	}
}

// The drained mark leaves the rest of the Brief unchanged, also at the bounds of every field. No verdict has the mark, and
// nothing that is down can get it (B55).
func TestBriefDrain(t *testing.T) {
	for _, state := range []State{Unknown, Unchecked, Up, Down} {
		for _, since := range []int64{0, 1, 1<<sinceBits - 1, 1 << sinceBits} {
			for _, holds := range []time.Duration{0, 1<<holdsBits - 1, 1 << holdsBits, 1<<holdsBits + 1} {
				b := Verdict{State: state, Since: time.UnixMilli(since), Holds: holds * time.Second}.Brief()
				d := b.Drain()
				if b.Drained() || d.Drained() != (state != Down) {
					t.Errorf("%s: drained %t, then %t", state, b.Drained(), d.Drained())
				}
				if d.State() != state || d.Since() != b.Since() || d.Holds() != b.Holds() || b.Holds() > 1<<holdsBits-1 {
					t.Errorf("%s since %d for %d became %s since %d for %d", state, b.Since(), b.Holds(), d.State(), d.Since(), d.Holds())
				}
			}
		}
	}
}

func TestWorse(t *testing.T) {
	early, late := time.Unix(1e9, 0), time.Unix(2e9, 0)
	up := Verdict{State: Up, Since: early, Holds: 20 * time.Second}
	doubtful := Verdict{State: Up, Since: early, Holds: 2 * time.Second}
	unknown := Verdict{}
	down := Verdict{State: Down, Since: early, Holds: 10 * time.Second}
	later := Verdict{State: Down, Since: late, Holds: 5 * time.Second}
	unchecked := Verdict{State: Unchecked}
	for _, tc := range []struct {
		name       string
		a, b, want Verdict
	}{
		{"down before up, however long that holds", doubtful, down, down},
		{"unknown before up", up, unknown, unknown},
		{"down before unknown", unknown, later, later},
		{"unchecked counts for nothing", unchecked, up, up},
		{"nor against unknown", unchecked, unknown, unknown},
		{"both unchecked", unchecked, unchecked, unchecked},
		{"both up: the one that holds for less", up, doubtful, doubtful},
		{"both down: the one that is down for longer", later, down, down},
	} {
		a, b, want := tc.a.Brief(), tc.b.Brief(), tc.want.Brief()
		if got := Worse(a, b); got != want {
			t.Errorf("%s: %x, want %x", tc.name, got, want)
		}
		if got := Worse(b, a); got != want {
			t.Errorf("%s, the other way round: %x, want %x", tc.name, got, want)
		}
		if Worse(a.Drain(), b) != want.Drain() || Worse(a, b.Drain()) != want.Drain() || Worse(a.Drain(), b.Drain()) != want.Drain() {
			t.Errorf("%s, one drained: want the same, drained", tc.name)
		}
	}
}

func TestBetter(t *testing.T) {
	early, late := time.Unix(1e9, 0), time.Unix(2e9, 0)
	up := Verdict{State: Up, Since: early, Holds: 20 * time.Second}
	doubtful := Verdict{State: Up, Since: late, Holds: 2 * time.Second}
	unknown := Verdict{}
	down := Verdict{State: Down, Since: early, Holds: 60 * time.Second}
	later := Verdict{State: Down, Since: late, Holds: 5 * time.Second}
	unchecked := Verdict{State: Unchecked}
	for _, tc := range []struct {
		name       string
		a, b, want Verdict
	}{
		{"up before down, however long that holds", doubtful, down, doubtful},
		{"unknown before down", later, unknown, unknown},
		{"unchecked before down", later, unchecked, unchecked},
		{"of two fit the one that holds for longer", doubtful, up, up},
		{"up before unknown", unknown, doubtful, doubtful},
		{"what no check covers holds for ever", up, unchecked, unchecked},
		{"against unknown too", unknown, unchecked, unchecked},
		{"of two down the one that was up more recently", down, later, later},
	} {
		a, b, want := tc.a.Brief(), tc.b.Brief(), tc.want.Brief()
		if got := Better(a, b); got != want {
			t.Errorf("%s: %x, want %x", tc.name, got, want)
		}
		if got := Better(b, a); got != want {
			t.Errorf("%s, the other way round: %x, want %x", tc.name, got, want)
		}
		if got := Better(a.Drain(), b.Drain()); got != want.Drain() {
			t.Errorf("%s, both drained: %x, want %x", tc.name, got, want.Drain())
		}
	}
}

// A drained address ranks between the fit ones and the ones that are down, whatever its probes say (B55).
func TestBetterDrained(t *testing.T) {
	fit := []Brief{Verdict{State: Up, Since: time.Unix(1e9, 0), Holds: time.Second}.Brief(), 0, Outside.Brief()}
	downs := []Brief{BriefDown, Verdict{State: Down, Since: time.Unix(2e9, 0), Holds: time.Hour}.Brief()}
	for _, a := range fit {
		for _, b := range fit {
			if Better(a, b.Drain()) != a || Better(b.Drain(), a) != a {
				t.Errorf("%x drained is better than %x", b, a)
			}
		}
		for _, b := range downs {
			if d := a.Drain(); Better(d, b) != d || Better(b, d) != d {
				t.Errorf("%x is better than %x drained", b, a)
			}
		}
	}
}
