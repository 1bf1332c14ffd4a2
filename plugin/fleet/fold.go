package fleet

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Standing says whether a vote counts, and why not.
type Standing uint8

const (
	// Missing is a member that has a say and has not voted.
	Missing Standing = iota
	// Counts is a vote that counts.
	Counts
	// Spare is a vote that would count if one before it did not.
	Spare
	// Lapsed is a vote whose author is silent.
	Lapsed
	// Isolated is a vote whose author doubts its own probes, while others can be heard.
	Isolated
	// Refused is a member that cannot probe the target. The next one has its seat.
	Refused
	// Seatless is a vote whose author has no seat.
	Seatless
)

// standings are the words for the values, which are stable.
var standings = [...]string{"missing", "counts", "spare", "silent", "isolated", "refused", "no seat"}

// String returns the word for it that JSON uses.
func (s Standing) String() string { return standings[s] }

// poll is what the members with a say on a shard have voted: a vote and a standing for each in the row of the shard.
type poll struct {
	votes     [MaxVantage + substitutes]*vote
	standings [MaxVantage + substitutes]Standing
}

// poll finds out which votes count: those of the first members that have a fresh, decided one, as many as there are vantage points.
// Members that doubt their own probes count only where there are no others.
func (s *Seats) poll(b *Ballot, at Shard) (p poll) {
	certain, isolated := 0, 0
	for rank, i := range s.row(at) {
		a := s.members[i]
		v := b.voteOf(a.stream)
		standing := a.standingOf(v)
		switch {
		case standing == Isolated:
			isolated++
		case standing == Counts && certain == s.vantage:
			standing = Spare
		case standing == Counts:
			certain++
		}
		p.votes[rank], p.standings[rank] = v, standing
	}
	if certain > 0 || isolated == 0 {
		return p
	}
	for rank := range s.row(at) {
		if p.standings[rank] != Isolated {
			continue
		}
		p.standings[rank] = Spare
		if certain < s.vantage {
			p.standings[rank] = Counts
			certain++
		}
	}
	return p
}

// standingOf is the standing of the vote of a member with a seat, without regard to the votes of others.
func (a *author) standingOf(v *vote) Standing {
	switch {
	case v == nil:
		return Missing
	case !a.fresh:
		return Lapsed
	case v.brief.State() == verdict.Unchecked:
		return Refused
	case a.isolated:
		return Isolated
	}
	return Counts
}

// Tally is the result of a fold. Without votes it is the zero value, which is unknown.
type Tally struct {
	Brief    verdict.Brief
	Up, Down int // votes that counted
}

// Votes is how many votes counted.
func (t Tally) Votes() int { return t.Up + t.Down }

// Fold makes one verdict of the votes that count: the target is up if as many as the quorum finds it up. A share is of these votes, so
// it needs no other configuration in a fleet that shrinks, and a count that is more than there are is all of them. With a single
// vote, that decides. Weight and drained mark are as agree says.
func (s *Seats) Fold(b *Ballot, at Shard, quorum answer.Quorum) (t Tally) {
	p := s.poll(b, at)
	var briefs [MaxVantage]verdict.Brief
	for rank := range s.row(at) {
		if p.standings[rank] != Counts {
			continue
		}
		briefs[t.Votes()] = p.votes[rank].brief
		if p.votes[rank].brief.State() == verdict.Up {
			t.Up++
		} else {
			t.Down++
		}
	}
	if n := t.Votes(); n > 0 {
		t.Brief = agree(briefs[:n], min(n, max(1, quorum.Of(n))))
	}
	return t
}

// Elsewhere counts the votes of other members that count, or would if one before did not, without those of members that doubt their
// own probes.
func (s *Seats) Elsewhere(b *Ballot, at Shard) (up, down int) {
	p := s.poll(b, at)
	for rank, i := range s.row(at) {
		a := s.members[i]
		if int(i) == s.self || a.isolated || p.standings[rank] != Counts && p.standings[rank] != Spare {
			continue
		}
		if p.votes[rank].brief.State() == verdict.Up {
			up++
		} else {
			down++
		}
	}
	return up, down
}

// Role is what this process does about a target.
type Role uint8

const (
	// Alone is a member that hears no vote which counts: it probes for itself, from the state that it has.
	Alone Role = iota
	// Heard is one that believes the votes of others.
	Heard
	// Seat is a vantage point: it probes for all.
	Seat
)

