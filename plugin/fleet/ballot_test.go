package fleet

import (
	"runtime"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// A vote is for a verdict what the verdict was, apart from the clocks.
func TestVoteOf(t *testing.T) {
	v := verdict.Verdict{State: verdict.Up, Since: at(-90), Holds: 12 * time.Second, Said: &report.Said{Shed: 30, Admin: "drain"}}
	vote := VoteOf(target(1), v, 300, noon)
	if want := (Vote{Target: target(1), State: verdict.Up, Age: 90 * time.Second, Holds: 12 * time.Second, Shed: 30, Drained: true, Doubt: 255}); vote != want {
		t.Errorf("%+v", vote)
	}
	if got := vote.Brief(noon, longest); got != v.Brief() {
		t.Errorf("%x, want %x", got, v.Brief())
	}
	if got := vote.Brief(noon, 5*time.Second).Holds(); got != 5 {
		t.Errorf("it holds for %d s, longer than can be", got)
	}
	v.State, v.Reason = verdict.Down, "refused"
	vote = VoteOf(target(1), v, 0, noon)
	if want := (Vote{Target: target(1), State: verdict.Down, Age: 90 * time.Second, Holds: 12 * time.Second, Reason: "refused"}); vote != want {
		t.Errorf("%+v", vote)
	}
}

// A ballot has the last vote of each author. It never has more than can count, and votes that count take the place of others.
func TestBallot(t *testing.T) {
	r, s := ranked(20, 3)
	shard := target(0).Shard()
	b := new(Ballot)
	put := func(a *author, state verdict.State) bool {
		return b.Put(s, a.stream, &Vote{Target: target(0), State: state, Reason: a.Name}, noon, longest)
	}
	count := func() (n int) {
		for x := range b.all() {
			if x.stream != 0 {
				n++
			}
		}
		return n
	}
	var strangers []*author
	for _, a := range s.members {
		if s.rank(shard, a.stream) < 0 {
			strangers = append(strangers, a)
		}
	}
	for i, a := range strangers { // they have no seat, or do not know it yet
		if got, want := put(a, verdict.Down), i < 5; got != want {
			t.Errorf("stranger %d: noted %t", i, got)
		}
	}
	if tally := s.Fold(b, shard, Defaults().Quorum); tally.Votes() != 0 || count() != 5 {
		t.Errorf("votes without a seat: %+v, %d kept", tally, count())
	}
	for rank := range 5 {
		if !put(s.author(rank), verdict.Up) || !put(s.author(rank), verdict.Down) || !put(s.author(rank), verdict.Up) {
			t.Errorf("the vote of number %d has no place", rank)
		}
	}
	if tally := s.Fold(b, shard, Defaults().Quorum); tally.Up != 3 || tally.Down != 0 || count() != 5 {
		t.Errorf("%+v, %d kept", tally, count())
	}
	if put(strangers[0], verdict.Down) || b.hasVote(strangers[0].stream) || b.more != nil && len(b.more.reasons) > 0 {
		t.Error("a stranger has a place among votes that count")
	}
	put(s.author(0), verdict.Down)
	if got := b.Reason(s.author(0).stream); got != s.author(0).Name {
		t.Errorf("reason %q", got)
	}
	for rank := range 5 {
		put(s.author(rank), verdict.Unknown)
	}
	if count() != 0 || b.more != nil {
		t.Errorf("%d votes left", count())
	}
	if b.Put(s, 0, &Vote{Target: target(0), State: verdict.Up}, noon, longest) || b.hasVote(0) {
		t.Error("a vote without an author is noted")
	}
	// One that is gone gives its place to any other.
	put(s.author(0), verdict.Up)
	put(s.author(1), verdict.Up)
	put(strangers[0], verdict.Up)
	gone := s.author(1)
	r.Leave(gone.Name, noon)
	r.Silent(gone.Name, noon)
	put(strangers[1], verdict.Up)
	if b.hasVote(gone.stream) || !b.hasVote(strangers[0].stream) || b.more != nil {
		t.Error("a vote of a member that is gone is kept, and another is not")
	}
}

// A target that is shared takes at most 80 bytes more: its ballot, with a vote of each of three vantage points, and a pointer to it.
func TestMemoryOfASharedTarget(t *testing.T) {
	const n = 100_000
	_, s := ranked(20, 3)
	all := make([]*Ballot, n) // of pointers, which count
	streams := make([][3]Stream, n)
	for i := range all {
		for rank, m := range s.row(target(i).Shard())[:3] {
			streams[i][rank] = s.members[m].stream
		}
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range all {
		all[i] = new(Ballot)
		for _, from := range streams[i] {
			all[i].Put(s, from, &Vote{Target: target(i), State: verdict.Up, Shed: 20, Holds: time.Second}, noon, longest)
		}
	}
	each := float64(heap()-before)/n + 8
	runtime.KeepAlive(all)
	runtime.KeepAlive(streams)
	if each > 80 || each < 56 {
		t.Errorf("%.1f bytes a target, want at most 80", each)
	}
	t.Logf("%.1f bytes a target", each)
}

func BenchmarkPut(b *testing.B) {
	_, s := ranked(50, 3)
	ballot, from, v := s.votes("+ + +"), s.author(1).stream, Vote{Target: target(0), State: verdict.Up}
	b.ReportAllocs()
	for b.Loop() {
		v.Age += time.Second
		ballot.Put(s, from, &v, noon, longest)
	}
}
