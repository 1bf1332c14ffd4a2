package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// seatsOf are the seats of the fleet of these members for someGroup.
func seatsOf(vantage int, names ...string) *Seats {
	return fleetOf(names...).Seats(someGroup, vantage, noon)
}

// loads are the seats of each member, the most loaded first, in shares of the mean.
func (s *Seats) loads() []float64 {
	counts := make([]float64, len(s.members))
	for shard := range Shard(Shards) {
		for _, i := range s.row(shard)[:min(s.width, s.vantage)] {
			counts[i]++
		}
	}
	mean := float64(Shards*min(s.width, s.vantage)) / float64(len(counts))
	for i := range counts {
		counts[i] /= mean
	}
	slices.Sort(counts)
	slices.Reverse(counts)
	return counts
}

// Seats are the same in every process and version, for all orders in which members were met, and from each member's view.
func TestSeatsAgree(t *testing.T) {
	names := strings.Fields("a@ams b@ams c@fra d@fra e@nyc f g@ams")
	want := seatsOf(3, names...)
	if got := want.seated(0); fmt.Sprint(got) != "[e@nyc c@fra g@ams]" {
		t.Errorf("shard 0 is %v: members of another version would disagree", got)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		if got := seatsOf(3, names...); !slices.Equal(got.order, want.order) {
			t.Fatalf("the fleet %v has other seats", names)
		}
	}
}

// The most loaded of 50 members has at most 1.35 times the mean, whatever their names are. So it is with sites of equal size, and
// with fewer seats it cannot be better.
func TestSeatsAreEven(t *testing.T) {
	worst := 0.0
	for fleet := range 60 {
		var plain, sites []string
		for i := range 50 {
			plain = append(plain, fmt.Sprintf("dns-%d-%d", fleet, i))
			sites = append(sites, fmt.Sprintf("dns-%d-%d@%d", fleet, i, i%5))
		}
		worst = max(worst, seatsOf(3, plain...).loads()[0], seatsOf(3, sites...).loads()[0])
	}
	if worst > 1.35 {
		t.Errorf("a member has %.2f times the mean", worst)
	}
	t.Logf("the most loaded member has %.2f times the mean", worst)
}

// moved is how many seats of the second table were another member's in the first.
func moved(before, after *Seats) (n int) {
	for shard := range Shard(Shards) {
		was := before.seated(shard)
		for _, name := range after.seated(shard) {
			if !slices.Contains(was, name) {
				n++
			}
		}
	}
	return n
}

// A member that leaves moves its own seats and no other, and so does one that comes: about one in n.
func TestSeatsUnderChurn(t *testing.T) {
	for _, n := range []int{4, 10, 50, 64} {
		names := numbered(n)
		all, less := seatsOf(3, names...), seatsOf(3, names[:n-1]...)
		for _, got := range []int{moved(all, less), moved(less, all)} {
			if share := float64(got) / (3 * Shards) * float64(n); share < 0.7 || share > 1.35 {
				t.Errorf("of %d members one moves %d seats, which is %.2f of an n-th", n, got, share)
			}
		}
		for shard := range Shard(Shards) {
			was, is := all.seated(shard), less.seated(shard)
			if !slices.Contains(was, names[n-1]) && !slices.Equal(was, is) {
				t.Fatalf("shard %d was %v and is %v, which %s had no seat in", shard, was, is, names[n-1])
			}
		}
	}
	// Where a site loses one of several members, its seats stay in the site.
	before, after := seatsOf(2, strings.Fields("a@x b@x c@x d@y e@y f@y")...), seatsOf(2, strings.Fields("a@x b@x d@y e@y f@y")...)
	if got := moved(before, after); float64(got) > 1.35*2*Shards/6 {
		t.Errorf("%d seats move within sites", got)
	}
}

