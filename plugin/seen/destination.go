package seen

import (
	"net/netip"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/hash"
	"github.com/coredns-multivalue/multivalue/plugin/answer"

	"github.com/miekg/dns"
)

const (
	// blocks is for how many server blocks, as views are, destinations are remembered apart.
	blocks = 4
	// maxDestinations bounds how many addresses and hosts are kept of an answer. Of a longer one none are: thousands of
	// names may have thousands of addresses each.
	maxDestinations = 64
)

// Destinations are where the last answer for a name led, before anything was left out. They never change.
type Destinations struct {
	All         []Destination // nil if there are too many
	fingerprint uint64        // of all of it, in whatever order
}

// Destination is where records of one owner lead: to addresses, or to a host that has some. Names are in lower case.
type Destination struct {
	Owner string
	Host  string // empty if it has addresses
	Port  uint16 // that the records name, 0 for none
	Addrs []netip.Addr
}

// Addresses are those that the answer itself has of a host.
func (l *Destinations) Addresses(host string) (all []netip.Addr) {
	for i := range l.All {
		if x := &l.All[i]; x.Host == "" && x.Owner == host {
			all = append(all, x.Addrs...)
		}
	}
	return all
}

// eachDestination calls take with where the records of an answer lead, an address or a host at a time. The additional
// section counts for hosts alone.
func eachDestination(m *dns.Msg, take func(owner, host string, port uint16, addr netip.Addr)) {
	hosts := false
	for _, rr := range m.Answer {
		owner := rr.Header().Name
		if addr, ok := answer.Address(rr); ok {
			take(owner, "", 0, addr)
			continue
		}
		host, port := answer.Host(rr)
		if host != "." {
			hosts = true
			take(owner, host, port, netip.Addr{})
		}
		answer.EachHint(rr, func(addr netip.Addr) { take(owner, "", port, addr) })
	}
	for _, rr := range m.Extra {
		if addr, ok := answer.Address(rr); ok && hosts {
			take(rr.Header().Name, "", 0, addr)
		}
	}
}

// fingerprint tells answers apart that lead elsewhere. The order of the records and the case of names do not matter. Every
// judged answer pays for it while there is a status page, so it allocates nothing.
func fingerprint(m *dns.Msg) (print uint64) {
	last, named := "", uint64(0)
	eachDestination(m, func(owner, host string, port uint16, addr netip.Addr) {
		if owner != last {
			last, named = owner, hash.Name(owner)
		}
		h := hash.AddrPort(named, addr, port)
		if host != "" {
			h = hash.Mix(h, hash.Name(host))
		}
		print += h
	})
	return print
}

// destinationsOf takes down where an answer leads.
func destinationsOf(m *dns.Msg, print uint64) *Destinations {
	l := &Destinations{fingerprint: print}
	count := 0
	eachDestination(m, func(string, string, uint16, netip.Addr) { count++ })
	if count > maxDestinations {
		return l
	}
	l.All = make([]Destination, 0, 1)
	eachDestination(m, func(owner, host string, port uint16, addr netip.Addr) {
		if n := len(l.All); n > 0 && host == "" && l.All[n-1].continues(owner, port) {
			l.All[n-1].Addrs = append(l.All[n-1].Addrs, addr)
			return
		}
		next := Destination{Owner: strings.ToLower(owner), Host: strings.ToLower(host), Port: port}
		if host == "" {
			next.Addrs = []netip.Addr{addr}
		}
		l.All = append(l.All, next)
	})
	return l
}

// continues reports whether one more address belongs to a destination.
func (l *Destination) continues(owner string, port uint16) bool {
	return l.Host == "" && l.Port == port && strings.EqualFold(l.Owner, owner)
}
