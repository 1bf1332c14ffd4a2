// Package rules says by which rule a record set of an answer is judged.
//
// Judge is the main type: the rules of one answer, for answer.Thin. The handler has one in the writer of each query;
// explanations and background questions make their own. Behind it are the stanzas of a server block (Block, Zone, Stanza),
// which combine what the pool believes, forced states, and checks named by annotations.
package rules

import (
	"context"
	"math/rand/v2"
	"net/netip"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/lookup"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

// Block is what the stanzas of a server block come to. All its zones and listeners share it. It is the lookup.Host of its
// resolver.
type Block struct {
	Keys       string // of the server block, as the Corefile has them
	Zones      Zones
	Resolver   *lookup.Resolver
	Index      int         // of the server block in the Corefile
	Rank       int         // among the server blocks with a stanza
	ServerKeys []ServerKey // of all server blocks; set before the servers start

	origins  plugin.Zones // of the server block
	confined bool         // every stanza says where may be probed
	types    answer.Types // that a stanza judges
	stanzas  []*Stanza
	configs  []*corefile.Config // of the stanzas, to be shown
	others   map[string][]*Zone // by a name that stanzas have in all_down: those that judge it
}

// NewBlock makes the block of some stanzas; configs and stanzas belong together. Package corefile has made sure that no
// name is in it twice.
func NewBlock(keys []string, configs []*corefile.Config, stanzas []*Stanza) *Block {
	b := &Block{Zones: make(Zones), confined: true, origins: plugin.OriginsFromArgsOrServerBlock(nil, keys), stanzas: stanzas, configs: configs}
	b.Resolver = lookup.New(b)
	for i, c := range configs {
		s := stanzas[i]
		b.types |= s.Rule.Types
		b.confined = b.confined && len(s.Within) > 0
		for _, origin := range c.Zones {
			b.Zones[origin] = &Zone{Name: origin, Stanza: s}
		}
		for _, exempt := range c.Except {
			b.Zones[exempt] = &Zone{Name: exempt}
		}
		b.Resolver.Watch(watched(c, s), c.FirstVerdicts())
	}
	for _, s := range stanzas {
		b.keepFallback(s)
	}
	return b
}

// watched are the questions for the names that a stanza watches.
func watched(c *corefile.Config, s *Stanza) (questions []lookup.Question) {
	for _, n := range c.Watch {
		for _, rrtype := range s.Rule.Types.Each() {
			questions = append(questions, lookup.Question{Name: n, Type: rrtype})
		}
	}
	return questions
}

// Asked is the zone whose stanza judges the answer to a query, or nil if the query is not judged: transfers, updates and
// notifications keep their own writer, because their signatures depend on it.
func (b *Block) Asked(r *dns.Msg) *Zone {
	if r.Opcode != dns.OpcodeQuery || len(r.Question) != 1 || r.Question[0].Qclass != dns.ClassINET {
		return nil
	}
	if t := r.Question[0].Qtype; !b.types.Has(t) && t != dns.TypeANY {
		return nil
	}
	if z := b.Zones.Find(r.Question[0].Name); z != nil && z.Stanza != nil {
		return z
	}
	return nil
}

// StanzaFor is the stanza that judges the sets of an owner in answers for a name, as Judge.Rule finds it, or nil.
func (b *Block) StanzaFor(owner, name string) *Stanza {
	z := b.Zones.Find(owner)
	if z == nil {
		if z = b.Zones.Find(name); z == nil || z.Stanza == nil || len(z.Stanza.Within) == 0 {
			return nil
		}
	}
	if z.Stanza == nil {
		return nil
	}
	s, _ := z.Stanza.RuleFor(owner).Health.(*Stanza)
	return s
}

// ResetLogs lets the log be told again of what is still so. It is called once a minute.
func (b *Block) ResetLogs() {
	for _, s := range b.stanzas {
		s.loggedOpen.Reset()
		s.loggedBackup.Reset()
		s.loggedInstead.Reset()
	}
}

// Confined reports whether every stanza says where may be probed.
func (b *Block) Confined() bool { return b.confined }

// Owns implements lookup.Host: a name is the block's own if it is in its zones, and not exempt.
func (b *Block) Owns(name string) bool {
	if z := b.Zones.Find(name); z != nil {
		return z.Stanza != nil
	}
	return b.origins.Matches(name) != ""
}

// Mark implements lookup.Host.
func (b *Block) Mark(ctx context.Context) context.Context {
	return context.WithValue(ctx, judgeKey{}, &Judge{Block: b, asking: true})
}

// Backlog implements lookup.Host.
func (b *Block) Backlog() int { return b.stanzas[0].Group.Backlog() }

// Absent implements lookup.Host.
func (b *Block) Absent(q lookup.Question) {
	if s := b.StanzaFor(q.Name, q.Name); s != nil {
		s.Open(q.Name, q.Type)
	}
}

// Judge implements lookup.Host: nothing goes out of the answer.
func (b *Block) Judge(m *dns.Msg) (unknown int) {
	if len(m.Question) != 1 {
		return 0
	}
	for _, z := range b.judging(m.Question[0].Name) {
		s := &unknownCounter{Judge: Judge{Block: b, Zone: z, Request: m, Reply: m, Quiet: true}, other: b.others[m.Question[0].Name] != nil}
		answer.Thin(m, s, &answer.Draw{IntN: rand.IntN})
		unknown += s.unknown
	}
	return unknown
}

// unknownCounter judges an answer of which nothing goes out, and counts the addresses without a verdict.
type unknownCounter struct {
	Judge
	unknown int
	other   bool // the name takes over from another one, so that its health matters also if it has one address
}

// Rule is the judge's, with a health that counts.
func (s *unknownCounter) Rule(owner string) *answer.Rule {
	rule := s.Judge.Rule(owner)
	if rule == nil {
		return nil
	}
	counting := &answer.Rule{Types: rule.Types, Policy: rule.Policy, Health: countingHealth{rule.Health, &s.unknown}}
	if s.other {
		counting.Policy.AllDown = answer.ServFail
	}
	return counting
}

// countingHealth counts the addresses without a verdict that it is asked for.
type countingHealth struct {
	answer.Health
	unknown *int
}

// Open is the stanza's, for a set that is learned ahead.
func (c countingHealth) Open(owner string, rrtype uint16) verdict.RecordSet {
	at := c.Health.Open(owner, rrtype)
	at.Ahead = true
	return at
}

// Look is the stanza's.
func (c countingHealth) Look(at verdict.RecordSet, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	v := c.Health.Look(at, addr, port, ttl)
	if v.State() == verdict.Unknown {
		*c.unknown++
	}
	return v
}

// Sets implements lookup.Host. What is below a zone cut is not the zone's to answer with, and a set that a signature covers
// stays whole whatever its health is: neither is worth a probe.
func (b *Block) Sets(zone string, records []dns.RR) []*dns.Msg {
	stanza := b.Zones[zone].Stanza
	byQuestion := make(map[lookup.Question]*dns.Msg)
	cuts, signed := landmarks(records)
	var answers []*dns.Msg
	for _, rr := range records {
		h := rr.Header()
		if z := b.Zones.Find(h.Name); !stanza.Rule.Types.Has(h.Rrtype) || z == nil || z.Stanza != stanza {
			continue
		}
		q := lookup.Question{Name: h.Name, Type: h.Rrtype}
		if signed[q] || belowCut(h.Name, cuts) {
			continue
		}
		m := byQuestion[q]
		if m == nil {
			m = q.Message()
			byQuestion[q] = m
			answers = append(answers, m)
		}
		m.Answer = append(m.Answer, rr)
	}
	return answers
}

// landmarks finds the zone cuts in a zone, and the sets in it that signatures cover.
func landmarks(records []dns.RR) (cuts map[string]bool, signed map[lookup.Question]bool) {
	cuts, signed = make(map[string]bool), make(map[lookup.Question]bool)
	for _, rr := range records {
		switch rr := rr.(type) {
		case *dns.NS:
			cuts[rr.Hdr.Name] = rr.Hdr.Name != records[0].Header().Name
		case *dns.RRSIG:
			signed[lookup.Question{Name: rr.Hdr.Name, Type: rr.TypeCovered}] = true
		}
	}
	return cuts, signed
}

// belowCut reports whether a name is at or below a zone cut.
func belowCut(name string, cuts map[string]bool) bool {
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		if cuts[name[off:]] {
			return true
		}
	}
	return false
}
