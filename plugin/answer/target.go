package answer

import (
	"math"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// Host is the host that a record names, if it is one that names a host, and the port, 0 if it names none.
func Host(rr dns.RR) (host string, port uint16) { return target(rr) }

// target is the host that a record names, and the port, 0 if it names none. Of the root name, with which SRV and MX say
// that there is no such service (RFC 2782, RFC 7505), nothing is to be found; for SVCB and HTTPS it stands for the owner
// (RFC 9460, section 2.5). A record without the name that it should have counts as one with the root name.
func target(rr dns.RR) (host string, port uint16) {
	switch rr := rr.(type) {
	case *dns.SRV:
		host, port = rr.Target, rr.Port
	case *dns.MX:
		host = rr.Mx
	case *dns.NS:
		host = rr.Ns
	default:
		host, port = serviceTarget(service(rr))
	}
	if host == "" {
		host = "."
	}
	return host, port
}

func serviceTarget(s *dns.SVCB) (host string, port uint16) {
	if s == nil {
		return ".", 0
	}
	for _, kv := range s.Value {
		if p, ok := kv.(*dns.SVCBPort); ok {
			port = p.Port
		}
	}
	if s.Target == "." {
		return s.Hdr.Name, port
	}
	return s.Target, port
}

// followed is the target of a record in an answer, the root name if its addresses do not count.
func (room *scratch) followed(rr dns.RR) (host string, port uint16) {
	if host, port = target(rr); host == "." || room.rules.Follow(rr.Header().Name, host) {
		return host, port
	}
	return ".", 0
}

// judgeTargets judges SRV and MX records by the addresses of the hosts that they name: a record is as good as the best
// of them. Priorities, preferences and weights are the client's to heed; so the limit does not cut these sets, and there
// are neither backups nor fixed addresses for them.
func (room *scratch) judgeTargets(s *set) choice {
	all := room.records(s)
	c := choice{outcome: Whole, all: all, served: all, total: len(all), ttl: math.MaxUint32}
	policy := &s.rule.Policy
	room.glue.read(room)
	ttl := uint32(math.MaxUint32)
	for i := range all {
		a := &all[i]
		host, port := room.followed(room.out.Answer[a.index])
		if len(all) == 1 && policy.AllDown == Serve && room.lone(host) {
			c.alone = true
			return c // as for a set of one address
		}
		a.verdict = room.reach(inquiry{s.rule, s.owner, host, port, a.ttl})
		ttl = min(ttl, a.ttl)
	}
	p := Policy{MinUp: policy.MinUp, AllDown: policy.AllDown, TTL: policy.TTL}
	if p.AllDown == Fixed {
		p.AllDown = Serve
	}
	c.served, c.outcome = p.chooseInOrder(all, room.draw)
	c.ttl = p.TTL.bound(c.served)
	if c.outcome == Closed {
		c.ttl = min(ttl, p.TTL.bound(all))
	}
	if len(c.served) < c.total || room.glue.stale {
		room.glue.follows = true
	}
	return c
}

// records lists the records of a set that is not of addresses.
func (room *scratch) records(s *set) []candidate {
	all := room.candidates[:0]
	if s.size > lent {
		all = make([]candidate, 0, s.size)
	}
	for i, rr := range room.out.Answer {
		if s.has(rr.Header()) {
			all = append(all, candidate{index: int32(i), ttl: rr.Header().Ttl})
		}
	}
	return all
}

// inquiry is what to find out about the host of a record: the owner, the port and the TTL are the record's.
type inquiry struct {
	rule  *Rule
	owner string
	host  string
	port  uint16
	ttl   uint32
}

// families are the types that the addresses of a host have.
var families = [2]uint16{dns.TypeA, dns.TypeAAAA}

// reach is what is believed of the best address of a host. While the addresses of one family are not known, the host is
// unknown at worst: it may have others.
func (room *scratch) reach(q inquiry) verdict.Brief {
	if q.host == "." {
		return verdict.BriefUnchecked
	}
	var seen [2]bool
	best, found := verdict.Brief(0), false
	better := func(v verdict.Brief) {
		if !found || verdict.Better(best, v) == v {
			best, found = v, true
		}
	}
	for i := room.glue.find(q.host); i >= 0; i = room.glue.after(i, q.host) {
		rr := room.m.Extra[i]
		addr, _ := Address(rr)
		seen[family(rr)] = true
		v := q.rule.Health.Look(q.owner, addr, q.port, q.ttl)
		room.glue.saw(i, v, q.rule.Policy.TTL.of(v))
		better(v)
	}
	for i, rrtype := range families {
		if seen[i] {
			continue
		}
		addrs, known := room.rules.Addresses(q.host, rrtype)
		if !known || !room.glue.spend(len(addrs)) {
			better(0)
			continue
		}
		for _, addr := range addrs {
			better(q.rule.Health.Look(q.owner, addr, q.port, q.ttl))
		}
	}
	if !found || !room.glue.spend(0) {
		return verdict.BriefUnchecked // a host without an address is not ours to judge
	}
	return best
}

// lone reports whether a host is known to have one address at most.
func (room *scratch) lone(host string) bool {
	if host == "." {
		return true
	}
	n := 0
	var seen [2]bool
	for i := room.glue.find(host); i >= 0; i = room.glue.after(i, host) {
		seen[family(room.m.Extra[i])] = true
		n++
	}
	for i, rrtype := range families {
		if !seen[i] {
			addrs, known := room.rules.Addresses(host, rrtype)
			if !known {
				return false
			}
			n += len(addrs)
		}
	}
	return n <= 1
}

func family(rr dns.RR) int {
	if rr.Header().Rrtype == dns.TypeAAAA {
		return 1
	}
	return 0
}
