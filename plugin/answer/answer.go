// Package answer thins the record sets of an answer by what is believed of the addresses that they lead to.
//
// It is arithmetic on messages. It starts no goroutine and reads no clock, and what it is given it never changes: a
// message whose sets all go out as they came is returned itself, without an allocation; else a shallow copy is, with
// fresh slices and with copies of just those records that change. The message, its slices and its records may belong to
// a zone that answers others at this very moment.
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
	// Look returns at once. It takes note that the address stands in an answer for the owner name, with this TTL in
	// seconds. The port is the one that the record names, 0 if it names none.
	Look(owner string, addr netip.Addr, port uint16, ttl uint32) verdict.Brief
}

// Rule is how the sets of some owner names are judged.
type Rule struct {
	Types  Types
	Policy Policy
	Health Health
	// Observe is told how each set was decided. It is nil for queries, which have nobody to tell.
	Observe func(Decision)
}

// Rules finds what an answer is judged by.
type Rules interface {
	// Rule returns the rule for the sets of an owner name, or nil if they are left as they are.
	Rule(owner string) *Rule
	// SOA returns the start of authority of the zone that holds the owner name, or nil while that is not known.
	SOA(owner string) *dns.SOA
	// Follow reports whether the addresses of a host count for the records of an owner name that name it.
	Follow(owner, host string) bool
	// Addresses returns the addresses of type A or AAAA that a host name has, and whether that is known. It is asked
	// for the targets of records whose addresses do not stand in the answer.
	Addresses(host string, rrtype uint16) (addrs []netip.Addr, known bool)
}

// Report says what came of an answer.
type Report struct {
	Outcome Outcome // of the set that fared worst
	Kept    int     // records that the policy lets out, in all judged sets; of HTTPS and SVCB, their hints
	Total   int     // different ones in all judged sets
	// Enforced is the worst outcome of the sets whose rule is no dry run.
	Enforced Outcome
	Signed   bool // a set was left whole because a signature covers it
}

// Thin returns what goes out in place of m: m itself if nothing changes, nil if the policy wants SERVFAIL, else a copy.
//
// A set is the records of one owner name and type (RFC 2181, section 5). Those of the rule's types are judged, each for
// itself; a set that an RRSIG covers, and whatever else there is, stays as it is. So does a message that is no complete
// positive answer: one with another rcode or opcode, or one that is truncated.
func Thin(m *dns.Msg, rules Rules, draw *Draw) (*dns.Msg, Report) {
	if !judgeable(m) {
		return m, Report{}
	}
	room := rooms.Get().(*scratch)
	room.work = work{m: m, out: m, rules: rules, draw: draw}
	room.sets = survey(m.Answer, room.allSets[:0])
	room.thin()
	out, report := room.out, room.report
	clear(room.sets) // the names in it are the message's
	room.work = work{}
	rooms.Put(room)
	return out, report
}

// work is what is known of the message that is judged.
type work struct {
	m, out  *dns.Msg // as it came, and as it goes out
	rules   Rules
	draw    *Draw
	report  Report
	sets    []set
	glue    glue
	adverse bool // a set was closed
	denied  string
	ttl     uint32 // for how long a denial may be kept
}

// scratch is room to judge an answer in. It is lent rather than taken from the stack: CoreDNS answers each query in a
// new goroutine, whose small stack would have to grow, which costs more than all the rest.
type scratch struct {
	work
	allSets    [maxSets]set
	candidates [lent]candidate
	table      [2 * lent]int32
	index      index
}

var rooms = sync.Pool{New: func() any { return new(scratch) }}

// thin judges set by set, and then what follows from that for the rest of the message.
func (room *scratch) thin() {
	for i := range room.sets {
		s := &room.sets[i]
		if s.size == 0 {
			continue
		}
		rule := room.rules.Rule(s.owner)
		if rule == nil || !rule.Types.Has(s.rrtype) {
			continue
		}
		if s.signed {
			room.report.Signed = true
			if rule.Observe != nil {
				rule.Observe(Decision{Owner: s.owner, Type: s.rrtype, Signed: true})
			}
			continue
		}
		s.rule = rule
		if room.judge(s); room.out == nil {
			return
		}
	}
	if room.glue.follows {
		room.followGlue()
	}
	if room.adverse && onlyAliases(room.out.Answer) {
		deny(room.out, room.rules.SOA(room.denied), room.ttl)
	}
}

