package inspect

import (
	"net/netip"
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/lookup"
	"github.com/coredns-multivalue/multivalue/plugin/rules"
	"github.com/coredns-multivalue/multivalue/plugin/seen"
	"github.com/coredns-multivalue/multivalue/plugin/status"

	"github.com/miekg/dns"
)

// maxLinks bounds for how many pairs of a name and a target a snapshot says that one leads to the other.
const maxLinks = 1 << 18

// linker finds the targets that names lead to, by their last answers.
type linker struct {
	blocks []*rules.Block
	shot   *status.Snapshot         // sorted
	links  int                      // pairs of a name and a target, so far
	told   map[lookup.Question]bool // names of which it is known where they lead, for A and AAAA
}

// link tells each target of a snapshot which names lead to it. The name that it was learned by counts unless that is known
// to lead elsewhere by now.
func (v *Source) link(shot *status.Snapshot) {
	l := linker{shot: shot, blocks: v.blocks(), told: make(map[lookup.Question]bool)}
	v.seen().Each(l.addName)
	v.seen().Each(l.addHealth)
	for i := range shot.Targets {
		t := &shot.Targets[i]
		if !l.told[lookup.Question{Name: t.Name, Type: addressType(t.Address.Addr())}] {
			t.Names = append(t.Names, t.Name)
		}
		slices.Sort(t.Names)
		t.Names = slices.Compact(t.Names)
	}
}

// addressType is the type of the record that holds an address.
func addressType(addr netip.Addr) uint16 {
	if addr.Is4() {
		return dns.TypeA
	}
	return dns.TypeAAAA
}

// addName adds the targets that a name leads to, by the last answer of each server block that answered it.
func (l *linker) addName(x *seen.Name) {
	x.EachDestinations(func(had *seen.Destinations) {
		if l.links >= maxLinks {
			return
		}
		l.told[x.Question] = true // so the name that a target was learned by no longer counts by itself
		for _, b := range l.blocks {
			for i := range had.All {
				l.addDestination(b, x.Name, had, &had.All[i])
			}
		}
	})
}

// addDestination adds the targets of a server block that a destination of a name has.
func (l *linker) addDestination(b *rules.Block, name string, had *seen.Destinations, at *seen.Destination) {
	s := b.StanzaFor(at.Owner, name)
	if s == nil {
		return
	}
	for _, addr := range addressesOf(b, had, at) { // those outside within have no targets
		// A target of the snapshot is the same one if address, check and pace are: owners of host owner share a row here.
		for _, t := range s.Targets(at.Owner, netip.AddrPortFrom(addr, at.Port)) {
			same := l.shot.At(t.Addr)
			for i := range same {
				if same[i].Check == t.Check.Name && same[i].Pace == t.Check.PaceText() && l.links < maxLinks {
					addPlace(&same[i], s, l.shot.Taken)
					same[i].Names = append(same[i].Names, name)
					l.links++
				}
			}
		}
	}
}

// addressesOf are the addresses of a destination. A host leads to what the answer said of it, else to what the resolver knows.
func addressesOf(b *rules.Block, had *seen.Destinations, at *seen.Destination) []netip.Addr {
	if at.Host == "" {
		return at.Addrs
	}
	if addrs := had.Addresses(at.Host); len(addrs) > 0 {
		return addrs
	}
	return resolved(b, at.Host)
}

// resolved are the addresses of a host that the resolver of a block knows.
func resolved(b *rules.Block, host string) (all []netip.Addr) {
	for _, rrtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		if r := b.Resolver.Peek(lookup.Question{Name: host, Type: rrtype}); r != nil {
			all = append(all, r.Addresses...)
		}
	}
	return all
}

// addPlace tells a target what a stanza that leads to it says of its address: the site that it is in, its rank among backups and
// whether it warms up. The first stanza that knows one decides; explanations of names tell them apart.
func addPlace(t *status.Target, s *rules.Stanza, now time.Time) {
	if !slices.Contains(t.Stanzas, s.Group.At) {
		t.Stanzas = append(t.Stanzas, s.Group.At)
	}
	if t.Site == "" && s.Topology != nil {
		table := s.Topology.Value()
		t.Site = table.Name(table.Of(t.Address.Addr()))
	}
	if t.Rank == 0 {
		t.Rank = s.Rule.Policy.RankOf(t.Address.Addr())
	}
	if all := s.Rule.Policy.Warmup; t.Warmup == 0 && t.State == "up" && all > now.Sub(t.Since) {
		t.Warmup = rounded(max(0.01, now.Sub(t.Since).Seconds()/all.Seconds()))
	}
}
