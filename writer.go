package multivalue

import (
	"crypto/tls"
	"errors"
	"math/rand/v2"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/rules"
	"github.com/coredns-multivalue/multivalue/plugin/seen"

	"github.com/miekg/dns"
)

// writer is the writer of one query that is judged, with the rules it is judged by. It is the one allocation that a query
// costs.
type writer struct {
	dns.ResponseWriter
	rules.Judge
	counters *rules.Counters
	report   *answer.Report // for metadata and a span; nil if neither wants it
	seen     *seen.Names    // nil while there is no status page
	failed   bool           // an answer was withheld in favour of SERVFAIL
}

// WriteMsg passes on what is left of the message.
func (x *writer) WriteMsg(m *dns.Msg) error {
	if m == nil {
		return errors.New("multivalue: response message is nil") // as in cache and loadbalance
	}
	if !answers(m, x.Request) {
		return x.ResponseWriter.WriteMsg(m)
	}
	x.Reply = m
	x.LearnZone()
	x.Draw.IntN = rand.IntN // of math/rand/v2, which takes no lock
	thinned, report := answer.Thin(m, &x.Judge, &x.Draw)
	x.record(m, report)
	if thinned == nil {
		x.failed = true // nothing is written: ServeDNS returns the code, and the server answers
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
func (x *writer) Write(b []byte) (int, error) {
	metrics.SkippedPacked.Inc()
	return x.ResponseWriter.Write(b)
}

// record counts the outcome of the answer, and keeps it for metadata, the log and the status page: before the answer goes
// out, so that a client that has its answer can see all of it.
func (x *writer) record(m *dns.Msg, r answer.Report) {
	if r.Outcome != answer.None || !x.Elsewhere.Load() {
		x.counters[r.Outcome].Inc()
	}
	x.NoteGaps(r)
	if x.report != nil {
		*x.report = r
	}
	if r.Signed {
		metrics.SkippedSigned.Inc()
	}
	if x.seen != nil && (r.Outcome != answer.None || r.Signed) {
		x.seen.Note(&x.Request.Question[0], r, m, x.Block.Rank)
	}
	if x.Requested() {
		x.Block.Resolver.NoteIngress(x.Judge.Outer())
		x.Block.Resolver.Start()
	}
	x.Zone.Log(x.Request.Question[0].Name, r)
}

// ConnectionState is that of the client's TLS connection, if it has one. It is not part of dns.ResponseWriter, so embedding
// does not pass it on.
func (x *writer) ConnectionState() *tls.ConnectionState {
	if c, ok := x.ResponseWriter.(dns.ConnectionStater); ok {
		return c.ConnectionState()
	}
	return nil
}

// tracker is plugin.PluginTracker, which CoreDNS has since 1.14. Before, no writer is one.
type tracker interface {
	SetPlugin(string)
	GetPlugin() string
}

// SetPlugin and GetPlugin pass on which plugin answered, as *prometheus* counts it.
func (x *writer) SetPlugin(name string) {
	if t, ok := x.ResponseWriter.(tracker); ok {
		t.SetPlugin(name)
	}
}

// GetPlugin is part of tracker.
func (x *writer) GetPlugin() string {
	if t, ok := x.ResponseWriter.(tracker); ok {
		return t.GetPlugin()
	}
	return ""
}
