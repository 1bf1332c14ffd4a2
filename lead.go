package multivalue

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/hash"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/status"

	"github.com/miekg/dns"
)

const (
	// leadPlaces is for how many server blocks, as views are, it is remembered apart where a name leads.
	leadPlaces = 4
	// maxLeads bounds how many addresses and hosts are kept of an answer. Of a longer one none are: thousands of names may have
	// thousands of addresses each.
	maxLeads = 64
	// maxLinks bounds for how many pairs of a name and a target a snapshot tells that one leads to the other.
	maxLinks = 1 << 18
)

// leads are where the last answer for a name led, before anything was left out. They are never changed.
type leads struct {
	print uint64 // of all of it, in whatever order
	all   []lead // nil if they are too many
}

// lead is where records of one owner lead: to addresses, or to a host that has some.
type lead struct {
	owner string
	host  string
	port  uint16 // that the records name, if they do
	addrs []netip.Addr
}

// eachLead goes through where the records of an answer lead, an address or a host at a time. The glue of hosts is theirs.
func eachLead(m *dns.Msg, take func(owner, host string, port uint16, addr netip.Addr)) {
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

// leadsPrint tells apart answers that lead elsewhere. The order of the records and the case of names do not matter.
func leadsPrint(m *dns.Msg) (print uint64) {
	last, named := "", uint64(0)
	eachLead(m, func(owner, host string, port uint16, addr netip.Addr) {
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

// leadsOf takes down where an answer leads.
func leadsOf(m *dns.Msg, print uint64) *leads {
	l := &leads{print: print}
	count := 0
	eachLead(m, func(string, string, uint16, netip.Addr) { count++ })
	if count > maxLeads {
		return l
	}
	l.all = make([]lead, 0, 1)
	eachLead(m, func(owner, host string, port uint16, addr netip.Addr) {
		if n := len(l.all); n > 0 && host == "" && l.all[n-1].goesOn(owner, port) {
			l.all[n-1].addrs = append(l.all[n-1].addrs, addr)
			return
		}
		next := lead{owner: strings.ToLower(owner), host: strings.ToLower(host), port: port}
		if host == "" {
			next.addrs = []netip.Addr{addr}
		}
		l.all = append(l.all, next)
	})
	return l
}

// goesOn reports whether one more address belongs to a lead.
func (l *lead) goesOn(owner string, port uint16) bool {
	return l.host == "" && l.port == port && strings.EqualFold(l.owner, owner)
}

// linker finds the targets that names lead to, by what they were answered last.
type linker struct {
	blocks []*block
	shot   *status.Snapshot // in order
	links  int
	told   map[question]bool // names of which it is known where they lead, for A and AAAA
}

// link tells each target of a snapshot which names lead to it. One that it was learned by counts unless it is known to lead
// elsewhere by now.
func (v *viewer) link(shot *status.Snapshot) {
	l := linker{shot: shot, told: make(map[question]bool)}
	if blocks := v.pool.blocks.Load(); blocks != nil {
		l.blocks = *blocks
	}
	if seen := v.pool.sightings.Load(); seen != nil {
		for i := range seen {
			if x := seen[i].Load(); x != nil {
				l.sighted(x)
			}
		}
	}
	for i := range shot.Targets {
		t := &shot.Targets[i]
		if !l.told[question{t.Name, typeOf(t.Address.Addr())}] {
			t.Names = append(t.Names, t.Name)
		}
		slices.Sort(t.Names)
		t.Names = slices.Compact(t.Names)
	}
}

func typeOf(addr netip.Addr) uint16 {
	if addr.Is4() {
		return dns.TypeA
	}
	return dns.TypeAAAA
}

// sighted follows a name that was seen.
func (l *linker) sighted(x *sighting) {
	for i := range x.leads {
		had := x.leads[i].Load()
		if had == nil || had.all == nil || l.links >= maxLinks {
			continue
		}
		l.told[x.question] = true
		for _, b := range l.blocks {
			for i := range had.all {
				l.follow(b, x.name, had, &had.all[i])
			}
		}
	}
}

// follow finds the targets of a server block that a lead of a name goes to.
func (l *linker) follow(b *block, name string, had *leads, at *lead) {
	s := b.stanzaOf(at.owner, name)
	if s == nil {
		return
	}
	addrs := at.addrs
	if at.host != "" {
		addrs = had.addressesOf(b, at.host)
	}
	for _, addr := range addrs {
		for _, t := range s.targets(at.owner, netip.AddrPortFrom(addr, at.port)) {
			same := l.shot.At(t.Addr)
			for i := range same {
				if same[i].Check == t.check.Name && same[i].Pace == t.check.PaceText() && l.links < maxLinks {
					same[i].Names = append(same[i].Names, name)
					l.links++
				}
			}
		}
	}
}

// stanzaOf is the one that judges the sets of an owner in answers for a name, as Rule finds it.
func (b *block) stanzaOf(owner, name string) *stanza {
	z := b.zones.find(owner)
	if z == nil {
		if z = b.zones.find(name); z == nil || z.stanza == nil || len(z.stanza.within) == 0 {
			return nil
		}
	}
	if z.stanza == nil {
		return nil
	}
	s, _ := z.stanza.ruleOf(owner).Health.(*stanza)
	return s
}

// addressesOf are those of a host: that stood in the answer, or that the learner knows.
func (l *leads) addressesOf(b *block, host string) (all []netip.Addr) {
	for i := range l.all {
		if x := &l.all[i]; x.host == "" && x.owner == host {
			all = append(all, x.addrs...)
		}
	}
	if len(all) > 0 {
		return all
	}
	for _, rrtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		if x := b.learner.lessons()[question{host, rrtype}]; x != nil {
			if r := x.reply.Load(); r != nil {
				all = append(all, r.addrs...)
			}
		}
	}
	return all
}
