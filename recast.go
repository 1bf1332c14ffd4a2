package multivalue

import (
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// disowned reports whether the stanza that asked for a target asks it something else by now. Another stanza that has the same
// check learns the target anew by its next query, with what is remembered.
func (p *pool) disowned(w *watch) bool {
	return slices.Contains(p.generations, w.account.generation) && !w.account.covers(w.check.identity, w.entry.Target.Addr.Addr(), w.owner)
}

// recast makes the checks those of the generations: it ends the ones that nobody has any more, adds the new ones, and
// sets going what has just been confirmed. Where several have the same, the latest confirmed one's files and
// certificates are used.
func (p *pool) recast(now time.Time) {
	held := make(map[verdict.Identity]*pacedCheck)
	p.warming = false
	for _, g := range p.generations {
		for _, a := range g.accounts {
			p.warming = p.warming || a.warms
			for _, spec := range a.all() {
				p.hold(held, spec, g.stage == confirmed)
			}
		}
	}
	for _, w := range p.watches {
		if held[w.check.identity] == nil || !p.covered(w) || p.disowned(w) {
			p.forget(w, now)
		}
	}
	p.label(held)
	old := p.checks
	p.checks = held
	kin := p.kin(old)
	for _, g := range p.generations {
		for _, a := range g.accounts {
			p.adopt(old, kin, a, now)
		}
	}
	for _, w := range p.watches {
		if w.place == parked && w.check.live {
			w.plan(p, now)
		}
	}
}

// hold adds a check to the ones held. What the pool has of it already stays the same object.
func (p *pool) hold(held map[verdict.Identity]*pacedCheck, spec checkSpec, live bool) {
	c := held[spec.identity]
	if c == nil {
		if c = p.checks[spec.identity]; c == nil {
			c = &pacedCheck{checkSpec: spec}
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

// kin lists the watches of each check that is known at another pace and new at one, by the check without its pace. That
// takes one look at the watches, however many checks are new: there may be very many of both.
func (p *pool) kin(old map[verdict.Identity]*pacedCheck) map[verdict.Identity][]*watch {
	known := make(map[verdict.Identity]bool)
	for _, c := range old {
		known[c.bare] = true
	}
	kin := make(map[verdict.Identity][]*watch)
	for id, c := range p.checks {
		if old[id] == nil && known[c.bare] {
			kin[c.bare] = nil
		}
	}
	if len(kin) == 0 {
		return nil
	}
	for _, w := range p.watches {
		if all, wanted := kin[w.check.bare]; wanted {
			kin[w.check.bare] = append(all, w)
		}
	}
	return kin
}

// adopt watches, under the checks of a that are new, what is watched under the same check at another pace: from there
// comes their first verdict, so that an edit of a pace does not bring back the dead.
func (p *pool) adopt(old map[verdict.Identity]*pacedCheck, kin map[verdict.Identity][]*watch, a *account, now time.Time) {
	for _, spec := range a.all() {
		if old[spec.identity] != nil {
			continue
		}
		for _, w := range kin[spec.bare] {
			id, seed := spec.of(w.owner)
			t := verdict.Target{Identity: id, Addr: w.entry.Target.Addr}
			if p.watchOf(&t, seed) != nil || a.targets >= a.max || a.zones != w.account.zones || !a.covers(spec.identity, t.Addr.Addr(), w.owner) {
				continue
			}
			heir := p.watch(t, p.checks[spec.identity], a, w.owner, now)
			targets[heir.machine.State()].Dec()
			heir.machine = verdict.Resume(w.verdict())
			heir.entry.Store(w.verdict())
			targets[heir.machine.State()].Inc()
			heir.entry.Touch(w.entry.TTL())
		}
	}
}
