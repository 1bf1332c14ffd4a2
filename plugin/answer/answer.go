// Package answer thins the record sets of an answer by what is believed of the addresses in them.
//
// It is arithmetic on messages. It starts no goroutine and reads no clock, and what it is given it never changes: a
// message whose sets all go out as they came is returned itself, without an allocation; else a shallow copy is, with
// fresh slices and with copies of just those records whose TTL is lowered. The message, its slices and its records
// may belong to a zone that answers others at this very moment.
package answer

import (
	"math"
	"net/netip"
	"sync"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// Health tells what is believed of an address.
type Health interface {
	// Look returns at once. It takes note that the address stands in an answer with this TTL, in seconds.
	Look(addr netip.Addr, ttl uint32) verdict.Brief
}

// Rule is how the sets of some owner names are judged.
type Rule struct {
	Policy Policy
	Health Health
}

// Rules finds what an answer is judged by.
type Rules interface {
	// Rule returns the rule for the sets of an owner name, or nil if they are left as they are.
	Rule(owner string) *Rule
	// SOA returns the start of authority of the zone that holds the owner name, or nil while that is not known.
	SOA(owner string) *dns.SOA
}

// Report says what came of an answer.
type Report struct {
	Outcome Outcome // of the set that fared worst
	Kept    int     // addresses that the policy lets out, in all judged sets
	Total   int     // different addresses in all judged sets
	Signed  bool    // a set was left whole because a signature covers it
}

// Thin returns what goes out in place of m: m itself if nothing changes, nil if the policy wants SERVFAIL, else a
// copy. Choices are drawn with intn, as by math/rand/v2.IntN.
//
// A set is the records of one owner name and type (RFC 2181, section 5). Those of A and AAAA are judged, each for
// itself; a set that an RRSIG covers, and whatever is no address, stays as it is. So does a message that is no complete
// positive answer: one with another rcode or opcode, or one that is truncated.
func Thin(m *dns.Msg, rules Rules, intn func(int) int) (*dns.Msg, Report) {
	if !judgeable(m) {
		return m, Report{}
	}
	room := rooms.Get().(*scratch)
	out, report := room.thin(m, rules, intn)
	rooms.Put(room)
	return out, report
}

// scratch is room to judge an answer in. It is lent rather than taken from the stack: CoreDNS answers each query in a
// new goroutine, whose small stack would have to grow, which costs more than all the rest.
type scratch struct {
	sets       [maxSets]set
	candidates [lent]candidate
	table      [2 * lent]int32
}

var rooms = sync.Pool{New: func() any { return new(scratch) }}

// thin is Thin of a judgeable message.
func (room *scratch) thin(m *dns.Msg, rules Rules, intn func(int) int) (*dns.Msg, Report) {
	var report Report
	out := m
	sets := survey(m.Answer, room.sets[:0])
	for i := range sets {
		s := &sets[i]
		if s.size == 0 {
			continue
		}
		rule := rules.Rule(s.owner)
		if rule == nil {
			continue
		}
		if s.signed {
			report.Signed = true
			continue
		}
		c := rule.judge(out.Answer, s, room, intn)
		report.add(c)
		if rule.Policy.DryRun {
			continue
		}
		if c.outcome == Closed && rule.Policy.AllDown == ServFail {
			return nil, report
		}
		out = c.apply(m, out, s)
		if c.outcome == Closed {
			deny(out, rules.SOA(s.owner), c.ttl)
		}
	}
	clear(sets) // the names in it are the message's
	return out, report
}

// judgeable reports whether m is a complete positive answer to one question.
func judgeable(m *dns.Msg) bool {
	return m != nil && m.Rcode == dns.RcodeSuccess && m.Opcode == dns.OpcodeQuery && !m.Truncated &&
		len(m.Question) == 1 && m.Question[0].Qclass == dns.ClassINET && len(m.Answer) > 0
}

func (r *Report) add(c choice) {
	r.Outcome = max(r.Outcome, c.outcome)
	r.Kept += len(c.served)
	r.Total += c.total
}

// choice is what a rule makes of a set.
type choice struct {
	outcome Outcome
	served  []candidate // in the order in which they go out
	total   int         // different addresses in the set
	ttl     uint32      // the highest TTL that a record may go out with
}

// judge looks up the addresses of the set s of answer and chooses among them.
func (r *Rule) judge(answer []dns.RR, s *set, room *scratch, intn func(int) int) choice {
	all := room.addresses(answer, s)
	c := choice{outcome: Whole, served: all, total: len(all), ttl: math.MaxUint32}
	if len(all) == 1 && r.Policy.AllDown == Serve {
		return c // health could not change the answer, so it is not asked for
	}
	ttl := uint32(math.MaxUint32)
	for i := range all {
		a := &all[i]
		a.verdict = r.Health.Look(a.addr, a.ttl)
		ttl = min(ttl, a.ttl)
	}
	c.served, c.outcome = r.Policy.choose(all, intn)
	c.ttl = r.Policy.TTL.bound(c.served)
	if c.outcome == Closed {
		c.ttl = min(ttl, r.Policy.TTL.bound(all)) // what the answer's would have been
	}
	return c
}

// apply returns out with the set s as chosen: out itself if that changes nothing. m is the message as it came.
func (c *choice) apply(m, out *dns.Msg, s *set) *dns.Msg {
	cut := len(c.served) != s.size
	if !cut && !c.lowers() {
		return out
	}
	answer := make([]dns.RR, 0, len(out.Answer)-s.size+len(c.served))
	placed := false
	for _, rr := range out.Answer {
		switch {
		case !s.has(rr.Header()):
			answer = append(answer, rr)
		case !placed:
			placed = true
			answer = c.appendTo(answer, out.Answer)
		}
	}
	if out == m {
		out = shallow(m)
	}
	out.Answer = answer
	if cut {
		out.AuthenticatedData = false // nobody validated this part of the set alone
	}
	return out
}

// lowers reports whether a served record has a TTL above the bound.
func (c *choice) lowers() bool {
	for i := range c.served {
		if c.served[i].ttl > c.ttl {
			return true
		}
	}
	return false
}

// shallow copies the message, but none of its records. Its slices are clipped, so that an append by whoever gets the
// copy never writes behind the end of a slice that another plugin owns.
func shallow(m *dns.Msg) *dns.Msg {
	out := *m
	out.Ns = m.Ns[:len(m.Ns):len(m.Ns)]
	out.Extra = m.Extra[:len(m.Extra):len(m.Extra)]
	return &out
}

// deny makes NODATA of a message of ours whose set was closed, unless other addresses are left in it: the zone's SOA and
// no NS in the authority section (RFC 2308, section 2.2), to be kept for no longer than ttl seconds.
func deny(out *dns.Msg, soa *dns.SOA, ttl uint32) {
	for _, rr := range out.Answer {
		if _, ok := address(rr); ok {
			return
		}
	}
	out.Ns, out.Extra = nil, options(out.Extra)
	if soa != nil {
		own := *soa
		own.Hdr.Ttl = min(own.Hdr.Ttl, ttl)
		own.Minttl = min(own.Minttl, ttl)
		out.Ns = []dns.RR{&own}
	}
}

// options is the OPT record alone: what else stood in the additional section belonged to what is gone.
func options(extra []dns.RR) []dns.RR {
	for i, rr := range extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			return extra[i : i+1 : i+1]
		}
	}
	return nil
}
