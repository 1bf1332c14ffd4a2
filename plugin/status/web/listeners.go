package web

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
)

// Listeners are where the status is shown. What uses one is a Corefile: two that follow each other and have the same line share
// it, so that a reload which keeps the line keeps the listener too, and one that fails changes nothing. It is not safe for
// concurrent use.
type Listeners struct {
	Source Source
	Forcer func(path string) Forcer // makes what changes a file; set before a page that may is in use
	all    map[string]*shared       // by Place
}

// shared is a server that several use.
type shared struct {
	server  *Server
	address string           // as the Corefile that opened it has it
	users   map[any][]string // each with the hosts that requests may name for it
}

// Address is one to show the status at, the file and line that ask for it, and what the page is to do.
type Address struct {
	Address, At string
	Admin       string   // the file that people may change there; empty if they may change nothing
	Token       string   // the file with the token that a change needs; empty if it needs none
	TokenAt     string   // the file and line of the token
	Peers       []string // URLs of the pages of other replicas
	Hosts       []string // names by which clients may ask for it, besides the host in the address
}

// Open listens at an address for a user, unless it is open already. The error names the line. What the page may do comes into force
// with Use: the user may be a Corefile that never runs.
func (l *Listeners) Open(user any, show Address) error {
	place := Place(show.Address) // one key, however the address is written
	s := l.all[place]
	// A Corefile may come twice: when it is started, and when it is known to run. What was judged then is not judged again.
	if known := s != nil && s.users[user] != nil; show.Token != "" && !known {
		if err := judgeToken(show.Token); err != nil {
			return fmt.Errorf("%s - Error during parsing: status: %w", show.TokenAt, err)
		}
	}
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
	// Both times have the same hosts, and so have stanzas that agree. Each is kept once: all of them are compared with what a request
	// names.
	hosts := s.users[user]
	if hosts == nil {
		hosts = []string{} // which tells that the user is known
	}
	for _, host := range show.Hosts { // of several stanzas
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	s.users[user] = hosts
	s.allowHosts()
	return nil
}

// Use puts the settings of a Corefile that runs into force, in place of those of the one before. A page that it does not have may
// still be shown for a moment, and changes nothing any more.
func (l *Listeners) Use(pages []Address) {
	all := make(map[string]settings)
	for _, show := range pages {
		x := settings{token: show.Token, peers: show.Peers}
		if show.Admin != "" {
			x.forcer = l.Forcer(show.Admin)
		}
		all[Place(show.Address)] = x
	}
	for place, s := range l.all {
		x := all[place]
		s.server.settings.Store(&x)
	}
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
