package multivalue

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// maxShown is how many members of sets, and targets of theirs, one explanation lists in all.
const maxShown = 2048

// Explain says how the answer to a question comes about on each server block that judges it. It asks the plugins below as a
// query would, and lets the same code decide; but it only reads the board, so that nobody is watched for being looked at.
func (v *viewer) Explain(ctx context.Context, q status.Question) (all []status.Explanation, err error) {
	defer rescue.Error("explaining "+q.Name, &err)
	blocks := v.pool.blocks.Load()
	if blocks == nil {
		return nil, errors.New("no server of this Corefile runs yet")
	}
	for _, b := range *blocks {
		z := b.zones.find(q.Name)
		if z == nil || !b.gets(q.Name) {
			continue
		}
		e, err := v.explain(ctx, b, z, q)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	slices.SortStableFunc(all, func(a, b status.Explanation) int { return cmp.Compare(len(b.Zone), len(a.Zone)) })
	return all, nil
}

func (v *viewer) explain(ctx context.Context, b *block, z *zone, q status.Question) (status.Explanation, error) {
	s := story{Explanation: status.Explanation{
		Block: b.learner.keys, Zone: z.name, Name: q.Name, Type: q.Type, Outcome: answer.None.String(),
		Steps: []string{}, Sets: []status.Set{}, Records: []string{},
	}}
	if z.stanza == nil {
		s.step("%s exempts it from what is judged, so that its answers pass as they are", z.name)
		return s.Explanation, nil
	}
	s.Stanza = z.stanza.account.At
	s.step("the stanza at %s judges it: it is in its zone, %s", s.Stanza, z.name)
	if !z.stanza.rule.Types.Has(dns.StringToType[q.Type]) {
		s.step("this type is not judged; it passes as it is")
		return s.Explanation, nil
	}
	said, err := v.below(ctx, toBlock{b, asking{question{q.Name, dns.StringToType[q.Type]}, q.DNSSEC}})
	if err != nil {
		return s.Explanation, err
	}
	if !s.hear(&said) {
		return s.Explanation, nil
	}
	e := newExplainer(b, z, &said, q)
	e.judge(&s)
	return s.Explanation, v.watched(ctx, e, &s)
}

// watched completes a story with what is known of the targets in it.
func (v *viewer) watched(ctx context.Context, e *explainer, s *story) error {
	known := make(map[verdict.Target]status.Target)
	err := v.pool.consult(ctx, func() {
		if !v.pool.isolation.since.IsZero() {
			s.step("no target answers just now, so that none is taken down for it: our own network may be lost")
		}
	})
	if err != nil {
		return err
	}
	for targets := range slices.Chunk(e.targets, rowsATurn) {
		err := v.pool.consult(ctx, func() {
			for _, t := range targets {
				if w := v.pool.find(&t.Target, t.seed); w != nil {
					known[t.Target] = w.row()
				}
			}
		})
		if err != nil {
			return err
		}
	}
	for _, d := range e.decisions {
		s.tell(e, d, known)
	}
	s.close(e)
	return nil
}

// explainer judges an answer that goes nowhere, and takes down how that is done. It leaves no trace.
type explainer struct {
	exchange
	reply, thinned *dns.Msg
	report         answer.Report
	decisions      []decision
	targets        []seeded
	room           int                     // how many more members and targets may be listed
	elsewhere      map[string]judgedBy     // names that other server blocks judge
	glue           map[string][]netip.Addr // of the hosts that the answer has addresses of
	hosts          map[string][]netip.Addr // and of those that were looked up
}

// decision is one about a set, by a stanza.
type decision struct {
	answer.Decision
	stanza *stanza
	shown  []shown // of the first candidates, as many as there is room for
}

// shown is what a candidate leads to.
type shown struct {
	targets []seeded
	within  bool // an address may be probed
	more    int  // addresses that there was no room for
}

// seeded is a target, with what finds it on the board.
type seeded struct {
	verdict.Target
	seed  uint64
	check *CheckSpec
}

func newExplainer(b *block, z *zone, said *said, q status.Question) *explainer {
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
		exchange: exchange{ResponseWriter: new(inquirer), block: b, zone: z, request: m, quiet: true},
		reply:    said.msg, room: maxShown, hosts: make(map[string][]netip.Addr), elsewhere: maps.Clone(said.elsewhere),
	}
	if len(e.elsewhere) > 0 {
		e.judgedElsewhere.Store(true)
		e.follow()
	}
	return e
}

// follow adds the names that those which other blocks judge are aliases of.
func (e *explainer) follow() {
	for more := true; more; {
		more = false
		for _, rr := range e.reply.Answer {
			alias, ok := rr.(*dns.CNAME)
			if !ok || !e.ofOthers(alias.Hdr.Name) || e.ofOthers(alias.Target) {
				continue
			}
			e.elsewhere[dns.CanonicalName(alias.Target)], more = e.elsewhere[dns.CanonicalName(alias.Hdr.Name)], true
		}
	}
}

