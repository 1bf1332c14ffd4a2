package pool

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// shot takes a snapshot of what a pool shows.
func (m *fleetServer) shot() *status.Snapshot {
	m.world.t.Helper()
	return shotOf(m.world.t, m.pool)
}

func shotOf(t *testing.T, p *Pool) *status.Snapshot {
	t.Helper()
	s := new(status.Snapshot)
	for shard, more := 0, true; more; {
		if err := p.Do(context.Background(), func(v View) { shard, more = v.Rows(shard, s) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.AddFleet(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	s.Sort()
	return s
}

// memberNamed is the member of a name in a snapshot.
func memberNamed(t *testing.T, s *status.Snapshot, name string) *status.FleetMember {
	t.Helper()
	for i := range s.Members {
		if s.Members[i].Name == name {
			return &s.Members[i]
		}
	}
	t.Fatalf("%s is not among %d members", name, len(s.Members))
	return nil
}

// votesOn are the votes on a target in words: member, standing, state and reason.
func votesOn(t status.Target) (all []string) {
	for _, v := range t.Votes {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", v.Member, v.Standing, v.State, v.Reason)))
	}
	slices.Sort(all)
	return all
}

// Each member sees all members, with their seats, and the votes on each target (B113).
func TestFleetIsSeen(t *testing.T) {
	withMembers(t, 5, func(t *testing.T, w *fleetWorld) {
		dead := pooltest.Addr(1)
		w.set((*pooltest.FakeNetwork).Kill, dead)
		for range 4 {
			w.ask(30*time.Second, pooltest.Addr(0), dead, pooltest.Addr(2))
		}
		for _, m := range w.members {
			s := m.shot()
			f := s.Summary.Fleet
			if len(s.Members) != 5 || f == nil || f.Alive != 4 || f.Silent+f.Gone+f.Differ+f.Unheard != 0 || f.Alone || f.AllTargets() != 3 {
				t.Fatalf("%s sees %d members, %+v", m.name, len(s.Members), f)
			}
			seats, own := 0, 0
			for _, x := range s.Members {
				seats += x.Seats
				if x.Targets != 3 || x.State != "alive" || x.Self != (x.Name == m.name) || x.Isolated || x.Differs() || x.Since.IsZero() {
					t.Errorf("%s sees %+v", m.name, x)
				}
				if x.Self {
					own = x.Seats
				} else if age := time.Since(x.Heard); age < 0 || age > 1100*time.Millisecond {
					t.Errorf("%s was heard %s ago", x.Name, age)
				}
			}
			if seats != 9 || own != f.Seat {
				t.Errorf("%s sees %d seats for 3 targets with 3 each, %d of its own, and it has %d", m.name, seats, own, f.Seat)
			}
			target := s.Targets[1]
			if role, _ := m.role(dead); target.Role != role.String() || target.Quorum != "18%" || target.Address.Addr() != dead {
				t.Errorf("%s shows %s as %s of quorum %s, and it is %s", m.name, target.Address, target.Role, target.Quorum, role)
			}
			if len(target.Votes) != 3 || target.VoteText() != "3 of 3 vantage points" || target.Reason != "connection refused" {
				t.Errorf("%s: %v, %s, %s", m.name, votesOn(target), target.VoteText(), target.Reason)
			}
			for _, v := range target.Votes {
				if !v.Seat || v.Standing != "counts" || v.State != "down" || v.Reason != "connection refused" || v.Self != (v.Member == m.name) || time.Since(v.Since) < time.Minute || time.Since(v.Since) > 2*time.Minute {
					t.Errorf("%s shows the vote %+v", m.name, v)
				}
			}
		}
	})
}

// Votes that do not count are seen with the word why: of a silent member, of an isolated one, and that one is missing (B113).
func TestVotesThatDoNotCountAreSeen(t *testing.T) {
	withMembers(t, 3, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(2*time.Minute, a)
		w.members[0].network.Kill(a)
		w.ask(time.Minute, a)
		s := w.members[1].shot()
		if got := votesOn(s.Targets[0]); !slices.Equal(got, []string{"m0 counts down connection refused", "m1 counts up", "m2 counts up"}) || s.Targets[0].VoteText() != "2 of 3 vantage points" {
			t.Errorf("%q: %s", got, s.Targets[0].VoteText())
		}
		w.net.Cut(map[string]int{"m0": 1})
		pooltest.Elapse(5 * time.Second) // its votes have lapsed, and it is not dead yet
		s = w.members[1].shot()
		if got := votesOn(s.Targets[0]); !slices.Equal(got, []string{"m0 silent down connection refused", "m1 counts up", "m2 counts up"}) {
			t.Errorf("%q", got)
		}
		if m := memberNamed(t, s, "m0"); m.State != "silent" || s.Summary.Fleet.Silent != 1 || s.Summary.Fleet.Alive != 1 {
			t.Errorf("%+v, %+v", m, s.Summary.Fleet)
		}
		w.ask(time.Minute, a)
		s = w.members[1].shot()
		if m := memberNamed(t, s, "m0"); m.State != "gone" || m.Seats != 0 || m.Differs() || s.Summary.Fleet.Gone != 1 || s.Summary.Fleet.Alone {
			t.Errorf("%+v, %+v", m, s.Summary.Fleet)
		}
		if got := votesOn(s.Targets[0]); len(got) != 2 {
			t.Errorf("a member without a seat has a vote: %q", got)
		}
		// A member that hears no other probes everything itself: it has all seats, and is alone all the same.
		s = w.members[0].shot()
		if f := s.Summary.Fleet; !f.Alone || f.Alive != 0 || f.Gone != 2 || f.Seat != 1 || s.Targets[0].VoteText() != "1 of 1 vantage point" {
			t.Errorf("%+v, %s", f, s.Targets[0].VoteText())
		}
	})
}

// A target on which no vote counts is shown as one that this process is alone with (B113).
func TestAloneIsSeen(t *testing.T) {
	withMembers(t, 2, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.members[0].look(a)
		synctest.Wait()
		s := w.members[0].shot()
		if len(s.Targets) != 1 || s.Targets[0].Shared == nil || s.Targets[0].VoteText() != "no vote counts" {
			t.Fatalf("%+v", s.Targets)
		}
		for _, v := range s.Targets[0].Votes {
			if v.Standing != "missing" || v.State != "unknown" || !v.Since.IsZero() || !v.Seat {
				t.Errorf("%+v", v)
			}
		}
	})
	// All vantage points die at once: until others have their seats, no vote is heard.
	withMembers(t, 6, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(2*time.Minute, a)
		for _, m := range w.live() {
			if role, _ := m.role(a); role == fleet.Seat {
				m.kill()
			}
		}
		pooltest.Elapse(4500 * time.Millisecond)
		for _, m := range w.live() {
			s := m.shot()
			if f := s.Summary.Fleet; s.Targets[0].Role != "alone" || f.Unheard != 1 || !f.Alone || f.Alive != 2 {
				t.Errorf("%s is %s, %+v: %v", m.name, s.Targets[0].Role, f, votesOn(s.Targets[0]))
			}
		}
	})
}

// edit gives a member another Corefile, as a reload does.
func (m *fleetServer) edit(stanzas ...*stanza) {
	next := new(Generation)
	for i, s := range stanzas {
		s.At = fmt.Sprintf("Corefile:%d", 10*(i+1))
		m.pool.AddGroup(next, &s.Group)
	}
	m.pool.Join(next)
	m.pool.Confirm(next)
	m.pool.Leave(m.gen)
	m.gen, m.stanza = next, stanzas[0]
}

// sharedCheckNamed is a stanza with a check of that text, which is shared.
func sharedCheckNamed(name string, pace verdict.Pace, terms fleet.Terms) *stanza {
	spec := CheckSpec{prober: pooltest.NewNetwork(), Name: name, withoutPace: verdict.Identify(name, 0), port: 80}
	spec.Share(terms)
	return newStanza(spec, pace)
}

// Two members whose Corefiles differ see it, each in its own words: another check, and the same one with another quorum (B113).
func TestDifferentCorefilesAreSeen(t *testing.T) {
	withMembers(t, 3, func(t *testing.T, w *fleetWorld) {
		majority := sharedTerms
		majority.Quorum.Percent = 51
		w.members[0].edit(sharedCheckNamed("tcp", pooltest.Pace, sharedTerms), sharedCheckNamed("http", pooltest.Pace, sharedTerms))
		w.members[1].edit(sharedCheckNamed("tcp", pooltest.Pace, majority))
		pooltest.Elapse(15 * time.Second)
		for _, want := range []struct {
			who, whom, lacks string
			others           int
		}{
			{"m0", "m1", "tcp of Corefile:10, http of Corefile:20", 1}, {"m0", "m2", "http of Corefile:20", 0},
			{"m1", "m0", "tcp of Corefile:10", 2}, {"m1", "m2", "tcp of Corefile:10", 1}, {"m2", "m0", "", 1}, {"m2", "m1", "tcp of ", 1},
		} {
			for _, m := range w.members {
				if m.name != want.who {
					continue
				}
				s := m.shot()
				x := memberNamed(t, s, want.whom)
				var lacks []string
				for _, l := range x.Lacks {
					lacks = append(lacks, l.Check+" of "+l.Stanza)
					if l.Pace != pooltest.Pace.String() {
						t.Errorf("the pace is %q", l.Pace)
					}
				}
				slices.SortFunc(lacks, func(a, b string) int { return strings.Compare(b, a) })
				if got := strings.Join(lacks, ", "); got != want.lacks || x.Others != want.others || x.MoreLacks != 0 || s.Summary.Fleet.Differ != 2 {
					t.Errorf("%s sees that %s lacks %q and has %d others, want %q and %d; %d differ", want.who, want.whom, got, x.Others, want.lacks, want.others, s.Summary.Fleet.Differ)
				}
				if self := memberNamed(t, s, want.who); self.Differs() {
					t.Errorf("%s differs from itself: %+v", want.who, self)
				}
			}
		}
		w.members[1].stop()
		pooltest.Elapse(time.Second)
		if s := w.members[0].shot(); memberNamed(t, s, "m1").Differs() || s.Summary.Fleet.Differ != 1 {
			t.Errorf("a member that has left differs: %+v", s.Summary.Fleet)
		}
	})
}

// talker is an engine whose members a test makes up. It says nothing to others.
type talker struct {
	membership.Engine
	to       fleet.Listener
	contacts []membership.Contact
}

func (e *talker) Self() fleet.Member                      { return fleet.Member{Name: "self", Epoch: 1} }
func (e *talker) Start(_ fleet.Groups, to fleet.Listener) { e.to = to }
func (e *talker) Announce(fleet.Groups)                   {}
func (e *talker) Turn(bool)                               {}
func (e *talker) Ask([]string, fleet.Want)                {}
func (e *talker) Say([]fleet.Vote)                        {}
func (e *talker) Call(fleet.Call)                         {}
func (e *talker) Contacts() []membership.Contact          { return e.contacts }
func (e *talker) Answer(to string, votes []fleet.Vote)    {}
func (e *talker) meet(name string, groups fleet.Groups) {
	e.to.Met(fleet.Member{Name: name, Epoch: 1, Groups: groups})
}
func withTalker(t *testing.T, f func(*Pool, *talker, *stanza)) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := sharedStanza(n, sharedTerms)
		begin(p, s)
		e := new(talker)
		p.JoinFleet(e)
		f(p, e, s)
	})
}

