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
	if !isJudgeable(m) {
		return m, Report{}
	}
	sc := scratchPool.Get().(*scratch)
	sc.work = work{m: m, out: m, rules: rules, draw: draw}
	sc.sets = findSets(m.Answer, sc.allSets[:0])
	sc.filterSets()
	out, report := sc.out, sc.report
	clear(sc.sets) // the names in it are the message's
	sc.work = work{}
	scratchPool.Put(sc)
	return out, report
}

// work is what is known of the message that is judged.
type work struct {
	m, out      *dns.Msg // as it came, and as it goes out
	rules       Rules
	draw        *Draw
	report      Report
	sets        []set
	glue        glue
	closed      bool // a set was closed
	deniedOwner string
	denialTTL   uint32 // for how long a denial may be kept
}

// scratch is room to judge an answer in. It is lent rather than taken from the stack: CoreDNS answers each query in a
// new goroutine, whose small stack would have to grow, which costs more than all the rest.
type scratch struct {
	work
	allSets    [maxSets]set
	candidates [pooledSize]candidate
	table      [2 * pooledSize]int32
	index      index
}

var scratchPool = sync.Pool{New: func() any { return new(scratch) }}

// filterSets judges set by set, and then what follows from that for the rest of the message.
func (sc *scratch) filterSets() {
	for i := range sc.sets {
		s := &sc.sets[i]
		if s.size == 0 {
			continue
		}
		rule := sc.rules.Rule(s.owner)
		if rule == nil || !rule.Types.Has(s.rrtype) {
			continue
		}
		if s.signed {
			sc.report.Signed = true
			if rule.Observe != nil {
				rule.Observe(Decision{Owner: s.owner, Type: s.rrtype, Signed: true})
			}
			continue
		}
		s.rule = rule
		if sc.decideSet(s); sc.out == nil {
			return
		}
	}
	if sc.glue.mustFilter {
		sc.filterGlue()
	}
	if sc.closed && onlyAliases(sc.out.Answer) {
		makeNODATA(sc.out, sc.rules.SOA(sc.deniedOwner), sc.denialTTL)
	}
}

// decideSet judges one set by its rule, and leaves out nil if the policy wants SERVFAIL.
func (sc *scratch) decideSet(s *set) {
	var c choice
	switch s.rrtype {
	case dns.TypeA, dns.TypeAAAA:
		c = sc.decideAddresses(s)
	case dns.TypeSRV, dns.TypeMX:
		c = sc.decideTargets(s)
	default:
		sc.decideHints(s)
		return
	}
	sc.report.addChoice(c)
	if s.rule.Observe != nil {
		sc.observe(s, &c, nil)
	}
	if s.rule.Policy.DryRun {
		return
	}
	s.outcome = c.outcome
	sc.report.Enforced = max(sc.report.Enforced, c.outcome)
	if c.outcome == Closed && s.rule.Policy.AllDown == ServFail {
		sc.out = nil
		return
	}
	if c.outcome == Closed {
		if !sc.closed || c.ttl < sc.denialTTL {
			sc.deniedOwner, sc.denialTTL = s.owner, c.ttl
		}
		sc.closed = true
	}
	sc.out = c.replaceSet(sc.m, sc.out, s)
}

// isJudgeable reports whether m is a complete positive answer to one question.
func isJudgeable(m *dns.Msg) bool {
	return m != nil && m.Rcode == dns.RcodeSuccess && m.Opcode == dns.OpcodeQuery && !m.Truncated &&
		len(m.Question) == 1 && m.Question[0].Qclass == dns.ClassINET && len(m.Answer) > 0
}

func (r *Report) addChoice(c choice) {
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
	single  bool        // health was not asked, since it could not change the answer
}

// decideAddresses looks up the addresses of a set, and chooses among them.
func (sc *scratch) decideAddresses(s *set) choice {
	all := sc.addresses(sc.out.Answer, s)
	c := choice{outcome: Whole, all: all, served: all, total: len(all), ttl: math.MaxUint32}
	p := &s.rule.Policy
	if len(all) == 1 && p.AllDown == Serve {
		c.single = true
		return c // health could not change the answer, so it is not asked for
	}
	ttl := uint32(math.MaxUint32)
	for i := range all {
		a := &all[i]
		a.verdict = s.rule.Health.Look(s.owner, a.addr, 0, a.ttl)
		ttl = min(ttl, a.ttl)
	}
	c.served, c.outcome = p.choose(all, sc.draw)
	c.ttl = p.TTL.boundAll(c.served)
	if c.outcome == Closed {
		c.ttl = min(ttl, p.TTL.boundAll(all)) // what the answer's would have been
		c.instead = p.fixedRecords(s, c.ttl)
	}
	return c
}

// replaceSet returns out with the set s as chosen: out itself if that changes nothing. m is the message as it came.
func (c *choice) replaceSet(m, out *dns.Msg, s *set) *dns.Msg {
	cut := len(c.served) != s.size
	if !cut && !c.lowersTTL() {
		return out
	}
	answer := make([]dns.RR, 0, len(out.Answer)-s.size+len(c.served)+len(c.instead))
	placed := false
	for _, rr := range out.Answer {
		switch {
		case !s.contains(rr.Header()):
			answer = append(answer, rr)
		case !placed:
			placed = true
			answer = append(c.appendTo(answer, out.Answer), c.instead...)
		}
	}
	out = copyOnce(m, out)
	out.Answer = answer
	if cut {
		out.AuthenticatedData = false // nobody validated this part of the set alone
	}
	return out
}

// lowersTTL reports whether a served record has a TTL above the bound.
func (c *choice) lowersTTL() bool {
	for i := range c.served {
		if c.served[i].ttl > c.ttl {
			return true
		}
	}
	return false
}

// copyOnce returns out if it is a copy already, else a shallow copy of m, with none of its records copied. Its slices are
// clipped, so that an append by whoever gets the copy never writes behind the end of a slice that another plugin owns.
func copyOnce(m, out *dns.Msg) *dns.Msg {
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

// makeNODATA makes NODATA of a message of ours that has nothing left: the zone's SOA and no NS in the authority section
// (RFC 2308, section 2.2), to be kept for no longer than ttl seconds.
func makeNODATA(out *dns.Msg, soa *dns.SOA, ttl uint32) {
	out.Ns, out.Extra = nil, onlyOPT(out.Extra)
	if soa != nil {
		own := *soa
		own.Hdr.Ttl = min(own.Hdr.Ttl, ttl)
		own.Minttl = min(own.Minttl, ttl)
		out.Ns = []dns.RR{&own}
	}
}

// onlyOPT is the OPT record alone: what else stood in the additional section belonged to what is gone.
func onlyOPT(extra []dns.RR) []dns.RR {
	for i, rr := range extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			return extra[i : i+1 : i+1]
		}
	}
	return nil
}
