package answer

import (
	"math"
	"net"
	"net/netip"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// svcbOf is the part that SVCB and HTTPS records have in common (RFC 9460), nil for others.
func svcbOf(rr dns.RR) *dns.SVCB {
	switch rr := rr.(type) {
	case *dns.SVCB:
		return rr
	case *dns.HTTPS:
		return &rr.SVCB
	}
	return nil
}

// parameters are those of a service, none for other records.
func parameters(rr dns.RR) []dns.SVCBKeyValue {
	if s := svcbOf(rr); s != nil {
		return s.Value
	}
	return nil
}

// hints are the addresses in a parameter of a service, nil if it holds none.
func hints(kv dns.SVCBKeyValue) []net.IP {
	switch kv := kv.(type) {
	case *dns.SVCBIPv4Hint:
		return kv.Hint
	case *dns.SVCBIPv6Hint:
		return kv.Hint
	}
	return nil
}

// EachHint goes through the addresses in the hints of a record, of which only HTTPS and SVCB have some.
func EachHint(rr dns.RR, take func(netip.Addr)) {
	for _, kv := range parameters(rr) {
		for _, ip := range hints(kv) {
			if addr, ok := netip.AddrFromSlice(ip); ok {
				take(addr.Unmap())
			}
		}
	}
}

// withHints is the parameter with other addresses.
func withHints(kv dns.SVCBKeyValue, ips []net.IP) dns.SVCBKeyValue {
	if _, ok := kv.(*dns.SVCBIPv4Hint); ok {
		return &dns.SVCBIPv4Hint{Hint: ips}
	}
	return &dns.SVCBIPv6Hint{Hint: ips}
}

// decideHints takes the addresses that are down out of the hints of HTTPS and SVCB records. A hint never becomes empty,
// and the record itself always stays: it says more than where the service is, and the client asks for addresses anyway.
func (sc *scratch) decideHints(s *set) {
	sc.glue.build(sc)
	t := tally{rule: s.rule, owner: s.owner, ttl: math.MaxUint32}
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
	s.outcome = max(Whole, t.outcome)
	sc.report.Enforced = max(sc.report.Enforced, t.outcome)
	if sc.glue.outdated {
		sc.glue.mustFilter = true
	}
	if t.kept == t.total && t.highest <= t.ttl {
		return
	}
	answer := make([]dns.RR, len(sc.out.Answer))
	for i, rr := range sc.out.Answer {
		if answer[i] = rr; s.contains(rr.Header()) {
			answer[i] = sc.withChosenHints(&t, rr)
		}
	}
	sc.out = copyOnce(sc.m, sc.out)
	sc.out.Answer = answer
	if t.kept < t.total {
		sc.out.AuthenticatedData = false
	}
}

// tally is what was found in the hints of a set.
type tally struct {
	rule        *Rule
	owner       string
	outcome     Outcome
	kept, total int
	ttl         uint32 // the highest that a record may go out with
	highest     uint32 // of the records
}

func (sc *scratch) tallyHints(t *tally, rr dns.RR) {
	t.highest = max(t.highest, rr.Header().Ttl)
	_, port := targetHost(rr)
	for _, kv := range parameters(rr) {
		if ips := hints(kv); len(ips) > 1 { // one alone could not go
			sc.addParameter(t, ips, port, rr)
		}
	}
	host, _ := sc.followedTarget(rr)
	for i := sc.glue.firstOf(host); i >= 0 && host != "."; i = sc.glue.nextOf(i, host) {
		addr, _ := Address(sc.m.Extra[i])
		v := t.rule.Health.Look(t.owner, addr, port, rr.Header().Ttl)
		sc.glue.recordVerdict(i, v, t.rule.Policy.TTL.boundOne(v))
	}
}

// addParameter adds the addresses of one parameter. Those that go out bound the TTL.
func (sc *scratch) addParameter(t *tally, ips []net.IP, port uint16, rr dns.RR) {
	served, outcome := sc.chooseHints(t, ips, port, rr.Header().Ttl)
	if t.rule.Observe != nil {
		s := set{owner: t.owner, rrtype: rr.Header().Rrtype, rule: t.rule}
		sc.observe(&s, &choice{outcome: outcome, all: served[:len(ips)], served: served, ttl: t.rule.Policy.TTL.boundAll(served)}, rr)
	}
	t.outcome, t.ttl = max(t.outcome, outcome), min(t.ttl, t.rule.Policy.TTL.boundAll(served))
	t.total += len(ips)
	t.kept += len(served)
}

// chooseHints returns those of the addresses of one parameter that go out, by their places in it. There is neither a limit
// to them nor a backup among them, and all_down has no say: what is empty is no hint.
func (sc *scratch) chooseHints(t *tally, ips []net.IP, port uint16, ttl uint32) ([]candidate, Outcome) {
	all := sc.candidates[:0]
	if len(ips) > pooledSize {
		all = make([]candidate, 0, len(ips))
	}
	for i, ip := range ips {
		addr, _ := netip.AddrFromSlice(ip)
		all = append(all, candidate{addr: addr.Unmap(), index: int32(i), verdict: t.lookUp(ip, port, ttl)})
	}
	p := Policy{MinUp: t.rule.Policy.MinUp}
	return p.chooseInOrder(all, sc.draw)
}

// lookUp is what is believed of an address. What is none is not ours to judge.
func (t *tally) lookUp(ip net.IP, port uint16, ttl uint32) verdict.Brief {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return verdict.BriefUnchecked
	}
	return t.rule.Health.Look(t.owner, addr.Unmap(), port, ttl)
}

// withChosenHints is a copy of the record with what is left of its hints.
func (sc *scratch) withChosenHints(t *tally, rr dns.RR) dns.RR {
	_, port := targetHost(rr)
	c := dns.Copy(rr)
	c.Header().Ttl = min(c.Header().Ttl, t.ttl)
	values := parameters(c)
	for i, kv := range values {
		ips := hints(kv)
		if len(ips) < 2 {
			continue
		}
		served, _ := sc.chooseHints(t, ips, port, rr.Header().Ttl)
		if len(served) == len(ips) {
			continue
		}
		left := make([]net.IP, len(served))
		for j := range served {
			left[j] = ips[served[j].index]
		}
		values[i] = withHints(kv, left)
	}
	return c
}
