package pool

import (
	"cmp"
	"container/list"
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// A target that is not asked for is not forgotten at once, because the next query for its name must not get a dead address.
// While the sets that it was in are looked at without it, it has left the DNS, and is forgotten. Otherwise its names are
// merely quiet: it becomes idle, is probed less often, and keeps its state.

const (
	// keepUnasked is how long a target is busy after it was last asked for, or three times the TTL it went out with if that
	// is longer, so that a name asked for once a TTL stays busy; keepAtMost bounds that. A target that has left a set which
	// is looked at is forgotten after the same time.
	keepUnasked = 15 * time.Minute
	keepAtMost  = 24 * time.Hour
	// idleFor is how long a target is kept after it became idle.
	idleFor = 24 * time.Hour
	// floodFor: a name that was asked for within this time only, and never again, is likely to be part of a flood of names.
	floodFor = time.Minute
	// maxSets is how many sets a target is known to be in. All others count as one, in which it stays.
	maxSets = 8
)

// seconds is a time as the table notes it, in seconds since 1970.
func seconds(t time.Time) uint32 { return uint32(clock.Steady(t).Unix()) }

// keepFor is how long a target that went out with that TTL, in seconds, is busy after it was last asked for.
func keepFor(ttl uint32) time.Duration {
	return max(keepUnasked, min(3*time.Duration(min(ttl, 1<<31-1))*time.Second, keepAtMost))
}

// askedFor is learn for a target that is watched: it is in one more set, or it was idle.
func (p *Pool) askedFor(m *monitor, r targetRequest, now time.Time) {
	if m.entry.Touch(r.at.Key, r.ttl, seconds(now)) {
		p.join(m, r.at.Key, r.ttl, now)
	}
	p.nameFor(m, r.at.Owner)
	p.wake(m, now)
	if m.shared == nil {
		return
	}
	if m.shared.is(markLent) { // it is this stanza's own from now on
		m.shared.set(markLent, false)
		m.group.lent--
	}
	if seconds(now) >= m.shared.told {
		p.wantAll(m, now)
	}
	if m.shared.role == fleet.Alone && m.listens() && p.member.transits[m] == nil { // it was watched for others alone so far
		p.awaitVotes(m, now)
	}
}

// nameFor gives a target that other members wanted the first name that is asked for here.
func (p *Pool) nameFor(m *monitor, owner string) {
	if m.owner == "" {
		p.nameOf(m.owner).targets--
		m.owner = lowerName(owner)
		p.nameOf(m.owner).targets++
	}
}

// join notes that a target is in a set, unless it is noted already.
func (p *Pool) join(m *monitor, key uint64, ttl uint32, now time.Time) {
	n, at := 0, seconds(now)
	for x := range m.entry.Members() {
		if n++; x.Key == key || x.Key == table.AnySet {
			return
		}
	}
	if n == maxSets {
		key = table.AnySet
	}
	p.enter(m, key, ttl, at, at)
}

// enter adds a target to a set, which is added if it is new.
func (p *Pool) enter(m *monitor, key uint64, ttl, born, now uint32) {
	if key != table.AnySet {
		s := p.sets.Find(key)
		if s == nil {
			s = table.NewSet(key, now)
			p.sets.Insert(s)
		}
		s.Members++
	}
	m.entry.Join(key, ttl, born, now)
}

// quit notes that a target is in a set no longer.
func (p *Pool) quit(m *monitor, x *table.Member) {
	m.entry.Quit(x)
	if s := p.sets.Find(x.Key); s != nil {
		if s.Members--; s.Members == 0 {
			p.sets.Remove(s)
		}
	}
}

// reviewSome reviews the targets in one shard of the table after another, so that each comes up once a minute: going through
// hundreds of thousands at once would keep the loop from probing for a tenth of a second.
func (p *Pool) reviewSome(now time.Time) {
	if oldest := now.Add(-sweepEvery); p.nextReview.Before(oldest) {
		p.nextReview = oldest // after a pause, each is reviewed once
	}
	for ; !now.Before(p.nextReview); p.nextReview = p.nextReview.Add(sweepEvery / table.Shards) {
		p.table.Each(p.reviewed, func(e *table.Entry) {
			if m := p.monitors[e]; m != nil {
				p.review(m, now)
			}
		})
		p.reviewed = (p.reviewed + 1) % table.Shards
	}
}

// review decides, once a minute, whether a target is still asked for, has become idle, or is to be forgotten.
func (p *Pool) review(m *monitor, now time.Time) {
	at, asked, busy, named := seconds(now), false, false, 0
	for x := range m.entry.Members() {
		asked = x.TakeAsked() || asked
		keep := uint32(keepFor(x.TTL()) / time.Second)
		if s := p.sets.Find(x.Key); s != nil && s.Looked() > x.Last+keep {
			p.quit(m, x) // it has left this set, which is still looked at
			continue
		}
		if x.Key != table.AnySet {
			named++
		}
		busy = busy || at <= x.Last+keep
	}
	lent := false
	if m.shared != nil {
		busy = busy || m.shared.ballot.Wanted(at) > 0
		lent = m.shared.ballot.Lent()
	}
	switch {
	case named == 0 && !busy && !lent, // a target that left all the sets it is known to be in has left the others, too
		m.idle && !asked && clock.At(now).Sub(m.idleSince()) >= idleFor,
		m.idle && m.group.targets > m.group.Max: // which a reload has lowered
		p.forget(m, now)
	case m.idle && asked:
		p.wake(m, now)
	case !m.idle && !busy:
		p.rest(m, now)
	}
}

// rest makes a target idle. Its connection is not held any longer. What queries see is that its state holds for as long as
// it surely does if the first of them has it probed at once.
func (p *Pool) rest(m *monitor, now time.Time) {
	m.idle = true
	p.dropConn(m)
	if m.held != nil {
		m.held.alarmed = false
	}
	for x := range m.entry.Members() {
		x.Rest()
	}
	m.joinIdle(clock.At(now))
	brief, _ := m.entry.Load()
	v := m.machine.Verdict(min(time.Duration(brief.Holds())*time.Second, m.check.holdsFromNow(&m.machine))) // of this process alone
	p.publish(m, v.State, v, now)
	if m.position < 0 {
		return
	}
	due := m.due
	if m.calm() {
		due = m.started.Add(m.check.jitter(m.check.pace.Idle()))
	}
	p.schedule.remove(m)
	p.schedule.add(m, due, now)
}

// wake makes an idle target busy again: with a probe at once, if the last is older than an interval.
func (p *Pool) wake(m *monitor, now time.Time) {
	if !m.idle {
		return
	}
	m.idle = false
	m.leaveIdle()
	if m.shared != nil && m.askedHere() {
		p.wantAll(m, now) // the vantage points may have taken it for idle, too
	}
	if m.position < 0 {
		return
	}
	due := m.due
	switch since := clock.At(now).Sub(m.started); {
	case since > m.check.pace.Interval:
		due = clock.At(now)
	case m.calm():
		due = m.started.Add(m.check.jitter(m.check.pace.Interval))
	}
	p.schedule.remove(m)
	p.schedule.add(m, due, now)
}

// calm reports whether the state is decided, and nothing speaks against it.
func (m *monitor) calm() bool {
	return m.machine.State() != verdict.Unknown && m.machine.Streak() == 0
}

// isFlood reports whether the target's names were asked for within a minute only.
func (m *monitor) isFlood() bool {
	for x := range m.entry.Members() {
		if time.Duration(x.Last-x.Born)*time.Second > floodFor {
			return false
		}
	}
	return true
}

// idleTargets are the idle targets of a group: those whose names were asked for within a minute only, and the others. The
// values of the lists are idleTarget.
type idleTargets [2]list.List

type idleTarget struct {
	*monitor
	since clock.Instant // when it became idle
}

// idleSince is when the target became idle.
func (m *monitor) idleSince() clock.Instant { return m.rests.Value.(idleTarget).since }

// joinIdle adds a target to the idle ones of its group, the latest last.
func (m *monitor) joinIdle(since clock.Instant) {
	l := &m.group.idle[0]
	if !m.isFlood() {
		l = &m.group.idle[1]
	}
	m.rests = l.PushBack(idleTarget{m, since})
	m.group.hasIdle.Store(true)
	metrics.IdleTargets.Inc()
}

// leaveIdle takes a target off the idle ones of its group, if it is one of them.
func (m *monitor) leaveIdle() {
	if m.rests == nil {
		return
	}
	for i := range m.group.idle {
		m.group.idle[i].Remove(m.rests) // of one list; the other does not have it
	}
	m.rests = nil
	m.group.hasIdle.Store(m.group.idle[0].Len()+m.group.idle[1].Len() > 0)
	metrics.IdleTargets.Dec()
}

// makeRoom forgets one idle target of a group: of a flood if there is one, else the one that has been idle for longest. It
// reports whether there was one.
func (p *Pool) makeRoom(g *Group, now time.Time) bool {
	for i := range g.idle {
		if first := g.idle[i].Front(); first != nil {
			p.forget(first.Value.(idleTarget).monitor, now)
			return true
		}
	}
	return false
}

// makeRoomAmong is makeRoom among the idle targets that fit. Going through very many takes time, so a minute's steps are
// bounded.
func (p *Pool) makeRoomAmong(g *Group, fits func(*monitor) bool, now time.Time) bool {
	for i := range g.idle {
		for e := g.idle[i].Front(); e != nil && g.steps < maxSteps; e = e.Next() {
			g.steps++
			if m := e.Value.(idleTarget).monitor; fits(m) {
				p.forget(m, now)
				return true
			}
		}
	}
	return false
}

// moveIdle gives a group the idle targets that it takes over, those that have been idle for longest first.
func moveIdle(to *Group, all []*monitor) {
	slices.SortFunc(all, func(a, b *monitor) int { return cmp.Compare(a.idleSince(), b.idleSince()) })
	for _, m := range all {
		since := m.idleSince()
		m.leaveIdle()
		m.group = to
		m.joinIdle(since)
	}
}
