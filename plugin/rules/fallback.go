package rules

import (
	"net/netip"
	"slices"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/lookup"

	"github.com/miekg/dns"
)

// Here is how the name of all_down finds its addresses, and the stanza that judges them.
//
// The addresses are asked for ahead, as those of watched names are, and shown to the pool each time: so their health is known when
// they are needed, which is when queries must not wait.

// keepFallback has the addresses of the name known that a stanza has for sets of which no address is fit. It is called once all
// zones are known. A name that no stanza holds, which may be outside the server block, is judged by the stanza that names it, as
// the target of an alias is, if that has within.
func (b *Block) keepFallback(s *Stanza) {
	p := &s.Rule.Policy
	if p.AllDown != answer.Named {
		return
	}
	b.Resolver.Keep([]lookup.Question{{Name: p.Another, Type: dns.TypeA}, {Name: p.Another, Type: dns.TypeAAAA}})
	if b.others == nil {
		b.others = make(map[string][]*Zone)
	}
	switch z := b.Zones.Find(p.Another); {
	case z == nil && len(s.Within) > 0:
		b.others[p.Another] = append(b.others[p.Another], &Zone{Name: p.Another, Stanza: s})
	case z != nil && z.Stanza != nil:
		b.others[p.Another] = []*Zone{z}
	}
}

// judging are the zones whose stanzas judge the answer to a question of our own: of the one that holds the name, or of those that
// have it in all_down.
func (b *Block) judging(name string) []*Zone {
	if zones := b.others[name]; zones != nil {
		return zones
	}
	if z := b.Zones.Find(name); z != nil && z.Stanza != nil {
		return []*Zone{z}
	}
	return nil
}

// Fallback is what the plugins below give a name that the stanza of an owner has in all_down, with the rule that judges it. It
// requests nothing, because the resolver keeps the name known from the start.
func (j *Judge) Fallback(owner, name string, rrtype uint16) answer.Fallback {
	r := j.Block.Resolver.Peek(lookup.Question{Name: name, Type: rrtype})
	if r == nil {
		return answer.Fallback{}
	}
	f := answer.Fallback{Known: true, Addresses: ofFamily(r.Addresses, rrtype), TTL: r.TTL, Owner: r.Owner}
	if len(f.Addresses) == 0 {
		other := dns.TypeA + dns.TypeAAAA - rrtype
		r := j.Block.Resolver.Peek(lookup.Question{Name: name, Type: other})
		f.Elsewhere = r != nil && len(ofFamily(r.Addresses, other)) > 0
		return f
	}
	s := j.fallbackStanza(owner, name, f.Owner)
	if s == nil {
		return f
	}
	if rule := s.RuleFor(f.Owner); rule.Types.Has(rrtype) && !rule.Policy.DryRun { // otherwise it judges nothing
		f.Rule = rule
		j.prepareOther(s, rule, j.isDryRun(owner))
	}
	return f
}

// isDryRun reports whether the stanza that judges the sets of an owner changes no answer.
func (j *Judge) isDryRun(owner string) bool {
	z := j.Block.Zones.Find(owner)
	if z == nil || z.Stanza == nil {
		z = j.Zone
	}
	return z.Stanza.Rule.Policy.DryRun
}

// prepareOther is prepare for the stanza of another name, whose sites may be others than those of the set. In a dry run of the set
// the answer does not depend on the client.
func (j *Judge) prepareOther(s *Stanza, rule *answer.Rule, dry bool) {
	if rule.Policy.Client && !j.byClient {
		j.byClient, j.Draw.Client = !dry, j.clientNetwork()
	}
	j.Draw.Near = nil
	if rule.Policy.Nearest {
		if j.other == nil {
			j.other = new(location)
		}
		j.locate(s, j.other, dry)
	}
	if rule.Policy.Warmup > 0 {
		j.Draw.Now = s.Group.Clock()
	}
}

// ofFamily are the addresses for records of type A or AAAA, without a copy if that is all of them.
func ofFamily(addrs []netip.Addr, rrtype uint16) []netip.Addr {
	other := func(addr netip.Addr) bool { return addr.Is4() != (rrtype == dns.TypeA) }
	if !slices.ContainsFunc(addrs, other) {
		return addrs
	}
	return slices.DeleteFunc(slices.Clone(addrs), other)
}

// fallbackStanza is the stanza that judges the addresses of a name in all_down: as in a query for that name, the one that holds
// their owner name, which is the end of aliases; else that of the name, and last the stanza that names it, if it has within.
func (j *Judge) fallbackStanza(asked, name, owner string) *Stanza {
	for _, n := range []string{owner, name, asked} {
		z := j.Block.Zones.Find(n)
		if n == asked && z == nil {
			z = j.Zone // an alias has led out of the zones
		}
		switch {
		case z == nil:
			continue
		case z.Stanza == nil || n != owner && len(z.Stanza.Within) == 0:
			return nil
		}
		return z.Stanza
	}
	return nil
}
