// Package multivalue is a CoreDNS plugin that serves only healthy addresses.
//
// A check asked of an address is a target. The pool probes targets and keeps a verdict on each. A policy thins a record
// set by those verdicts.
//
// The handler wraps the writer of a query and calls the next plugin. What that one answers passes through answer.Thin,
// which looks up the addresses in it on the pool's board, without a lock and without waiting. Looking is watching: an
// address that is not on the board yet is handed to the pool, and served until the pool knows better. So there is no
// list of backends to maintain: the DNS already has it.
//
// Read plugin/verdict, health.go, plugin/answer and this file, in that order.
package multivalue

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
	ot "github.com/opentracing/opentracing-go"
)

// Version is the version of the plugin.
const Version = "0.1.0"

const name = "multivalue"

// Multivalue is the handler. There is one in a server block, however many stanzas that has, since CoreDNS knows the
// plugins of a block by their names.
type Multivalue struct {
	Next  plugin.Handler
	block *block
}

// block is what the stanzas of a server block come to. All its zones and listeners share it.
type block struct {
	zones    zones
	origins  plugin.Zones // of the server block
	confined bool         // every stanza says where may be probed
	types    answer.Types // that a stanza judges
	learner  *learner
	sites    []site // of all server blocks
	place    int    // of this one in the Corefile
	rank     int    // of this one among those with a stanza
}

// Name is the name of the plugin in the Corefile.
func (m Multivalue) Name() string { return name }

// ServeDNS passes the query on, and thins the answer on its way back.
func (m Multivalue) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	z := m.block.asked(r)
	if z == nil || m.entered(ctx, z, r) {
		return plugin.NextOrFailure(name, m.Next, ctx, w, r)
	}
	x := &exchange{ResponseWriter: w, block: m.block, zone: z, request: r, counters: z.metrics(ctx)}
	if shown, ok := ctx.Value(reportKey{}).(*report); ok && shown.block == m.block {
		x.shown = &shown.Report
	}
	span := ot.SpanFromContext(ctx) // nil unless trace has one for us
	if span != nil && x.shown == nil {
		x.shown = new(answer.Report)
	}
	x.mark = mark{ctx, x}
	code, err := plugin.NextOrFailure(name, m.Next, &x.mark, x, r)
	if span != nil {
		tag(span, x.shown)
	}
	if x.wants > 0 || m.block.learner.lacksOrigin() {
		m.block.learner.start(originOf(ctx))
	}
	if z.stanza.pool.sightings.Load() != nil {
		m.block.learner.cameFrom(ctx)
	}
	if x.failed {
		return dns.RcodeServerFailure, err // nothing was written: the server does that
	}
	return code, err
}

// asked is the zone whose stanza judges the answer to a query, or nil if the query is none of ours: transfers, updates
// and notifications keep their own writer, for their signatures depend on it.
func (b *block) asked(r *dns.Msg) *zone {
	if r.Opcode != dns.OpcodeQuery || len(r.Question) != 1 || r.Question[0].Qclass != dns.ClassINET {
		return nil
	}
	if t := r.Question[0].Qtype; !b.types.Has(t) && t != dns.TypeANY {
		return nil
	}
	if z := b.zones.find(r.Question[0].Name); z != nil && z.stanza != nil {
		return z
	}
	return nil
}

// entered reports whether this is a question that a plugin below asked through the whole server to complete its answer,
// as file does to follow a CNAME. That answer comes by again as part of the outer one. Here it is left whole, so that
// every set is judged once. If another server block judges it here, the outer one must not do so again.
func (m Multivalue) entered(ctx context.Context, z *zone, r *dns.Msg) bool {
	outer, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok {
		return false
	}
	if outer.block != m.block && outer.passage != nil {
		outer.passage.note(m.block, z, &r.Question[0])
	}
	if outer.block == m.block || outer.inquiring {
		return true
	}
	outer.judgedElsewhere.Store(true)
	return false
}

// maxWants is how much of what is not known one answer can make the learner ask for.
const maxWants = 32

type (
	exchangeKey struct{}
	reportKey   struct{}
)

