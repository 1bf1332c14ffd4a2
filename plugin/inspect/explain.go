package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/lookup"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/rules"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// maxListed is how many members of sets, and targets of theirs, one explanation lists in all. A longer page would be of no help.
const maxListed = 2048

// Explain says how the answer to a question comes about on each server block that judges it. It asks the plugins below as a
// query would, and lets the same code decide; but it only reads the pool, so that nothing is watched because of it.
func (v *Source) Explain(ctx context.Context, q status.Question) (all []status.Explanation, err error) {
	defer rescue.Error("explaining "+q.Name, &err) // a plugin below may panic
	blocks := v.blocks()
	if blocks == nil {
		return nil, errors.New("no server of this Corefile runs yet")
	}
	for _, b := range blocks {
		z := b.Zones.Find(q.Name)
		if z == nil || !b.Receives(q.Name) { // another block gets the query
			continue
		}
		e, err := v.explain(ctx, b, z, q)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	// The block with the longest zone first: it gets the query, unless a view is in the way.
	slices.SortStableFunc(all, func(a, b status.Explanation) int { return cmp.Compare(len(b.Zone), len(a.Zone)) })
	return all, nil
}

// explain is Explain for one server block.
func (v *Source) explain(ctx context.Context, b *rules.Block, z *rules.Zone, q status.Question) (status.Explanation, error) {
	s := sentences{Explanation: status.Explanation{
		Block: b.Keys, Zone: z.Name, Name: q.Name, Type: q.Type, Outcome: answer.None.String(),
		Steps: []string{}, Sets: []status.Set{}, Records: []string{},
	}}
	if z.Stanza == nil { // a name under except
		s.step("%s is exempt, so its answers pass unchanged", z.Name)
		return s.Explanation, nil
	}
	s.Stanza, s.Text = z.Stanza.Group.At, b.TextOf(z.Stanza)
	s.step("the stanza at %s judges this name, which is in its zone %s", s.Stanza, z.Name)
	if !z.Stanza.Rule.Types.Has(dns.StringToType[q.Type]) {
		s.step("this type is not judged, so the answer passes unchanged")
		return s.Explanation, nil
	}
	below, err := v.askBelow(ctx, blockQuestion{b, query{lookup.Question{Name: q.Name, Type: dns.StringToType[q.Type]}, q.DNSSEC}})
	if err != nil {
		return s.Explanation, err
	}
	if !s.addAnswer(&below) { // there is nothing to judge
		return s.Explanation, nil
	}
	e := newExplainer(b, z, &below, q)
	e.judge(&s)
	return s.Explanation, v.addTargets(ctx, e, &s)
}

// addTargets completes an explanation with what the pool knows of the targets in it, some hundred at a time.
func (v *Source) addTargets(ctx context.Context, e *explainer, s *sentences) error {
	known := make(map[verdict.Target]status.Target)
	err := v.pool.Do(ctx, func(p pool.View) {
		if p.Isolated() {
			s.step("no target answers at the moment, so none is taken down: our own network may be lost")
		}
	})
	if err != nil {
		return err
	}
	for targets := range slices.Chunk(e.targets, pool.RowsAtOnce) {
		err := v.pool.Do(ctx, func(p pool.View) {
			for _, t := range targets {
				if row, ok := p.Row(t); ok {
					known[t.Target] = row
				}
			}
		})
		if err != nil {
			return err
		}
	}
	s.locate(e)
	for _, d := range e.decisions {
		s.addSet(e, d, known)
	}
	s.finish(e)
	return nil
}

// explainer judges an answer that goes nowhere, and notes how each set is decided. It leaves no trace: its Judge is asked
// through methods of its own wherever the original would request or note something.
type explainer struct {
	rules.Judge
	reply, thinned *dns.Msg                  // what the plugins below answer, and what a client would get
	report         answer.Report             // as metadata would show it
	decisions      []decision                // in the order of the sets in the answer
	targets        []pool.Key                // of all members that are listed
	room           int                       // how many more members and targets may be listed
	elsewhere      map[string]rules.Crossing // names that other server blocks judge
	glue           map[string][]netip.Addr   // of hosts, in the additional section; nil before it is needed
	hosts          map[string][]netip.Addr   // of hosts, from both the answer and the resolver
}

// decision is how a set was decided, and by which stanza.
type decision struct {
	answer.Decision
	stanza  *rules.Stanza   // whose rule decided: an override, if an annotation names the check
	members []memberTargets // of the first candidates, as many as there is room for
}

// memberTargets are the targets that a candidate leads to.
type memberTargets struct {
	targets []pool.Key
	within  bool // at least one address may be probed
	more    int  // addresses that there was no room for
}

// newExplainer prepares to judge what the plugins below answer. With a client in the question, the query carries its network
// (RFC 7871), as a resolver's would.
func newExplainer(b *rules.Block, z *rules.Zone, below *belowAnswer, q status.Question) *explainer {
	m := new(dns.Msg)
	m.SetQuestion(q.Name, dns.StringToType[q.Type])
	if q.Client.IsValid() {
		subnet := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(q.Client.Bits()), Address: q.Client.Addr().AsSlice()}
		if q.Client.Addr().Is6() {
			subnet.Family = 2
		}
		m.SetEdns0(4096, false)
		m.IsEdns0().Option = append(m.IsEdns0().Option, subnet)
	}
	e := &explainer{
		Judge: rules.Judge{Block: b, Zone: z, Request: m, Reply: below.msg, Quiet: true},
		reply: below.msg, room: maxListed, hosts: make(map[string][]netip.Addr), elsewhere: maps.Clone(below.elsewhere),
	}
	if len(e.elsewhere) > 0 {
		e.Elsewhere.Store(true)
		e.follow()
	}
	return e
}

