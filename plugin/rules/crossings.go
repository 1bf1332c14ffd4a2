package rules

import (
	"context"
	"maps"
	"sync"

	"github.com/coredns-multivalue/multivalue/plugin/lookup"

	"github.com/miekg/dns"
)

// Crossings notes where a question of our own passes through the handlers of other server blocks. They leave its answer
// whole, which they do not do for a query.
type Crossings struct {
	mu     sync.Mutex
	judged map[string]Crossing
}

// Crossing is a question for a name that another server block judges.
type Crossing struct {
	lookup.Question
	Block string // its keys
}

// note notes a question whose answer a block would judge.
func (p *Crossings) note(b *Block, z *Zone, q *dns.Question) {
	if !z.Stanza.Rule.Types.Has(q.Qtype) {
		return
	}
	name := dns.CanonicalName(q.Name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.judged == nil {
		p.judged = make(map[string]Crossing)
	}
	p.judged[name] = Crossing{lookup.Question{Name: name, Type: q.Qtype}, b.Keys}
}

// all is what was noted. A plugin that went on although its context had ended may still note more.
func (p *Crossings) all() map[string]Crossing {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.judged)
}

// AskBelow asks the plugins below, for an explanation. The reply is nil if there was no useful answer; crossings are the
// names on the way that other server blocks judge.
func (b *Block) AskBelow(ctx context.Context, m *dns.Msg) (reply *dns.Msg, crossings map[string]Crossing) {
	j := &Judge{Block: b, asking: true, crossings: new(Crossings)}
	reply = b.Resolver.Ask(context.WithValue(ctx, judgeKey{}, j), m)
	return reply, j.crossings.all()
}