// What the engine knows of the way to a member is shown with it, also of one that was never heard. What others say of themselves is
// shown short, and without what cannot be printed (B113).
func TestContactsAreSeen(t *testing.T) {
	withTalker(t, func(p *Pool, e *talker, s *stanza) {
		e.contacts = []membership.Contact{
			{Name: "a", Site: "x\n\x1b[31m", Address: "192.0.2.1:9254", Version: strings.Repeat("é", 200), RoundTrip: 1500 * time.Microsecond, Heard: time.Second},
			{Name: "b", Heard: -1}, {Name: "c", Heard: -1, Gone: true},
		}
		e.meet("a", nil) // it is not known yet what it shares
		pooltest.Elapse(2 * time.Second)
		shot := shotOf(t, p)
		a := memberNamed(t, shot, "a")
		if a.Site != "x??[31m" || a.Address != "192.0.2.1:9254" || len(a.Version) != longestFact || strings.Trim(a.Version, "é") != "" || a.RoundTrip != 0.0015 || time.Since(a.Heard) != time.Second {
			t.Errorf("%+v", a)
		}
		if a.State != "silent" || a.Differs() {
			t.Errorf("%+v", a)
		}
		if b := memberNamed(t, shot, "b"); b.State != "silent" || !b.Heard.IsZero() || b.Differs() {
			t.Errorf("%+v", b)
		}
		if c := memberNamed(t, shot, "c"); c.State != "gone" {
			t.Errorf("%+v", c)
		}
		if f := shot.Summary.Fleet; f.Silent != 2 || f.Gone != 1 || !f.Alone {
			t.Errorf("%+v", f)
		}
		e.to.Heard("a", 1, true)
		synctest.Wait()
		if a := memberNamed(t, shotOf(t, p), "a"); !a.Isolated || a.State != "alive" || time.Since(a.Heard) > time.Millisecond {
			t.Errorf("%+v", a)
		}
	})
}