// judge judges one set by its rule, and leaves out nil if the policy wants SERVFAIL.
func (room *scratch) judge(s *set) {
	var c choice
	switch s.rrtype {
	case dns.TypeA, dns.TypeAAAA:
		c = room.judgeAddresses(s)
	case dns.TypeSRV, dns.TypeMX:
		c = room.judgeTargets(s)
	default:
		room.judgeHints(s)
		return
	}
	room.report.add(c)
	if s.rule.Observe != nil {
		room.observe(s, &c, nil)
	}
	if s.rule.Policy.DryRun {
		return
	}
	s.outcome = c.outcome
	room.report.Enforced = max(room.report.Enforced, c.outcome)
	if c.outcome == Closed && s.rule.Policy.AllDown == ServFail {
		room.out = nil
		return
	}
	if c.outcome == Closed {
		if !room.adverse || c.ttl < room.ttl {
			room.denied, room.ttl = s.owner, c.ttl
		}
		room.adverse = true
	}
	room.out = c.apply(room.m, room.out, s)
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
	all     []candidate // those that go out first
	served  []candidate // in the order in which they go out
	instead []dns.RR    // what goes out in place of a set that was closed
	total   int         // different ones in the set
	ttl     uint32      // the highest TTL that a record may go out with
	alone   bool        // health was not asked, since it could not change the answer
}

// judgeAddresses looks up the addresses of a set, and chooses among them.
func (room *scratch) judgeAddresses(s *set) choice {
	all := room.addresses(room.out.Answer, s)
	c := choice{outcome: Whole, all: all, served: all, total: len(all), ttl: math.MaxUint32}
	p := &s.rule.Policy
	if len(all) == 1 && p.AllDown == Serve {
		c.alone = true
		return c // health could not change the answer, so it is not asked for
	}
	ttl := uint32(math.MaxUint32)
	for i := range all {
		a := &all[i]
		a.verdict = s.rule.Health.Look(s.owner, a.addr, 0, a.ttl)
		ttl = min(ttl, a.ttl)
	}
	c.served, c.outcome = p.choose(all, room.draw)
	c.ttl = p.TTL.bound(c.served)
	if c.outcome == Closed {
		c.ttl = min(ttl, p.TTL.bound(all)) // what the answer's would have been
		c.instead = p.fixed(s, c.ttl)
	}
	return c
}

// apply returns out with the set s as chosen: out itself if that changes nothing. m is the message as it came.
func (c *choice) apply(m, out *dns.Msg, s *set) *dns.Msg {
	cut := len(c.served) != s.size
	if !cut && !c.lowers() {
		return out
	}
	answer := make([]dns.RR, 0, len(out.Answer)-s.size+len(c.served)+len(c.instead))
	placed := false
	for _, rr := range out.Answer {
		switch {
		case !s.has(rr.Header()):
			answer = append(answer, rr)
		case !placed:
			placed = true
			answer = append(c.appendTo(answer, out.Answer), c.instead...)
		}
	}
	out = own(m, out)
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

// own returns out if it is a copy already, else a shallow copy of m, with none of its records copied. Its slices are
// clipped, so that an append by whoever gets the copy never writes behind the end of a slice that another plugin owns.
func own(m, out *dns.Msg) *dns.Msg {
	if out != m {
		return out
	}
	c := *m
	c.Answer = m.Answer[:len(m.Answer):len(m.Answer)]
	c.Ns = m.Ns[:len(m.Ns):len(m.Ns)]
	c.Extra = m.Extra[:len(m.Extra):len(m.Extra)]
	return &c
}

// onlyAliases reports whether no record is left that answers the question: only the way to it.
func onlyAliases(answer []dns.RR) bool {
	for _, rr := range answer {
		switch rr.Header().Rrtype {
		case dns.TypeCNAME, dns.TypeDNAME, dns.TypeRRSIG:
		default:
			return false
		}
	}
	return true
}

// deny makes NODATA of a message of ours that has nothing left: the zone's SOA and no NS in the authority section
// (RFC 2308, section 2.2), to be kept for no longer than ttl seconds.
func deny(out *dns.Msg, soa *dns.SOA, ttl uint32) {
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