// String returns the value that metrics use.
func (r Role) String() string { return [...]string{"alone", "heard", "seat"}[r] }

// Role returns the role of this process for a target. One that becomes alone begins to probe after Roster.Spread over the fast
// interval, so that late beats are no storm. What is watched because others want it and not asked for here is probed in a seat only:
// those who want it have their own fallback.
func (s *Seats) Role(b *Ballot, at Shard) Role {
	p := s.poll(b, at)
	before, counts := 0, false
	for rank, i := range s.row(at) {
		switch {
		case p.standings[rank] == Refused:
		case int(i) == s.self && before < s.vantage:
			return Seat
		default:
			before++
		}
		counts = counts || p.standings[rank] == Counts
	}
	if counts {
		return Heard
	}
	return Alone
}

// Relieved reports whether a vantage point that has lost its seat may stop to probe: those who have the seats now have votes that
// count. It may stop after two intervals anyway, and then takes back its vote.
func (s *Seats) Relieved(b *Ballot, at Shard) bool {
	p := s.poll(b, at)
	votes, seats := 0, 0
	for rank, i := range s.row(at) {
		if p.standings[rank] == Refused || int(i) == s.self {
			continue
		}
		if seats++; seats > s.vantage {
			break
		}
		if p.standings[rank] == Counts || p.standings[rank] == Isolated {
			votes++
		}
	}
	return votes == min(seats, s.vantage)
}

// Asked are the names of the vantage points that have not voted on a target, which a want has to go to.
func (s *Seats) Asked(b *Ballot, at Shard) iter.Seq[string] {
	return func(yield func(string) bool) {
		p := s.poll(b, at)
		seats := 0
		for rank, i := range s.row(at) {
			if p.standings[rank] == Refused {
				continue
			}
			if seats++; seats > s.vantage {
				return
			}
			if p.standings[rank] == Missing && int(i) != s.self && !yield(s.members[i].Name) {
				return
			}
		}
	}
}

// Line is one member's part in a verdict, for people.
type Line struct {
	Name, Site string
	Seat       bool // it is a vantage point of the target; others are substitutes
	Standing   Standing
	Brief      verdict.Brief // unknown if it has not voted
	Doubt      uint8
	Reason     string
}

// Lines are the members that have a say on a target, best first.
func (s *Seats) Lines(b *Ballot, at Shard) (all []Line) {
	p := s.poll(b, at)
	seats := 0
	for rank, i := range s.row(at) {
		a := s.members[i]
		line := Line{Name: a.Name, Site: a.Site, Standing: p.standings[rank]}
		if line.Standing != Refused && seats < s.vantage {
			line.Seat = true
			seats++
		}
		if v := p.votes[rank]; v != nil {
			line.Brief, line.Doubt, line.Reason = v.brief, v.doubt, b.Reason(a.stream)
		}
		all = append(all, line)
	}
	return all
}

// Reasons are why vantage points whose votes count find a target down, the most frequent first: "connection refused 2, timed out 1". If
// all say the same it is that alone.
func (s *Seats) Reasons(b *Ballot, at Shard) string {
	counts := make(map[string]int)
	var order []string
	for _, line := range s.Lines(b, at) {
		if line.Standing != Counts || line.Brief.State() != verdict.Down {
			continue
		}
		if counts[line.Reason]++; counts[line.Reason] == 1 {
			order = append(order, line.Reason)
		}
	}
	if len(order) == 1 {
		return order[0]
	}
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(counts[b], counts[a]) })
	for i, reason := range order {
		order[i] = fmt.Sprintf("%s %d", cmp.Or(reason, "no reason"), counts[reason])
	}
	return strings.Join(order, ", ")
}

// rank is the place of a stream among those with a say on a shard, or -1.
func (s *Seats) rank(at Shard, from Stream) int {
	for rank, i := range s.row(at) {
		if s.members[i].stream == from {
			return rank
		}
	}
	return -1
}

// AnswerAfter is how long this process waits before it answers a last call: of the members that want a target the first is enough.
func (r *Roster) AnswerAfter(t Target) time.Duration { return r.Spread(t, answerWithin) }

// Spread is a time below within, which differs from member to member and from target to target, so that many who do the same do not
// do it at once.
func (r *Roster) Spread(t Target, within time.Duration) time.Duration {
	return time.Duration(part(mix(t.hash()^r.self.hash), uint64(max(0, within))))
}
