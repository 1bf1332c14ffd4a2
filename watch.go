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

// want asks the pool to watch a target.
type want struct {
	target  verdict.Target
	check   verdict.Identity // the target's, but for an owner in it
	account *account
	owner   string // of the set that the address was in
	ttl     uint32
}

// watch is one watched target.
type watch struct {
	check   *pacedCheck
	account *account
	owner   string // in lower case
	entry   *table.Entry
	machine verdict.Machine
	doubted clock.Instant   // when the first of the failures that count began
	asked   clock.Instant   // last seen asked for, by a sweep
	started clock.Instant   // of the last probe
	due     clock.Instant   // of the next
	hold    *holding        // if the check keeps connections
	history *status.History // of its probes; nil while nobody can look
	place   int32           // in its queue, or probing or parked
	lane    lane
	failing bool // the last probe failed
	doubt   doubt
	settled bool // it had its first wait of a whole interval, which is drawn at random to spread the targets
	removed bool // while its probe was under way
}

// verdict is what is believed of the target.
func (w *watch) verdict() verdict.Verdict {
	brief, _ := w.entry.Peek()
	return w.machine.Verdict(time.Duration(brief.Holds()) * time.Second)
}

const (
	probing = -1 // handed to a probe
	parked  = -2 // its check runs in no confirmed generation yet
)

type probeResult struct {
	watch *watch
	err   error
	took  time.Duration
	held  *wire.Held // the connection, if it is to be kept
}

