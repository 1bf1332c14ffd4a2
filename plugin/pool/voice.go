package pool

import (
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

const (
	// wantAgain is how soon a member asks again for the votes on a target that is new to it. Each time it waits twice as long.
	wantAgain = 500 * time.Millisecond
	// quickLooks is how many looks in a row those are asked who have not voted, before that becomes less and less often.
	quickLooks = 8
	// slowLooks is a power of two. When as many looks have passed the count goes back to half of it, so that from then on they are asked
	// every slowLooks/2 looks.
	slowLooks = 128
	// renewBefore is how long before the vantage points let a target become idle a member says again that it wants it, if no last
	// call has come.
	renewBefore = 30 * time.Second
	// maxAnswers bounds the votes that others have asked for and that are not repeated yet. Who gets no answer asks again.
	maxAnswers = 1 << 16
)

// voice is what this process has yet to say to the fleet. Votes are taken when they are said, so that only the latest of a target
// is.
type voice struct {
	withdrawn []fleet.Vote // of targets that are watched no longer, first of all
	unsaid    []*monitor
	answers   map[answer]bool
}

// answer is a vote that a member has asked for.
type answer struct {
	to string
	*monitor
}

// publishVote votes if this process has a say on the target and its own probes have decided. It is said if it is another vote than
// before.
func (p *Pool) publishVote(m *monitor, v verdict.Verdict, now time.Time) {
	s, f := m.shared, p.member
	if !s.is(markProbes) || !s.is(markProved) || s.role != fleet.Seat && !s.is(markVoted) || m.machine.State() == verdict.Unknown {
		return
	}
	before, _ := s.ballot.BriefOf(f.roster.Own())
	vote := fleet.VoteOf(m.fleetTarget(), v, m.machine.Streak(), clock.Steady(now))
	s.ballot.Put(m.check.seats, f.roster.Own(), &vote, clock.Steady(now), m.check.pace.LongestHold())
	if after, ok := s.ballot.BriefOf(f.roster.Own()); ok && (after != before || !s.is(markVoted)) {
		s.set(markVoted, true)
		f.say(m)
	}
}

// say adds the vote on a target to those that are to be said.
func (f *member) say(m *monitor) {
	if !m.shared.is(markUnsaid) {
		m.shared.set(markUnsaid, true)
		f.voice.unsaid = append(f.voice.unsaid, m)
	}
}

// withdraw takes back the vote of this process.
func (p *Pool) withdraw(m *monitor) {
	s, f := m.shared, p.member
	if !s.is(markVoted) {
		return
	}
	s.set(markVoted|markProved, false)
	vote := fleet.Vote{Target: m.fleetTarget()}
	s.ballot.Put(m.check.seats, f.roster.Own(), &vote, time.Time{}, 0)
	f.voice.withdrawn = append(f.voice.withdrawn, vote)
}

// voteNow is the vote of this process as it is now.
func (p *Pool) voteNow(m *monitor, now time.Time) fleet.Vote {
	v := m.machine.Verdict(0)
	if brief, ok := m.shared.ballot.BriefOf(p.member.roster.Own()); ok {
		if brief.State() == verdict.Unchecked {
			return fleet.Vote{Target: m.fleetTarget(), State: verdict.Unchecked}
		}
		v.Holds = time.Duration(brief.Holds()) * time.Second
	}
	return fleet.VoteOf(m.fleetTarget(), v, m.machine.Streak(), clock.Steady(now))
}

// speak says what is to be said, as much as the others take.
func (p *Pool) speak(now time.Time) {
	f := p.member
	if f == nil {
		return
	}
	var votes []fleet.Vote
	for len(f.voice.withdrawn) > 0 && f.mayspeak(now) {
		votes = append(votes, f.voice.withdrawn[0])
		f.voice.withdrawn = f.voice.withdrawn[1:]
	}
	for len(f.voice.withdrawn) == 0 && len(f.voice.unsaid) > 0 {
		m := f.voice.unsaid[0]
		current := !m.removed && m.shared != nil && m.shared.is(markVoted)
		if current && !f.mayspeak(now) {
			break
		}
		f.voice.unsaid = f.voice.unsaid[1:]
		if m.shared != nil {
			m.shared.set(markUnsaid, false)
		}
		if current {
			votes = append(votes, p.voteNow(m, now))
		}
	}
	if len(votes) > 0 {
		metrics.Fleet.Votes.WithLabelValues("sent").Add(float64(len(votes)))
		f.engine.Say(votes)
	}
	p.answerWants(now)
}

// answerWants repeats votes for members that asked for them.
func (p *Pool) answerWants(now time.Time) {
	f := p.member
	if len(f.voice.answers) == 0 {
		return
	}
	byName := make(map[string][]fleet.Vote)
	for a := range f.voice.answers {
		current := !a.removed && a.shared != nil && a.shared.is(markVoted)
		if current && !f.mayspeak(now) {
			break
		}
		delete(f.voice.answers, a)
		if current {
			byName[a.to] = append(byName[a.to], p.voteNow(a.monitor, now))
		}
	}
	for name, votes := range byName {
		f.engine.Answer(name, votes)
	}
}

// mayspeak reports whether this process may say one thing more now: the others take no more of an author than that.
func (f *member) mayspeak(now time.Time) bool { return f.roster.Admit(f.self, 1, now) > 0 }

// busyFor is how long a target is still busy by what queries have asked here.
func (m *monitor) busyFor(now time.Time) time.Duration {
	at, left := seconds(now), time.Duration(0)
	for x := range m.entry.Members() {
		if end := x.Last + uint32(keepFor(x.TTL())/time.Second); end > at {
			left = max(left, time.Duration(end-at)*time.Second)
		}
	}
	return left
}

// want tells the vantage points of a target that it is busy here, or that it is watched as an idle one. What is watched for others
// alone is wanted for as long as they want it: another one may have to know who cannot probe it. It reports whether it is said.
func (p *Pool) want(m *monitor, to []string, now time.Time) bool {
	f := p.member
	asked := m.askedHere()
	switch {
	case len(to) == 0, !asked && !m.shared.ballot.Lent():
		return true
	case !f.mayspeak(now):
		return false
	}
	want := fleet.Want{Target: m.fleetTarget()}
	switch {
	case m.idle:
	case asked:
		want.For = max(m.busyFor(now), keepUnasked)
	default:
		want.For = m.shared.ballot.Wanted(seconds(now))
	}
	f.engine.Ask(to, want)
	return true
}

// wantAll is want for all vantage points, and notes that they know. What answers a last call is said again soon: it may be lost, and
// there is no other call.
func (p *Pool) wantAll(m *monitor, now time.Time) {
	s, f := m.shared, p.member
	s.passes = 0
	if !p.want(m, m.check.seats.Others(s.shard), now) {
		return // soon
	}
	s.told = seconds(now) + uint32((max(m.busyFor(now), keepUnasked)-renewBefore)/time.Second)
	if s.is(markCalled) && f.mayspeak(now) {
		s.set(markCalled, false)
		s.told = seconds(now) + uint32(fleet.LastCallBefore/2/time.Second)
		f.engine.Call(fleet.Call{Target: m.fleetTarget(), Answered: true})
	}
}

// askMissing asks those for their vote who have not voted.
func (p *Pool) askMissing(m *monitor, now time.Time) {
	p.want(m, slices.Collect(m.check.seats.Asked(&m.shared.ballot, m.shared.shard)), now)
}

// tend looks after a shared target every few seconds: it renews what is wanted, asks for votes that are missing, less and less
// often, and says last calls.
func (p *Pool) tend(m *monitor, now time.Time) {
	s, at := m.shared, seconds(now)
	switch {
	case !m.idle && at >= s.told && m.busyFor(now) > 0:
		p.wantAll(m, now)
	default:
		if s.passes++; s.passes <= quickLooks || s.passes&(s.passes-1) == 0 {
			p.askMissing(m, now)
		}
		if s.passes == slowLooks {
			s.passes = slowLooks / 2
		}
	}
	if s.ballot.Wanted(at) > fleet.LastCallBefore {
		s.set(markAsked, false)
	} else if s.ballot.CallDue(at) && !s.is(markAsked) && !m.idle && s.is(markVoted) && m.check.seats.First(s.shard) &&
		m.busyFor(now) < fleet.LastCallBefore && p.member.mayspeak(now) {
		s.set(markAsked, true)
		p.member.engine.Call(fleet.Call{Target: m.fleetTarget()})
	}
}

// hearWant takes what another member wants: this process watches the target for it, if it has a say there and its own Corefile allows
// that.
func (f *member) hearWant(name string, from fleet.Stream, w fleet.Want, now time.Time) {
	m, c := f.monitorOf(&w.Target)
	at := w.Target.Shard()
	if c == nil || !c.seats.HasSay(at) {
		return
	}
	if m == nil {
		if !c.live {
			return // a reload is about to be confirmed: until then nothing new is probed, and a refusal would outlive that
		}
		var never bool
		if m, never = f.lend(c, from, w, now); never && f.mayspeak(now) {
			f.engine.Answer(name, []fleet.Vote{{Target: w.Target, State: verdict.Unchecked}})
		}
		if m == nil {
			return // it is asked again
		}
	}
	f.wants.Take(&m.shared.ballot, from, w, seconds(now)) // without room for it, the target is watched as long as it is asked for here
	if w.For > 0 {
		f.pool.wake(m, now)
	}
	if m.shared.is(markVoted) && len(f.voice.answers) < maxAnswers {
		f.voice.answers[answer{name, m}] = true
	}
}

// lend begins to watch a target because another member wants it. never is that nothing here allows that, or that there is no room;
// without a monitor and without that, it may be possible a little later. Half of the targets of a stanza may be for others.
func (f *member) lend(c *checkState, from fleet.Stream, w fleet.Want, now time.Time) (m *monitor, never bool) {
	p := f.pool
	group := p.groupFor(c, w.Target)
	if group == nil || len(p.monitors) >= p.maxTargets || group.targets >= group.Max || group.lent >= (group.Max+1)/2 {
		return nil, true
	}
	t, _ := c.target(w.Target.Owner, w.Target.Addr.Addr(), w.Target.Addr.Port())
	if p.owners[c.withoutOwner(t)] >= maxOwners {
		return nil, true
	}
	var charge fleet.Ballot
	if !f.wants.Take(&charge, from, w, seconds(now)) {
		return nil, true
	}
	f.wants.Drop(&charge)
	if !group.mayLend(now) {
		return nil, false
	}
	group.learned.used++
	group.lent++
	m = p.addMonitor(t, c, group, w.Target.Owner, nil, now)
	m.shared.set(markLent, true)
	if m.position == parked {
		m.scheduleFirst(p, now)
	}
	return m, false
}

// mayLend reports whether one more target may be watched for others now: no member can have very many addresses probed in a short
// time, as no name can (mayLearn).
func (g *Group) mayLend(now time.Time) bool {
	if at := clock.At(now); g.learned.at == 0 || at.Sub(g.learned.at) >= time.Minute {
		g.learned = allowance{at: at}
	}
	if g.learned.used < learnShared {
		return true
	}
	metrics.SkippedLearn.Inc()
	return false
}

// groupFor is a group of the running Corefile that may probe a target; nil if there is none.
func (p *Pool) groupFor(c *checkState, t fleet.Target) *Group {
	for _, g := range p.generations {
		if g.stage != confirmed {
			continue
		}
		for _, group := range g.groups {
			if group.covers(c.identity, t.Addr.Addr(), t.Owner) {
				return group
			}
		}
	}
	return nil
}

// decline notes that a probe could not be asked. After as many as take a target down this process says so, and another takes its
// seat for a while, if there is one without.
func (p *Pool) decline(m *monitor, now time.Time) {
	s, f := m.shared, p.member
	if s.cannot = min(s.cannot+1, 255); int(s.cannot) < m.check.pace.Fall || s.role != fleet.Seat || !m.check.seats.HasSpare() {
		return
	}
	s.cannot = 0
	vote := fleet.Vote{Target: m.fleetTarget(), State: verdict.Unchecked}
	s.ballot.Put(m.check.seats, f.roster.Own(), &vote, clock.Steady(now), 0)
	s.set(markVoted, true)
	s.set(markProved, false)
	f.say(m)
	p.refold(m, now)
}
