//go:build unix

package etcd

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/realetcd"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// What a member says reaches all others.
func TestSay(t *testing.T) {
	t.Parallel()
	all := startMembers(t, configOf(realetcd.Start(t, realetcd.Options{})), 3)
	const n = 3000
	for i := 1; i <= n; i += 100 {
		all[0].Say(votes(verdict.Up, i, i+99))
		all[1].Say(votes(verdict.Up, i, i+99))
	}
	agree(t, all[0], n, all...)
	agree(t, all[1], n, all...)
	// Votes are withdrawn, and change.
	all[0].Say(votes(verdict.Unknown, 1, 10))
	down := votes(verdict.Down, 11, 11)
	down[0].Reason = "refused"
	all[0].Say(down)
	agree(t, all[0], n-11, all...)
	for _, m := range all[1:] {
		eventually(t, "the reason", func() bool {
			v := m.state(all[0].name(), target(11))
			return v.State == verdict.Down && v.Reason == "refused"
		})
		if v := m.state(all[0].name(), target(1)); v.State != verdict.Unknown {
			t.Errorf("withdrawn: %+v", v)
		}
	}
	for _, m := range all {
		if n := m.races.Load(); n > 0 {
			t.Errorf("%d calls of the listener overlapped", n)
		}
	}
}

// The first write after some calm is made at once, and a vote has its age and for how long it holds.
func TestVote(t *testing.T) {
	t.Parallel()
	all := startMembers(t, configOf(realetcd.Start(t, realetcd.Options{})), 2)
	all[0].Say(votes(verdict.Up, 1, 1))
	agree(t, all[0], 1, all...)
	v := all[1].state(all[0].name(), target(1))
	if v.Age < time.Minute || v.Age > time.Minute+deadline || v.Holds > 30*time.Second {
		t.Errorf("%+v", v)
	}
}

// A newcomer is told nothing but what it asks for, and that at once. What it asks is told those whom it asks.
func TestNewcomer(t *testing.T) {
	t.Parallel()
	c := configOf(realetcd.Start(t, realetcd.Options{}))
	all := startMembers(t, c, 2)
	all[0].Say(votes(verdict.Up, 1, 500))
	all[1].Say(votes(verdict.Up, 1, 500))
	agree(t, all[0], 500, all...)
	agree(t, all[1], 500, all...)
	all = append(all, open(t, c).start(t))
	complete(t, all...)
	last := all[2]
	if n := last.count("said", ""); n > 0 {
		t.Errorf("%d batches were told that were not asked for", n)
	}
	last.Ask([]string{all[0].name(), "unknown"}, fleet.Want{Target: target(7), For: time.Minute})
	eventually(t, "an answer", func() bool { return last.state(all[0].name(), target(7)).State == verdict.Up })
	if v := last.state(all[0].name(), target(7)); v.Holds != 0 || v.Age < time.Minute {
		t.Errorf("nothing says when it was written, yet: %+v", v)
	}
	if n := last.ups(all[0].name()) + last.ups(all[1].name()); n != 1 {
		t.Errorf("%d votes", n)
	}
	eventually(t, "the want", func() bool {
		return slices.ContainsFunc(all[0].events("said", last.name()), func(e event) bool { return e.wants == 1 })
	})
	last.Call(fleet.Call{Target: target(8)})
	for _, m := range all[:2] {
		eventually(t, "a last call", func() bool {
			return slices.ContainsFunc(m.events("said", last.name()), func(e event) bool { return e.calls == 1 })
		})
	}
	if slices.ContainsFunc(all[1].events("said", last.name()), func(e event) bool { return e.wants > 0 }) {
		t.Error("a want came to another member")
	}
}

// An answer that is no news writes nothing. One that says that a member cannot probe goes to the one who has asked.
func TestAnswer(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	client := c.Client(t)
	all := startMembers(t, configOf(c), 3)
	all[0].Say(votes(verdict.Up, 1, 3))
	agree(t, all[0], 3, all...)
	before := keysIn(t, client, "/multivalue/test/votes/")
	all[0].Answer(all[1].name(), votes(verdict.Up, 1, 3))
	all[0].Answer(all[1].name(), []fleet.Vote{{Target: target(9), State: verdict.Unchecked}})
	eventually(t, "the answer", func() bool { return all[1].state(all[0].name(), target(9)).State == verdict.Unchecked })
	all[0].Answer(all[1].name(), votes(verdict.Up, 4, 4))
	agree(t, all[0], 4, all...)
	if v := all[2].state(all[0].name(), target(9)); v.State != verdict.Unknown {
		t.Errorf("it came to another member: %+v", v)
	}
	after := keysIn(t, client, "/multivalue/test/votes/")
	if len(after) > len(before)+1 {
		t.Errorf("before %v\nafter %v", before, after)
	}
}

