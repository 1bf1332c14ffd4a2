package verdict

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/report"
)

// A Brief keeps the state, the time in milliseconds, the hold in seconds, and what the backend wants, each within its bounds.
// The hold is never too long, exact up to 512 seconds, and at most 1/256 too short beyond that.
func TestBrief(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	for range 1000 {
		v := Verdict{
			State: State(rng.IntN(4)),
			Since: time.UnixMilli(rng.Int64N(1 << sinceBits)),
			Holds: time.Duration(rng.Int64N(1 << (30 + rng.IntN(20)))),
			Said:  &report.Said{Shed: uint8(rng.IntN(101)), Admin: []string{"", "drain"}[rng.IntN(2)]},
		}
		b := v.Brief()
		if v.State == Unchecked {
			if b != Outside.Brief() {
				t.Fatalf("%+v became %x", v, b)
			}
			continue
		}
		if b.State() != v.State || b.Since() != uint64(v.Since.UnixMilli()) || !holdFits(b.Holds(), uint32(v.Holds/time.Second)) {
			t.Fatalf("%+v became %s since %d for %d", v, b.State(), b.Since(), b.Holds())
		}
		wants, drains := v.Said.Weight(), v.Said.Drains()
		if v.State == Down {
			wants, drains = 100, false
		}
		if b.Weight() != wants || b.Drained() != drains {
			t.Fatalf("%+v %+v became one with %d%%, drained %t", v, v.Said, b.Weight(), b.Drained())
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

// holdFits reports whether a hold in seconds is what a Brief may make of another one.
func holdFits(got, want uint32) bool {
	want = min(want, longestHold)
	return got <= want && want-got <= want/256 && (want >= 512 || got == want)
}

// Every hold that a Brief can have comes back from it the same, and they are in order: two verdicts compare as their holds do.
func TestHoldsOfABrief(t *testing.T) {
	for packed, last := uint64(0), uint64(0); packed < 1<<holdsBits; packed++ {
		seconds := unpackHolds(packed)
		if packHolds(seconds) != packed || packed > 0 && seconds <= last {
			t.Fatalf("%d is %d s, packed as %d; the one before is %d s", packed, seconds, packHolds(seconds), last)
		}
		last = seconds
	}
}

// What the backend wants leaves the rest of a Brief as it is. The least weight of two checks counts, and either drains; of an
// address that is down neither does (B101).
func TestWishes(t *testing.T) {
	half := Verdict{State: Up, Since: time.Unix(1e9, 0), Holds: 20 * time.Second, Said: &report.Said{Shed: 50}}
	plain := Verdict{State: Up, Since: half.Since, Holds: half.Holds}
	unknown := Verdict{Said: &report.Said{Shed: 70}}
	drain := Verdict{State: Up, Holds: time.Minute, Said: &report.Said{Admin: "drain"}}
	none := Verdict{State: Up, Holds: time.Minute, Said: &report.Said{Shed: 100}}
	down := Verdict{State: Down, Said: &report.Said{Shed: 90, Admin: "drain"}}
	for _, tc := range []struct {
		name    string
		a, b    Verdict
		weight  uint8
		drained bool
	}{
		{"alone", half, half, 50, false},
		{"beside a check without weights", half, plain, 50, false},
		{"the least one, from a check that is undecided", half, unknown, 30, false},
		{"drain beside another weight", half, drain, 50, true},
		{"0 drains", half, none, 0, true},
		{"a check that is down says nothing any more", down, down, 100, false},
	} {
		for _, got := range []Brief{Worse(tc.a.Brief(), tc.b.Brief()), Worse(tc.b.Brief(), tc.a.Brief()), Quorum([]Brief{tc.a.Brief(), tc.b.Brief()}, 2), Quorum([]Brief{tc.b.Brief(), tc.a.Brief()}, 1)} {
			if got.Weight() != tc.weight || got.Drained() != tc.drained {
				t.Errorf("%s: %d%%, drained %t, want %d%%, %t", tc.name, got.Weight(), got.Drained(), tc.weight, tc.drained)
			}
		}
	}
	if got := half.Brief(); got.State() != Up || got.Since() != plain.Brief().Since() || got.Holds() != 20 || got&^wishes != plain.Brief() {
		t.Errorf("%x is not %x with a weight", got, plain.Brief())
	}
	if got := Worse(half.Brief(), down.Brief()); got != down.Brief() || got.Weight() != 100 {
		t.Errorf("down beside half: %x", got)
	}
	if got := Quorum([]Brief{half.Brief(), down.Brief()}, 1); got != half.Brief() {
		t.Errorf("one of half and down: %x, want %x", got, half.Brief())
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

// The drained mark leaves the rest of the Brief unchanged, also at the bounds of every field. Nothing that is down can get it
// (B55).
func TestBriefDrain(t *testing.T) {
	for _, state := range []State{Unknown, Unchecked, Up, Down} {
		for _, since := range []int64{0, 1, 1<<sinceBits - 1, 1 << sinceBits} {
			for _, holds := range []time.Duration{0, longestHold - 1, longestHold, longestHold + 1} {
				b := Verdict{State: state, Since: time.UnixMilli(since), Holds: holds * time.Second}.Brief()
				d := b.Drain()
				if b.Drained() || d.Drained() != (state != Down) {
					t.Errorf("%s: drained %t, then %t", state, b.Drained(), d.Drained())
				}
				if d.State() != state || d.Since() != b.Since() || d.Holds() != b.Holds() || b.Holds() > longestHold {
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
