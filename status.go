package multivalue

import "github.com/coredns-multivalue/multivalue/plugin/seen"

// openStatus listens where a generation wants to show the status, unless another generation does already. A start that
// fails here leaves nothing behind. The caller holds mu.
func (p *process) openStatus(g *generation) (err error) {
	if g.statusAt, err = g.pages.Shown(); err != nil {
		return err
	}
	for _, show := range g.statusAt {
		if err := p.listeners.Open(g, show); err != nil {
			p.closeUnused()()
			return err
		}
	}
	p.record(p.listeners.Any())
	return nil
}

// closeStatus is closeUnused for a generation that is about to leave.
func (p *process) closeStatus(g *generation) (closed func()) {
	return p.retainStatus(func(user any) bool { return user != g && p.pool.Has(&user.(*generation).pool) })
}

// closeUnused closes the listeners that no generation of the pool wants any more. What it returns waits until they are closed.
// The caller holds mu.
func (p *process) closeUnused() (closed func()) {
	return p.retainStatus(func(user any) bool { return p.pool.Has(&user.(*generation).pool) })
}

func (p *process) retainStatus(there func(user any) bool) (closed func()) {
	closed = p.listeners.Retain(there)
	p.record(p.listeners.Any())
	return closed
}

// record has what only the status shows kept from now on, or dropped: it costs nothing while there is no page. The caller
// holds mu.
func (p *process) record(on bool) {
	if on == (p.seen.Load() != nil) {
		return
	}
	if on {
		p.seen.Store(seen.New(forgetAfter))
	} else {
		p.seen.Store(nil)
	}
	p.pool.Record(on)
}