// A fleet of as many members as there may be is read some hundred in a turn of the loop, and each of them once (B113).
func TestManyMembersAreSeen(t *testing.T) {
	withTalker(t, func(p *Pool, e *talker, s *stanza) {
		groups := fleet.Groups{{1}: {}, {2}: {}}
		for i := range fleet.MaxMembers - 1 {
			e.meet(fmt.Sprint("m", i), groups)
		}
		pooltest.Elapse(5 * time.Second)
		var x fleetReading
		turns := 0
		for after, more := "", true; more; turns++ {
			had := len(x.members)
			if err := p.Do(context.Background(), func(v View) {
				if turns == 0 {
					v.fleet(&x)
				}
				after, more = v.members(&x, after)
			}); err != nil {
				t.Fatal(err)
			}
			if n := len(x.members) - had; n > RowsAtOnce {
				t.Errorf("%d members in a turn", n)
			}
		}
		shot := shotOf(t, p)
		slices.SortFunc(shot.Members, func(a, b status.FleetMember) int { return strings.Compare(a.Name, b.Name) })
		names := make(map[string]bool)
		for _, m := range shot.Members {
			names[m.Name] = true
			if !m.Self && (len(m.Lacks) != 1 || m.Others != 2) {
				t.Fatalf("%+v", m)
			}
		}
		if len(names) != fleet.MaxMembers || len(shot.Members) != fleet.MaxMembers || turns < fleet.MaxMembers/RowsAtOnce {
			t.Errorf("%d members, %d names, %d turns", len(shot.Members), len(names), turns)
		}
	})
}

