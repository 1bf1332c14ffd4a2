package rules

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/lookup"

	"github.com/miekg/dns"
)

// maxRequests is how many unknown questions one answer can have the resolver take up.
const maxRequests = 32

// Judge is what one answer is judged by: the answer.Rules for answer.Thin. It is part of the writer of a query, by value,
// and used by one goroutine, except for what another server block notes on the way.
type Judge struct {
	Block   *Block
	Zone    *Zone // of the name that was asked; its stanza is not nil
	Request *dns.Msg
	Remote  interface{ RemoteAddr() net.Addr } // the client; nil for a question of our own
	Reply   *dns.Msg                           // as the plugins below made it; its authority section may say where a zone begins
	Draw    answer.Draw
	Quiet   bool // nothing goes out, so that there is nothing to deny
	// Elsewhere says that another server block has judged a part of the answer.
	Elsewhere atomic.Bool

	requests int32 // questions that the resolver should take up
	// What is not judged because within is missing, for the log and a metric; empty if there is none.
	host      string     // that records name
	alias     string     // the target of an alias
	byClient  bool       // a policy lets the client choose
	at        *location  // where the client is; nil if no policy goes by sites
	other     *location  // the same by the sites of a name that takes over; nil if that does not go by any
	asking    bool       // it is a question of our own
	crossings *Crossings // notes where that passes; nil if it does not matter
	mark      mark       // what the plugins below get for a context
}

// judgeKey is the key of the Judge that a look-up within a query, or within a question of ours, belongs to.
type judgeKey struct{}

// mark is a context by which a look-up within knows its Judge. It is part of that, which spares an allocation a query.
type mark struct {
	context.Context
	judge *Judge
}

// Value is that of a context.
func (m *mark) Value(key any) any {
	if key == (judgeKey{}) {
		return m.judge
	}
	return m.Context.Value(key)
}

// Context is what the plugins below get, so that look-ups that they make through the whole server are known as parts of
// this answer.
func (j *Judge) Context(ctx context.Context) context.Context {
	j.mark = mark{ctx, j}
	return &j.mark
}

// Outer is the context of the query, as Context got it.
func (j *Judge) Outer() context.Context { return j.mark.Context }

// Nested reports whether a query is one that a plugin below makes through the whole server to complete its answer, as
// *file* does to follow a CNAME. That answer comes by again as part of the outer one. Here it is left whole, so that every
// set is judged once. If another server block judges it here, the outer one must not do so again.
func (b *Block) Nested(ctx context.Context, z *Zone, r *dns.Msg) bool {
	outer, ok := ctx.Value(judgeKey{}).(*Judge)
	if !ok {
		return false
	}
	if outer.Block != b && outer.crossings != nil {
		outer.crossings.note(b, z, &r.Question[0])
	}
	if outer.Block == b || outer.asking {
		return true
	}
	outer.Elsewhere.Store(true)
	return false
}

// Requested reports whether the answer led to a question that the resolver should take up.
func (j *Judge) Requested() bool { return j.requests > 0 }

// Rule judges a set by the stanza whose zone holds its owner name, else by the one that holds the name that was asked.
func (j *Judge) Rule(owner string) *answer.Rule {
	z := j.Zone
	if owner != j.Request.Question[0].Name {
		if z = j.Block.Zones.Find(owner); z == nil {
			// Without within, the owner of an alias's target would choose what is probed.
			if j.Elsewhere.Load() {
				return nil
			}
			if len(j.Zone.Stanza.Within) == 0 {
				// What was asked for would have been judged, if it were not elsewhere: that is worth a line in the log.
				if j.Zone.Stanza.Rule.Types.Has(j.Request.Question[0].Qtype) {
					j.alias = owner
				}
				return nil
			}
			z = j.Zone
		}
	}
	if z.Stanza == nil {
		return nil
	}
	rule := z.Stanza.RuleFor(owner)
	if !j.Quiet && needsSOA(rule) {
		j.SOA(owner) // so that it is known when it is needed
	}
	j.prepare(z.Stanza, rule)
	return rule
}

// prepare has the draw know what a rule of a stanza needs.
func (j *Judge) prepare(s *Stanza, rule *answer.Rule) {
	if rule.Policy.Client && !j.byClient {
		j.byClient, j.Draw.Client = true, j.clientNetwork()
	}
	if rule.Policy.Nearest {
		if j.at == nil {
			j.at = new(location)
		}
		j.locate(s, j.at, rule.Policy.DryRun)
	}
	if rule.Policy.Warmup > 0 {
		j.Draw.Now = s.Group.Clock()
	}
}

// Follow reports whether the addresses of a host count for the records that name it: inside the server block's zones,
// unless it is exempt; outside, where within says what may be probed, because the host belongs to someone else.
func (j *Judge) Follow(owner, host string) bool {
	if j.Block.Owns(host) {
		return true
	}
	z := j.Block.Zones.Find(owner)
	if z == nil {
		z = j.Zone
	}
	if j.Block.Zones.Find(host) != nil || z.Stanza == nil {
		return false
	}
	if len(z.Stanza.Within) == 0 {
		j.host = host
		return false
	}
	return true
}

// Absent tells the pool that a set is not there, so that its targets are forgotten.
func (j *Judge) Absent(owner string, rrtype uint16) {
	if s := j.Block.StanzaFor(owner, j.Request.Question[0].Name); s != nil {
		s.Open(owner, rrtype)
	}
}

// Addresses are those that the plugins below give a host, as far as they are known.
func (j *Judge) Addresses(host string, rrtype uint16) ([]netip.Addr, bool) {
	if r := j.known(host, rrtype); r != nil && (!r.Foreign || j.Block.confined) {
		return r.Addresses, true
	}
	return nil, false
}

// known is what the resolver knows of a question. If it does not have it yet, it is requested, for the queries that follow.
func (j *Judge) known(name string, qtype uint16) *lookup.Reply {
	q := lookup.Question{Name: strings.ToLower(name), Type: qtype}
	r, taken := j.Block.Resolver.Get(q)
	if !taken {
		j.request(q)
	}
	return r
}

// request has the resolver take up a question, unless the answer has led to too many.
func (j *Judge) request(q lookup.Question) {
	if j.requests < maxRequests {
		j.requests++
		j.Block.Resolver.Request(q)
	}
}
