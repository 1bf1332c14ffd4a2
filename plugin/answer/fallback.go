package answer

import (
	"math"
	"math/bits"
	"net/netip"
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// Fallback is what is known of a name whose addresses replace those of a set of which none is fit (all_down NAME).
type Fallback struct {
	Known     bool         // whether there was an answer for the type of the set
	Addresses []netip.Addr // of that type
	Elsewhere bool         // the name has addresses of the other family
	Owner     string       // of the addresses: the name, or the one that its aliases lead to
	TTL       uint32       // the lowest one on the way to the addresses, in seconds
	Rule      *Rule        // by which they are judged; nil if they are not
}

// Instead says how it went with the name that all_down has for a set of which no address is fit.
type Instead struct {
	Name   string // empty if it was not needed
	Served int    // addresses of it that are served; 0 if it has some of the other family only
	lack   lack
}

// lack is why a name does not replace a set.
type lack uint8

const (
	nothing  lack = iota // it does
	unknown              // it was not looked up yet, or the look-up failed
	gone                 // it has no addresses in either family
	allUnfit             // it has some, and none of them is fit
	itself               // it is the owner name of the set
)

// TookOver reports whether the addresses of the name are served, or its lack of them in one family, in place of those of the
// set.
func (i Instead) TookOver() bool { return i.Name != "" && i.lack == nothing }

// Why says why the name did not take over, for the end of a sentence that begins with the name. It is empty for the name of the
// set itself, which is not worth a line in the log.
func (i Instead) Why() string {
	return [...]string{unknown: "is not known", gone: "has no address", allUnfit: "has no healthy address either", itself: ""}[i.lack]
}

// takeover is how the addresses of another name take the place of a set.
type takeover struct {
	Instead
	all    []candidate // those of the other name; those that are served come first
	served []candidate
	ttl    uint32 // the highest that a record may have, in seconds
}

// fallBack has the addresses of another name take the place of a set that is fail-closed, or makes the set fail-open.
//
// The other name is answered as a query for it would be, by the rule of its own stanza, and then also by the limit of the set.
// But what that rule has for the case that nothing is fit does not count, so there can be no loop: the set is then served as it
// is, since of two sets that are down the one that was asked for is the better answer. Route 53 does the same.
func (sc *scratch) fallBack(s *set, c *choice) {
	p := &s.rule.Policy
	near := sc.draw.Near
	f := sc.rules.Fallback(s.owner, p.Another, s.rrtype)
	c.other = &takeover{Instead: Instead{Name: p.Another}, ttl: math.MaxUint32}
	switch {
	case sameName(s.owner, p.Another) || sameName(s.owner, f.Owner):
		c.other.lack = itself
	case !f.Known:
		c.other.lack = unknown
	case len(f.Addresses) > 0:
		sc.chooseOther(s, c.other, &f)
	case !f.Elsewhere:
		c.other.lack = gone
	}
	sc.draw.Near = near // the stanza of the other name may have other sites
	sc.report.noteInstead(c.other.Instead)
	if c.other.lack != nothing {
		open := *p
		open.AllDown = Serve
		c.served, c.outcome = open.choose(c.all, sc.draw)
	}
}

// chooseOther chooses among the addresses of another name. They have memory of their own: that of the set is still needed.
func (sc *scratch) chooseOther(s *set, t *takeover, f *Fallback) {
	own := &s.rule.Policy
	p := Policy{Limit: own.Limit, MinUp: Quorum{Count: 1}, Weights: own.Weights, Client: own.Client, Nearest: own.Nearest}
	t.all = candidatesOf(f)
	r := f.Rule
	judged := r != nil && r.Types.Has(s.rrtype) && !r.Policy.DryRun
	if judged {
		p = r.Policy
		if own.Limit > 0 && (p.Limit == 0 || own.Limit < p.Limit) {
			p.Limit = own.Limit
		}
		at := r.Health.Open(f.Owner, s.rrtype)
		for i := range t.all {
			t.all[i].verdict = r.Health.Look(at, t.all[i].addr, 0, f.TTL)
		}
	}
	p.AllDown = NoData // so that nothing is served if nothing is fit
	var outcome Outcome
	if t.served, outcome = p.choose(t.all, sc.draw); outcome == Closed {
		t.lack = allUnfit
		return
	}
	t.Served, t.ttl = len(t.served), min(f.TTL, p.TTL.boundAll(t.served))
	if judged {
		sc.report.noteUnchecked(f.Owner, t.served)
	}
}

// candidatesOf lists the addresses of a fallback, each once, and no more than are judged of a set. Without a rule no check covers
// them.
func candidatesOf(f *Fallback) []candidate {
	all := make([]candidate, min(len(f.Addresses), maxJudged))
	for i := range all {
		all[i] = candidate{addr: f.Addresses[i], index: int32(i), ttl: f.TTL, verdict: verdict.Outside.Brief()}
	}
	if len(all) > maxPairwise {
		return distinctMany(all, make(addressTable, 1<<bits.Len(uint(2*len(all)-1))))
	}
	return distinctFew(all)
}

// replaceClosed gives a fail-closed set the records that its policy has for that, with its owner name and in its family.
func (c *choice) replaceClosed(s *set) {
	if c.other != nil {
		c.ttl = min(c.ttl, c.other.ttl)
		for i := range c.other.served {
			c.instead = s.appendRecord(c.instead, c.other.served[i].addr, c.ttl)
		}
		return
	}
	if s.rule.Policy.AllDown == Fixed {
		for _, addr := range s.rule.Policy.Instead {
			c.instead = s.appendRecord(c.instead, addr, c.ttl)
		}
	}
}

// appendRecord appends a record of the set with another address, unless that is of the other family.
func (s *set) appendRecord(records []dns.RR, addr netip.Addr, ttl uint32) []dns.RR {
	hdr := dns.RR_Header{Name: s.owner, Rrtype: s.rrtype, Class: dns.ClassINET, Ttl: ttl}
	switch {
	case addr.Is4() && s.rrtype == dns.TypeA:
		return append(records, &dns.A{Hdr: hdr, A: addr.AsSlice()})
	case addr.Is6() && s.rrtype == dns.TypeAAAA:
		return append(records, &dns.AAAA{Hdr: hdr, AAAA: addr.AsSlice()})
	}
	return records
}

// noteInstead notes how it went with the name that all_down has for a set. If there are several sets, one that it does not help is
// told rather than one that it does.
func (r *Report) noteInstead(i Instead) {
	if r.Instead.Name == "" || r.Instead.lack == nothing {
		r.Instead = i
	}
}

// Set sets it to the value that a word of the Corefile stands for, and reports whether there is one.
func (a *AllDown) Set(word string) bool {
	for i, known := range [...]string{Serve: "serve", NoData: "nodata", ServFail: "servfail"} {
		if word == known {
			*a = AllDown(i)
			return true
		}
	}
	return false
}

// AllDownText is what the Corefile says of sets of which no address is fit, so that a reader of an explanation finds it there.
func (p *Policy) AllDownText() string {
	switch p.AllDown {
	case NoData:
		return "nodata"
	case ServFail:
		return "servfail"
	case Named:
		return strings.TrimSuffix(p.Another, ".")
	case Fixed:
		var words []string
		for _, addr := range p.Instead {
			words = append(words, addr.String())
		}
		return strings.Join(words, " ")
	}
	return "serve"
}

// MayDeny reports whether a set of which no address is fit may become NODATA.
func (p *Policy) MayDeny() bool {
	return p.AllDown == NoData || p.AllDown == Fixed || p.AllDown == Named
}
