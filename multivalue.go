// Package multivalue is a CoreDNS plugin that serves only healthy addresses.
//
// A check asked of an address is a target. The pool probes targets and keeps a verdict on each. A policy filters a record
// set by those verdicts.
//
// Multivalue is the handler: CoreDNS calls it with each query. It wraps the writer of the query and calls the next plugin.
// What that one answers passes through answer.Thin, which asks the pool's table about the addresses in it, without a lock
// and without waiting. Looking is watching: an address that is not in the table yet is handed to the pool, and served until
// the pool knows better. So there is no list of backends to maintain: the DNS already has it.
//
// To follow a query, read this file, plugin/answer/answer.go, plugin/rules/stanza.go and plugin/pool/group.go; to follow a
// probe, plugin/pool/pool.go, plugin/pool/settle.go and plugin/verdict/machine.go.
package multivalue

import (
	"context"
	"strconv"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/rules"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
	ot "github.com/opentracing/opentracing-go"
)

// Version is the version of the plugin.
const Version = "0.1.0"

const name = "multivalue"

// Multivalue is the handler. There is one in a server block, however many stanzas that has, because CoreDNS knows the
// plugins of a block by their names.
type Multivalue struct {
	Next    plugin.Handler
	block   *rules.Block
	process *process
}

// Name is the name of the plugin in the Corefile.
func (m Multivalue) Name() string { return name }

// ServeDNS passes the query on, and filters the answer on its way back. It takes no lock and waits for nothing but the
// plugins below.
func (m Multivalue) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	z := m.block.Asked(r)
	if z == nil || m.block.Nested(ctx, z, r) {
		return plugin.NextOrFailure(name, m.Next, ctx, w, r) // with its own writer, which costs nothing
	}
	x := &writer{ResponseWriter: w, Judge: rules.Judge{Block: m.block, Zone: z, Request: r, Remote: w}, counters: z.Counters(ctx)}
	if shown, ok := ctx.Value(reportKey{}).(*report); ok && shown.block == m.block {
		x.report = &shown.Report
	}
	span := ot.SpanFromContext(ctx) // nil unless trace has one for this plugin
	if span != nil && x.report == nil {
		x.report = new(answer.Report)
	}
	// Explanations need to know where queries come in. A client that has its answer may ask for one at once, so it is noted
	// before the answer goes out.
	x.seen = m.process.seen.Load()
	if x.seen != nil || m.block.Resolver.NeedsIngress() {
		m.block.Resolver.NoteIngress(ctx)
	}
	code, err := plugin.NextOrFailure(name, m.Next, x.Context(ctx), x, r)
	if span != nil {
		tag(span, x.report)
	}
	if x.failed {
		return dns.RcodeServerFailure, err // nothing was written: the server does that
	}
	return code, err
}

type reportKey struct{}

// report is what metadata shows of an answer. The handler of another block, which a look-up may enter, does not write it.
type report struct {
	answer.Report
	block *rules.Block
}

// tag has a span of *trace* show what metadata shows.
func tag(span ot.Span, r *answer.Report) {
	span.SetTag(name+"/outcome", r.Outcome.String())
	span.SetTag(name+"/rank", r.Rank)
	span.SetTag(name+"/kept", r.Kept)
	span.SetTag(name+"/total", r.Total)
}

// Metadata announces the outcome of the answer. It is read after the answer went out, as *log* does.
func (m Multivalue) Metadata(ctx context.Context, state request.Request) context.Context {
	if m.block.Asked(state.Req) == nil {
		return ctx
	}
	r := &report{block: m.block}
	metadata.SetValueFunc(ctx, name+"/outcome", func() string { return r.Outcome.String() })
	metadata.SetValueFunc(ctx, name+"/rank", func() string { return strconv.Itoa(r.Rank) })
	metadata.SetValueFunc(ctx, name+"/kept", func() string { return strconv.Itoa(r.Kept) })
	metadata.SetValueFunc(ctx, name+"/total", func() string { return strconv.Itoa(r.Total) })
	return context.WithValue(ctx, reportKey{}, r)
}

// Ready reports whether the pool runs, and has first verdicts on the addresses of watched names and preloaded zones, for
// which it waits half a minute at most. It never depends on the health of the backends: a CoreDNS that knows only dead ones is the one whose
// answers are needed.
func (m Multivalue) Ready() bool { return m.process.ready(time.Now()) }
