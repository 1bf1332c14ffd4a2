package fleet

import (
	"runtime"
	"testing"
	"time"
)

// A target is busy as long as one member wants it, and becomes idle some time after the last want.
func TestWanted(t *testing.T) {
	w := Wants{Max: 10}
	b := new(Ballot)
	const start = 1_000_000
	if b.Wanted(start) != 0 || b.CallDue(start) {
		t.Error("a target is wanted before anybody has said so")
	}
	w.Take(b, 1, Want{For: 15 * time.Minute}, start)
	w.Take(b, 2, Want{For: 5 * time.Minute}, start) // it does not shorten what another wants
	for _, step := range []struct {
		second uint32
		want   time.Duration
		call   bool
	}{{0, 900 * time.Second, false}, {779, 121 * time.Second, false}, {780, 2 * time.Minute, true}, {899, time.Second, true}, {900, 0, false}, {2000, 0, false}} {
		if got, call := b.Wanted(start+step.second), b.CallDue(start+step.second); got != step.want || call != step.call {
			t.Errorf("after %d s: wanted for %s, last call %t", step.second, got, call)
		}
	}
	w.Take(b, 2, Want{For: 15 * time.Minute}, start+800) // the answer to a last call
	if got := b.Wanted(start + 900); got != 800*time.Second {
		t.Errorf("wanted for %s more", got)
	}
	w.Take(b, 2, Want{For: 1000 * time.Hour}, start)
	if got := b.Wanted(start); got != MaxWant {
		t.Errorf("wanted for %s, want a day at most", got)
	}
	if w.Targets() != 1 {
		t.Errorf("%d targets", w.Targets())
	}
	w.Drop(b)
	w.Drop(b)
	if w.Targets() != 0 || len(w.charge) != 0 || b.Wanted(start) != 0 {
		t.Errorf("%d targets are left", w.Targets())
	}
}

// One author who wants a million targets gets half of the room, which leaves the other half, and takes no memory beyond that.
func TestWantsOfALiar(t *testing.T) {
	const room, liar, other = 1000, 1, 2
	w := Wants{Max: room}
	var kept []*Ballot
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	take := func(from Stream, i int) bool {
		b := new(Ballot)
		if !w.Take(b, from, Want{target(i), MaxWant}, 1) {
			return false
		}
		kept = append(kept, b)
		return true
	}
	before := heap()
	for i := range 1 << 20 {
		take(liar, i)
	}
	if grown := int64(heap()) - int64(before); len(kept) != room/2 || grown > 100*room {
		t.Errorf("%d targets, and %d bytes more", len(kept), grown)
	}
	for i := range 10 {
		if !take(other, -i) {
			t.Fatal("there is no room for another author")
		}
	}
	if !w.Take(kept[0], other, Want{For: MaxWant}, 2) {
		t.Error("a target that is watched for others costs nothing more")
	}
	for i := range room {
		take(other, i)
		take(Stream(3+i), i)
	}
	if w.Targets() != room || take(7, 0) || take(0, 0) {
		t.Errorf("%d targets", w.Targets())
	}
	for _, b := range kept {
		w.Drop(b)
	}
	if w.Targets() != 0 || len(w.charge) != 0 || !take(liar, 0) {
		t.Errorf("%d targets after all were dropped", w.Targets())
	}
	one := Wants{Max: 1}
	if !one.Take(new(Ballot), liar, Want{For: time.Second}, 1) || (&Wants{}).Take(new(Ballot), liar, Want{For: time.Second}, 1) {
		t.Error("room for one is for one, and no room for none")
	}
}
