package pool

import (
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// orphaned reports whether the stanza that asked for a target asks something else of it now. If another stanza has the same
// check, its next query learns the target again, with the verdict that is remembered.
func (p *Pool) orphaned(m *monitor) bool {
	return slices.Contains(p.generations, m.group.generation) && !m.group.covers(m.check.identity, m.entry.Target.Addr.Addr(), m.owner)
}

// reconcile makes the checks match the generations: it ends those that no generation has any more, adds new ones, and starts
// what has just been confirmed. If several have the same check, the files and certificates of the one confirmed last are
// used. It is called whenever a generation comes or goes, or annotations change.
func (p *Pool) reconcile(now time.Time) {
	stay := make(map[verdict.Identity]*checkState)
	p.warming = false
	for _, g := range p.generations {
		for _, a := range g.groups {
			p.warming = p.warming || a.Warms
			for _, spec := range a.Checks.All() {
				p.retain(stay, spec, g.stage == confirmed)
			}
		}
	}
	for _, m := range p.monitors {
		if stay[m.check.identity] == nil || !p.wanted(m) || p.orphaned(m) {
			p.forget(m, now)
		}
	}
	p.relabel(stay)
	old := p.checks
	p.checks = stay
	p.compareTexts()
	p.shareChecks(now)
	same := p.sameChecks(old)
	for _, g := range p.generations {
		for _, a := range g.groups {
			p.inherit(old, same, a, now)
		}
	}
	for _, m := range p.monitors {
		if m.position == parked && m.check.live {
			m.scheduleFirst(p, now)
		}
	}
}

// retain adds a check to those that stay. If the pool has it already, it remains the same object, with its series.
func (p *Pool) retain(stay map[verdict.Identity]*checkState, spec CheckSpec, live bool) {
	c := stay[spec.identity]
	if c == nil {
		if c = p.checks[spec.identity]; c == nil {
			c = &checkState{CheckSpec: spec}
		}
		c.live, c.Annotated = false, spec.Annotated
		stay[spec.identity] = c
	}
	c.Annotated = c.Annotated && spec.Annotated
	if live {
		c.live = true
		c.prober, c.forOwner, c.talk, c.fault = spec.prober, spec.forOwner, spec.talk, spec.fault
	}
}

// sameChecks lists the monitors of each check that is new at one pace and known at another, by the check without its pace.
// It goes through the monitors once, however many checks are new, because there may be very many of both.
func (p *Pool) sameChecks(old map[verdict.Identity]*checkState) map[verdict.Identity][]*monitor {
	known := make(map[verdict.Identity]bool)
	for _, c := range old {
		known[c.withoutPace] = true
	}
	same := make(map[verdict.Identity][]*monitor)
	for id, c := range p.checks {
		if old[id] == nil && known[c.withoutPace] {
			same[c.withoutPace] = nil
		}
	}
	if len(same) == 0 {
		return nil
	}
	for _, m := range p.monitors {
		if all, isNew := same[m.check.withoutPace]; isNew {
			same[m.check.withoutPace] = append(all, m)
		}
	}
	return same
}

// inherit watches, under the new checks of a group, what is watched under the same check at another pace, and takes over its
// verdicts: an edit of the pace must not bring dead addresses back.
func (p *Pool) inherit(old map[verdict.Identity]*checkState, same map[verdict.Identity][]*monitor, a *Group, now time.Time) {
	for _, spec := range a.Checks.All() {
		if old[spec.identity] != nil {
			continue
		}
		for _, m := range same[spec.withoutPace] {
			id, seed := spec.identityFor(m.owner)
			t := verdict.Target{Identity: id, Addr: m.entry.Target.Addr}
			if p.find(&t, seed) != nil || a.targets >= a.Max || a.Zones != m.group.Zones || !a.covers(spec.identity, t.Addr.Addr(), m.owner) {
				continue
			}
			successor := p.addMonitor(t, p.checks[spec.identity], a, m.owner, m.line, now)
			targets[successor.state()].Dec()
			successor.machine = verdict.Resume(m.verdict())
			successor.entry.Store(m.verdict())
			if successor.shared != nil {
				successor.shared.shown = successor.machine.State()
			}
			targets[successor.state()].Inc()
			p.recordState(successor, now)
			successor.countWeight(true)
			p.takeOver(successor, m, now)
		}
	}
}

// takeOver gives a monitor what is known of another one beside its verdict: its sets, when it was probed, and that it is idle.
func (p *Pool) takeOver(successor, m *monitor, now time.Time) {
	for x := range m.entry.Members() {
		x.TakeAsked()
		p.enter(successor, x.Key, x.TTL(), x.Born, x.Last)
	}
	successor.outdated = false // after a reload, probes are spread
	successor.started, successor.heard, successor.slow, successor.fell = m.started, m.heard, m.slow, m.fell
	if m.idle {
		p.rest(successor, now)
		successor.leaveIdle()
		successor.joinIdle(m.idleSince())
	}
}
