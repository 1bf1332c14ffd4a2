package fleet

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// fresh are the names whose votes count.
func (r *Roster) freshOnes() (names []string) {
	for _, a := range r.sorted {
		if a.fresh {
			names = append(names, a.Name)
		}
	}
	return names
}

// Votes count for three beats and a second after their author was heard, and again when it is heard again. Each change is told once.
func TestLapse(t *testing.T) {
	r := fleetOf("a", "b", "c")
	b, c := r.authors["b"].stream, r.authors["c"].stream
	if got := r.Lapse(noon); len(got) != 3 {
		t.Errorf("told %v at first", got)
	}
	for _, step := range []struct {
		second float64
		heard  string
		want   []Stream
		fresh  int
	}{
		{3, "b", nil, 3}, {4, "", nil, 3}, {4.001, "", []Stream{c}, 2}, {5, "b", nil, 2}, {5, "c", []Stream{c}, 3}, {9.001, "", []Stream{b, c}, 1}, {100, "", nil, 1},
	} {
		if step.heard != "" {
			r.Heard(step.heard, 1, false, at(step.second))
		}
		if got := r.Lapse(at(step.second)); !slices.Equal(got, step.want) || len(r.freshOnes()) != step.fresh {
			t.Errorf("%v s: told %v, want %v; fresh are %v", step.second, got, step.want, r.freshOnes())
		}
	}
	r.Heard("b", 1, true, at(100))
	r.Lapse(at(100))
	r.Heard("b", 1, false, at(101))
	if got := r.Lapse(at(101)); !slices.Equal(got, []Stream{b}) {
		t.Errorf("told %v: b is isolated no longer", got)
	}
	r.Silent("b", at(101))
	if got := r.Lapse(at(101)); !slices.Equal(got, []Stream{b}) {
		t.Errorf("told %v of an author that the engine calls silent", got)
	}
	r.Silent("a", at(101))
	r.Leave("a", at(101))
	r.Silent("stranger", at(101))
	r.Leave("stranger", at(101))
	if got := r.Lapse(at(101)); got != nil || !slices.Equal(r.freshOnes(), []string{"a"}) {
		t.Errorf("told %v: this process hears itself", got)
	}
}

// Beats are a second apart in fleets of up to 200, and rarer in larger ones.
func TestBeat(t *testing.T) {
	for n, want := range map[int][2]time.Duration{1: {time.Second, 4 * time.Second}, 200: {time.Second, 4 * time.Second}, 1000: {5 * time.Second, 16 * time.Second}} {
		if got := [2]time.Duration{Beat(n), FreshFor(n)}; got != want {
			t.Errorf("%d members: %v, want %v", n, got, want)
		}
	}
	r := fleetOf(numbered(1000)...)
	r.Lapse(at(16))
	if got := len(r.freshOnes()); got != 1000 {
		t.Errorf("%d of 1000 are fresh after 16 s", got)
	}
	r.Lapse(at(16.001))
	if got := len(r.freshOnes()); got != 1 {
		t.Errorf("%d of 1000 are fresh after more", got)
	}
}

// A stream that starts again has another number: what was said in the old one does not count, whether the author has started again or
// only says all again. What another epoch says is not heard.
func TestRestart(t *testing.T) {
	r, s := ranked(8, 3)
	shard := target(0).Shard()
	b := s.votes("- - -")
	a := s.author(0)
	r.Lapse(noon)
	before := a.stream
	again := a.Member
	again.Epoch = 2
	if got := r.Meet(again, noon); got == before || got != a.stream {
		t.Errorf("stream %d after %d", got, before)
	}
	if tally := s.Fold(b, shard, Defaults().Quorum); tally.Votes() != 2 {
		t.Errorf("%+v", tally)
	}
	if r.Heard(a.Name, 1, false, noon) || r.Restart(a.Name, 1, noon) != 0 || r.Heard("stranger", 1, false, noon) {
		t.Error("an epoch of before is heard")
	}
	if got := r.Lapse(noon); !slices.Equal(got, []Stream{before, a.stream}) {
		t.Errorf("told %v, want both streams", got)
	}
	if !r.Heard(a.Name, 2, false, noon) {
		t.Error("the new epoch is not heard")
	}
	if tally := s.Fold(b, shard, Defaults().Quorum); tally.Votes() != 2 {
		t.Errorf("%+v: it has not voted in the new stream", tally)
	}
	v := Vote{Target: target(0), State: 2}
	b.Put(s, a.stream, &v, noon, longest)
	if tally := s.Fold(b, shard, Defaults().Quorum); tally.Votes() != 3 || tally.Up != 1 || b.more != nil && len(b.more.votes) > 0 {
		t.Errorf("%+v", tally)
	}
	if got := r.Restart(a.Name, 2, noon); got != a.stream || b.hasVote(got) {
		t.Error("a stream that starts again has the votes of before")
	}
	if tally := s.Fold(b, shard, Defaults().Quorum); tally.Votes() != 2 {
		t.Errorf("%+v", tally)
	}
}

