package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// longest is the longest that a state holds at somePace.
var longest = somePace.LongestHold()

// votes puts votes on target 0 into a ballot, by the rank of their authors: + is up, - down, x refused, . none.
func (s *Seats) votes(text string) *Ballot {
	b := new(Ballot)
	for rank, c := range strings.Fields(text) {
		v := Vote{Target: target(0), Age: time.Minute, Holds: 10 * time.Second}
		switch c[:1] {
		case "+":
			v.State = verdict.Up
		case "-":
			v.State, v.Reason = verdict.Down, "timed out"
		case "x":
			v.State = verdict.Unchecked
		default:
			continue
		}
		b.Put(s, s.author(rank).stream, &v, noon, longest)
	}
	return b
}

// author is the one with that rank for target 0.
func (s *Seats) author(rank int) *author { return s.members[s.row(target(0).Shard())[rank]] }

// ranked is a fleet of n, from the view of one that has no seat for target 0, nor is a substitute.
func ranked(n, vantage int) (*Roster, *Seats) {
	names := append([]string{"self"}, numbered(n)...)
	for i := range 1000 {
		names[0] = fmt.Sprint("self-", i)
		r := fleetOf(names...)
		if s := r.Seats(someGroup, vantage, noon); s.rank(target(0).Shard(), r.self.stream) < 0 {
			return r, s
		}
	}
	panic("no such fleet")
}

// The votes of vantage points and, behind them, of substitutes are folded by the quorum. After a vote, s is an author that is silent,
// and i one that doubts its own probes.
func TestFold(t *testing.T) {
	share, most, all, two := Defaults().Quorum, answer.Quorum{Percent: 51}, answer.Quorum{Percent: 100}, answer.Quorum{Count: 2}
	for _, tc := range []struct {
		votes  string
		quorum answer.Quorum
		want   string
	}{
		{". . . . .", share, "unknown 0/0 alone"},
		{"+ + + . .", share, "up 3/0 heard"},
		{"- + + . .", share, "up 2/1 heard"},
		{"- - + . .", share, "up 1/2 heard"},
		{"- - - . .", share, "down 0/3 heard"},
		{"- - . . .", share, "down 0/2 heard"},
		{"- . . . .", share, "down 0/1 heard"},
		{"- - + . .", most, "down 1/2 heard"},
		{"- + + . .", most, "up 2/1 heard"},
		{"- + + . .", all, "down 2/1 heard"},
		{"- + . . .", most, "down 1/1 heard"},
		{"- + . . .", two, "down 1/1 heard"},
		{"+ . . . .", two, "up 1/0 heard"}, // a count that is more than there are is all
		{"- - - + +", share, "down 0/3 heard"},
		{"- -s - + +", share, "up 1/2 heard"}, // a substitute counts where a vantage point does not
		{"- x - + +", share, "up 1/2 heard"},
		{"- . - . +", share, "up 1/2 heard"},
		{"-s -s -s . .", share, "unknown 0/0 alone"},
		{"x x x . .", share, "unknown 0/0 alone"},
		{"-i -i + . .", share, "up 1/0 heard"},
		{"-i +i - . .", share, "down 0/1 heard"},
		{"-i -i -i . .", share, "down 0/3 heard"},
		{"-i -i -i +i .", share, "down 0/3 heard"},
		{"-i +i -s . .", share, "up 1/1 heard"},
	} {
		r, s := ranked(8, 3)
		b := s.votes(tc.votes)
		for rank, text := range strings.Fields(tc.votes) {
			switch a := s.author(rank); text[1:] {
			case "s":
				r.Silent(a.Name, noon)
			case "i":
				r.Heard(a.Name, 1, true, noon)
			}
		}
		tally := s.Fold(b, target(0).Shard(), tc.quorum)
		got := fmt.Sprintf("%s %d/%d %s", tally.Brief.State(), tally.Up, tally.Down, s.Role(b, target(0).Shard()))
		if got != tc.want {
			t.Errorf("%s by %s: %s, want %s", tc.votes, tc.quorum, got, tc.want)
		}
	}
}