// The vantage points of a shard are on different sites if there are so many sites; else all sites have one, and the rest goes by
// chance. Members that name no site are on one.
func TestSeatsBySite(t *testing.T) {
	for _, tc := range []struct {
		vantage int
		names   string
	}{
		{3, "a@ams b@ams c@ams d@fra e@fra f@nyc"},
		{3, "a@ams b@ams c@ams d@fra e@fra"},
		{3, "a@1 b@2 c@3 d@4 e@5 f@5 g@5 h@5"},
		{3, "a b c d@ams"},
		{5, "a@1 b@1 c@2 d@2"},
		{1, "a@1 b@2"},
		{2, "a"},
	} {
		names := strings.Fields(tc.names)
		sites := make(map[string]bool)
		for _, name := range names {
			sites[here(name).Site] = true
		}
		s := seatsOf(tc.vantage, names...)
		for shard := range Shard(Shards) {
			seated := s.seated(shard)
			used := make(map[string]bool)
			for _, name := range seated {
				used[here(name).Site] = true
			}
			if len(seated) != min(tc.vantage, len(names)) || len(used) != min(tc.vantage, len(sites)) {
				t.Fatalf("vantage %d of %s: shard %d has %v", tc.vantage, tc.names, shard, seated)
			}
			if row := s.row(shard); len(slices.Compact(slices.Sorted(slices.Values(row)))) != min(tc.vantage+substitutes, len(names)) {
				t.Fatalf("vantage %d of %s: shard %d has the row %v", tc.vantage, tc.names, shard, row)
			}
		}
	}
}

// In a large fleet, 64 members have seats, of all sites, and one that leaves changes one of them.
func TestSeatsOfMany(t *testing.T) {
	var names []string
	for i := range 300 {
		names = append(names, fmt.Sprintf("m%d@%d", i, i*i/4000)) // sites of quite different size
	}
	s := seatsOf(3, names...)
	seated := make(map[string]bool)
	sites := make(map[string]int)
	for _, a := range s.members {
		seated[a.Name] = true
		sites[a.Site]++
	}
	if len(s.members) != maxSeated || len(sites) != 23 {
		t.Errorf("%d members of %d sites have seats", len(s.members), len(sites))
	}
	for site, n := range sites {
		if n > 6 {
			t.Errorf("site %s has %d of 64 members with seats", site, n)
		}
	}
	last := s.members[7].Name
	less := seatsOf(3, slices.DeleteFunc(names, func(name string) bool { return name == last })...)
	came := 0
	for _, a := range less.members {
		if !seated[a.Name] {
			came++
		}
	}
	if came != 1 {
		t.Errorf("one member left, and %d came instead", came)
	}
}

// Members without the group have no seats, and groups with the same members share one table.
func TestSeatsOfGroups(t *testing.T) {
	one, other, foreign := Group{1}, Group{2}, Group{3}
	member := func(name string, groups ...Group) Member {
		m := here(name)
		m.Groups = make(Groups)
		for _, g := range groups {
			m.Groups[g] = struct{}{}
		}
		return m
	}
	r := NewRoster(member("a", one, other), noon)
	r.Meet(member("b", one, other), noon)
	r.Meet(member("c", one), noon)
	if s := r.Seats(one, 3, noon); len(s.seated(0)) != 3 {
		t.Errorf("seats %v", s.seated(0))
	}
	s := r.Seats(other, 3, noon)
	if got := slices.Sorted(slices.Values(s.seated(0))); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("seats %v", got)
	}
	if s := r.Seats(foreign, 3, noon); len(s.seated(0)) != 0 || s.Role(new(Ballot), 0) != Alone {
		t.Errorf("a group without members has the seats %v", s.seated(0))
	}
	r.Meet(member("c", one, other), noon)
	if r.Seats(one, 3, noon) != r.Seats(other, 3, noon) {
		t.Error("groups with the same members have two tables")
	}
	if r.Seats(one, 3, noon) == r.Seats(one, 2, noon) {
		t.Error("the number of vantage points does not count")
	}
	moved := member("c", one, other)
	moved.Site = "ams"
	before := r.Seats(one, 1, noon)
	r.Meet(moved, noon)
	if r.Seats(one, 1, noon) == before {
		t.Error("a site that is another does not count")
	}
	r.Seats(one, 3, at(30))
	r.Seats(one, 3, at(61))
	if len(r.seats) != 1 {
		t.Errorf("%d tables are kept", len(r.seats))
	}
}

