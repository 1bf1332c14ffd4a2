package pool

import (
	"container/list"
	"math/rand/v2"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/history"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// targetRequest asks the pool to watch a target.
type targetRequest struct {
	target verdict.Target
	check  verdict.Identity // the target's, without an owner in it
	group  *Group
	at     verdict.RecordSet
	ttl    uint32 // seconds
}

// monitor is one watched target. It belongs to the loop, or to the one probe that it was handed to, which touches nothing
// but its check.
type monitor struct {
	check        *checkState
	group        *Group
	owner        string // in lower case
	entry        *table.Entry
	machine      verdict.Machine
	suspectSince clock.Instant   // when the first probe began whose failure counts now
	started      clock.Instant   // of the last probe
	heard        clock.Instant   // when the last result came that proved something
	due          clock.Instant   // of the next
	shared       *shared         // nil unless the target is shared with a fleet
	held         *heldConn       // nil unless the check holds connections
	history      *status.History // of its probes; nil while there is no status page
	line         *history.Line   // of its states; nil while there is no status page
	position     int32           // in its queue, or probing or parked
	tries        int32           // probes while it has no state
	lane         lane
	slow         bool          // the last probe was not quick
	idle         bool          // no query asks for it
	rests        *list.Element // its place among the idle targets of its group; nil while it is busy
	fell         bool          // it was up before it went down
	suspicion    suspicion
	settled      bool  // it had its first wait of a whole interval, which is drawn at random
	removed      bool  // while its probe was under way
	counted      uint8 // one more than the weight that the gauges of its check have of it; 0 if they have none
	outdated     bool  // its state is remembered, and so old that it is to be probed at once
}

// verdict is what is believed of the target, with how long that is sure to hold.
func (m *monitor) verdict() verdict.Verdict {
	brief, _ := m.entry.Load()
	if m.shared != nil && m.shared.votes > 0 {
		return m.foldedVerdict(brief)
	}
	return m.machine.Verdict(time.Duration(brief.Holds()) * time.Second)
}

const (
	probing = -1 // handed to a probe
	parked  = -2 // its check runs in no confirmed generation yet
)

// record adds a probe to the history, while there is a status page to show it.
func (m *monitor) record(recording bool, r probeResult, now time.Time) {
	if !recording {
		return
	}
	if m.history == nil {
		m.history = new(status.History)
	}
	m.history.Add(r.took, r.err != nil)
	if r.err == nil {
		m.line.Took(r.took, clock.At(now))
	}
}

// spared is how long a target is not probed again after the last probe, if it was left to others meanwhile. So a member that gives its
// seats away and takes them back all the time has no other one probe faster than at its pace.
func (m *monitor) spared() time.Duration {
	if m.shared.votes == 0 || m.shared.fails > 0 && m.machine.State() != verdict.Down {
		return m.check.pace.Fast
	}
	return m.check.pace.Interval
}

// memory is the last verdict on a target that is watched no longer.
type memory struct {
	verdict verdict.Verdict
	heard   clock.Instant
	until   time.Time
	earlier *earlierRecord // what an earlier process believed, if it is of that
}

// learn begins to watch a target that a query did not find in the table, unless a limit is reached. Nothing that is asked
// for makes room for what is new, so a flood of names never evicts a busy target; idle ones do.
func (p *Pool) learn(r targetRequest, now time.Time) {
	g := r.group.generation
	if g.stage == candidate {
		p.confirmed(g, now) // it answers queries, so it has started
	}
	check := p.checks[r.check]
	if check == nil {
		return
	}
	if m := p.find(&r.target, check.seedFor(r.at.Owner)); m != nil {
		p.askedFor(m, r, now)
		return
	}
	if g.stage == left {
		return // a query that was in flight when its server stopped
	}
	if !r.group.covers(r.check, r.target.Addr.Addr(), r.at.Owner) {
		return // a query that was in flight when the annotation changed
	}
	owner := lowerName(r.at.Owner)
	if !p.admits(r, check, owner, now) {
		return
	}
	m := p.addMonitor(r.target, check, r.group, owner, nil, now)
	p.join(m, r.at.Key, r.ttl, now)
	if m.shared != nil {
		p.wantAll(m, now)
	}
	if m.position == parked {
		m.scheduleFirst(p, now)
	}
}

// addMonitor adds a target to the table, with the verdict that is remembered if there is one. It is parked until
// scheduleFirst schedules it. It inherits the timeline of elder, if there is one.
func (p *Pool) addMonitor(t verdict.Target, check *checkState, group *Group, owner string, elder *history.Line, now time.Time) *monitor {
	m := &monitor{check: check, group: group, owner: owner, entry: &table.Entry{Target: t}, position: parked, line: p.book.Inherit(elder)}
	var earlier *earlierRecord
	if last, ok := p.recall(check, t, owner, now); ok {
		m.machine, m.heard, m.fell = verdict.Resume(last.verdict), last.heard, true
		m.outdated = last.earlier != nil || clock.At(now).Sub(m.heard) > check.pace.Interval
		m.entry.Store(last.verdict)
		earlier = last.earlier
	}
	group.targets++
	p.nameOf(owner).targets++
	if check.forOwner != nil {
		p.owners[check.withoutOwner(t)]++
	}
	p.monitors[m.entry] = m
	targets[m.state()].Inc()
	m.countWeight(true)
	p.table.Insert(m.entry, table.Hash(&t, check.seedFor(owner)))
	if earlier != nil {
		earlier.used.Store(true) // not before the table has it: queries look at one or the other
	}
	if p.member != nil && check.fleetGroup != (fleet.Group{}) && p.member.checks[check.fleetGroup] == check {
		p.share(m, now)
	}
	p.recordState(m, now)
	return m
}

// recall is the verdict that is remembered of a target, from this process or from the one before.
func (p *Pool) recall(c *checkState, t verdict.Target, owner string, now time.Time) (memory, bool) {
	if last, ok := p.memories[c.memoryKey(t, owner)]; ok && now.Before(last.until) {
		return last, true
	}
	return p.recallEarlier(c, t.Addr, owner, now)
}

// find is the monitor of a target, or nil. The table is its index.
func (p *Pool) find(t *verdict.Target, seed uint64) *monitor {
	return p.monitors[p.table.Find(t, table.Hash(t, seed))]
}

// releaseName takes a monitor off the counts of its name.
func (p *Pool) releaseName(m *monitor) {
	p.nameOf(m.owner).targets-- // the next sweep drops what is not needed any more
	if m.check.forOwner == nil {
		return
	}
	t := m.check.withoutOwner(m.entry.Target)
	if p.owners[t]--; p.owners[t] <= 0 {
		delete(p.owners, t)
	}
}

// scheduleFirst schedules a parked monitor: a new one within a quarter of a fast interval, one that resumes within a whole
// interval, or at once if what is remembered is old. When in that time is drawn at random, so that targets learned together
// are not probed together.
func (m *monitor) scheduleFirst(p *Pool, now time.Time) {
	wait := m.check.pace.Fast / 4
	if m.machine.State() != verdict.Unknown {
		wait = m.check.pace.Interval
		m.settled = true
	}
	if m.outdated {
		wait, m.settled = 0, false
	}
	p.schedule.add(m, clock.At(now).Add(randomWait(0, wait)), now)
}

// forget ends a monitor. Its verdict is remembered for a while, in case the target is asked for again.
func (p *Pool) forget(m *monitor, now time.Time) {
	if m.state() != verdict.Unknown && len(p.memories) < p.maxTargets {
		p.memories[m.check.memoryKey(m.entry.Target, m.owner)] = memory{m.verdict(), m.known(now), now.Add(remembered * m.check.pace.Interval), nil}
	}
	state := m.state()
	p.endLine(m, now)
	p.leaveFleet(m)
	m.removed = true
	p.dropConn(m)
	p.isolation.remove(m)
	p.schedule.remove(m)
	m.leaveIdle()
	for x := range m.entry.Members() {
		p.quit(m, x)
	}
	delete(p.monitors, m.entry)
	targets[state].Dec()
	m.countWeight(false)
	p.table.Remove(m.entry, table.Hash(&m.entry.Target, m.check.seedFor(m.owner)))
	m.group.targets--
	p.releaseName(m)
	m.group.full.Store(false)
	p.full.Store(false)
}

// sweep forgets verdicts that were remembered for long enough, and lets the log be told again of what is still so. It runs once
// a minute.
func (p *Pool) sweep(now time.Time) {
	p.nextSweep = now.Add(sweepEvery)
	p.isolation.expire(now)
	if p.OnSweep != nil {
		p.OnSweep()
	}
	p.restoreBudgets(now)
	p.expireRestored(now)
	for t, last := range p.memories {
		if now.After(last.until) {
			delete(p.memories, t)
		}
	}
	for _, c := range p.checks {
		c.abstains.Reset()
		c.saysFile.Reset()
	}
	for _, g := range p.generations {
		for _, group := range g.groups {
			group.resetLogs()
		}
	}
}

// reset forgets everything, and remembers no verdict. It also follows a panic, so it does not trust what it finds. Probes
// in flight come back to monitors that are removed.
func (p *Pool) reset() {
	for _, m := range p.monitors {
		targets[m.state()].Dec()
		p.endLine(m, time.Now())
		p.leaveFleet(m)
		m.removed = true
		p.dropConn(m)
		p.isolation.remove(m)
		m.group.targets--
		m.leaveIdle()
		m.countWeight(false)
	}
	p.member.clearCounts()
	p.table.Clear()
	p.sets.Clear()
	p.full.Store(false)
	for _, g := range p.generations {
		for _, group := range g.groups {
			group.full.Store(false)
		}
	}
	clear(p.names)
	clear(p.owners)
	p.schedule.queues = [lanes]queue{}
	p.monitors = make(map[*table.Entry]*monitor)
	p.memories = make(map[verdict.Target]memory)
}

// jitter takes up to a tenth off a wait, so that replicas and targets do not stay in step. It never lengthens one: the bound
// on how late a death is noticed must hold. How much earlier the schedule may start the probe is part of that tenth.
func (c *checkState) jitter(wait time.Duration) time.Duration {
	return wait - rand.N(max(0, wait*verdict.Jitter/100-c.earliness())+1)
}

// retryWait is the wait after a probe that has left a target in doubt, or without a state: quick for as many probes as it
// takes to decide, and the fast interval after that.
func (m *monitor) retryWait() time.Duration {
	if m.machine.State() == verdict.Unknown && int(m.tries) < m.check.pace.Fall {
		return m.check.pace.Early()
	}
	return m.check.pace.Fast
}

// earliness is how long before it is due a probe may start if others start as well. It is part of the jitter of every wait,
// the shortest of which is that of a target without a state.
func (c *checkState) earliness() time.Duration {
	return min(gather, c.pace.Early()*verdict.Jitter/100)
}

// randomWait draws a wait from low to high, both included.
func randomWait(low, high time.Duration) time.Duration { return low + rand.N(high-low+1) }
