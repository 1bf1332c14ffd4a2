package answer

import "github.com/miekg/dns"

// tellAbsent tells the rules which sets an answer says do not exist: the one that was asked for, if there is an alias in its
// place, or nothing, at its name or at the end of the aliases (RFC 2308, section 2). In the usual answer, which has the set
// first, that costs nothing.
func tellAbsent(m *dns.Msg, rules Rules) {
	if m == nil || len(m.Question) != 1 || m.Question[0].Qclass != dns.ClassINET || m.Truncated || m.Opcode != dns.OpcodeQuery {
		return
	}
	q := &m.Question[0]
	if len(m.Answer) > 0 && m.Answer[0].Header().Rrtype == q.Qtype {
		return
	}
	name := q.Name
	for _, rr := range m.Answer {
		h := rr.Header()
		if alias, ok := rr.(*dns.CNAME); ok && sameName(h.Name, name) {
			absent(name, q.Qtype, rules)
			name = alias.Target
		} else if h.Rrtype == q.Qtype && sameName(h.Name, name) {
			return
		}
	}
	switch {
	case m.Rcode == dns.RcodeNameError: // the name does not exist, with whatever type
		for _, rrtype := range filterable {
			absent(name, rrtype, rules)
		}
	case m.Rcode == dns.RcodeSuccess && !isReferral(m):
		absent(name, q.Qtype, rules)
	}
}

// absent tells the rules that there is no set, if its type can be filtered.
func absent(owner string, rrtype uint16, rules Rules) {
	if bit(rrtype) != 0 {
		rules.Absent(owner, rrtype)
	}
}

// isReferral reports whether a message leads to other name servers, and so denies nothing.
func isReferral(m *dns.Msg) bool {
	referral := false
	for _, rr := range m.Ns {
		switch rr.Header().Rrtype {
		case dns.TypeSOA:
			return false
		case dns.TypeNS:
			referral = true
		}
	}
	return referral
}