// What is shown of a vote says whether it counted, and why not.
func TestLines(t *testing.T) {
	r, s := ranked(8, 2)
	b := s.votes("- + + . .")
	r.Silent(s.author(1).Name, noon)
	var got []string
	for _, line := range s.Lines(b, target(0).Shard()) {
		got = append(got, fmt.Sprint(line.Standing, " ", line.Brief.State(), " ", line.Reason))
	}
	if want := []string{"counts down timed out", "silent up ", "counts up ", "missing unknown "}; !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	r.Heard(s.author(1).Name, 1, true, noon)
	if line := s.Lines(b, target(0).Shard())[1]; line.Standing != Isolated || line.Name != s.author(1).Name {
		t.Errorf("%+v", line)
	}
	r.Heard(s.author(1).Name, 1, false, noon)
	b = s.votes("+ + + x .")
	if lines := s.Lines(b, target(0).Shard()); lines[2].Standing != Spare || lines[3].Standing != Refused {
		t.Errorf("%+v", lines)
	}
	var seats []bool // what one refuses is the next one's
	for _, line := range s.Lines(s.votes("+ x . + ."), target(0).Shard()) {
		seats = append(seats, line.Seat)
	}
	if !slices.Equal(seats, []bool{true, false, true, false}) {
		t.Errorf("seats %v", seats)
	}
	for st := range Seatless + 1 {
		if st.String() == "" {
			t.Errorf("standing %d has no word", st)
		}
	}
}

// The member with a seat probes for all; a refused seat is the next one's, and a substitute does not probe.
func TestRole(t *testing.T) {
	names := numbered(8)
	shard := target(0).Shard()
	seated := seatsOf(3, names...)
	for rank := range 5 {
		me := seated.author(rank).Name
		s := seatsOf(3, append([]string{me}, slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == me })...)...)
		for votes, roles := range map[string]string{
			". . . . .": "seat seat seat alone alone",
			"+ + + . .": "seat seat seat heard heard",
			"x + + . .": "heard seat seat seat heard",
			"x x + . .": "heard heard seat seat seat",
			"x x x . .": "alone alone alone seat seat",
		} {
			if got := s.Role(s.votes(votes), shard).String(); got != strings.Fields(roles)[rank] {
				t.Errorf("%s: number %d is %s, want %s", votes, rank, got, strings.Fields(roles)[rank])
			}
		}
	}
}

// A member that has lost its seat is relieved when all who have one have voted.
func TestRelieved(t *testing.T) {
	r, s := ranked(8, 3)
	for votes, want := range map[string]bool{
		". . . . .": false, "+ + . + .": false, "+ - + . .": true, "+ x - + .": true, "+ x - . +": false, "+ + +s . .": false, "+ + +i . .": true,
	} {
		b := s.votes(votes)
		for rank, text := range strings.Fields(votes) {
			a := s.author(rank)
			r.Heard(a.Name, 1, text[1:] == "i", noon)
			if text[1:] == "s" {
				r.Silent(a.Name, noon)
			}
		}
		if got := s.Relieved(b, target(0).Shard()); got != want {
			t.Errorf("%s: relieved %t", votes, got)
		}
	}
}

// Wants go to the vantage points that have not voted, and past those that refuse.
func TestAsked(t *testing.T) {
	_, s := ranked(8, 3)
	for votes, want := range map[string][]int{". . . . .": {0, 1, 2}, "+ . - . .": {1}, "+ + + . .": nil, "x . + . .": {1, 3}} {
		var names []string
		for _, rank := range want {
			names = append(names, s.author(rank).Name)
		}
		if got := slices.Collect(s.Asked(s.votes(votes), target(0).Shard())); !slices.Equal(got, names) {
			t.Errorf("%s: asks %v, want %v", votes, got, names)
		}
	}
	own := seatsOf(3, "a", "b", "c")
	if got := slices.Sorted(own.Asked(new(Ballot), 0)); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("a vantage point asks %v, and not itself", got)
	}
}

// One author with a seat, whatever it says, cannot take out an address that the others find up, nor change its weight or drain it, nor
// keep clients from asking again for longer than a state holds. It can keep in one that is dead.
func TestLiarOfOneSeat(t *testing.T) {
	for vantage := 2; vantage <= 5; vantage++ {
		for liar := range vantage {
			_, s := ranked(12, vantage)
			b := s.votes(strings.Repeat("+ ", vantage))
			for _, lie := range []Vote{
				{State: verdict.Down, Age: maxAge * 2, Holds: maxAge, Reason: strings.Repeat("\n", 1000)}, {State: verdict.Unknown}, {State: verdict.Unchecked},
				{State: verdict.Up, Shed: 255, Drained: true, Holds: maxAge, Age: -maxAge}, {State: verdict.Up, Shed: 99}, {State: verdict.Up, Drained: true},
			} {
				lie.Target = target(0)
				b.Put(s, s.author(liar).stream, &lie, noon, longest)
				got := s.Fold(b, target(0).Shard(), Defaults().Quorum).Brief
				if got.State() != verdict.Up || got.Weight() != 100 || got.Drained() || time.Duration(got.Holds())*time.Second > longest {
					t.Errorf("%d vantage points, of which %d says %+v: %s, weight %d, drained %t, holds %d", vantage, liar, lie,
						got.State(), got.Weight(), got.Drained(), got.Holds())
				}
			}
		}
	}
}

