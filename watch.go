package multivalue

import (
	"math/rand/v2"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
	"github.com/coredns-multivalue/multivalue/plugin/wire"
)

// targetRequest asks the pool to watch a target.
type targetRequest struct {
	target verdict.Target
	check  verdict.Identity // the target's, but for an owner in it
	group  *Group
	owner  string // of the set that the address was in
	ttl    uint32
}

// monitor is one watched target.
type monitor struct {
	check        *checkState
	group        *Group
	owner        string // in lower case
	entry        *table.Entry
	machine      verdict.Machine
	suspectSince clock.Instant   // when the first of the failures that count began
	asked        clock.Instant   // last seen asked for, by a sweep
	started      clock.Instant   // of the last probe
	due          clock.Instant   // of the next
	held         *heldConn       // if the check keeps connections
	history      *status.History // of its probes; nil while nobody can look
	position     int32           // in its queue, or probing or parked
	lane         lane
	failing      bool // the last probe failed
	suspicion    suspicion
	settled      bool // it had its first wait of a whole interval, which is drawn at random to spread the targets
	removed      bool // while its probe was under way
}

// verdict is what is believed of the target.
func (w *monitor) verdict() verdict.Verdict {
	brief, _ := w.entry.Peek()
	return w.machine.Verdict(time.Duration(brief.Holds()) * time.Second)
}

const (
	probing = -1 // handed to a probe
	parked  = -2 // its check runs in no confirmed generation yet
)

type probeResult struct {
	watch *monitor
	err   error
	took  time.Duration
	held  *wire.Held // the connection, if it is to be kept
}

// record keeps what a probe took, if somebody can look.
func (w *monitor) record(recording bool, r probeResult) {
	if !recording {
		return
	}
	if w.history == nil {
		w.history = new(status.History)
	}
	w.history.Add(r.took, r.err != nil)
}

// memory is the last verdict on a target that is watched no longer.
type memory struct {
	verdict verdict.Verdict
	until   time.Time
}

// learn begins to watch a target that a query missed, unless a cap is reached: nothing that is watched makes room for
// what is new, so a flood of names never pushes out a busy target.
func (p *pool) learn(w targetRequest, now time.Time) {
	g := w.group.generation
	if g.stage == left {
		return // a query that was under way when its server stopped
	}
	if g.stage == candidate {
		p.confirmed(g, now) // it answers queries, so it has started
	}
	check := p.checks[w.check]
	if check == nil || p.find(&w.target, check.seedFor(w.owner)) != nil {
		return
	}
	if !w.group.covers(w.check, w.target.Addr.Addr(), w.owner) {
		return // a query that was under way when the annotation changed
	}
	if len(p.monitors) >= p.maxTargets {
		p.full.Store(true)
		return
	}
	if w.group.targets >= w.group.Max {
		w.group.full.Store(true)
		return
	}
	owner := lowerName(w.owner)
	if p.overNameLimit(w, check, owner) {
		return
	}
	watch := p.addMonitor(w.target, check, w.group, owner, now)
	watch.entry.Touch(w.ttl)
	watch.scheduleFirst(p, now)
}

// overNameLimit reports whether a name has as many targets as it may have, or one address as many names.
func (p *pool) overNameLimit(w targetRequest, c *checkState, owner string) bool {
	byName := p.names[owner] >= maxPerName
	if !byName && p.owners[c.withoutOwner(w.target)] < maxOwners {
		return false
	}
	metrics.SkippedName.Inc()
	if !w.group.loggedNames.First() {
		return true
	}
	if byName {
		p.Warn("%s has reached the cap of %d targets for one name: its further addresses are served as unknown (stanza at %s)", owner, maxPerName, w.group.At)
	} else {
		p.Warn("%s has reached the cap of %d names for one address with host owner: under others, such as %s, it is served as unknown (stanza at %s)",
			w.target.Place(), maxOwners, owner, w.group.At)
	}
	return true
}

// logFull tells the log that a cap leaves addresses of a stanza unchecked. It is for the query path, so the line is said once
// until the next sweep.
func (p *pool) logFull(a *Group) {
	if !a.loggedFull.First() {
		return
	}
	if p.full.Load() {
		p.Warn("the cap of %d targets in all is reached: further addresses are served unchecked (stanza at %s)", p.maxTargets, a.At)
		return
	}
	p.Warn("the cap of max_targets %d is reached: further addresses are served unchecked (stanza at %s)", a.Max, a.At)
}

// resetLogs lets the log be told anew of what is still so.
func (a *Group) resetLogs() {
	a.loggedOpen.Reset()
	a.loggedFull.Reset()
	a.loggedNames.Reset()
}