// report is what metadata shows of an answer. Another block's handler, which a look-up may enter, does not write to it.
type report struct {
	answer.Report
	block *block
}

// exchange is the writer of one query that is judged, and the rules it is judged by.
type exchange struct {
	dns.ResponseWriter
	block    *block
	zone     *zone // of the name that was asked
	request  *dns.Msg
	counters *answerMetrics
	shown    *answer.Report // to metadata and a span; nil if nobody asked

	failed          bool     // an answer was withheld in favour of SERVFAIL
	wants           int      // questions that the learner should take up
	inquiring       bool     // it is a question of our own
	passage         *passage // to note where that passes; nil if nobody wants to know
	quiet           bool     // nothing goes out, so that there is nothing to deny
	byClient        bool     // a policy lets the client choose
	draw            answer.Draw
	mark            mark        // what the plugins below get for a context
	judgedElsewhere atomic.Bool // another server block has judged a part of the answer
}

// mark is a context by which a look-up within knows the exchange that it belongs to. It is part of that, which spares an
// allocation a query.
type mark struct {
	context.Context
	exchange *exchange
}

// Value is that of a context.
func (m *mark) Value(key any) any {
	if key == (exchangeKey{}) {
		return m.exchange
	}
	return m.Context.Value(key)
}

// WriteMsg passes on what is left of the message.
func (x *exchange) WriteMsg(m *dns.Msg) error {
	if m == nil {
		return errors.New("multivalue: response message is nil") // as cache and loadbalance have it
	}
	if !answers(m, x.request) {
		return x.ResponseWriter.WriteMsg(m)
	}
	x.draw.IntN = rand.IntN
	thinned, report := answer.Thin(m, x, &x.draw)
	x.account(m, report)
	if thinned == nil {
		x.failed = true
		return nil
	}
	return x.ResponseWriter.WriteMsg(x.annotate(thinned, m, report))
}

// answers reports whether m replies to the question of r.
func answers(m, r *dns.Msg) bool {
	return len(m.Question) == 1 && m.Question[0].Qtype == r.Question[0].Qtype &&
		m.Question[0].Qclass == r.Question[0].Qclass
}

// Write passes on a message that another plugin has packed. It cannot be judged.
func (x *exchange) Write(b []byte) (int, error) {
	metrics.SkippedPacked.Inc()
	return x.ResponseWriter.Write(b)
}

// account counts what came of the answer, and shows it to metadata.
func (x *exchange) account(m *dns.Msg, r answer.Report) {
	if r.Outcome != answer.None || !x.judgedElsewhere.Load() {
		x.counters[r.Outcome].Inc()
	}
	if x.shown != nil {
		*x.shown = r
	}
	if r.Outcome != answer.None || r.Signed {
		x.sighted(m, r)
	}
	a := x.zone.stanza.account
	if r.Signed {
		metrics.SkippedSigned.Inc()
		if a.loggedSigned.First() {
			x.zone.stanza.pool.Warn("answers for %s are signed before they come by, and stay whole: see DNSSEC in the manual", x.zone.name)
		}
	}
	if r.Outcome >= answer.Open && a.loggedOpen.First() {
		served := r.Kept
		if r.Enforced < answer.Open { // a dry run
			served = r.Total
		}
		x.zone.stanza.pool.Warn("%s: too few of %d addresses are up, serving %d of them (all_down, min_up and dry_run of zone %s decide)",
			x.request.Question[0].Name, r.Total, served, x.zone.name)
	}
}

// sighted takes note of the answer where somebody can look at the status.
func (x *exchange) sighted(m *dns.Msg, r answer.Report) {
	if seen := x.zone.stanza.pool.sightings.Load(); seen != nil {
		seen.note(&x.request.Question[0], r, m, x.block.rank)
	}
}

