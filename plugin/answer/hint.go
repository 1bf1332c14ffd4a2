package answer

import (
	"math"
	"net"
	"net/netip"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// service is the part that SVCB and HTTPS records have in common (RFC 9460), nil for others.
func service(rr dns.RR) *dns.SVCB {
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
	if s := service(rr); s != nil {
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

// withHints is the parameter with other addresses.
func withHints(kv dns.SVCBKeyValue, ips []net.IP) dns.SVCBKeyValue {
	if _, ok := kv.(*dns.SVCBIPv4Hint); ok {
		return &dns.SVCBIPv4Hint{Hint: ips}
	}
	return &dns.SVCBIPv6Hint{Hint: ips}
}

// judgeHints takes the addresses that are down out of the hints of HTTPS and SVCB records. A hint never becomes empty,
// and the record itself always stays: it says more than where the service is, and the client asks for addresses anyway.
func (room *scratch) judgeHints(s *set) {
	room.glue.read(room)
	t := tally{rule: s.rule, owner: s.owner, ttl: math.MaxUint32}
	for _, rr := range room.out.Answer {
		if s.has(rr.Header()) {
			room.tallyHints(&t, rr)
		}
	}
	room.report.add(choice{outcome: t.outcome, total: t.total})
	room.report.Kept += t.kept
	if s.rule.Policy.DryRun {
		return
	}
	s.outcome = max(Whole, t.outcome)
	room.report.Enforced = max(room.report.Enforced, t.outcome)
	if room.glue.stale {
		room.glue.follows = true
	}
	if t.kept == t.total && t.highest <= t.ttl {
		return
	}
	answer := make([]dns.RR, len(room.out.Answer))
	for i, rr := range room.out.Answer {
		if answer[i] = rr; s.has(rr.Header()) {
			answer[i] = t.thinned(rr)
		}
	}
	room.out = own(room.m, room.out)
	room.out.Answer = answer
	if t.kept < t.total {
		room.out.AuthenticatedData = false
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

func (room *scratch) tallyHints(t *tally, rr dns.RR) {
	t.highest = max(t.highest, rr.Header().Ttl)
	_, port := target(rr)
	for _, kv := range parameters(rr) {
		if ips := hints(kv); len(ips) > 1 { // one alone could not go
			t.add(ips, port, rr.Header().Ttl)
		}
	}
	host, _ := room.followed(rr)
	for i := room.glue.find(host); i >= 0 && host != "."; i = room.glue.after(i, host) {
		addr, _ := Address(room.m.Extra[i])
		v := t.rule.Health.Look(t.owner, addr, port, rr.Header().Ttl)
		room.glue.saw(i, v, t.rule.Policy.TTL.of(v))
	}
}

// add adds the addresses of one parameter. Those that go out bound the TTL.
func (t *tally) add(ips []net.IP, port uint16, ttl uint32) {
	fit, ofFit, ofAll := 0, uint32(math.MaxUint32), uint32(math.MaxUint32)
	for _, ip := range ips {
		v := t.look(ip, port, ttl)
		bound := t.rule.Policy.TTL.of(v)
		if ofAll = min(ofAll, bound); v.State().Fit() {
			fit++
			ofFit = min(ofFit, bound)
		}
	}
	outcome := Thinned
	switch {
	case fit == len(ips):
		outcome = Whole
	case fit < t.need(len(ips)):
		outcome, fit, ofFit = Open, len(ips), ofAll
	}
	t.outcome, t.ttl = max(t.outcome, outcome), min(t.ttl, ofFit)
	t.total += len(ips)
	t.kept += fit
}

func (t *tally) need(n int) int { return max(1, t.rule.Policy.MinUp.of(n)) }

// look is what is believed of an address. What is none is not ours to judge.
func (t *tally) look(ip net.IP, port uint16, ttl uint32) verdict.Brief {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return verdict.BriefUnchecked
	}
	return t.rule.Health.Look(t.owner, addr.Unmap(), port, ttl)
}

// thinned is a copy of the record with what is left of its hints.
func (t *tally) thinned(rr dns.RR) dns.RR {
	_, port := target(rr)
	c := dns.Copy(rr)
	c.Header().Ttl = min(c.Header().Ttl, t.ttl)
	values := parameters(c)
	for i, kv := range values {
		ips := hints(kv)
		if len(ips) < 2 {
			continue
		}
		fit := make([]net.IP, 0, len(ips))
		for _, ip := range ips {
			if t.look(ip, port, rr.Header().Ttl).State().Fit() {
				fit = append(fit, ip)
			}
		}
		if len(fit) >= t.need(len(ips)) {
			values[i] = withHints(kv, fit)
		}
	}
	return c
}