// Seats move at once when a member leaves. One that starts has none before it has settled; one that was only lost from sight has
// them again at once, because the others may not have lost it.
func TestSettle(t *testing.T) {
	r := fleetOf("a", "b")
	check := func(name string, second float64, want bool) {
		t.Helper()
		has := slices.ContainsFunc(r.Seats(someGroup, 3, at(second)).members, func(m *author) bool { return m.Name == name })
		if has != want {
			t.Errorf("%s has seats at %v: %t", name, second, has)
		}
	}
	newcomer := here("c")
	newcomer.Joined = noon
	r.Meet(newcomer, at(3))
	r.Heard("c", 1, false, at(9))
	check("c", 9.9, false)
	check("c", 10, true)
	for second := 20.0; second < 60; second += 2 {
		r.Leave("c", at(second))
		check("c", second, false)
		r.Meet(newcomer, at(second+1))
		check("c", second+1, true)
	}
	again := here("c")
	again.Epoch, again.Joined = 2, at(100)
	r.Meet(again, at(101))
	check("c", 109.9, false)
	check("c", 110, true)
	// How long it runs is told again and again, and never quite the same.
	again.Joined = at(105)
	r.Meet(again, at(111))
	check("c", 111, true)
}

// Where all members have just come, they do not wait for each other.
func TestSettleTogether(t *testing.T) {
	fresh := func(name string) Member {
		m := here(name)
		m.Joined = noon
		return m
	}
	r := NewRoster(fresh("a"), noon)
	r.Meet(fresh("b"), noon)
	if got := r.Seats(someGroup, 3, at(1)).seated(0); len(got) != 2 {
		t.Errorf("seats %v", got)
	}
	r.Meet(here("old"), at(1))
	if got := r.Seats(someGroup, 3, at(2)).seated(0); !slices.Equal(got, []string{"old"}) {
		t.Errorf("seats %v", got)
	}
}

// A member that is there but silent loses its seats after a while. If this process itself was stopped, the others do not.
func TestQuietMember(t *testing.T) {
	r := fleetOf("a", "b", "c")
	members := func(second float64) int { return len(r.Seats(someGroup, 3, at(second)).members) }
	hear := func(second float64, names ...string) {
		for _, name := range names {
			r.Heard(name, 1, false, at(second))
		}
		r.Lapse(at(second))
	}
	for s := 1.0; s <= 14; s++ {
		hear(s, "b")
	}
	if got := members(14); got != 3 {
		t.Errorf("%d members after 14 s: c is silent for 4 s, and then has 10 s", got)
	}
	hear(16, "b")
	if got := members(16); got != 2 {
		t.Errorf("%d members after 16 s of silence", got)
	}
	hear(17, "b", "c")
	if got := members(17); got != 3 {
		t.Errorf("%d members: c is heard again", got)
	}
	r.Lapse(at(100)) // a minute has passed in which nothing ran here
	if got := members(100); got != 3 {
		t.Errorf("%d members after a pause", got)
	}
	hear(101, "b", "c")
	if got := members(102); got != 3 {
		t.Errorf("%d members: none of them was away", got)
	}
}

// A table is made in a few milliseconds, once for each change of members.
func BenchmarkSeats(b *testing.B) {
	for _, n := range []int{3, 10, 50, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := fleetOf(numbered(n)...)
			for b.Loop() {
				clear(r.seats)
				r.Seats(someGroup, 3, noon)
			}
		})
	}
}

// BenchmarkSeatsAgain is for a group whose members are as they were.
func BenchmarkSeatsAgain(b *testing.B) {
	r := fleetOf(numbered(50)...)
	for b.Loop() {
		r.Seats(someGroup, 3, noon)
	}
}

func BenchmarkShard(b *testing.B) {
	t := target(1)
	for b.Loop() {
		t = target(int(t.Shard()))
	}
}
