package answer

import (
	"math"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// Host is the host that a record names, if it is one that names a host, and the port, 0 if it names none.
func Host(rr dns.RR) (host string, port uint16) { return targetHost(rr) }

// targetHost is the host that a record names, and the port, 0 if it names none. Of the root name, with which SRV and MX say
// that there is no such service (RFC 2782, RFC 7505), nothing is to be found; for SVCB and HTTPS it stands for the owner
// (RFC 9460, section 2.5). A record without the name that it should have counts as one with the root name.
func targetHost(rr dns.RR) (host string, port uint16) {
	switch rr := rr.(type) {
	case *dns.SRV:
		host, port = rr.Target, rr.Port
	case *dns.MX:
		host = rr.Mx
	case *dns.NS:
		host = rr.Ns
	default:
		host, port = serviceTarget(svcbOf(rr))
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

// followedTarget is the target of a record in an answer, the root name if its addresses do not count.
func (sc *scratch) followedTarget(rr dns.RR) (host string, port uint16) {
	if host, port = targetHost(rr); host == "." || sc.rules.Follow(rr.Header().Name, host) {
		return host, port
	}
	return ".", 0
}

// decideTargets judges SRV and MX records by the addresses of the hosts that they name: a record is as good as the best
// of them. Priorities, preferences and weights are the client's to heed; so the limit does not cut these sets, and there
// are neither backups nor fixed addresses for them.
func (sc *scratch) decideTargets(s *set) choice {
	all := sc.recordCandidates(s)
	c := choice{outcome: Whole, all: all, served: all, total: len(all), ttl: math.MaxUint32}
	policy := &s.rule.Policy
	sc.glue.build(sc)
	ttl := uint32(math.MaxUint32)
	for i := range all {
		a := &all[i]
		host, port := sc.followedTarget(sc.out.Answer[a.index])
		if len(all) == 1 && policy.AllDown == Serve && sc.hasOneAddress(host) {
			c.single = true
			return c // as for a set of one address
		}
		a.verdict = sc.bestVerdict(hostQuery{s.rule, s.owner, host, port, a.ttl})
		ttl = min(ttl, a.ttl)
	}
	p := Policy{MinUp: policy.MinUp, AllDown: policy.AllDown, TTL: policy.TTL}
	if p.AllDown == Fixed {
		p.AllDown = Serve
	}
	c.served, c.outcome = p.chooseInOrder(all, sc.draw)
	c.ttl = p.TTL.boundAll(c.served)
	if c.outcome == Closed {
		c.ttl = min(ttl, p.TTL.boundAll(all))
	}
	if len(c.served) < c.total || sc.glue.outdated {
		sc.glue.mustFilter = true
	}
	return c
}

// recordCandidates lists the records of a set that is not of addresses.
func (sc *scratch) recordCandidates(s *set) []candidate {
	all := sc.candidates[:0]
	if s.size > pooledSize {
		all = make([]candidate, 0, s.size)
	}
	for i, rr := range sc.out.Answer {
		if s.contains(rr.Header()) {
			all = append(all, candidate{index: int32(i), ttl: rr.Header().Ttl})
		}
	}
	return all
}

// hostQuery is what to find out about the host of a record: the owner, the port and the TTL are the record's.
type hostQuery struct {
	rule  *Rule
	owner string
	host  string
	port  uint16
	ttl   uint32
}

// families are the types that the addresses of a host have.
var families = [2]uint16{dns.TypeA, dns.TypeAAAA}

// bestVerdict is what is believed of the best address of a host. While the addresses of one family are not known, the host is
// unknown at worst: it may have others.
func (sc *scratch) bestVerdict(q hostQuery) verdict.Brief {
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
	for i := sc.glue.firstOf(q.host); i >= 0; i = sc.glue.nextOf(i, q.host) {
		rr := sc.m.Extra[i]
		addr, _ := Address(rr)
		seen[familyIndex(rr)] = true
		v := q.rule.Health.Look(q.owner, addr, q.port, q.ttl)
		sc.glue.recordVerdict(i, v, q.rule.Policy.TTL.boundOne(v))
		better(v)
	}
	for i, rrtype := range families {
		if seen[i] {
			continue
		}
		addrs, known := sc.rules.Addresses(q.host, rrtype)
		if !known || !sc.glue.spendSteps(len(addrs)) {
			better(0)
			continue
		}
		for _, addr := range addrs {
			better(q.rule.Health.Look(q.owner, addr, q.port, q.ttl))
		}
	}
	if !found || !sc.glue.spendSteps(0) {
		return verdict.BriefUnchecked // a host without an address is not ours to judge
	}
	return best
}

// hasOneAddress reports whether a host is known to have one address at most.
func (sc *scratch) hasOneAddress(host string) bool {
	if host == "." {
		return true
	}
	n := 0
	var seen [2]bool
	for i := sc.glue.firstOf(host); i >= 0; i = sc.glue.nextOf(i, host) {
		seen[familyIndex(sc.m.Extra[i])] = true
		n++
	}
	for i, rrtype := range families {
		if !seen[i] {
			addrs, known := sc.rules.Addresses(host, rrtype)
			if !known {
				return false
			}
			n += len(addrs)
		}
	}
	return n <= 1
}

func familyIndex(rr dns.RR) int {
	if rr.Header().Rrtype == dns.TypeAAAA {
		return 1
	}
	return 0
}