// A member that lacks very many checks is shown with some of them, and the number of the others.
func TestManyDifferences(t *testing.T) {
	x := fleetReading{checks: make([]sharedCheck, maxLacks+5)}
	for i := range x.checks {
		x.checks[i] = sharedCheck{fleet.Group{byte(i)}, status.Lack{Check: fmt.Sprint(i)}}
	}
	m := readMember{groups: fleet.Groups{{0}: {}, {200}: {}}}
	x.compare(&m)
	if len(m.Lacks) != maxLacks || m.MoreLacks != 4 || m.Others != 1 || m.Lacks[0].Check != "1" {
		t.Errorf("%+v", m)
	}
}

// A member that stands in for another has no seat, though it has voted.
func TestSeatsAreCounted(t *testing.T) {
	shot := &status.Snapshot{Members: []status.FleetMember{{Name: "a"}, {Name: "b"}}, Targets: make([]status.Target, 3)}
	for i := range 2 {
		shot.Targets[i].Shared = &status.Shared{Votes: []status.Vote{{Member: "a", Seat: true}, {Member: "b", Seat: i == 1}}}
	}
	new(fleetReading).total(shot)
	if shot.Members[0].Seats != 2 || shot.Members[1].Seats != 1 {
		t.Errorf("%+v", shot.Members)
	}
}

// A pool without a fleet shows nothing of one, nor does one that has left it (B113).
func TestNoFleetIsSeen(t *testing.T) {
	withTalker(t, func(p *Pool, e *talker, s *stanza) {
		alone := testStanza("udp", pooltest.NewNetwork(), pooltest.Pace)
		begin(p, alone, s)
		alone.Look(owner, pooltest.Addr(1), 0, 30)
		pooltest.Elapse(time.Minute)
		if shot := shotOf(t, p); shot.Summary.Fleet == nil || shot.Targets[0].Shared != nil || shot.Summary.Fleet.AllTargets() != 0 {
			t.Errorf("%+v, of which %v is not shared", shot, shot.Targets)
		}
		s.Look(owner, pooltest.Addr(0), 0, 30)
		pooltest.Elapse(time.Minute)
		x := fleetReading{engine: new(talker)}
		if err := p.Do(context.Background(), func(v View) { v.members(&x, "") }); err != nil || x.members != nil {
			t.Errorf("%v: members of a fleet that was left are read from the next: %v", err, x.members)
		}
		if shot := shotOf(t, p); shot.Summary.Fleet == nil || shot.Targets[0].Shared == nil || len(shot.Members) != 1 {
			t.Fatalf("%+v", shot)
		}
		p.JoinFleet(nil)
		if shot := shotOf(t, p); shot.Summary.Fleet != nil || shot.Targets[0].Shared != nil || shot.Members != nil {
			t.Errorf("%+v", shot)
		}
	})
	// A row of a target that is not shared costs what it did before: nothing that has to be allocated.
	s := upTable(1)
	m := &monitor{check: &checkState{CheckSpec: s.checks[0]}, group: &s.Group}
	s.pool.table.Each(0, func(*table.Entry) {})
	for shard := range table.Shards {
		s.pool.table.Each(shard, func(e *table.Entry) { m.entry = e })
	}
	if n := testing.AllocsPerRun(100, func() { _ = s.pool.rowOf(m) }); n > 0 {
		t.Errorf("a row of a target that is not shared has %.0f allocations", n)
	}
}
