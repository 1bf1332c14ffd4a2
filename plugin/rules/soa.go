package rules

import (
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/answer"

	"github.com/miekg/dns"
)

// needsSOA reports whether a set that is judged by a rule may end as NODATA.
func needsSOA(rule *answer.Rule) bool { return rule.Policy.MayDeny() }

// SOA is the start of authority of the zone that holds a name, as far as it is known.
func (j *Judge) SOA(owner string) *dns.SOA {
	soa, missing := j.Block.Resolver.SOA(strings.ToLower(owner), j.Top(owner))
	if missing.Name != "" {
		j.request(missing)
	}
	return soa
}

// Top is the name that is asked for the SOA of the zone that holds a name: where the answer says that the zone begins, by
// NS records or an SOA in the authority section; else the name above, so that names side by side share a question, but none
// above the zone of the stanza. Where the stanza's zone does not tell, it is none of the top-level domains. It is in lower
// case.
func (j *Judge) Top(owner string) string {
	above := j.nameAbove(owner)
	shown := j.shownApex(owner)
	// What else the answer leads to may be in a zone further below than that of the name that was asked.
	if shown != "" && (strings.EqualFold(owner, j.Request.Question[0].Name) || len(shown) > len(above)) {
		return strings.ToLower(shown)
	}
	return strings.ToLower(above)
}

// nameAbove is the name above a name, or the name itself if that would lead out of the zone of the stanza, or to a top-level
// domain.
func (j *Judge) nameAbove(owner string) string {
	z := j.Zone
	if owner != j.Request.Question[0].Name {
		z = j.Block.Zones.Find(owner)
	}
	off, end := dns.NextLabel(owner, 0)
	switch {
	case end || z != nil && len(owner) == len(z.Name):
		return owner
	case z != nil && z.Name != ".":
		return owner[off:]
	}
	if _, top := dns.NextLabel(owner, off); top {
		return owner
	}
	return owner[off:]
}

// shownApex is the apex that the authority section shows for a name, empty if it shows none.
func (j *Judge) shownApex(owner string) (apex string) {
	if j.Reply == nil {
		return ""
	}
	for _, rr := range j.Reply.Ns {
		h := rr.Header()
		if (h.Rrtype == dns.TypeNS || h.Rrtype == dns.TypeSOA) && len(h.Name) > max(len(apex), len(".")) && holds(h.Name, owner) {
			apex = h.Name
		}
	}
	return apex
}

// holds reports whether a name is a zone or below it, in any case. It allocates nothing.
func holds(zone, name string) bool {
	for off, end := 0, false; !end && len(name)-off >= len(zone); off, end = dns.NextLabel(name, off) {
		if strings.EqualFold(name[off:], zone) {
			return true
		}
	}
	return false
}

// LearnZone learns from an answer without records, which has the SOA of its zone, that a zone begins at the name that was
// asked. Answers with records say so only if they name the name servers. It is for answers that go out.
func (j *Judge) LearnZone() {
	if len(j.Reply.Answer) > 0 || !needsSOA(&j.Zone.Stanza.Rule) {
		return
	}
	if name := j.Request.Question[0].Name; len(j.shownApex(name)) == len(name) {
		j.SOA(name)
	}
}
