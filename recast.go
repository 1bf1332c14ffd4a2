package multivalue

import (
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// orphaned reports whether the stanza that asked for a target asks it something else by now. Another stanza that has the same
// check learns the target anew by its next query, with what is remembered.
func (p *pool) orphaned(w *monitor) bool {
	return slices.Contains(p.generations, w.group.generation) && !w.group.covers(w.check.identity, w.entry.Target.Addr.Addr(), w.owner)
}

// reconcile makes the checks those of the generations: it ends the ones that nobody has any more, adds the new ones, and
// sets going what has just been confirmed. Where several have the same, the latest confirmed one's files and
// certificates are used.
func (p *pool) reconcile(now time.Time) {
	held := make(map[verdict.Identity]*checkState)
	p.warming = false
	for _, g := range p.generations {
		for _, a := range g.groups {
			p.warming = p.warming || a.Warms
			for _, spec := range a.allChecks() {
				p.retain(held, spec, g.stage == confirmed)
			}
		}
	}
	for _, w := range p.monitors {
		if held[w.check.identity] == nil || !p.wanted(w) || p.orphaned(w) {
			p.forget(w, now)
		}
	}
	p.relabel(held)
	old := p.checks
	p.checks = held
	kin := p.sameChecks(old)
	for _, g := range p.generations {
		for _, a := range g.groups {
			p.inherit(old, kin, a, now)
		}
	}
	for _, w := range p.monitors {
		if w.position == parked && w.check.live {
			w.scheduleFirst(p, now)
		}
	}
}

// retain adds a check to the ones held. What the pool has of it already stays the same object.
func (p *pool) retain(held map[verdict.Identity]*checkState, spec CheckSpec, live bool) {
	c := held[spec.identity]
	if c == nil {
		if c = p.checks[spec.identity]; c == nil {
			c = &checkState{CheckSpec: spec}
		}
		c.live, c.annotated = false, spec.annotated
		held[spec.identity] = c
	}
	c.annotated = c.annotated && spec.annotated
	if live {
		c.live = true
		c.prober, c.forOwner, c.talk = spec.prober, spec.forOwner, spec.talk
	}
}

// sameChecks lists the watches of each check that is known at another pace and new at one, by the check without its pace. That
// takes one look at the watches, however many checks are new: there may be very many of both.
func (p *pool) sameChecks(old map[verdict.Identity]*checkState) map[verdict.Identity][]*monitor {
	known := make(map[verdict.Identity]bool)
	for _, c := range old {
		known[c.withoutPace] = true
	}
	kin := make(map[verdict.Identity][]*monitor)
	for id, c := range p.checks {
		if old[id] == nil && known[c.withoutPace] {
			kin[c.withoutPace] = nil
		}
	}
	if len(kin) == 0 {
		return nil
	}
	for _, w := range p.monitors {
		if all, wanted := kin[w.check.withoutPace]; wanted {
			kin[w.check.withoutPace] = append(all, w)
		}
	}
	return kin
}

// inherit watches, under the checks of a that are new, what is watched under the same check at another pace: from there
// comes their first verdict, so that an edit of a pace does not bring back the dead.
func (p *pool) inherit(old map[verdict.Identity]*checkState, kin map[verdict.Identity][]*monitor, a *Group, now time.Time) {
	for _, spec := range a.allChecks() {
		if old[spec.identity] != nil {
			continue
		}
		for _, w := range kin[spec.withoutPace] {
			id, seed := spec.identityFor(w.owner)
			t := verdict.Target{Identity: id, Addr: w.entry.Target.Addr}
			if p.find(&t, seed) != nil || a.targets >= a.Max || a.Zones != w.group.Zones || !a.covers(spec.identity, t.Addr.Addr(), w.owner) {
				continue
			}
			heir := p.addMonitor(t, p.checks[spec.identity], a, w.owner, now)
			targets[heir.machine.State()].Dec()
			heir.machine = verdict.Resume(w.verdict())
			heir.entry.Store(w.verdict())
			targets[heir.machine.State()].Inc()
			heir.entry.Touch(w.entry.TTL())
		}
	}
}
