package pool

import (
	"context"
	"slices"
	"time"
)

// Generation is what one Corefile, or one reload of it, asks of the pool. The new one joins before the old one leaves, so
// that the pool never forgets what both of them check. Its life is Join, Confirm, Leave; or Join, Abandon.
type Generation struct {
	// OnConfirm is called once, when the servers of the Corefile are known to run: in Confirm, or on the loop when a query
	// has come through them before. It must not wait, nor call the pool. Nil calls nothing.
	OnConfirm func()
	// OnLeave is called in Leave. OnConfirm is never called after it, because a query can no longer confirm the generation.
	// It must not wait, nor call the pool. Nil calls nothing.
	OnLeave func()
	groups  []*Group
	stage   stage
}

type stage uint8

const (
	candidate stage = iota // its start may still fail, without anybody telling it
	confirmed              // its servers run
	left                   // it has stopped, for good
)

// AddGroup gives a generation one more group. It is called before the generation joins.
func (p *Pool) AddGroup(g *Generation, group *Group) {
	group.pool, group.generation = p, g
	g.groups = append(g.groups, group)
}

// do runs f where nothing else touches the pool's state: on the loop, or here if the loop does not run. The caller holds
// life.
func (p *Pool) do(f func()) {
	if p.stop == nil {
		f()
		return
	}
	done := make(chan struct{})
	p.calls <- func() { defer close(done); f() }
	<-done
}

// Join makes a generation known, before its servers listen. Checks that it has at another pace than before take over the
// verdicts, but nothing new is probed until it is confirmed.
func (p *Pool) Join(g *Generation) {
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() {
		if len(p.generations) == 0 {
			p.reset() // the beliefs of a stopped pool are out of date
			p.ran = false
		}
		p.generations = append(p.generations, g)
		p.reconcile(time.Now())
	})
}

// Confirm says that the generation's servers run. It starts the loop if need be. It reports whether the generation is
// confirmed now, which one that has left is not.
func (p *Pool) Confirm(g *Generation) (runs bool) {
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() { p.confirmed(g, time.Now()) })
	if g.stage != confirmed || p.stop != nil {
		return g.stage == confirmed
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	p.stop = func() { cancel(); <-ended }
	p.running.Store(true)
	go func() {
		defer close(ended)
		defer p.running.Store(false)
		p.run(ctx)
	}()
	return true
}

// Leave takes a generation away. Checks that no other has end at once. The last one to leave stops the pool, which waits
// for its probes to end, for a second at most; the table stays as it is, for queries that are still being answered. Leave
// reports whether it was the last.
func (p *Pool) Leave(g *Generation) (last bool) {
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() {
		g.stage = left
		if g.OnLeave != nil {
			g.OnLeave()
		}
		p.generations = slices.DeleteFunc(p.generations, func(x *Generation) bool { return x == g })
		if last = len(p.generations) == 0; !last {
			p.reconcile(time.Now())
		}
	})
	if last && p.stop != nil {
		p.stop()
		p.stop = nil
		if p.OnStop != nil {
			p.OnStop(View{p})
		}
		p.clearMetrics()
	}
	return last
}

// Abandon takes away the generations that were never confirmed: their start has failed.
func (p *Pool) Abandon() {
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() {
		p.generations = slices.DeleteFunc(p.generations, func(g *Generation) bool { return g.stage == candidate })
		p.reconcile(time.Now())
	})
}

// Has reports whether a generation has joined and neither left nor been abandoned.
func (p *Pool) Has(g *Generation) (has bool) {
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() { has = slices.Contains(p.generations, g) })
	return has
}

// Update runs change where nothing else touches the pool's state. If it returns true, the checks of the generation's
// groups have changed: what is new is known from then on, and what no group has any more ends at once.
func (p *Pool) Update(g *Generation, change func() bool) {
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() {
		if change() && slices.Contains(p.generations, g) {
			p.reconcile(time.Now())
		}
	})
}

// clearMetrics drops every series of a pool that has stopped, and what it watched, but for the table.
func (p *Pool) clearMetrics() {
	for _, m := range p.monitors {
		m.removed = true // a result of its last probe may be read by the next start
		m.leaveIdle()
		targets[m.state()].Dec()
		p.endLine(m, time.Now())
		m.countWeight(false)
	}
	if p.member != nil {
		p.member.clearMetrics()
		p.member = nil
	}
	clear(p.monitors)
	clear(p.names)
	p.isolation.lift()
	p.lateness.clear()
	p.relabel(nil)
	clear(p.checks)
}

// confirmed is Confirm on the loop. The generation now has the targets that it shares with earlier ones.
func (p *Pool) confirmed(g *Generation, now time.Time) {
	if g.stage != candidate {
		return
	}
	g.stage = confirmed
	// Other candidates are of starts that failed, since one start follows the other: without multivalue in the Corefile
	// before them, nothing abandoned them. And g itself may have been taken for one of those.
	p.generations = slices.DeleteFunc(p.generations, func(x *Generation) bool { return x == g || x.stage == candidate })
	p.generations = append(p.generations, g)
	p.recordReload(now)
	p.reconcile(now)
	if g.OnConfirm != nil {
		g.OnConfirm()
	}
	resting := make(map[*Group][]*monitor)
	for _, m := range p.monitors {
		group := g.groupOf(m)
		if group == nil {
			continue
		}
		m.group.targets--
		group.targets++
		if m.shared != nil && m.shared.is(markLent) {
			m.group.lent--
			group.lent++
		}
		group.learned = m.group.learned // a reload does not begin the minute again
		if m.idle {
			resting[group] = append(resting[group], m)
		} else {
			m.group = group
		}
	}
	for group, all := range resting {
		moveIdle(group, all)
	}
}

// groupOf is the group that a monitor belongs to: of the stanza with the same zones as the one that asked for it, else of
// the first that may probe it.
func (g *Generation) groupOf(m *monitor) *Group {
	var first *Group
	for _, group := range g.groups {
		if !group.covers(m.check.identity, m.entry.Target.Addr.Addr(), m.owner) {
			continue
		}
		if group.Zones == m.group.Zones {
			return group
		}
		if first == nil {
			first = group
		}
	}
	return first
}

// wanted reports whether a stanza of any generation covers the target of a monitor.
func (p *Pool) wanted(m *monitor) bool {
	return slices.ContainsFunc(p.generations, func(g *Generation) bool {
		return slices.ContainsFunc(g.groups, func(group *Group) bool { return group.covers(m.check.identity, m.entry.Target.Addr.Addr(), m.owner) })
	})
}
