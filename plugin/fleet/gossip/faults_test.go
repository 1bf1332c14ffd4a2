package gossip

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/membership"
)

// sameStream waits until all others have the votes of a member with the numbers from 1 on, in order, and each once.
func sameStream(t *testing.T, author *testMember, others []*testMember, votes int) {
	t.Helper()
	for _, m := range others {
		if m == author {
			continue
		}
		eventually(t, fmt.Sprint(votes, " votes"), func() bool { return len(m.votes(author.name())) >= votes })
		got := m.votes(author.name())
		for i, n := range got {
			if n != i+1 {
				t.Fatalf("%s has %d at place %d of %d", m.name(), n, i, len(got))
			}
		}
	}
}

// A network that loses a fifth of all packets, doubles some and lets them overtake each other changes nothing about the stream.
func TestLossyStream(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	all := wiredFleet(t, w, 3, writeKeys(t, newKey()))
	w.set(0.2, 0.2, 30*time.Millisecond, nil)
	const votes = 6000
	for n := 1; n <= votes; n += 100 {
		all[0].Say(votesUpTo(n, n+99))
	}
	sameStream(t, all[0], all, votes)
	for _, m := range all[1:] {
		if n := len(m.events("restarted", "")); n > 0 {
			t.Errorf("%d restarts", n)
		}
	}
}

// A member behind a cut is silent, gone, and comes back by itself when the cut ends, with what is said from then on. Nothing names the
// other side any longer: there are no peers in the configuration, and both memberlist and the loop have forgotten it.
func TestPartition(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	all := wiredFleet(t, w, 4, writeKeys(t, newKey()))
	for _, m := range all {
		m.Update(membership.Config{Key: m.config.Key})
	}
	side := func(n int) bool { return n <= 2 }
	w.set(0, 0, 0, func(from, to int) bool { return side(from) != side(to) })
	for i, m := range all {
		for j, other := range all {
			if side(i+1) != side(j+1) {
				eventually(t, "the other side is silent and gone", func() bool {
					return m.last(other.name(), "met", "left").what == "left" && m.last(other.name(), "heard", "silent").what == "silent"
				})
			}
		}
	}
	all[0].Say(votesUpTo(1, 500))
	sameStream(t, all[0], all[:2], 500)
	for _, m := range all {
		eventually(t, "the other side is forgotten", func() bool { return len(m.Contacts()) == 1 })
	}
	w.set(0, 0, 0, nil)
	healed := time.Now()
	complete(t, all...)
	took := time.Since(healed)
	if t.Logf("healed after %s", took); took > 45*time.Second {
		t.Error("it took too long")
	}
	all[0].Say(votesUpTo(501, 501))
	sameStream(t, all[0], all, 501)
}

// After a short cut, what was said during it arrives.
func TestShortCut(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	all := wiredFleet(t, w, 2, writeKeys(t, newKey()))
	w.set(0, 0, 0, func(int, int) bool { return true })
	all[0].Say(votesUpTo(1, 500))
	eventually(t, "it is silent", func() bool { return all[1].last(all[0].name(), "heard", "silent").what == "silent" })
	w.set(0, 0, 0, nil)
	complete(t, all...)
	sameStream(t, all[0], all, 500)
}

// A member that was killed and starts again at its address is the same one in another epoch, and its stream begins again.
func TestKilled(t *testing.T) {
	t.Parallel()
	all := startFleet(t, 3, writeKeys(t, newKey()))
	all[2].Say(votesUpTo(1, 10))
	sameStream(t, all[2], all, 10)
	old := all[2].Self()
	all[2].kill()
	again := open(t, all[2].config).start(t)
	if again.Self().Name != old.Name || again.Self().Epoch == old.Epoch {
		t.Fatalf("%+v after %+v", again.Self(), old)
	}
	complete(t, all[0], all[1], again)
	again.Say(votesUpTo(11, 20))
	for _, m := range all[:2] {
		eventually(t, "its votes", func() bool { return len(m.votes(again.name())) == 20 })
		m.recorder.mu.Lock()
		for _, e := range m.recorder.all {
			if e.what == "said" && e.name == again.name() && (e.ports[0] > 10) != (e.epoch == again.Self().Epoch) {
				t.Errorf("%v in epoch %x", e.ports, e.epoch)
			}
		}
		m.recorder.mu.Unlock()
	}
	// The death of the old epoch, which memberlist finds later, does not remove the new one.
	eventually(t, "the old epoch is dead", func() bool {
		all[0].loop.watcher.mu.Lock()
		defer all[0].loop.watcher.mu.Unlock()
		return !all[0].loop.watcher.alive[sender{all[2].as.addr, old.Epoch}.nodeName()]
	})
	for _, m := range all[:2] {
		if e := m.last(again.name(), "met", "left"); e.what != "met" {
			t.Errorf("%s: %+v", m.name(), e)
		}
	}
}

// Who misses more than the author keeps is told that the stream begins again.
func TestOutrun(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	all := wiredFleet(t, w, 2, writeKeys(t, newKey()))
	all[0].Say(votesUpTo(1, 5))
	sameStream(t, all[0], all, 5)
	w.set(0, 0, 0, func(from, to int) bool { return from == 1 })
	eventually(t, "it is silent", func() bool { return all[1].last(all[0].name(), "heard", "silent").what == "silent" })
	const votes = logVotes + 5000
	all[0].Say(votesUpTo(6, votes)) // at once, so the first are dropped before they were sent
	w.set(0, 0, 0, nil)
	eventually(t, "it restarts", func() bool { return len(all[1].events("restarted", all[0].name())) > 0 })
	complete(t, all...)
	eventually(t, "the last vote", func() bool {
		got := all[1].votes(all[0].name())
		return got[len(got)-1] == votes
	})
	all[0].Say(votesUpTo(votes+1, votes+1))
	eventually(t, "the stream goes on", func() bool { return slices.Contains(all[1].votes(all[0].name()), votes+1) })
}
