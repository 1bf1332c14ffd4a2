//go:build unix

package etcd

import (
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/realetcd"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// However long the writes of votes have to wait, the lease has its signs, and the own key says that the votes are late.
func TestVotesThatWait(t *testing.T) {
	now := time.Now()
	w := &writer{out: newOutbox(), lease: 1, rev: 1, pace: pace{owed: 2 * burst, last: now}, signs: signs{next: now.Add(100 * time.Millisecond)}}
	w.members.Store(50)
	w.out.turn(false, now)
	if wait := w.pace.due(now, 50); wait < 30*time.Second {
		t.Fatalf("the votes wait for %s, which shows nothing", wait)
	}
	w.out.say(votes(verdict.Up, 1, 1), now)
	if wait := w.next(now); wait > 100*time.Millisecond {
		t.Errorf("the writer sleeps for %s, and the lease needs a sign in 100 ms", wait)
	}
	if w.mustAdmit(w.out.bearing(now), now) {
		t.Error("votes are late at once")
	}
	now = now.Add(lateTime + time.Millisecond)
	w.out.turn(false, now)
	if !w.mustAdmit(w.out.bearing(now), now) {
		t.Error("votes that wait for long are not said to be late")
	}
	w.written.behind = true
	if w.mustAdmit(w.out.bearing(now), now) {
		t.Error("it is said again and again")
	}
	w.out.turn(true, now)
	if !w.mustAdmit(w.out.bearing(now), now) {
		t.Error("a doubt waits as the votes do")
	}
}

// What is owed ends, whatever etcd takes, and a liar with very many members stops no other one.
func TestOwedIsBounded(t *testing.T) {
	var p pace
	now := time.Now()
	for range 1000 {
		p.wrote(now, maxWrite, 4096)
	}
	if due := p.due(now, 4096); due > burst/leastRate*time.Second {
		t.Errorf("a write waits for %s", due)
	}
	if due := p.due(now, 3); due > 4*time.Second {
		t.Errorf("when the liar has gone, a write waits for %s", due)
	}
}

// Until all parts are right again, the own key says that they are not.
func TestRepairIsWhole(t *testing.T) {
	w := &writer{out: newOutbox(), keys: keysOf("/p", "f"), rev: 1}
	now := time.Now()
	for i := range w.parts {
		w.parts[i] = ownPart{raw: []byte{1}, force: true}
	}
	w.written.behind = true
	rounds := 0
	for ; rounds < 10; rounds++ {
		x := w.gather(now)
		f := w.fact(bearing{turns: true}, now, x.full)
		for number, next := range x.next {
			w.parts[number] = next
		}
		if !x.full {
			break
		}
		if !f.behind {
			t.Fatalf("after %d writes the key says that all is well", rounds+1)
		}
		w.written = f
	}
	wrong := 0
	for i := range w.parts {
		if w.parts[i].force {
			wrong++
		}
	}
	if wrong > 0 {
		t.Errorf("the key says that all is well, and %d parts are not put right", wrong)
	}
	if rounds < 2 {
		t.Errorf("%d writes, which shows nothing", rounds)
	}
}

// A newcomer that starts while etcd is away does not believe those who died meanwhile, although their leases have all their time again.
func TestNewcomerAfterAnOutage(t *testing.T) {
	t.Parallel()
	c := realetcd.Start(t, realetcd.Options{})
	all := startMembers(t, configOf(c), 2)
	all[0].Say(votes(verdict.Up, 1, 100))
	agree(t, all[0], 100, all[1])
	c.Servers[0].Kill()
	for _, m := range all {
		m.kill()
	}
	one := open(t, configOf(c)).start(t)
	other := open(t, configOf(c)).start(t)
	c.Servers[0].Restart(t)
	complete(t, one, other)
	eventually(t, "the dead are gone", func() bool { return one.count("left", "") >= 2 })
	for _, dead := range all {
		if n := one.count("heard", dead.name()); n > 0 {
			t.Errorf("a newcomer hears a dead member %d times", n)
		}
	}
}