// A member is told with its site, groups and age; people see it, too.
func TestMet(t *testing.T) {
	t.Parallel()
	all := startMembers(t, configOf(realetcd.Start(t, realetcd.Options{})), 2)
	met := all[1].events("met", all[0].name())
	got := met[len(met)-1].member
	if got.Site != "here" || got.Epoch != all[0].Self().Epoch || len(got.Groups) != 1 || time.Since(got.Joined) > deadline || time.Since(got.Joined) < 0 {
		t.Errorf("%+v", got)
	}
	eventually(t, "contacts", func() bool {
		c := all[1].Contacts()
		return len(c) == 1 && c[0].Name == all[0].name() && c[0].Site == "here" && c[0].Version == "1.0" && !c[0].Gone && c[0].Heard >= 0 && c[0].RoundTrip > 0
	})
	all[0].Announce(fleet.Groups{{7}: {}, {8}: {}})
	eventually(t, "other groups", func() bool {
		met := all[1].events("met", all[0].name())
		return len(met[len(met)-1].member.Groups) == 2
	})
	all[0].isolated.Store(true)
	eventually(t, "it doubts its probes", func() bool {
		all[1].recorder.mu.Lock()
		defer all[1].recorder.mu.Unlock()
		return all[1].well[all[0].name()].isolated
	})
}

// A member that stops is gone at once, and nothing of it is left, in etcd and here.
func TestLeave(t *testing.T) {
	c := realetcd.Start(t, realetcd.Options{})
	client := c.Client(t)
	keysIn(t, client, "/") // it connects when it is used
	before := runtime.NumGoroutine()
	all := startMembers(t, configOf(c), 2)
	all[0].Say(votes(verdict.Up, 1, 3))
	agree(t, all[0], 3, all...)
	all[0].Ask([]string{all[1].name()}, fleet.Want{Target: target(1)})
	third := open(t, configOf(c)).start(t)
	complete(t, all[0], all[1], third)
	third.Say(votes(verdict.Up, 1, 1000))
	agree(t, third, 1000, all...)
	began := time.Now()
	third.leave()
	if took := time.Since(began); took > leaveTime+5*time.Second { // it waits for no more than leaveTime, but for processor time
		t.Errorf("it took %s", took)
	}
	for _, m := range all {
		eventually(t, "it left", func() bool {
			m.recorder.mu.Lock()
			defer m.recorder.mu.Unlock()
			return m.there[third.name()].what == "left"
		})
	}
	eventually(t, "its keys are gone", func() bool {
		return !strings.Contains(strings.Join(keysIn(t, client, "/multivalue/test/"), " "), third.name())
	})
	all[0].leave()
	all[1].leave()
	if !waitFor(func() bool { return runtime.NumGoroutine() <= before }) {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines, not %d: %s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
	}
	if left := keysIn(t, client, "/multivalue/"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	resp, err := client.Leases(context.Background())
	if err != nil || len(resp.Leases) > 0 {
		t.Errorf("leases: %v, %v", resp, err)
	}
}

// A process whose loop hangs is silent, then gone, and is heard again when it goes on.
func TestHung(t *testing.T) {
	t.Parallel()
	all := startMembers(t, configOf(realetcd.Start(t, realetcd.Options{})), 3)
	all[0].hung.Store(true)
	for _, m := range all[1:] {
		eventually(t, "it is silent", func() bool {
			m.recorder.mu.Lock()
			defer m.recorder.mu.Unlock()
			return m.well[all[0].name()].what == "silent"
		})
		eventually(t, "it is gone", func() bool {
			m.recorder.mu.Lock()
			defer m.recorder.mu.Unlock()
			return m.there[all[0].name()].what == "left"
		})
	}
	all[0].Say(votes(verdict.Up, 1, 5))
	all[0].hung.Store(false)
	complete(t, all...)
	agree(t, all[0], 5, all...)
}

// A member that dies is gone when its lease has run out. It has not been heard in vain: one that starts again is another one.
func TestKilled(t *testing.T) {
	t.Parallel()
	all := startMembers(t, configOf(realetcd.Start(t, realetcd.Options{})), 2)
	all[0].Say(votes(verdict.Up, 1, 5))
	agree(t, all[0], 5, all[1])
	began := time.Now()
	all[0].kill()
	eventually(t, "it is gone", func() bool { return all[1].isSilent(all[0]) })
	t.Logf("it was gone after %s", time.Since(began))
	again := open(t, all[0].config).start(t)
	complete(t, again, all[1])
}

// Without an etcd a start waits for nothing, and the log says so once.
func TestNoEtcd(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	c.Servers[0].Kill()
	m := open(t, configOf(c)).start(t)
	m.Say(votes(verdict.Up, 1, 5))
	eventually(t, "a line", func() bool { return m.logged("etcd does not answer") == 1 })
	c.Servers[0].Restart(t)
	eventually(t, "another line", func() bool { return m.logged("etcd answers again") == 1 })
	other := open(t, m.config).start(t)
	complete(t, m, other)
	other.Ask([]string{m.name()}, fleet.Want{Target: target(3)})
	eventually(t, "what was said before", func() bool { return other.state(m.name(), target(3)).State == verdict.Up })
	if n := m.logged(""); n != 2 {
		t.Errorf("%d lines: %s", n, m.log())
	}
}
