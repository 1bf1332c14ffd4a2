package multivalue

import (
	"fmt"
	"maps"
	"net"
	"sync"

	"github.com/coredns-multivalue/multivalue/plugin/seen"
	"github.com/coredns-multivalue/multivalue/plugin/status/web"
)

// statusAddress is an address to show the status at, and the file and line that ask for it.
type statusAddress struct{ address, at string }

// listener shows the status. The generations that want it share it, so that a reload which keeps the line keeps the
// listener too, and one that fails changes nothing.
type listener struct {
	server  *web.Server
	address string // as the Corefile that opened it has it
	users   map[*generation]bool
}

// openStatus listens where a generation wants to show the status, unless another generation does already. A start that
// fails here leaves nothing behind. The caller holds mu.
func (p *process) openStatus(g *generation) error {
	for _, show := range g.statusAt {
		place := web.Place(show.address) // one key, however the address is written
		l := p.listeners[place]
		if l == nil {
			server, err := web.Listen(show.address, p.source)
			if err != nil {
				err = p.addressInUse(show, err)
				p.closeUnused()()
				return err
			}
			l = &listener{server, show.address, make(map[*generation]bool)}
			p.listeners[place] = l
		}
		l.users[g] = true
	}
	p.record(len(p.listeners) > 0)
	return nil
}

// addressInUse says why the status cannot be shown. The port may be the running server's own, on another address.
func (p *process) addressInUse(show statusAddress, err error) error {
	_, port, _ := net.SplitHostPort(show.address)
	for _, l := range p.listeners {
		if _, taken, _ := net.SplitHostPort(l.address); taken == port && port != "" {
			return fmt.Errorf("%s - status %s: %w: the running server shows it on %s, and a reload cannot change the host alone: use another port, or restart", show.at, show.address, err, l.address)
		}
	}
	return fmt.Errorf("%s - status %s: %w: use an address that is free", show.at, show.address, err)
}

// closeStatus is closeUnused for a generation that is about to leave.
func (p *process) closeStatus(g *generation) (closed func()) {
	for _, l := range p.listeners {
		delete(l.users, g)
	}
	return p.closeUnused()
}

// closeUnused closes the listeners that no generation of the pool wants any more, all together. What it returns waits until
// they are closed: clients may take their time over that. The caller holds mu.
func (p *process) closeUnused() (closed func()) {
	var closing sync.WaitGroup
	for address, l := range p.listeners {
		maps.DeleteFunc(l.users, func(g *generation, _ bool) bool { return !p.pool.Has(&g.pool) })
		if len(l.users) == 0 {
			closing.Go(l.server.Close)
			delete(p.listeners, address)
		}
	}
	p.record(len(p.listeners) > 0)
	return closing.Wait
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
