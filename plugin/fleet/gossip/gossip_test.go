package gossip

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
)

// What a member says reaches all others in order, once.
func TestStream(t *testing.T) {
	t.Parallel()
	all := startFleet(t, 4, writeKeys(t, newKey()))
	const votes = 3000
	for n := 1; n <= votes; n += 100 {
		all[0].Say(votesUpTo(n, n+99))
		all[1].Say(votesUpTo(n, n+99))
	}
	for _, m := range all {
		for _, author := range all[:2] {
			if m == author {
				continue
			}
			eventually(t, "all votes", func() bool { return len(m.votes(author.name())) >= votes })
			if got := m.votes(author.name()); len(got) != votes || !slices.IsSorted(got) || got[0] != 1 || got[votes-1] != votes {
				t.Errorf("%d votes from %d to %d", len(got), got[0], got[len(got)-1])
			}
		}
		if n := m.races.Load(); n > 0 {
			t.Errorf("%d calls of the listener overlapped", n)
		}
	}
}

// A member is told with its site, groups and age; people see it, too.
func TestMet(t *testing.T) {
	t.Parallel()
	all := startFleet(t, 2, writeKeys(t, newKey()))
	met := all[1].events("met", all[0].name())
	got := met[len(met)-1].member
	if got.Site != "site0" || got.Epoch != all[0].Self().Epoch || len(got.Groups) != 1 || time.Since(got.Joined) > deadline || time.Since(got.Joined) < 0 {
		t.Errorf("%+v", got)
	}
	eventually(t, "contacts", func() bool {
		c := all[1].Contacts()
		return len(c) == 1 && c[0].Name == all[0].name() && c[0].Site == "site0" && c[0].Version == "1.0" && !c[0].Gone && c[0].Heard >= 0 && c[0].RoundTrip > 0
	})
}

// A member that says it stops is gone at once, and nothing of ours is left of it.
func TestLeave(t *testing.T) {
	t.Parallel()
	all := startFleet(t, 3, writeKeys(t, newKey()))
	all[0].Say(votesUpTo(1, 3))
	began := time.Now()
	all[0].leave()
	if took := time.Since(began); took > leaveTime+5*time.Second { // it waits for no more than leaveTime, but for processor time
		t.Errorf("it took %s", took)
	}
	for _, m := range all[1:] {
		eventually(t, "it left", func() bool { return m.last(all[0].name(), "met", "left").what == "left" })
		if got := m.votes(all[0].name()); len(got) != 3 {
			t.Errorf("votes said just before: %v", got)
		}
	}
}

// Wants go to the members that are named, calls to all, answers to one.
func TestAskCallAnswer(t *testing.T) {
	t.Parallel()
	all := startFleet(t, 3, writeKeys(t, newKey()))
	target := vote(7).Target
	eventually(t, "a want", func() bool {
		all[0].Ask([]string{all[1].name()}, fleet.Want{Target: target, For: time.Minute})
		for _, e := range all[1].events("said", all[0].name()) {
			if e.wants > 0 {
				return true
			}
		}
		return false
	})
	for _, e := range all[2].events("said", all[0].name()) {
		if e.wants > 0 {
			t.Error("a want came to another member")
		}
	}
	for _, m := range all[1:] {
		eventually(t, "a last call", func() bool {
			all[0].Call(fleet.Call{Target: target})
			return slices.ContainsFunc(m.events("said", all[0].name()), func(e event) bool { return e.calls > 0 })
		})
	}
	all[0].Say(votesUpTo(1, 1))
	all[0].Answer(all[1].name(), votesUpTo(100, 100))
	all[0].Say(votesUpTo(2, 2))
	eventually(t, "the answer", func() bool { return len(all[1].votes(all[0].name())) == 3 })
	eventually(t, "the votes", func() bool { return len(all[2].votes(all[0].name())) == 2 })
	if got := fmt.Sprint(all[1].votes(all[0].name())); got != "[1 100 2]" {
		t.Errorf("got %s", got)
	}
}

// A process whose loop hangs is silent, and is heard again when it goes on.
func TestHung(t *testing.T) {
	t.Parallel()
	all := startFleet(t, 3, writeKeys(t, newKey()))
	all[0].hung.Store(true)
	for _, m := range all[1:] {
		eventually(t, "it is silent", func() bool { return m.last(all[0].name(), "heard", "silent").what == "silent" })
		if m.last(all[0].name(), "met", "left").what != "met" {
			t.Error("it is not there")
		}
	}
	all[0].hung.Store(false)
	complete(t, all...)
}