// Rule judges a set by the stanza whose zone holds its owner name, else by the one that holds the name that was asked.
func (x *exchange) Rule(owner string) *answer.Rule {
	z := x.zone
	if owner != x.request.Question[0].Name {
		if z = x.block.zones.find(owner); z == nil {
			// Without within, whoever owns the target of an alias would choose what is probed.
			if x.judgedElsewhere.Load() || len(x.zone.stanza.within) == 0 {
				return nil
			}
			z = x.zone
		}
	}
	if z.stanza == nil {
		return nil
	}
	rule := z.stanza.ruleOf(owner)
	if !x.quiet && (rule.Policy.AllDown == answer.NoData || rule.Policy.AllDown == answer.Fixed) {
		x.SOA(owner) // so that it is known when it is needed
	}
	if rule.Policy.Client && !x.byClient {
		x.byClient, x.draw.Client = true, x.network()
	}
	if rule.Policy.Warmup > 0 {
		x.draw.Now = z.stanza.pool.clock.Load()
	}
	return rule
}

// Follow reports whether the addresses of a host count for the records that name it: inside the server block's zones,
// unless it is exempt; outside, where within says what may be probed, since the host is somebody else's.
func (x *exchange) Follow(owner, host string) bool {
	if x.block.ours(host) {
		return true
	}
	z := x.block.zones.find(owner)
	if z == nil {
		z = x.zone
	}
	return x.block.zones.find(host) == nil && z.stanza != nil && len(z.stanza.within) > 0
}

// ours reports whether a name lies in the server block's zones, and is not exempt.
func (b *block) ours(name string) bool {
	if z := b.zones.find(name); z != nil {
		return z.stanza != nil
	}
	return b.origins.Matches(name) != ""
}

// SOA is the start of authority of the zone that holds a name, as far as it is known.
func (x *exchange) SOA(owner string) *dns.SOA {
	if r := x.known(owner, dns.TypeSOA); r != nil {
		return r.soa
	}
	return nil
}

// Addresses are those that the plugins below give a host, as far as they are known.
func (x *exchange) Addresses(host string, rrtype uint16) ([]netip.Addr, bool) {
	if r := x.known(host, rrtype); r != nil && (!r.foreign || x.block.confined) {
		return r.addrs, true
	}
	return nil, false
}

func (x *exchange) known(name string, qtype uint16) *reply {
	q := question{strings.ToLower(name), qtype}
	r, found := x.block.learner.find(q)
	if !found && x.wants < maxWants {
		x.wants++
		x.block.learner.want(q)
	}
	return r
}

// ConnectionState is that of the client's TLS connection, if it has one. The writer around us does not pass it on by
// itself, since it is no part of dns.ResponseWriter.
func (x *exchange) ConnectionState() *tls.ConnectionState {
	if c, ok := x.ResponseWriter.(dns.ConnectionStater); ok {
		return c.ConnectionState()
	}
	return nil
}

// SetPlugin and GetPlugin pass on which plugin answered, as prometheus counts it.
func (x *exchange) SetPlugin(name string) {
	if t, ok := x.ResponseWriter.(plugin.PluginTracker); ok {
		t.SetPlugin(name)
	}
}

// GetPlugin is part of plugin.PluginTracker.
func (x *exchange) GetPlugin() string {
	if t, ok := x.ResponseWriter.(plugin.PluginTracker); ok {
		return t.GetPlugin()
	}
	return ""
}

// tag has a span of trace's show what metadata shows.
func tag(span ot.Span, r *answer.Report) {
	span.SetTag(name+"/outcome", r.Outcome.String())
	span.SetTag(name+"/kept", r.Kept)
	span.SetTag(name+"/total", r.Total)
}

// Metadata announces what will have become of the answer. It is read after the answer went out, as log does.
func (m Multivalue) Metadata(ctx context.Context, state request.Request) context.Context {
	if m.block.asked(state.Req) == nil {
		return ctx
	}
	r := &report{block: m.block}
	metadata.SetValueFunc(ctx, name+"/outcome", func() string { return r.Outcome.String() })
	metadata.SetValueFunc(ctx, name+"/kept", func() string { return strconv.Itoa(r.Kept) })
	metadata.SetValueFunc(ctx, name+"/total", func() string { return strconv.Itoa(r.Total) })
	return context.WithValue(ctx, reportKey{}, r)
}
