// Package answer filters the addresses in a DNS answer by their health. Its main function is Thin, which the plugin calls for
// each answer of the plugins below; a Policy says what to serve, and a Rule applies one to the sets of a name.
//
// A message that is not changed is returned itself, without an allocation. Otherwise Thin returns a shallow copy with slices
// of its own, and with copies of the records that change. What it is given it never changes: the message, its slices and its
// records may belong to a zone or cache that answers other queries at the same moment.
//
// All of it is arithmetic on messages: the package starts no goroutine and reads no clock.
package answer

import (
	"math"
	"net/netip"
	"slices"
	"sync"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// Health gives the health of addresses. It is on the query path, and must not wait.
type Health interface {
	// Open is called once for each set that is looked at, before its addresses are looked up. It notes that, whatever is in
	// the set, and returns what Look needs.
	Open(owner string, rrtype uint16) verdict.RecordSet
	// Look returns the health of an address at once. It also learns that the address is in the set, so that it is probed from
	// now on. ttl is that of the record, in seconds. port is the one that the record names (SRV, HTTPS, SVCB), or 0.
	Look(at verdict.RecordSet, addr netip.Addr, port uint16, ttl uint32) verdict.Brief
}

// Rule says how the sets of some owner names are filtered. Rules are shared by queries: a Rule does not change once it is used.
type Rule struct {
	Types  Types // sets of other types are left unchanged
	Policy Policy
	Health Health
	// Observe is called with the decision on each set, for the explanations on the status page. It is nil for queries.
	Observe func(Decision)
}

// Rules finds the rule for each set of an answer. Its methods are called on the query path and must not wait.
type Rules interface {
	// Rule returns the rule for the sets of an owner name, or nil if they are left unchanged.
	Rule(owner string) *Rule
	// SOA returns the SOA record of the zone of an owner name, or nil while it is not known. A NODATA answer has it.
	SOA(owner string) *dns.SOA
	// Follow reports whether records of the owner name that name the host are filtered by the addresses of the host.
	Follow(owner, host string) bool
	// Absent says that there is no set of an owner name and type, in a positive answer, which has another one, or a denial.
	Absent(owner string, rrtype uint16)
	// Addresses returns the addresses of type A or AAAA of a host, and whether they are known. It is called for the hosts that
	// SRV and MX records name, if the additional section does not have the addresses.
	Addresses(host string, rrtype uint16) (addrs []netip.Addr, known bool)
	// Fallback returns what is known of a name whose addresses should replace a set of the owner name, of type A or AAAA.
	Fallback(owner, name string, rrtype uint16) Fallback
}

// Thin filters an answer. It returns m itself if nothing changes, nil if the policy says SERVFAIL, and otherwise a copy.
//
// A set is all records of one owner name and type (RFC 2181, section 5). Each set is decided for itself, if it has a rule and
// the rule has its type:
//
//  1. Look up the health of each address: of the addresses of A and AAAA sets, of the hosts of SRV and MX records, of the
//     hints of HTTPS and SVCB records.
//  2. Let the policy choose which are served, and in which order (Policy.choose). The outcome is the kind of choice.
//  3. Lower the TTL to the time for which the verdicts on the served addresses are sure to hold.
//  4. Of a set of more than maxJudged members, serve the rest after them, unless there is a limit: then leave it out.
//  5. After all sets: filter the additional section like the answer, and make NODATA of an answer with no record left.
//
// The rule of a set may be a dry run: then steps 1 and 2 are done and reported, and the set is left unchanged.
//
// A set that an RRSIG covers is left unchanged, since a part of it would not validate. So is a message that is not a complete
// positive answer: one with another rcode or opcode, or a truncated one.
func Thin(m *dns.Msg, rules Rules, draw *Draw) (*dns.Msg, Report) {
	tellAbsent(m, rules)
	if !isFilterable(m) {
		return m, Report{}
	}
	sc := scratchPool.Get().(*scratch)
	sc.work = work{m: m, out: m, rules: rules, draw: draw}
	sc.sets = findSets(m.Answer, sc.allSets[:0])
	sc.filterSets()
	out, report := sc.out, sc.report
	clear(sc.sets) // no reference to the message may stay in the pool
	sc.work = work{}
	scratchPool.Put(sc)
	return out, report
}

// work is the state of one call of Thin.
type work struct {
	m, out      *dns.Msg // the message as it came, and as it is served: the same until something changes
	rules       Rules
	draw        *Draw
	report      Report
	sets        []set  // of the answer section, up to maxSets
	glue        glue   // the additional section
	closed      bool   // a set is fail-closed: none of it is served
	deniedOwner string // of such a set: its zone's SOA goes into a NODATA answer
	denialTTL   uint32 // the highest TTL of a NODATA answer, in seconds
}

// scratch is memory to filter an answer in, from a pool. On the stack it would be slow: CoreDNS answers each query in a new
// goroutine, whose small stack would have to grow, and that costs more than all the rest. A set of more than pooledSize
// members has a larger piece, which is kept too; an additional section of more records gets memory of its own.
type scratch struct {
	work
	allSets    [maxSets]set          // work.sets
	candidates [pooledSize]candidate // of the set at hand: each set overwrites those of the one before
	table      [2 * pooledSize]int32 // to find duplicates
	large      *large                // in place of both for larger sets; nil before the first one
	index      index
}

var scratchPool = sync.Pool{New: func() any { return new(scratch) }}

// filterSets decides set by set, and then changes the rest of the message accordingly.
func (sc *scratch) filterSets() {
	for i := range sc.sets {
		s := &sc.sets[i]
		if s.size == 0 { // only an RRSIG was found for it
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
		s.rule, s.at = rule, rule.Health.Open(s.owner, s.rrtype)
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
	if sc.out != sc.m {
		sc.out.Answer = aliasesFirst(sc.out.Answer)
	}
}

// decideSet decides one set by its rule and puts the result into out, which is nil if the policy says SERVFAIL.
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
	if s.rule.Policy.DryRun { // decided and reported, but not applied
		return
	}
	s.outcome = c.outcome
	sc.report.Enforced = max(sc.report.Enforced, c.outcome)
	if c.outcome == Closed && s.rule.Policy.AllDown == ServFail {
		sc.out = nil
		return
	}
	if c.outcome == Closed {
		if !sc.closed || c.ttl < sc.denialTTL { // the lowest TTL of all fail-closed sets
			sc.deniedOwner, sc.denialTTL = s.owner, c.ttl
		}
		sc.closed = true
	}
	sc.out = c.replaceSet(sc.m, sc.out, s)
}

// isFilterable reports whether m is a complete positive answer to one question of class IN.
func isFilterable(m *dns.Msg) bool {
	return m != nil && m.Rcode == dns.RcodeSuccess && m.Opcode == dns.OpcodeQuery && !m.Truncated &&
		len(m.Question) == 1 && m.Question[0].Qclass == dns.ClassINET && len(m.Answer) > 0
}

// choice is what a rule decides about a set.
type choice struct {
	outcome Outcome
	all     []candidate  // all members of the set; those that are served come first
	served  []candidate  // the front of all, in the order in which they are served
	instead []dns.RR     // records that replace a fail-closed set
	other   *takeover    // what comes of the name that all_down has for the set; nil if it is not needed
	rest    rest         // of the set, which is not judged
	leftOut addressTable // of the addresses that are judged and not served; nil if the rest cannot have them
	total   int          // different members of the set, and the records of the rest
	ttl     uint32       // the highest TTL that a record may have, in seconds
	moved   bool         // the order of those that are served was drawn, and is not that of the set
	single  bool         // the only member, which is served whatever its health is, so that was not looked up
}

// decideAddresses looks up the addresses of an A or AAAA set and chooses among them.
func (sc *scratch) decideAddresses(s *set) choice {
	all, rest := sc.addresses(sc.out.Answer, s)
	p := &s.rule.Policy
	rest.pass = p.Limit == 0
	c := choice{outcome: Whole, all: all, served: all, rest: rest, total: len(all) + rest.size, ttl: math.MaxUint32}
	if rest.passing() > 0 {
		sc.report.Unchecked[verdict.Rest] = true
	}
	if len(all) == 1 && p.AllDown == Serve { // with another AllDown its health does matter
		c.single = true
		sc.report.Unchecked[verdict.Single] = true
		return c // and so such an address is not probed, either
	}
	ttl := uint32(math.MaxUint32)
	for i := range all {
		a := &all[i]
		a.verdict = s.rule.Health.Look(s.at, a.addr, 0, a.ttl)
		ttl = min(ttl, a.ttl)
	}
	c.served, c.outcome = p.choose(all, sc.draw) // reorders all, which is why candidates have an index
	if c.outcome == Closed && p.AllDown == Named && rest.passing() == 0 {
		sc.fallBack(s, &c)
	}
	sc.report.noteMembers(s.owner, all, c.served)
	from := c.served
	if c.other != nil && len(from) == 0 { // the sites of the name that takes over
		from = c.other.served
	}
	sc.report.Sites = max(sc.report.Sites, p.sitesOf(from, sc.draw))
	c.moved = p.ordersAnswers(sc.draw) && !slices.IsSortedFunc(c.served, byIndex)
	c.ttl = p.TTL.boundAll(c.served)
	if c.addRest(p); c.outcome == Closed {
		c.ttl = min(ttl, p.TTL.boundAll(all)) // of the whole set, as if it had been served
		c.replaceClosed(s)
	}
	if c.rest.passing() > 0 && len(c.served) < len(all) {
		_, c.leftOut = sc.room(len(all))
		clear(c.leftOut)
		for i := len(c.served); i < len(all); i++ {
			c.leftOut[c.leftOut.slotOf(all, all[i].addr)] = int32(i + 1)
		}
	}
	return c
}

// addRest takes the rest of the set into account. If it is served, it is a reason not to be fail-closed: some of it may be
// fit. If it is not, that is because of the limit.
func (c *choice) addRest(p *Policy) {
	switch {
	case c.rest.passing() > 0 && c.outcome == Closed:
		c.outcome, c.ttl = Thinned, p.TTL.boundAll(c.all)
	case c.rest.passing() < c.rest.size && c.outcome == Whole:
		c.outcome = Sample
	}
}

// replaceSet returns out with only the chosen records of s, at the place of its first record. It returns out itself if nothing
// changes. m is the message as it came.
func (c *choice) replaceSet(m, out *dns.Msg, s *set) *dns.Msg {
	kept := len(c.served) + c.rest.passing()
	cut := kept != s.size
	if !cut && !c.moved && s.ttl <= c.ttl {
		return out
	}
	answer := make([]dns.RR, 0, len(out.Answer)-s.size+kept+len(c.instead))
	low := lowering{ttl: c.ttl, room: len(c.served)}
	placed, whole := false, s.size == len(out.Answer)
	for i, rr := range out.Answer {
		switch {
		case !whole && !s.contains(rr.Header()):
			answer = append(answer, rr)
		case !whole && !cut && !isMember(rr): // where all of the set is served, nothing of its name is left out
			answer = append(answer, low.apply(rr))
		case !placed:
			placed = true
			answer = append(c.appendTo(answer, out.Answer, &low), c.instead...)
			if whole && c.leftOut == nil && c.rest.passing() > 0 {
				answer = append(answer, out.Answer[c.rest.from:]...)
			}
		case whole && c.leftOut == nil: // all of the rest is there
		case i >= c.rest.from && c.rest.passing() > 0 && !c.leavesOut(rr):
			answer = append(answer, rr)
		}
	}
	out = copyOnce(m, out)
	out.Answer = answer
	if cut {
		out.AuthenticatedData = false // AD says that complete sets were validated (RFC 4035, section 3.2.3), in any order
	}
	return out
}

// leavesOut reports whether a record of the rest has an address that was judged and is not served.
func (c *choice) leavesOut(rr dns.RR) bool {
	if c.leftOut == nil {
		return false
	}
	addr, _ := Address(rr)
	return c.leftOut[c.leftOut.slotOf(c.all, addr)] != 0
}

// copyOnce returns out if it is a copy already, and otherwise a shallow copy of m. No record is copied. The capacity of the
// slices is cut to their length: an append by a later plugin must not write into an array that another plugin owns.
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

// onlyAliases reports whether no record is left that answers the question, only aliases that lead to its name.
func onlyAliases(answer []dns.RR) bool {
	for _, rr := range answer {
		if !isAlias(rr) && rr.Header().Rrtype != dns.TypeRRSIG {
			return false
		}
	}
	return true
}

// isAlias reports whether a record leads to another name, or signs one that does.
func isAlias(rr dns.RR) bool {
	t := rr.Header().Rrtype
	if sig, ok := rr.(*dns.RRSIG); ok {
		t = sig.TypeCovered
	}
	return t == dns.TypeCNAME || t == dns.TypeDNAME
}

// aliasesFirst returns the records with the aliases in front of what they lead to, else in their order: clients follow them in
// that order (RFC 1034, section 4.3.2), and some servers put them last. The records are moved to a slice of their own if need
// be, because what came from below may not be changed.
func aliasesFirst(answer []dns.RR) []dns.RR {
	first := slices.IndexFunc(answer, func(rr dns.RR) bool { return !isAlias(rr) })
	if first < 0 || !slices.ContainsFunc(answer[first:], isAlias) {
		return answer
	}
	sorted := make([]dns.RR, 0, len(answer))
	for _, alias := range []bool{true, false} {
		for _, rr := range answer {
			if isAlias(rr) == alias {
				sorted = append(sorted, rr)
			}
		}
	}
	return sorted
}

// makeNODATA turns a copy that has no answer left into a NODATA answer: the authority section has the SOA of the zone and no NS
// (RFC 2308, section 2.2). Resolvers cache it for the lower one of the SOA's TTL and minimum (RFC 2308, section 5), so both
// are lowered to ttl seconds. Without an SOA the answer is not cached at all.
func makeNODATA(out *dns.Msg, soa *dns.SOA, ttl uint32) {
	out.Ns, out.Extra = nil, onlyOPT(out.Extra)
	if soa != nil {
		own := *soa
		own.Hdr.Ttl = min(own.Hdr.Ttl, ttl)
		own.Minttl = min(own.Minttl, ttl)
		out.Ns = []dns.RR{&own}
	}
}

// onlyOPT returns the OPT record of an additional section alone. The other records belonged to the answer that is gone.
func onlyOPT(extra []dns.RR) []dns.RR {
	for i, rr := range extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			return extra[i : i+1 : i+1]
		}
	}
	return nil
}
