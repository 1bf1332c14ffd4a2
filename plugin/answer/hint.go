package answer

import (
	"math"
	"net"
	"net/netip"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// svcbOf returns the common part of SVCB and HTTPS records (RFC 9460), nil for other records.
func svcbOf(rr dns.RR) *dns.SVCB {
	switch rr := rr.(type) {
	case *dns.SVCB:
		return rr
	case *dns.HTTPS:
		return &rr.SVCB
	}
	return nil
}

// parameters returns the parameters of an SVCB or HTTPS record, none for other records.
func parameters(rr dns.RR) []dns.SVCBKeyValue {
	if s := svcbOf(rr); s != nil {
		return s.Value
	}
	return nil
}

// hints returns the addresses in an ipv4hint or ipv6hint (RFC 9460, section 7.3), nil for other parameters.
func hints(kv dns.SVCBKeyValue) []net.IP {
	switch kv := kv.(type) {
	case *dns.SVCBIPv4Hint:
		return kv.Hint
	case *dns.SVCBIPv6Hint:
		return kv.Hint
	}
	return nil
}

// EachHint calls take for each address in the hints of an HTTPS or SVCB record. Other records have none.
func EachHint(rr dns.RR, take func(netip.Addr)) {
	for _, kv := range parameters(rr) {
		for _, ip := range hints(kv) {
			if addr, ok := netip.AddrFromSlice(ip); ok {
				take(addr.Unmap())
			}
		}
	}
}

// withHints returns a parameter of the same kind with other addresses.
func withHints(kv dns.SVCBKeyValue, ips []net.IP) dns.SVCBKeyValue {
	if _, ok := kv.(*dns.SVCBIPv4Hint); ok {
		return &dns.SVCBIPv4Hint{Hint: ips}
	}
	return &dns.SVCBIPv6Hint{Hint: ips}
}

// decideHints removes the addresses that are down from the hints of HTTPS and SVCB records. Each hint is filtered for itself and
// never becomes empty. The records themselves always stay: they say more than addresses, such as the protocol, and a client
// queries the addresses anyway (RFC 9460, section 7.3).
func (sc *scratch) decideHints(s *set) {
	sc.glue.build(sc)
	t := tally{rule: s.rule, at: s.at, ttl: math.MaxUint32, left: maxJudged}
	for _, rr := range sc.out.Answer {
		if s.contains(rr.Header()) {
			sc.tallyHints(&t, rr)
		}
	}
	sc.report.addChoice(choice{outcome: t.outcome, total: t.total})
	sc.report.Kept += t.kept
	if s.rule.Policy.DryRun {
		return
	}
	s.outcome = max(Whole, t.outcome) // also without any hint the set was decided, so its glue is filtered
	sc.report.Enforced = max(sc.report.Enforced, t.outcome)
	if sc.glue.outdated {
		sc.glue.mustFilter = true
	}
	if t.kept == t.total && t.highest <= t.ttl { // nothing changes
		return
	}
	t.left = maxJudged // so that the same hints are judged again
	answer := make([]dns.RR, len(sc.out.Answer))
	for i, rr := range sc.out.Answer {
		if answer[i] = rr; s.contains(rr.Header()) {
			answer[i] = sc.withChosenHints(&t, rr)
		}
	}
	sc.out = copyOnce(sc.m, sc.out)
	sc.out.Answer = answer
	if t.kept < t.total {
		sc.out.AuthenticatedData = false // as in replaceSet
	}
}

// tally sums up the hints of a set. They are decided twice: here to see whether anything changes, and again in withChosenHints,
// so that the usual case, in which nothing does, needs no memory.
type tally struct {
	rule        *Rule
	at          verdict.RecordSet
	outcome     Outcome // the worst one
	kept, total int     // addresses in the hints
	ttl         uint32  // the highest TTL that a record may have
	highest     uint32  // the highest TTL of the records
	left        int     // how many more addresses are judged
}

// tallyHints adds the hints of one record. It also looks up the addresses of its target in the additional section, since clients
// use those as well.
func (sc *scratch) tallyHints(t *tally, rr dns.RR) {
	t.highest = max(t.highest, rr.Header().Ttl)
	_, port := targetHost(rr)
	for _, kv := range parameters(rr) {
		switch ips := hints(kv); {
		case len(ips) > 1:
			sc.addParameter(t, ips, port, rr)
		case len(ips) == 1: // it always stays
			sc.report.Unchecked[verdict.Single] = true
		}
	}
	// The records do not depend on these addresses, so it is enough to see whether the additional section must be filtered.
	host, _ := sc.followedTarget(rr)
	for i := sc.glue.firstOf(host); i >= 0 && host != "."; i = sc.glue.nextOf(i, host) {
		addr, _ := Address(sc.m.Extra[i])
		v := t.rule.Health.Look(t.at, addr, port, rr.Header().Ttl)
		sc.glue.recordVerdict(i, v, t.rule.Policy.TTL.boundOne(v))
	}
}

// addParameter adds one hint. The addresses that stay in it bound the TTL of the record.
func (sc *scratch) addParameter(t *tally, ips []net.IP, port uint16, rr dns.RR) {
	served, judged, outcome := sc.chooseHints(t, ips, port, rr.Header().Ttl)
	sc.report.noteMembers(t.at.Owner, served[:judged], served)
	unjudged := rest{size: len(ips) - judged, pass: true}
	if t.rule.Observe != nil {
		s := set{owner: t.at.Owner, rrtype: rr.Header().Rrtype, rule: t.rule}
		sc.observe(&s, &choice{outcome: outcome, all: served[:judged], served: served, rest: unjudged, ttl: t.rule.Policy.TTL.boundAll(served)}, rr)
	}
	t.outcome, t.ttl = max(t.outcome, outcome), min(t.ttl, t.rule.Policy.TTL.boundAll(served))
	t.total += len(ips)
	t.kept += len(served) + unjudged.size
}

// chooseHints returns the addresses of one hint that stay, by their indexes in it, and how many were judged: those after them
// stay too. Of the policy only MinUp applies: a limit or backups would be those of the addresses that the client queries, and
// an empty hint is invalid.
func (sc *scratch) chooseHints(t *tally, ips []net.IP, port uint16, ttl uint32) (served []candidate, judged int, outcome Outcome) {
	judged = min(len(ips), t.left)
	t.left -= judged
	if judged < len(ips) {
		sc.report.Unchecked[verdict.Rest] = true
	}
	all, _ := sc.room(judged)
	for i, ip := range ips[:judged] {
		addr, _ := netip.AddrFromSlice(ip)
		all[i] = candidate{addr: addr.Unmap(), index: int32(i), verdict: t.lookUp(ip, port, ttl)}
	}
	p := Policy{MinUp: t.rule.Policy.MinUp} // with AllDown Serve, so the result is never empty
	served, outcome = p.chooseInOrder(all, sc.draw)
	return served, judged, outcome
}

// lookUp returns the health of an address in a hint. Data of a wrong length counts as unchecked.
func (t *tally) lookUp(ip net.IP, port uint16, ttl uint32) verdict.Brief {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return verdict.Outside.Brief()
	}
	return t.rule.Health.Look(t.at, addr.Unmap(), port, ttl)
}

// withChosenHints returns a copy of a record with only the chosen addresses in its hints, and with a TTL that is low enough.
func (sc *scratch) withChosenHints(t *tally, rr dns.RR) dns.RR {
	_, port := targetHost(rr)
	c := dns.Copy(rr) // a deep copy: its parameters may be changed
	c.Header().Ttl = min(c.Header().Ttl, t.ttl)
	values := parameters(c)
	for i, kv := range values {
		ips := hints(kv)
		if len(ips) < 2 {
			continue
		}
		served, judged, _ := sc.chooseHints(t, ips, port, rr.Header().Ttl)
		if len(served) == judged {
			continue
		}
		left := make([]net.IP, len(served), len(served)+len(ips)-judged)
		for j := range served {
			left[j] = ips[served[j].index]
		}
		values[i] = withHints(kv, append(left, ips[judged:]...))
	}
	return c
}