// ofOthers reports whether another server block judges what a name has. What is known of it here is not what goes out.
func (e *explainer) ofOthers(owner string) bool {
	_, ok := e.elsewhere[dns.CanonicalName(owner)]
	return ok
}

// judge lets the answer be thinned. Where chance draws, one of the possible draws is shown, and always the same.
func (e *explainer) judge(s *story) {
	e.draw.IntN = func(int) int { return 0 }
	e.thinned, e.report = answer.Thin(e.reply, e, &e.draw)
	s.Outcome = e.report.Outcome.String()
	for i := range e.decisions {
		e.show(&e.decisions[i])
	}
}

// show finds what the candidates of a set lead to. A record of SRV may lead to each of thousands of addresses, and so may the
// next one: what is listed is bounded.
func (e *explainer) show(d *decision) {
	for _, c := range d.Candidates {
		if e.room == 0 {
			return
		}
		e.room--
		var x shown
		addrs := e.addresses(c)
		for i, at := range addrs {
			targets := d.stanza.targets(d.Owner, at)
			if len(targets) > e.room {
				x.more = len(addrs) - i
				break
			}
			e.room -= len(targets)
			x.targets, x.within = append(x.targets, targets...), x.within || d.stanza.within.Allows(at.Addr())
		}
		d.shown, e.targets = append(d.shown, x), append(e.targets, x.targets...)
	}
}

// Rule is the exchange's, with a health that leaves no trace, and somebody who listens.
func (e *explainer) Rule(owner string) *answer.Rule {
	if e.ofOthers(owner) {
		return nil
	}
	rule := e.exchange.Rule(owner)
	if rule == nil {
		return nil
	}
	s := rule.Health.(*stanza)
	return &answer.Rule{Types: rule.Types, Policy: rule.Policy, Health: peeking{s}, Observe: func(d answer.Decision) {
		e.decisions = append(e.decisions, decision{Decision: d, stanza: s})
	}}
}

// SOA is as much of it as is known.
func (e *explainer) SOA(owner string) *dns.SOA {
	if r := e.peek(owner, dns.TypeSOA); r != nil {
		return r.soa
	}
	return nil
}

// Addresses are as many as are known.
func (e *explainer) Addresses(host string, rrtype uint16) ([]netip.Addr, bool) {
	if r := e.peek(host, rrtype); r != nil && (!r.foreign || e.block.confined) {
		return r.addrs, true
	}
	return nil, false
}

func (e *explainer) peek(name string, qtype uint16) *reply {
	if x := e.block.learner.lessons()[question{dns.CanonicalName(name), qtype}]; x != nil {
		return x.reply.Load()
	}
	return nil
}

// addresses are where a candidate leads: itself, or the addresses of its host, with the port that it names.
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

// addressesOf are those of a host: in the answer, and known.
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

// glueOf are the addresses in the additional section, by the names that they are of.
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

// peeking is a stanza's health for whoever must not be taken for a query.
type peeking struct{ *stanza }

// Look is the stanza's, without a note that somebody asked.
func (p peeking) Look(owner string, addr netip.Addr, port uint16, _ uint32) verdict.Brief {
	said := verdict.BriefUnchecked
	if p.within.Allows(addr) {
		said = p.together(owner, addr, port)
	}
	if p.forced != nil {
		return p.forced.For(addr).Apply(said)
	}
	return said
}

// together is what judge says, without a note.
func (p peeking) together(owner string, addr netip.Addr, port uint16) verdict.Brief {
	all := make([]verdict.Brief, len(p.checks))
	worst := verdict.BriefUnchecked
	for i := range p.checks {
		all[i] = p.peek(p.target(i, owner, netip.AddrPortFrom(addr, port)))
		worst = verdict.Worse(worst, all[i])
	}
	if p.need > 0 {
		return verdict.Quorum(all, p.need)
	}
	return worst
}

// target is what a check of the stanza asks of an address in a record that names this port.
func (s *stanza) target(i int, owner string, at netip.AddrPort) seeded {
	c := &s.checks[i]
	t, seed := c.target(owner, at.Addr(), at.Port())
	return seeded{t, seed, c}
}

// targets are what the stanza asks of it.
func (s *stanza) targets(owner string, at netip.AddrPort) []seeded {
	if !s.within.Allows(at.Addr()) {
		return nil
	}
	var all []seeded
	for i := range s.checks {
		if t := s.target(i, owner, at); !t.check.nowhere(t.Target) {
			all = append(all, t)
		}
	}
	return all
}

// peek is what ask says of a target, without a note.
func (s *stanza) peek(t seeded) verdict.Brief {
	if e := s.pool.table.Find(&t.Target, table.Hash(&t.Target, t.seed)); e != nil {
		if v, there := e.Peek(); there {
			return v
		}
	}
	if t.check.nowhere(t.Target) || s.account.full.Load() || s.pool.full.Load() {
		return verdict.BriefUnchecked
	}
	return 0
}
