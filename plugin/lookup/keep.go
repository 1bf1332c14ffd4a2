package lookup

import (
	"context"

	"github.com/coredns/coredns/core/dnsserver"

	"github.com/miekg/dns"
)

// Keep has the answers to these questions known from the start on, and renewed as their TTL runs out, as for Watch. Readiness
// does not wait for them. A name may be outside the server block: if the plugins below do not have it, the whole server is asked,
// as *file* does to follow an alias. It is called before Start.
func (l *Resolver) Keep(questions []Question) {
	for _, q := range questions {
		l.takeUp(q, true)
	}
}

// askElsewhere asks the whole server, if the plugins below had no useful answer. Which server that is shows with the first query.
func (l *Resolver) askElsewhere(a *answered) {
	if reply, _ := l.digest(a.entry.Question, a.msg); reply != nil {
		return
	}
	ctx, cancel := l.until(l.ingress.Load().on(l.host.Mark(context.Background())))
	defer cancel()
	server, ok := ctx.Value(dnsserver.Key{}).(interface {
		ServeDNS(context.Context, dns.ResponseWriter, *dns.Msg)
	})
	if !ok {
		a.early = l.ingress.Load() == nil
		return
	}
	var w recorder
	if server.ServeDNS(ctx, &w, a.entry.Message()); w.reply != nil && !w.reply.Truncated {
		a.msg = w.reply
	}
}