// remember keeps what a probe took, if somebody can look.
func (w *watch) remember(recording bool, r probeResult) {
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
func (p *pool) learn(w want, now time.Time) {
	g := w.account.generation
	if g.stage == left {
		return // a query that was under way when its server stopped
	}
	if g.stage == candidate {
		p.confirmed(g, now) // it answers queries, so it has started
	}
	check := p.checks[w.check]
	if check == nil || p.watchOf(&w.target, check.seedOf(w.owner)) != nil {
		return
	}
	if !w.account.covers(w.check, w.target.Addr.Addr(), w.owner) {
		return // a query that was under way when the annotation changed
	}
	if len(p.watches) >= p.most {
		p.full.Store(true)
		return
	}
	if w.account.targets >= w.account.max {
		w.account.full.Store(true)
		return
	}
	owner := lowerName(w.owner)
	if p.crowded(w, check, owner) {
		return
	}
	watch := p.watch(w.target, check, w.account, owner, now)
	watch.entry.Touch(w.ttl)
	watch.plan(p, now)
}

// crowded reports whether a name has as many targets as it may have, or one address as many names.
func (p *pool) crowded(w want, c *pacedCheck, owner string) bool {
	byName := p.names[owner] >= maxPerName
	if !byName && p.owners[c.owned(w.target)] < maxOwners {
		return false
	}
	metrics.SkippedName.Inc()
	if !w.account.loggedNames.First() {
		return true
	}
	if byName {
		p.say("%s has reached the cap of %d targets for one name: its further addresses are served as unknown (stanza at %s)", owner, maxPerName, w.account.at)
	} else {
		p.say("%s has reached the cap of %d names for one address with host owner: under others, such as %s, it is served as unknown (stanza at %s)",
			w.target.Place(), maxOwners, owner, w.account.at)
	}
	return true
}

// sayFull tells the log that a cap leaves addresses of a stanza unchecked. It is for the query path, so the line is said once
// until the next sweep.
func (p *pool) sayFull(a *account) {
	if !a.loggedFull.First() {
		return
	}
	if p.full.Load() {
		p.say("the cap of %d targets in all is reached: further addresses are served unchecked (stanza at %s)", p.most, a.at)
		return
	}
	p.say("the cap of max_targets %d is reached: further addresses are served unchecked (stanza at %s)", a.max, a.at)
}

// sayAgain lets the log be told anew of what is still so.
func (a *account) sayAgain() {
	a.loggedOpen.Reset()
	a.loggedFull.Reset()
	a.loggedNames.Reset()
}

// watch adds a target to the board. It is parked: plan schedules it.
func (p *pool) watch(t verdict.Target, check *pacedCheck, a *account, owner string, now time.Time) *watch {
	w := &watch{check: check, account: a, owner: owner, entry: &table.Entry{Target: t}, asked: clock.At(now), place: parked}
	w.entry.Touch(0)
	if m, ok := p.memories[check.sibling(t, owner)]; ok && now.Before(m.until) {
		w.machine = verdict.Resume(m.verdict)
		w.entry.Store(m.verdict)
	}
	a.targets++
	p.names[owner]++
	if check.forOwner != nil {
		p.owners[check.owned(t)]++
	}
	p.watches[w.entry] = w
	targets[w.machine.State()].Inc()
	p.board.Insert(w.entry, table.Hash(&t, check.seedOf(owner)))
	return w
}

// watchOf is the watch of a target, or nil. The board finds its entry.
func (p *pool) watchOf(t *verdict.Target, seed uint64) *watch {
	return p.watches[p.board.Find(t, table.Hash(t, seed))]
}

// unname takes a watch off the accounts of its name.
func (p *pool) unname(w *watch) {
	if p.names[w.owner]--; p.names[w.owner] <= 0 {
		delete(p.names, w.owner)
	}
	if w.check.forOwner == nil {
		return
	}
	t := w.check.owned(w.entry.Target)
	if p.owners[t]--; p.owners[t] <= 0 {
		delete(p.owners, t)
	}
}

// plan schedules a parked watch: a new one within a fast interval, one that resumes within a whole one.
func (w *watch) plan(p *pool, now time.Time) {
	wait := w.check.pace.Fast
	if w.machine.State() != verdict.Unknown {
		wait = w.check.pace.Interval
		w.settled = true
	}
	w.failing = w.machine.State() == verdict.Down
	p.schedule.add(w, clock.At(now).Add(between(0, wait)))
}

// forget ends a watch. Its verdict is remembered for two intervals, for when it is asked for again.
func (p *pool) forget(w *watch, now time.Time) {
	if w.machine.State() != verdict.Unknown && len(p.memories) < p.most {
		p.memories[w.check.sibling(w.entry.Target, w.owner)] = memory{w.verdict(), now.Add(2 * w.check.pace.Interval)}
	}
	w.removed = true
	p.release(w)
	p.isolation.drop(w)
	p.schedule.remove(w)
	delete(p.watches, w.entry)
	targets[w.machine.State()].Dec()
	p.board.Remove(w.entry, table.Hash(&w.entry.Target, w.check.seedOf(w.owner)))
	w.account.targets--
	p.unname(w)
	w.account.full.Store(false)
	p.full.Store(false)
}

// sweep forgets what nobody asked for, and what it remembered for long enough.
func (p *pool) sweep(now time.Time) {
	p.nextSweep = now.Add(sweepEvery)
	p.isolation.expire(now)
	if seen := p.sightings.Load(); seen != nil {
		seen.sweep()
	}
	for _, w := range p.watches {
		if w.entry.TakeAsked() {
			w.asked = clock.At(now)
		} else if clock.At(now).Sub(w.asked) > keep(w.entry.TTL()) {
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
		for _, a := range g.accounts {
			a.sayAgain()
		}
	}
}

// keep is how long a target that went out with that TTL is watched after it was last asked for.
func keep(ttl uint32) time.Duration {
	return max(keepUnasked, min(3*time.Duration(min(ttl, 1<<31-1))*time.Second, keepAtMost))
}

// reset forgets everything, without a memory and without trusting what it finds: it also follows a panic. Probes that
// are under way come back to watches that are removed.
func (p *pool) reset() {
	for _, w := range p.watches {
		w.removed = true
		p.release(w)
		p.isolation.drop(w)
		w.account.targets--
		targets[w.machine.State()].Dec()
	}
	p.board.Clear()
	p.full.Store(false)
	for _, g := range p.generations {
		for _, a := range g.accounts {
			a.full.Store(false)
		}
	}
	clear(p.names)
	clear(p.owners)
	p.schedule.queues = [2]queue{}
	p.watches = make(map[*table.Entry]*watch)
	p.memories = make(map[verdict.Target]memory)
}

// shorten takes up to a tenth off a wait, so that replicas and targets do not stay in step. How much earlier the schedule
// may start the probe is part of that tenth.
func (c *pacedCheck) shorten(wait time.Duration) time.Duration {
	return wait - rand.N(max(0, wait*verdict.Jitter/100-c.early())+1)
}

// early is how much before it is due a probe may start, where others start as well.
func (c *pacedCheck) early() time.Duration { return min(gather, c.pace.Fast/gatherShare) }

// between draws a wait from low up to high.
func between(low, high time.Duration) time.Duration { return low + rand.N(high-low+1) }
