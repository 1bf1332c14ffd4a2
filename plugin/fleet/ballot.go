package fleet

import (
	"slices"
	"time"
	"unique"

	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// maxAge bounds the time that a state is said to have lasted.
const maxAge = 10 * 365 * 24 * time.Hour

// Vote is what a vantage point says of a target. A vantage point that has just got its seat has no vote before its own probes have
// decided, or each change of seats would make dead targets unknown, which are served.
type Vote struct {
	Target Target
	// State is up or down; unknown takes back the vote; unchecked says that this member cannot probe the target, so that
	// another has to take its seat.
	State   verdict.State
	Age     time.Duration // since the state was entered: no clocks are compared
	Holds   time.Duration // how long the state is sure to hold
	Shed    uint8         // how many per cent of its weight the backend does not want
	Drained bool          // the backend wants no clients
	Doubt   uint8         // how many results in a row speak against the state
	Reason  string        // why the target is down
}

// VoteOf is the vote for a verdict.
func VoteOf(t Target, v verdict.Verdict, doubt int, now time.Time) Vote {
	vote := Vote{Target: t, State: v.State, Holds: v.Holds, Doubt: uint8(min(doubt, 255))}
	if !v.Since.IsZero() {
		vote.Age = max(0, now.Sub(v.Since))
	}
	if v.State == verdict.Down {
		vote.Reason = v.Reason
		return vote
	}
	vote.Shed, vote.Drained = 100-v.Said.Weight(), v.Said.Drains()
	return vote
}

// Brief is the vote as a verdict of this process. A vote that says that its state holds for longer than any can at this pace
// would raise TTLs, so longest bounds that.
func (v Vote) Brief(now time.Time, longest time.Duration) verdict.Brief {
	if v.State == verdict.Unchecked {
		return verdict.Outside.Brief()
	}
	full := verdict.Verdict{State: v.State, Since: now.Add(-min(max(0, v.Age), maxAge)), Holds: min(max(0, v.Holds), longest)}
	if v.State == verdict.Up && v.Shed > 0 {
		full.Said = &report.Said{Shed: min(v.Shed, 100)}
	}
	b := full.Brief()
	if v.Drained {
		b = b.Drain()
	}
	return b
}

// Ballot has the latest votes on a target, one of each author. The zero value has none. It has no more votes than can count, so
// authors without a seat cannot make it grow. Most targets have three vantage points and are up, so that much is at hand; with
// its pointer in the table of the pool, such a ballot takes 72 bytes.
type Ballot struct {
	votes  [usualVantage]vote
	more   *moreVotes
	until  uint32 // others want the target up to this second
	wanter Stream // whom Wants has charged for it; 0 for none
}

// vote is a vote as a ballot keeps it. That of stream 0 is none.
type vote struct {
	brief  verdict.Brief
	stream Stream
	doubt  uint8
}

// moreVotes is what the first part of a ballot has no room for.
type moreVotes struct {
	votes   []vote
	reasons []reason // of the votes that are down
}

type reason struct {
	stream Stream
	text   unique.Handle[string] // few are different
}

// voteOf is the vote of a stream, or nil.
func (b *Ballot) voteOf(s Stream) *vote {
	for i := range b.votes {
		if b.votes[i].stream == s {
			return &b.votes[i]
		}
	}
	if b.more != nil {
		for i := range b.more.votes {
			if b.more.votes[i].stream == s {
				return &b.more.votes[i]
			}
		}
	}
	return nil
}

// hasVote reports whether there is a vote of the stream.
func (b *Ballot) hasVote(s Stream) bool { return s != 0 && b.voteOf(s) != nil }

// HasAny reports whether there is a vote of any of the streams. There may be as many of these as members, and as many ballots as
// targets.
func (b *Ballot) HasAny(streams map[Stream]bool) bool {
	for x := range b.all() {
		if x.stream != 0 && streams[x.stream] {
			return true
		}
	}
	return false
}

// BriefOf is the vote of the stream; false if there is none.
func (b *Ballot) BriefOf(s Stream) (verdict.Brief, bool) {
	if !b.hasVote(s) {
		return 0, false
	}
	return b.voteOf(s).brief, true
}

// Reason is why the author of the stream finds the target down; empty if it does not say.
func (b *Ballot) Reason(s Stream) string {
	if b.more != nil {
		for _, r := range b.more.reasons {
			if r.stream == s {
				return r.text.Value()
			}
		}
	}
	return ""
}

// Put notes a vote of an author in place of its earlier one; seats are those of the target's group, and longest is the longest that
// a state can hold at its pace. A vote of an author without a seat is noted if there is room, since the author may have seen
// before us that the seat is its own, but it does not count. Put reports whether the vote was noted.
func (b *Ballot) Put(s *Seats, from Stream, v *Vote, now time.Time, longest time.Duration) bool {
	if from == 0 {
		return false
	}
	if v.State == verdict.Unknown {
		b.withdraw(from)
		return true
	}
	x := b.voteOf(from)
	if x == nil {
		x = b.place(s, v.Target.Shard(), from)
	}
	if x == nil {
		return false
	}
	*x = vote{v.Brief(now, longest), from, v.Doubt}
	b.explain(from, v)
	return true
}

// place is where a new vote goes: where none is, or one of an author that is gone, else where one is that cannot count; nil if
// all can.
func (b *Ballot) place(s *Seats, at Shard, from Stream) *vote {
	if free := b.voteOf(0); free != nil {
		return free
	}
	count := 0
	var stranger *vote
	for x := range b.all() {
		if a := s.roster.live[x.stream]; a == nil || !a.present && !a.fresh {
			return b.vacate(x)
		}
		if s.rank(at, x.stream) < 0 {
			stranger = x
		}
		count++
	}
	switch {
	case count < s.vantage+substitutes:
		if b.more == nil {
			b.more = new(moreVotes)
		}
		b.more.votes = append(slices.Clip(b.more.votes), vote{})
		return &b.more.votes[len(b.more.votes)-1]
	case stranger != nil && s.rank(at, from) >= 0:
		return b.vacate(stranger)
	}
	return nil
}

// vacate empties a place for another vote.
func (b *Ballot) vacate(x *vote) *vote {
	s := x.stream
	*x = vote{}
	if b.more != nil {
		b.more.reasons = slices.DeleteFunc(b.more.reasons, func(r reason) bool { return r.stream == s })
	}
	return x
}

// all goes through the places for votes.
func (b *Ballot) all() func(yield func(*vote) bool) {
	return func(yield func(*vote) bool) {
		for i := range b.votes {
			if !yield(&b.votes[i]) {
				return
			}
		}
		for i := 0; b.more != nil && i < len(b.more.votes); i++ {
			if !yield(&b.more.votes[i]) {
				return
			}
		}
	}
}

// withdraw takes out the vote of a stream.
func (b *Ballot) withdraw(s Stream) {
	if x := b.voteOf(s); x != nil {
		*x = vote{}
		b.forgetReason(s)
	}
	if b.more != nil {
		b.more.votes = slices.DeleteFunc(b.more.votes, func(v vote) bool { return v.stream == 0 })
		b.shrink()
	}
}

// explain notes the reason of a vote, or that it has none.
func (b *Ballot) explain(from Stream, v *Vote) {
	if v.State != verdict.Down || v.Reason == "" {
		b.forgetReason(from)
		return
	}
	if b.more == nil {
		b.more = new(moreVotes)
	}
	said := reason{from, unique.Make(cut(v.Reason))}
	for i, r := range b.more.reasons {
		if r.stream == from {
			b.more.reasons[i] = said
			return
		}
	}
	b.more.reasons = append(b.more.reasons, said)
}

func (b *Ballot) forgetReason(from Stream) {
	if b.more != nil {
		b.more.reasons = slices.DeleteFunc(b.more.reasons, func(r reason) bool { return r.stream == from })
		b.shrink()
	}
}

// shrink gives back the second part of a ballot if nothing is in it.
func (b *Ballot) shrink() {
	if len(b.more.votes) == 0 && len(b.more.reasons) == 0 {
		b.more = nil
	}
}
