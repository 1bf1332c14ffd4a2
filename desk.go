package multivalue

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"

	"github.com/coredns-multivalue/multivalue/plugin/status/web"

	"github.com/coredns/caddy"
)

// defaultStatus is where the status is shown, if a stanza does not say.
const defaultStatus = "localhost:9253"

// showAt is an address to show the status at, and the line that says so.
type showAt struct{ address, at string }

// desk is a listener that shows the status. The generations that want it share it, so that a reload which keeps the line
// keeps the listener too, and one that fails changes nothing.
type desk struct {
	server  *web.Server
	address string // as the Corefile that opened it has it
	of      map[*generation]bool
}

// parseStatus reads where the stanza wants the status to be shown.
func parseStatus(s *parsedStanza, c *caddy.Controller, args []string) error {
	show := showAt{defaultStatus, fmt.Sprintf("%s:%d", c.File(), c.Line())}
	if len(args) > 0 {
		show.address = args[0]
	}
	if _, _, err := web.Split(show.address); err != nil {
		return c.Errf("status %v", err)
	}
	s.show = &show
	return nil
}

// open listens where a generation wants to show the status, unless somebody does already. It needs life held. Of a start
// that fails here nothing stays.
func (p *pool) open(g *generation) error {
	for _, show := range g.shows {
		place := web.Place(show.address)
		d := p.desks[place]
		if d == nil {
			server, err := web.Listen(show.address, p.viewer)
			if err != nil {
				err = p.occupied(show, err)
				p.tidy()()
				return err
			}
			d = &desk{server, show.address, make(map[*generation]bool)}
			p.desks[place] = d
		}
		d.of[g] = true
	}
	p.record(len(p.desks) > 0)
	return nil
}

// occupied says why one cannot listen. The port may be the running server's own, on another address.
func (p *pool) occupied(show showAt, err error) error {
	_, port, _ := net.SplitHostPort(show.address)
	for _, d := range p.desks {
		if _, taken, _ := net.SplitHostPort(d.address); taken == port && port != "" {
			return fmt.Errorf("%s - status %s: %w: the running server shows it on %s, and a reload cannot change the host alone: want another port, or a restart", show.at, show.address, err, d.address)
		}
	}
	return fmt.Errorf("%s - status %s: %w: want an address that is free", show.at, show.address, err)
}

// tidy closes the listeners that no generation of the pool wants any more, all together. It needs life held. What it returns
// waits until they are closed: clients may take their time over that.
func (p *pool) tidy() (closed func()) {
	var closing sync.WaitGroup
	if len(p.desks) == 0 {
		return closing.Wait
	}
	var present []*generation
	p.do(func() { present = slices.Clone(p.generations) })
	for address, d := range p.desks {
		maps.DeleteFunc(d.of, func(g *generation, _ bool) bool { return !slices.Contains(present, g) })
		if len(d.of) == 0 {
			closing.Go(d.server.Close)
			delete(p.desks, address)
		}
	}
	p.record(len(p.desks) > 0)
	return closing.Wait
}

// record has what only the status shows kept from now on, or dropped: it costs nothing where nobody can look. It needs life
// held.
func (p *pool) record(on bool) {
	if on == (p.sightings.Load() != nil) {
		return
	}
	if !on {
		p.sightings.Store(nil)
	} else {
		p.sightings.Store(new(sightings))
	}
	p.do(func() {
		p.recording, p.changes = on, nil
		for _, w := range p.monitors {
			w.history = nil
		}
	})
}