// A target is drained by the majority of those that find it fit, and has the median of their weights.
func TestFoldOfWishes(t *testing.T) {
	for _, tc := range []struct {
		sheds   string // by rank; d is drained
		weight  uint8
		drained bool
	}{
		{"0 0 0", 100, false}, {"50 50 0", 50, false}, {"50 0 0", 100, false}, {"30 60 90", 40, false}, {"d d 0", 100, true}, {"d 0 0", 100, false},
		{"d 0", 100, false}, {"d d", 100, true}, {"40 70", 60, false}, {"d", 100, true}, {"- d d", 100, true}, {"- d 0", 100, false},
	} {
		_, s := ranked(8, 3)
		b := new(Ballot)
		for rank, text := range strings.Fields(tc.sheds) {
			v := Vote{Target: target(0), State: verdict.Up}
			switch text {
			case "d":
				v.Drained = true
			case "-":
				v.State = verdict.Down
			default:
				fmt.Sscan(text, &v.Shed)
			}
			b.Put(s, s.author(rank).stream, &v, noon, longest)
		}
		if got := s.Fold(b, target(0).Shard(), Defaults().Quorum).Brief; got.Weight() != tc.weight || got.Drained() != tc.drained {
			t.Errorf("%s: weight %d, drained %t", tc.sheds, got.Weight(), got.Drained())
		}
	}
}

// The default quorum takes no address out that a vote which counts finds up, and no fold counts more votes than there are vantage
// points: for random fleets, votes, silences and restarts, compared with a model that is as simple as the rule.
func TestFoldModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	type said struct {
		state    verdict.State
		restarts int
	}
	for range 300 {
		n, vantage := 1+rng.IntN(9), 1+rng.IntN(5)
		r := fleetOf(numbered(n)...)
		s := r.Seats(someGroup, vantage, noon)
		shard := target(0).Shard()
		b := new(Ballot)
		last, restarts := map[string]said{}, map[string]int{}
		for range 60 {
			a := s.members[rng.IntN(n)]
			switch rng.IntN(8) {
			case 0:
				r.Silent(a.Name, noon)
			case 1:
				r.Heard(a.Name, 1, rng.IntN(3) == 0, noon)
				r.Doubt(rng.IntN(3) == 0)
			case 2:
				if r.Restart(a.Name, 1, noon) != 0 {
					restarts[a.Name]++
				}
			default:
				state := verdict.State(rng.IntN(4))
				b.Put(s, a.stream, &Vote{Target: target(0), State: state}, noon, longest)
				last[a.Name] = said{state, restarts[a.Name]}
			}
			up, down := 0, 0
			for pass := range 2 { // in the second, the isolated
				for rank, i := range s.row(shard) {
					a := s.members[i]
					v, voted := last[a.Name]
					decided := voted && v.restarts == restarts[a.Name] && (v.state == verdict.Up || v.state == verdict.Down)
					if rank >= vantage+2 || !decided || !a.fresh || a.isolated != (pass == 1) || up+down == vantage {
						continue
					}
					if v.state == verdict.Up {
						up++
					} else {
						down++
					}
				}
				if up+down > 0 {
					break
				}
			}
			want := verdict.Unknown
			if up+down > 0 {
				want = verdict.Down
				if up > 0 && up*100 >= 18*(up+down) {
					want = verdict.Up
				}
			}
			got := s.Fold(b, shard, Defaults().Quorum)
			if got.Brief.State() != want || got.Up != up || got.Down != down {
				t.Fatalf("%d members, vantage %d: %s with %d up and %d down, want %s with %d and %d", n, vantage, got.Brief.State(), got.Up, got.Down, want, up, down)
			}
		}
	}
}

// Neither a vote that changes nor a fold allocates.
func TestFoldAllocatesNothing(t *testing.T) {
	_, s := ranked(20, 3)
	b := s.votes("+ + +")
	v, from, shard := Vote{Target: target(0), State: verdict.Up}, s.author(1).stream, target(0).Shard()
	down := s.votes("- - +")
	if n := testing.AllocsPerRun(100, func() {
		v.Age += time.Second
		b.Put(s, from, &v, noon, longest)
		s.Fold(b, shard, Defaults().Quorum)
		s.Fold(down, shard, Defaults().Quorum)
		s.Role(b, shard)
		s.Relieved(b, shard)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFold(b *testing.B) {
	_, s := ranked(50, 3)
	shard := target(0).Shard()
	for _, votes := range []string{"+ + + . .", "- - + . .", "- - - + +"} {
		ballot := s.votes(votes)
		b.Run(votes, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Fold(ballot, shard, Defaults().Quorum)
			}
		})
	}
}
