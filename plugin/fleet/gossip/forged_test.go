package gossip

import (
	"fmt"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/ports"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
)

// claimed is a member of which this process hears what it says itself, and what others say in its name.
type claimed struct {
	*sink
	now    time.Time
	uptime time.Duration
}

func newClaimed(t *testing.T) *claimed {
	s := newSink(t)
	none, _ := hashOf(nil)
	s.loop.lists[none] = fleet.Groups{}
	return &claimed{s, time.Now(), time.Hour}
}

// hear handles a beat of it, a second after the last one. What is made up changes it first.
func (c *claimed) hear(last uint64, change func(b *beat)) {
	none, _ := hashOf(nil)
	c.now, c.uptime = c.now.Add(time.Second), c.uptime+time.Second
	b := beat{last: last, first: 1, uptime: c.uptime, groups: none}
	if change != nil {
		change(&b)
	}
	c.loop.handleBeat(c.peer, message{kind: kindBeat, from: sender{c.peer.addr, 1}, body: b.appendTo(nil)}, c.now)
}

// state is whether it is there, whether it is well, and how many words were told.
func (c *claimed) state() string {
	return fmt.Sprint(c.last(c.peer.name, "met", "left").what, " ", c.last(c.peer.name, "heard", "silent", "restarted").what, " ", len(c.events("said", "")))
}

// Words that are made up in the name of a member are noticed by its next beats: then its stream begins where it says, and its votes are
// asked for. A member that goes on has not said that it stops (B111).
func TestForgedWords(t *testing.T) {
	c := newClaimed(t)
	c.hear(1, nil)
	for n := uint64(2); n <= 3; n++ {
		c.peer.in.hearWord(n, []byte{1}, c.now, c.loop.saidBy(c.peer))
	}
	c.peer.in.hearWord(9, []byte{1}, c.now, c.loop.saidBy(c.peer))
	c.hear(1, func(b *beat) { b.stopping = true })
	if got := c.state(); got != "left heard 2" {
		t.Fatal(got)
	}
	for range doubtAfter / time.Second {
		c.hear(1, nil)
	}
	if got := c.state(); got != "left heard 2" {
		t.Errorf("its last beats may have been overtaken: %s", got)
	}
	c.hear(1, nil)
	if got := c.state(); got != "met heard 2" {
		t.Errorf("it has not stopped: %s", got)
	}
	for range doubtAfter/time.Second + 1 {
		c.hear(1, nil)
	}
	if n := len(c.events("restarted", "")); n != 1 || c.peer.in.delivered != 1 || !c.peer.in.whole() || c.loop.kept != 0 {
		t.Errorf("%d restarts, %d words are told, %d are known", n, c.peer.in.delivered, c.peer.in.known)
	}
	c.peer.in.hearWord(2, []byte{2}, c.now, c.loop.saidBy(c.peer))
	c.hear(2, nil)
	if got := c.state(); got != "met heard 3" {
		t.Errorf("what it says itself: %s", got)
	}
	// What overtakes a beat is no lie.
	for last := range uint64(20) {
		c.peer.in.hearWord(last+3, []byte{2}, c.now, c.loop.saidBy(c.peer))
		c.hear(last+2, nil)
	}
	if n := len(c.events("restarted", "")); n != 1 {
		t.Errorf("%d restarts of a stream that is ahead of its beats", n)
	}
}

// What only the key could tell from the truth ends with the key: then each member begins again (B111).
func TestForgedBeats(t *testing.T) {
	c := newClaimed(t)
	c.hear(1, nil)
	c.hear(1, func(b *beat) { b.last, b.first, b.uptime, b.stopping = maxNumber, maxNumber+1, maxUptime, true })
	for range 10 {
		c.hear(1, nil)
	}
	if got := c.state(); got != "left heard 0" {
		t.Fatalf("%s: beats count that are older than the last one", got)
	}
	c.t.handOver(c.as.header(nil, kindAsk)[1:]) // one that was sealed with the key
	c.loop.doubtAll()
	if len(c.t.messages) != 0 || c.t.waiting.Load() != 0 {
		t.Error("what was sealed with the key still counts")
	}
	c.hear(1, nil)
	c.hear(1, nil)
	if got := c.state(); got != "met heard 0" || len(c.events("restarted", "")) != 1 {
		t.Errorf("%s, %d restarts", got, len(c.events("restarted", "")))
	}
	if joined := c.last(c.peer.name, "met").member.Joined; c.now.Sub(joined) > 2*time.Hour {
		t.Errorf("it has been there since %s", joined)
	}
}

// With another key, nothing is left of what a holder of the old one said, and adding a key or changing the order forgets nothing (B111).
func TestLiarIsShutOut(t *testing.T) {
	t.Parallel()
	ports.Need(t, "127.0.0.2")
	old, next := newKey(), newKey()
	path := writeKeys(t, old)
	all := startFleet(t, 2, path)
	liar := open(t, membership.Config{Listen: anyPort(t, "127.0.0.1"), Key: writeKeys(t, old)})
	defer liar.Leave()
	none, _ := hashOf(nil)
	liar.t.sendTo(beat{uptime: maxUptime, first: 1, stopping: true, groups: none}.appendTo(all[1].as.header(nil, kindBeat)), all[0].as.addr)
	eventually(t, "it is taken for stopped", func() bool { return all[0].last(all[1].name(), "met", "left").what == "left" })
	for _, step := range [][]string{{old, next}, {next, old}} {
		replaceKeys(t, path, step...)
		eventually(t, "the keys are in force", func() bool { return all[0].sealsWith(step[0]) && all[1].sealsWith(step[0]) })
	}
	if n := len(all[0].events("restarted", "")); n != 0 || all[0].last(all[1].name(), "met", "left").what != "left" {
		t.Errorf("%d restarts, though no key was removed", n)
	}
	replaceKeys(t, path, next)
	complete(t, all...)
	eventually(t, "its votes are asked for", func() bool { return len(all[0].events("restarted", all[1].name())) == 1 })
	all[1].Say(votesUpTo(1, 1))
	sameStream(t, all[1], all, 1)
}
