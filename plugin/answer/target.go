package answer

import (
	"math"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// Host returns the host and port that a record names: the root name if it names no host, and port 0 if it names none.
func Host(rr dns.RR) (host string, port uint16) { return targetHost(rr) }

// targetHost returns the host that a record names, and the port, or 0. In SRV and MX records the root name says that there is no
// such service (RFC 2782; RFC 7505): it has no addresses. In SVCB and HTTPS records it stands for the owner name (RFC 9460,
// section 2.5). A record without a name, which no parser makes, counts as one with the root name.
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

// serviceTarget returns the target and the port of an SVCB or HTTPS record.
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

// followedTarget returns the target of a record in the answer, or the root name if the record is not filtered by it.
func (sc *scratch) followedTarget(rr dns.RR) (host string, port uint16) {
	if host, port = targetHost(rr); host == "." || sc.rules.Follow(rr.Header().Name, host) {
		return host, port
	}
	sc.report.Unchecked[verdict.NoAddress] = true
	return ".", 0
}

// decideTargets decides a set of SRV or MX records by the addresses of their hosts: a record is as healthy as the best address
// of its host. The client applies priorities, preferences and weights, and needs all records for that. So Limit, Backup and
// Fixed do not apply to these sets.
func (sc *scratch) decideTargets(s *set) choice {
	all, rest := sc.recordCandidates(s)
	c := choice{outcome: Whole, all: all, served: all, rest: rest, total: len(all) + rest.size, ttl: math.MaxUint32}
	policy := &s.rule.Policy
	sc.glue.build(sc)
	if rest.size > 0 {
		sc.report.Unchecked[verdict.Rest] = true
	}
	ttl := uint32(math.MaxUint32)
	for i := range all {
		a := &all[i]
		host, port := sc.followedTarget(sc.out.Answer[a.index])
		if len(all) == 1 && policy.AllDown == Serve && sc.hasOneAddress(host) {
			c.single = true
			if host != "." { // which names no host at all
				sc.report.Unchecked[verdict.Single] = true
			}
			return c // as for a set of one address
		}
		a.verdict = sc.bestVerdict(hostQuery{s.rule, s.at, host, port, a.ttl})
		ttl = min(ttl, a.ttl)
	}
	p := Policy{MinUp: policy.MinUp, AllDown: policy.AllDown, TTL: policy.TTL}
	if p.AllDown == Fixed || p.AllDown == Named { // an address has no host to name
		p.AllDown = Serve
	}
	c.served, c.outcome = p.chooseInOrder(all, sc.draw)
	sc.report.noteMembers(s.owner, all, c.served)
	c.ttl = p.TTL.boundAll(c.served)
	if c.addRest(&p); c.outcome == Closed { // for a denial, as in decideAddresses
		c.ttl = min(ttl, p.TTL.boundAll(all))
	}
	// The section must be filtered if a host was left out, or if one that stays has an address that must not.
	if len(c.served) < len(all) || sc.glue.outdated {
		sc.glue.mustFilter = true
	}
	return c
}

// recordCandidates lists the records of a set of SRV or MX records. The rest of the set is served, as no limit applies.
func (sc *scratch) recordCandidates(s *set) ([]candidate, rest) {
	room, _ := sc.room(min(s.size, maxJudged))
	all := room[:0]
	for i, rr := range sc.out.Answer {
		if !s.contains(rr.Header()) {
			continue
		}
		if len(all) == maxJudged {
			return all, rest{from: i, size: s.size - maxJudged, pass: true}
		}
		all = append(all, candidate{index: int32(i), ttl: rr.Header().Ttl})
	}
	return all, rest{}
}

// hostQuery asks for the health of the host of a record. The set, port and TTL are those of the record.
type hostQuery struct {
	rule *Rule
	at   verdict.RecordSet
	host string
	port uint16
	ttl  uint32 // in seconds
}

// families are the types of addresses. Arrays of two are indexed by familyIndex.
var families = [2]uint16{dns.TypeA, dns.TypeAAAA}

// bestVerdict returns the health of the best address of a host. Addresses in the additional section come first; for a family
// without one there, Rules.Addresses is asked. If that does not know, the host is at worst unknown: it may have others.
func (sc *scratch) bestVerdict(q hostQuery) verdict.Brief {
	if q.host == "." {
		return verdict.NoAddress.Brief()
	}
	var seen [2]bool // by family: the section has an address
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
		v := q.rule.Health.Look(q.at, addr, q.port, q.ttl)
		sc.glue.recordVerdict(i, v, q.rule.Policy.TTL.boundOne(v))
		better(v)
	}
	for i, rrtype := range families {
		if seen[i] {
			continue
		}
		addrs, known := sc.rules.Addresses(q.host, rrtype)
		// Each address from the rules costs a step, like one in the section.
		if !known || !sc.glue.spendSteps(len(addrs)) {
			better(0)
			continue
		}
		for _, addr := range addrs {
			better(q.rule.Health.Look(q.at, addr, q.port, q.ttl))
		}
	}
	if !found || !sc.glue.spendSteps(0) {
		return verdict.NoAddress.Brief() // a host without an address, or too many of them, is left unchanged
	}
	return best
}

// hasOneAddress reports whether a host is known to have at most one address.
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

// familyIndex returns the index of the family of an A or AAAA record in families.
func familyIndex(rr dns.RR) int {
	if rr.Header().Rrtype == dns.TypeAAAA {
		return 1
	}
	return 0
}