// The number of members is bounded, and those that are gone are forgotten after a while, or when there is no room.
func TestRosterIsBounded(t *testing.T) {
	r := fleetOf("self")
	for i := range 2 * MaxMembers {
		r.Meet(here(fmt.Sprint("m", i)), noon)
	}
	if got := r.Present(); got != MaxMembers || len(r.sorted) != MaxMembers || len(r.live) != MaxMembers {
		t.Errorf("%d members", got)
	}
	r.Leave("m7", noon)
	if r.Meet(here("late"), noon) == 0 || r.Meet(here("later"), noon) != 0 {
		t.Error("a member that is gone has to make room, and no other")
	}
	for i := range 100 {
		r.Leave(fmt.Sprint("m", 100+i), noon)
	}
	r.Lapse(at(600))
	if got := len(r.authors); got != MaxMembers {
		t.Errorf("%d members are known: those that come back are not new", got)
	}
	r.Lapse(at(601))
	if got := len(r.authors); got != MaxMembers-100 || len(r.sorted) != got || len(r.live) != got {
		t.Errorf("%d, %d and %d members are known", got, len(r.sorted), len(r.live))
	}
}

// An author may say 2000 votes a second, and more only at first. What it says at that pace is taken although it comes late.
func TestAdmit(t *testing.T) {
	r := fleetOf("a", "b")
	for _, step := range []struct {
		second  float64
		n, want int
	}{
		{0, 6000, 6000}, {0, 6000, 2000}, {0, 1, 0}, {0.5, 5000, 1000}, {0.25, 1, 0}, {0.5, 1, 1}, {1000, 1 << 20, 8000},
	} {
		if got := r.Admit("b", step.n, at(step.second)); got != step.want {
			t.Errorf("%v s: %d of %d, want %d", step.second, got, step.n, step.want)
		}
	}
	r = fleetOf("a", "b")
	said := r.Admit("a", 1<<20, noon) + r.Admit("a", 1<<20, at(2))
	if got := r.Admit("b", said, at(2)); said != 8000 || got != said {
		t.Errorf("%d of %d are taken that were said in two seconds and come at once", got, said)
	}
	if r.Admit("a", 10, at(1000)) != 10 || r.Admit("stranger", 1, at(1000)) != 0 {
		t.Error("one author takes the room of another, or a stranger has some")
	}
}

// No other member can speak for this process: one with its name is not met, heard or taken for it.
func TestOnlySelfIsSelf(t *testing.T) {
	r := fleetOf("a", "b")
	own := r.Own()
	impostor := here("a")
	for _, epoch := range []uint64{1, 2} {
		impostor.Epoch, impostor.Groups = epoch, nil
		if r.Meet(impostor, noon) != 0 || r.Heard("a", epoch, true, noon) || r.Restart("a", epoch, noon) != 0 || r.StreamOf("a", epoch) != 0 {
			t.Errorf("a member with the name of this process is taken for it in epoch %d", epoch)
		}
	}
	r.Leave("a", noon)
	r.Silent("a", noon)
	s := r.Seats(someGroup, 3, noon)
	b := new(Ballot)
	b.Put(s, own, &Vote{Target: target(0), State: 2}, noon, longest)
	if r.Own() != own || len(s.members) != 2 || s.Fold(b, target(0).Shard(), Defaults().Quorum).Up != 1 {
		t.Errorf("this process has lost its stream, its seats or its votes: %v", s.seated(0))
	}
	r.Doubt(true)
	if st := s.Lines(b, target(0).Shard()); st[0].Standing != Counts && st[1].Standing != Counts {
		t.Errorf("the only vote there is does not count: %v", st)
	}
	b.Put(s, r.StreamOf("b", 1), &Vote{Target: target(0), State: 3}, noon, longest)
	if tally := s.Fold(b, target(0).Shard(), Defaults().Quorum); tally.Up != 0 || tally.Down != 1 {
		t.Errorf("%+v: this process doubts its own probes", tally)
	}
	r.Share(nil)
	if got := r.Seats(someGroup, 3, noon).seated(0); len(got) != 1 {
		t.Errorf("seats %v: this process does not share the group", got)
	}
}

// Known lists all members, a part at a time, also if those at which a part ended have gone.
func TestKnown(t *testing.T) {
	r := fleetOf("b", "a", "c", "d")
	r.Leave("c", noon)
	r.Heard("d", 1, true, noon)
	var all []Known
	for after := ""; ; {
		some := r.Known(after, 2)
		if len(some) == 0 {
			break
		}
		all = append(all, some...)
		after = some[len(some)-1].Name
	}
	if len(all) != 4 || all[0].Name != "a" || !all[1].Self || all[2].Name != "c" || all[2].Present || !all[3].Fresh || !all[3].Isolated || all[0].Isolated || !all[3].Heard.Equal(noon) {
		t.Errorf("%+v", all)
	}
	if some := r.Known("aa", 9); len(some) != 3 || some[0].Name != "b" {
		t.Errorf("%+v", some)
	}
}