// follow adds the names that are aliases' targets of names which other blocks judge: they are judged there too.
func (e *explainer) follow() {
	for more := true; more; {
		more = false
		for _, rr := range e.reply.Answer {
			alias, ok := rr.(*dns.CNAME)
			if !ok || !e.judgedElsewhere(alias.Hdr.Name) || e.judgedElsewhere(alias.Target) {
				continue
			}
			e.elsewhere[dns.CanonicalName(alias.Target)], more = e.elsewhere[dns.CanonicalName(alias.Hdr.Name)], true
		}
	}
}

// judgedElsewhere reports whether another server block judges what a name has. What this block would make of it does not go
// out.
func (e *explainer) judgedElsewhere(owner string) bool {
	_, ok := e.elsewhere[dns.CanonicalName(owner)]
	return ok
}

// judge has the answer filtered. If the policy draws at random, one of the possible draws is shown, and always the same one.
func (e *explainer) judge(s *sentences) {
	e.Draw.IntN = func(int) int { return 0 }
	e.thinned, e.report = answer.Thin(e.reply, e, &e.Draw)
	s.Outcome, s.DryRun = e.report.Outcome.String(), e.report.Enforced != e.report.Outcome
	var h health
	for i := range e.decisions { // after the answer is complete, because listing asks the resolver too
		d := &e.decisions[i]
		e.lookAlone(d)
		e.list(d)
		s.Checked, h = s.Checked || d.Checked(), h|d.health()
	}
	s.Health = h.String()
}

// list finds what the candidates of a set lead to, as far as there is room: an SRV record may lead to thousands of addresses,
// and so may the next one.
func (e *explainer) list(d *decision) {
	for _, c := range d.Candidates {
		if e.room == 0 { // the page says how many more there are
			return
		}
		e.room--
		var x memberTargets
		addrs := e.addresses(c)
		for i, at := range addrs { // sorted, so that the same ones are listed each time
			targets := d.stanza.Targets(d.Owner, at)
			if len(targets) > e.room { // all checks of an address are listed, or none
				x.more = len(addrs) - i
				break
			}
			e.room -= len(targets)
			x.targets, x.within = append(x.targets, targets...), x.within || d.stanza.Within.Allows(at.Addr())
		}
		d.members, e.targets = append(d.members, x), append(e.targets, x.targets...)
	}
}

// Rule is the judge's, with a health that leaves no trace, and an observer that keeps each decision.
func (e *explainer) Rule(owner string) *answer.Rule {
	if e.judgedElsewhere(owner) {
		return nil
	}
	rule := e.Judge.Rule(owner)
	if rule == nil {
		return nil
	}
	s := rule.Health.(*rules.Stanza) // which it is for every rule of a judge
	return &answer.Rule{Types: rule.Types, Policy: rule.Policy, Health: s.ReadOnly(), Observe: func(d answer.Decision) {
		e.decisions = append(e.decisions, decision{Decision: d, stanza: s})
	}}
}

// Absent notes nothing: an explanation is not a query.
func (e *explainer) Absent(string, uint16) {}

// SOA is the start of authority as far as it is known.
func (e *explainer) SOA(owner string) *dns.SOA {
	return e.Block.Resolver.PeekSOA(dns.CanonicalName(owner), e.Top(owner))
}

// Addresses are those of a host as far as they are known.
func (e *explainer) Addresses(host string, rrtype uint16) ([]netip.Addr, bool) {
	if r := e.peek(host, rrtype); r != nil && (!r.Foreign || e.Block.Confined()) {
		return r.Addresses, true
	}
	return nil, false
}

// peek is what the resolver knows, without a note that it was asked for.
func (e *explainer) peek(name string, qtype uint16) *lookup.Reply {
	return e.Block.Resolver.Peek(lookup.Question{Name: dns.CanonicalName(name), Type: qtype})
}

// addresses are where a candidate leads: to itself, or to the addresses of its host, with the port that it names.
func (e *explainer) addresses(c answer.Candidate) []netip.AddrPort {
	host, port := answer.Host(c.Record)
	if c.Addr.IsValid() {
		return []netip.AddrPort{netip.AddrPortFrom(c.Addr, port)}
	}
	var all []netip.AddrPort
	for _, addr := range e.addressesOf(dns.CanonicalName(host)) {
		all = append(all, netip.AddrPortFrom(addr, port))
	}
	return all
}

// addressesOf are those of a host, from the additional section and from the resolver, each once.
func (e *explainer) addressesOf(host string) []netip.Addr {
	if all, ok := e.hosts[host]; ok {
		return all
	}
	if e.glue == nil {
		e.glue = glueOf(e.reply)
	}
	all := e.glue[host]
	for _, rrtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		addrs, _ := e.Addresses(host, rrtype)
		all = append(all, addrs...)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	e.hosts[host] = slices.Compact(all)
	return e.hosts[host]
}

// glueOf are the addresses in the additional section, by their owner names.
func glueOf(m *dns.Msg) map[string][]netip.Addr {
	glue := make(map[string][]netip.Addr)
	for _, rr := range m.Extra {
		if addr, ok := answer.Address(rr); ok {
			host := dns.CanonicalName(rr.Header().Name)
			glue[host] = append(glue[host], addr)
		}
	}
	return glue
}

// because is what people wrote about a forced state, for the end of a sentence.
func because(f *status.Force) (words string) {
	if !f.Until.IsZero() {
		words = " until " + f.Until.UTC().Format(time.RFC3339)
	}
	if f.Note != "" {
		words += fmt.Sprintf(" (%q)", f.Note)
	}
	return words
}