// addMonitor adds a target to the board. It is parked: plan schedules it.
func (p *pool) addMonitor(t verdict.Target, check *checkState, a *Group, owner string, now time.Time) *monitor {
	w := &monitor{check: check, group: a, owner: owner, entry: &table.Entry{Target: t}, asked: clock.At(now), position: parked}
	w.entry.Touch(0)
	if m, ok := p.memories[check.memoryKey(t, owner)]; ok && now.Before(m.until) {
		w.machine = verdict.Resume(m.verdict)
		w.entry.Store(m.verdict)
	}
	a.targets++
	p.names[owner]++
	if check.forOwner != nil {
		p.owners[check.withoutOwner(t)]++
	}
	p.monitors[w.entry] = w
	targets[w.machine.State()].Inc()
	p.table.Insert(w.entry, table.Hash(&t, check.seedFor(owner)))
	return w
}

// find is the watch of a target, or nil. The board finds its entry.
func (p *pool) find(t *verdict.Target, seed uint64) *monitor {
	return p.monitors[p.table.Find(t, table.Hash(t, seed))]
}

// releaseName takes a watch off the accounts of its name.
func (p *pool) releaseName(w *monitor) {
	if p.names[w.owner]--; p.names[w.owner] <= 0 {
		delete(p.names, w.owner)
	}
	if w.check.forOwner == nil {
		return
	}
	t := w.check.withoutOwner(w.entry.Target)
	if p.owners[t]--; p.owners[t] <= 0 {
		delete(p.owners, t)
	}
}

// scheduleFirst schedules a parked watch: a new one within a fast interval, one that resumes within a whole one.
func (w *monitor) scheduleFirst(p *pool, now time.Time) {
	wait := w.check.pace.Fast
	if w.machine.State() != verdict.Unknown {
		wait = w.check.pace.Interval
		w.settled = true
	}
	w.failing = w.machine.State() == verdict.Down
	p.schedule.add(w, clock.At(now).Add(randomWait(0, wait)))
}

// forget ends a watch. Its verdict is remembered for two intervals, for when it is asked for again.
func (p *pool) forget(w *monitor, now time.Time) {
	if w.machine.State() != verdict.Unknown && len(p.memories) < p.maxTargets {
		p.memories[w.check.memoryKey(w.entry.Target, w.owner)] = memory{w.verdict(), now.Add(2 * w.check.pace.Interval)}
	}
	w.removed = true
	p.dropConn(w)
	p.isolation.remove(w)
	p.schedule.remove(w)
	delete(p.monitors, w.entry)
	targets[w.machine.State()].Dec()
	p.table.Remove(w.entry, table.Hash(&w.entry.Target, w.check.seedFor(w.owner)))
	w.group.targets--
	p.releaseName(w)
	w.group.full.Store(false)
	p.full.Store(false)
}

// sweep forgets what nobody asked for, and what it remembered for long enough.
func (p *pool) sweep(now time.Time) {
	p.nextSweep = now.Add(sweepEvery)
	p.isolation.expire(now)
	if seen := p.sightings.Load(); seen != nil {
		seen.sweep()
	}
	for _, w := range p.monitors {
		if w.entry.TakeAsked() {
			w.asked = clock.At(now)
		} else if clock.At(now).Sub(w.asked) > keepFor(w.entry.TTL()) {
			p.forget(w, now)
		}
	}
	for t, m := range p.memories {
		if now.After(m.until) {
			delete(p.memories, t)
		}
	}
	for _, c := range p.checks {
		c.abstains.Reset()
	}
	for _, g := range p.generations {
		for _, a := range g.groups {
			a.resetLogs()
		}
	}
}

// keepFor is how long a target that went out with that TTL is watched after it was last asked for.
func keepFor(ttl uint32) time.Duration {
	return max(keepUnasked, min(3*time.Duration(min(ttl, 1<<31-1))*time.Second, keepAtMost))
}

// reset forgets everything, without a memory and without trusting what it finds: it also follows a panic. Probes that
// are under way come back to watches that are removed.
func (p *pool) reset() {
	for _, w := range p.monitors {
		w.removed = true
		p.dropConn(w)
		p.isolation.remove(w)
		w.group.targets--
		targets[w.machine.State()].Dec()
	}
	p.table.Clear()
	p.full.Store(false)
	for _, g := range p.generations {
		for _, a := range g.groups {
			a.full.Store(false)
		}
	}
	clear(p.names)
	clear(p.owners)
	p.schedule.queues = [2]queue{}
	p.monitors = make(map[*table.Entry]*monitor)
	p.memories = make(map[verdict.Target]memory)
}

// jitter takes up to a tenth off a wait, so that replicas and targets do not stay in step. How much earlier the schedule
// may start the probe is part of that tenth.
func (c *checkState) jitter(wait time.Duration) time.Duration {
	return wait - rand.N(max(0, wait*verdict.Jitter/100-c.earliness())+1)
}

// earliness is how much before it is due a probe may start, where others start as well.
func (c *checkState) earliness() time.Duration { return min(gather, c.pace.Fast/gatherShare) }

// randomWait draws a wait from low up to high.
func randomWait(low, high time.Duration) time.Duration { return low + rand.N(high-low+1) }
