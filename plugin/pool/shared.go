package pool

import (
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

const (
	// voteWait is how long a member waits for the votes on a target that is new to it, before it probes for itself. A part of it
	// (voteSpread) is drawn from the target and the member, so that many members do not begin together.
	voteWait   = 3 * time.Second
	voteSpread = time.Second
	// refusedFor is how long a vantage point that could not probe a target leaves its seat to another.
	refusedFor = time.Minute
)

// shared is what a monitor has beside its own probes, if its target is shared. While the target is not probed here, the machine
// of the monitor is what the others say, so that this process can go on from there at any time.
type shared struct {
	ballot fleet.Ballot
	told   uint32 // up to this second the vantage points know that the target is wanted here
	shard  fleet.Shard
	role   fleet.Role
	shown  verdict.State // what queries see
	votes  uint8         // that counted in the last fold
	fails  uint8         // failures in a row since this process got its seat
	passes uint8         // scans since the seats or the votes changed
	cannot uint8         // probes in a row that could not be asked
	marks  mark
}

// mark is what is so of a shared target, a bit each: there may be hundreds of thousands of them.
type mark uint16

const (
	markProbes  mark = 1 << iota // it is probed here
	markProved                   // the probes since this process got its seat have decided
	markVoted                    // a vote of this process is in the ballot, and said
	markUnsaid                   // it is yet to be said
	markCalled                   // a last call waits for an answer
	markAsked                    // a last call has been said
	markOdd                      // all others that count contradict the vote of this process
	markReached                  // a vote has counted since the target is shared
	markLent                     // another member wanted it first
)

// is reports whether a mark is set.
func (s *shared) is(x mark) bool { return s.marks&x != 0 }

// set sets a mark, or takes it off.
func (s *shared) set(x mark, on bool) {
	s.marks &^= x
	if on {
		s.marks |= x
	}
}

// transit is what is to be done about a monitor soon: to probe it, because no vote came; to stop that, because others do; or to
// take back that it cannot be probed.
type transit struct {
	until clock.Instant
	again clock.Instant // when to ask those who have not voted
	wait  time.Duration // until the time after that

	refused bool // this process has said that it cannot probe the target
}

// listening is the position of a monitor whose target is probed by others.
const listening = -3

// state is the state that queries see.
func (m *monitor) state() verdict.State {
	if m.shared != nil {
		return m.shared.shown
	}
	return m.machine.State()
}

// listens reports whether the target is left to others.
func (m *monitor) listens() bool { return m.shared != nil && !m.shared.is(markProbes) }

// known is when the verdict was last sure. Votes that count are as good as a result: others go on to probe, and say what changes.
func (m *monitor) known(now time.Time) clock.Instant {
	if m.listens() && m.shared.votes > 0 {
		return clock.At(now)
	}
	return m.heard
}

// askedHere reports whether queries have asked for the target here, and not only other members.
func (m *monitor) askedHere() bool {
	for range m.entry.Members() {
		return true
	}
	return false
}

// share makes the target of a monitor a shared one.
func (p *Pool) share(m *monitor, now time.Time) {
	if m.shared != nil {
		return
	}
	m.shared = &shared{shard: m.fleetTarget().Shard(), shown: m.machine.State(), marks: markProbes, role: fleet.Seat}
	p.member.roles[fleet.Seat]++
	m.shared.set(markProved, m.position != parked && m.calm())
	p.publishVote(m, m.verdict(), now)
	p.refold(m, now)
}

// unshare makes it one of this process alone, which goes on from what is believed.
func (p *Pool) unshare(m *monitor, now time.Time) {
	if m.shared == nil {
		return
	}
	v := m.verdict()
	p.leaveFleet(m)
	heard := m.listens()
	m.shared = nil
	if m.machine.State() != v.State {
		m.machine = verdict.Resume(v)
	}
	m.entry.Store(v)
	if heard && m.position == listening {
		m.position = parked
		if m.check.live {
			m.scheduleFirst(p, now)
		}
	}
}

// leaveFleet takes a monitor off all that the member keeps of it, and takes back its vote.
func (p *Pool) leaveFleet(m *monitor) {
	f := p.member
	if m.shared == nil || f == nil {
		return
	}
	p.withdraw(m)
	p.member.tally(m.shared, -1)
	f.wants.Drop(&m.shared.ballot)
	if m.shared.is(markLent) {
		m.group.lent--
	}
	delete(f.transits, m)
	if !m.shared.is(markProbes) {
		f.listening--
	}
}

// tally adds a shared target to the counts for metrics, or takes it off.
func (f *member) tally(s *shared, n int) {
	f.roles[s.role] += n
	if s.votes == 1 {
		f.thin += n
	}
	if s.is(markOdd) {
		f.contradicted += n
	}
}

// fleetTarget is the target as members name it.
func (m *monitor) fleetTarget() fleet.Target {
	t := fleet.Target{Group: m.check.fleetGroup, Addr: m.entry.Target.Addr}
	if m.check.forOwner != nil {
		t.Owner = m.owner
	}
	return t
}

// refold makes one verdict of the votes on a target, publishes it, and gives this process its role.
func (p *Pool) refold(m *monitor, now time.Time) { p.refoldWith(m, m.ownVerdict(), now) }

// refoldWith is refold that shows what this process believes by itself if no vote counts.
func (p *Pool) refoldWith(m *monitor, alone verdict.Verdict, now time.Time) {
	s, f := m.shared, p.member
	f.tally(s, -1)
	own, voted := s.ballot.BriefOf(f.roster.Own())
	tally := m.check.seats.Fold(&s.ballot, s.shard, m.check.terms.Quorum)
	s.votes = uint8(tally.Votes())
	s.set(markReached, s.is(markReached) || s.votes > 0)
	s.set(markOdd, voted && s.votes > 2 && (own.State() == verdict.Up && tally.Up == 1 || own.State() == verdict.Down && tally.Down == 1))
	f.tally(s, 1)
	p.assign(m, now)
	if s.votes == 0 {
		if alone.State == verdict.Unknown && s.shown != verdict.Unknown {
			alone = m.goOn()
		}
		p.showOwn(m, alone, now)
		return
	}
	if !s.is(markProbes) {
		m.machine, m.heard = verdict.Resume(m.foldedVerdict(tally.Brief)), clock.At(now)
	}
	before := s.shown
	s.shown = tally.Brief.State()
	m.entry.StoreBrief(tally.Brief)
	if s.shown != before {
		v := m.foldedVerdict(tally.Brief)
		m.countTransition(before, v.State)
		p.recordState(m, now)
		p.logFold(m, before, v, [2]int{tally.Up, tally.Down}, now)
	}
	m.countWeight(true)
}

// goOn has this process go on from what the votes said, if they are gone before its own probes have decided.
func (m *monitor) goOn() verdict.Verdict {
	brief, _ := m.entry.Load()
	v := verdict.Verdict{State: m.shared.shown, Since: sinceOf(brief)}
	if v.State == verdict.Down {
		v.Reason = "down by votes that are gone"
	}
	m.machine = verdict.Resume(v)
	v.Holds = m.check.holdsFromNow(&m.machine)
	return v
}

// showOwn publishes what this process believes by itself, where no vote counts.
func (p *Pool) showOwn(m *monitor, v verdict.Verdict, now time.Time) {
	before := m.shared.shown
	m.shared.shown = v.State
	m.entry.Store(v)
	if v.State != before {
		p.transition(m, before, v, now)
	}
	m.countWeight(true)
}

// ownVerdict is what this process believes of a target without the others. It holds for as long as it surely does.
func (m *monitor) ownVerdict() verdict.Verdict {
	brief, _ := m.entry.Load()
	holds := time.Duration(brief.Holds()) * time.Second
	if m.shared.role != fleet.Seat || brief.State() != m.machine.State() {
		holds = min(holds, m.check.holdsFromNow(&m.machine))
	}
	return m.machine.Verdict(holds)
}

// foldedVerdict is the result of a fold with what can be said of it.
func (m *monitor) foldedVerdict(b verdict.Brief) verdict.Verdict {
	v := verdict.Verdict{State: b.State(), Since: sinceOf(b), Holds: time.Duration(b.Holds()) * time.Second}
	if v.State == verdict.Down {
		v.Reason = m.check.seats.Reasons(&m.shared.ballot, m.shared.shard)
		return v
	}
	if b != b.Plain() {
		v.Said = &report.Said{Shed: 100 - b.Weight()}
		if b.Drained() {
			v.Said.Admin = "drain"
		}
	}
	return v
}

// logFold logs that the votes, so many up and down, have changed what is believed of a target.
func (p *Pool) logFold(m *monitor, before verdict.State, v verdict.Verdict, votes [2]int, now time.Time) {
	if before == verdict.Unknown && v.State == verdict.Up {
		return
	}
	p.recordChange(m, before, v, now)
	if !p.transitions.allow(transitionKey{m.check.Name, v.State, v.Reason}, now) {
		return
	}
	place, points := m.entry.Target.Place(), text.Count(votes[0]+votes[1], "vantage point")
	if v.State == verdict.Down {
		log.Warningf("%s is down: %d of %s of %s: %s", place, votes[1], points, m.question(), v.Reason)
		return
	}
	log.Infof("%s is %s: %d of %s of %s find it up", place, v.State, votes[0], points, m.question())
}

// assign gives this process its role for a target, and begins or ends to probe it.
func (p *Pool) assign(m *monitor, now time.Time) {
	s, f := m.shared, p.member
	role := m.check.seats.Role(&s.ballot, s.shard)
	if role == fleet.Alone && !m.askedHere() && s.is(markProbes) && !s.is(markVoted) {
		p.stopProbing(m)
	}
	if role == s.role {
		return
	}
	f.roles[s.role]--
	f.roles[role]++
	s.role = role
	switch at := clock.At(now); role {
	case fleet.Seat:
		delete(f.transits, m)
		p.beginProbing(m, randomWait(0, m.check.pace.Fast), now)
	case fleet.Heard:
		delete(f.transits, m)
		if own, _ := s.ballot.BriefOf(f.roster.Own()); own.State() == verdict.Unchecked {
			f.transits[m] = &transit{until: at.Add(refusedFor), refused: true}
			p.stopProbing(m)
		} else if s.is(markVoted) {
			f.transits[m] = &transit{until: at.Add(2 * m.check.pace.Interval)}
		} else {
			p.stopProbing(m)
		}
	case fleet.Alone:
		p.withdraw(m)
		if s.is(markProbes) && (m.askedHere() && m.machine.State() != verdict.Unknown) {
			return
		}
		p.stopProbing(m)
		p.awaitVotes(m, now)
	}
}

// awaitVotes has this process probe a target on which no vote counts, unless one comes soon.
func (p *Pool) awaitVotes(m *monitor, now time.Time) {
	f, at := p.member, clock.At(now)
	wait := f.roster.Spread(m.fleetTarget(), m.check.pace.Fast)
	if !m.shared.is(markReached) {
		wait = voteWait + f.roster.Spread(m.fleetTarget(), voteSpread)
	}
	f.transits[m] = &transit{until: at.Add(wait), again: at.Add(wantAgain), wait: wantAgain}
}

// beginProbing has this process probe a target after some time at least, from the state that is believed.
func (p *Pool) beginProbing(m *monitor, wait time.Duration, now time.Time) {
	s := m.shared
	if s.is(markProbes) {
		return
	}
	p.member.listening--
	s.set(markProbes, true)
	s.set(markProved, false)
	if m.started != 0 {
		wait = max(wait, m.spared()-clock.At(now).Sub(m.started))
	}
	s.fails, m.tries = 0, 0
	if m.position != listening {
		return // the result of its last probe is yet to come
	}
	m.position = parked
	switch {
	case !m.check.live:
	case m.machine.State() == verdict.Unknown:
		m.scheduleFirst(p, now)
	default:
		p.schedule.add(m, clock.At(now).Add(wait), now)
	}
}

// stopProbing leaves a target to others.
func (p *Pool) stopProbing(m *monitor) {
	s := m.shared
	if !s.is(markProbes) {
		return
	}
	p.member.listening++
	s.set(markProbes, false)
	p.dropConn(m)
	p.isolation.remove(m)
	p.schedule.remove(m)
	if m.position == parked {
		m.position = listening
	}
}

// advance does what is due about a monitor in transition.
func (p *Pool) advance(m *monitor, x *transit, now time.Time) {
	s, at := m.shared, clock.At(now)
	over := at >= x.until
	switch {
	case s.role == fleet.Heard && (over || !x.refused && m.check.seats.Relieved(&s.ballot, s.shard)):
		delete(p.member.transits, m)
		p.withdraw(m)
		p.stopProbing(m)
		p.refold(m, now)
	case s.role == fleet.Alone && over:
		delete(p.member.transits, m)
		if m.askedHere() {
			p.beginProbing(m, 0, now) // the wait before was drawn
		}
	case s.role == fleet.Alone && at >= x.again:
		x.again, x.wait = at.Add(2*x.wait), 2*x.wait
		p.askMissing(m, now)
	}
}

// prove notes a result since this process got its seat: it may vote after a success, or as many failures as take a target down.
func (s *shared) prove(failed bool, before, after verdict.State, fall int) {
	s.cannot = 0
	switch {
	case !failed:
		s.fails = 0
		s.set(markProved, s.is(markProved) || after == verdict.Up)
	case int(s.fails) < fall && s.fails < 255:
		s.fails++
	}
	s.set(markProved, s.is(markProved) || after != before || int(s.fails) >= min(fall, 255))
}
