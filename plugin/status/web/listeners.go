package web

import (
	"fmt"
	"maps"
	"net"
	"sync"
)

// Listeners are where the status is shown. What uses one is a Corefile: two that follow each other and have the same line share
// it, so that a reload which keeps the line keeps the listener too, and one that fails changes nothing. It is not safe for
// concurrent use.
type Listeners struct {
	Source Source
	all    map[string]*shared // by Place
}

// shared is a server that several use.
type shared struct {
	server  *Server
	address string           // as the Corefile that opened it has it
	users   map[any][]string // each with the hosts that requests may name for it
}

// Address is one to show the status at, and the file and line that ask for it.
type Address struct {
	Address, At string
	Hosts       []string // names by which clients may ask for it, besides the host in the address
}

// Open listens at an address for a user, unless it is open already. The error names the line.
func (l *Listeners) Open(user any, show Address) error {
	place := Place(show.Address) // one key, however the address is written
	s := l.all[place]
	if s == nil {
		server, err := Listen(show.Address, l.Source)
		if err != nil {
			return l.inUse(show, err)
		}
		if l.all == nil {
			l.all = make(map[string]*shared)
		}
		s = &shared{server, show.Address, make(map[any][]string)}
		l.all[place] = s
	}
	s.users[user] = append(s.users[user], show.Hosts...) // of several stanzas
	s.allowHosts()
	return nil
}

// inUse says why the status cannot be shown. The port may be the running server's own, on another address.
func (l *Listeners) inUse(show Address, err error) error {
	_, port, _ := net.SplitHostPort(show.Address)
	for _, s := range l.all {
		if _, taken, _ := net.SplitHostPort(s.address); taken == port && port != "" {
			return fmt.Errorf("%s - status %s: %w: the running server shows it on %s, and a reload cannot change the host alone: use another port, or restart", show.At, show.Address, err, s.address)
		}
	}
	return fmt.Errorf("%s - status %s: %w: use an address that is free", show.At, show.Address, err)
}

// Retain closes the listeners whose users have all gone, all together. What it returns waits until they are closed: clients may
// take their time over that.
func (l *Listeners) Retain(there func(user any) bool) (closed func()) {
	var closing sync.WaitGroup
	for place, s := range l.all {
		maps.DeleteFunc(s.users, func(user any, _ []string) bool { return !there(user) })
		if len(s.users) == 0 {
			closing.Go(s.server.Close)
			delete(l.all, place)
		}
		s.allowHosts()
	}
	return closing.Wait
}

// Any reports whether there is a listener.
func (l *Listeners) Any() bool { return len(l.all) > 0 }
