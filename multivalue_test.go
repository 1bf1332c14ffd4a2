package multivalue

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/network"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// serving is a handler with the stanzas, in front of next, on a pool that knows the network.
func serving(p *pool, next plugin.Handler, stanzas ...*parsedStanza) Multivalue {
	b := newBlock(stanzas)
	b.learner.next.Store(&next)
	g := &generation{learners: []*learner{b.learner}} // which the bubble closes
	for _, s := range stanzas {
		g.add(s, p)
	}
	p.join(g)
	p.confirm(g)
	return Multivalue{Next: next, block: b}
}

func forZone(s *parsedStanza, zone string) *parsedStanza {
	s.zones = []string{zone}
	return s
}

// zoneOf answers every query with the records that fit its name and type, as a zone would.
func zoneOf(rrs ...dns.RR) plugin.Handler {
	return plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		m := new(dns.Msg)
		m.SetReply(r)
		for _, rr := range rrs {
			if h := rr.Header(); h.Rrtype == r.Question[0].Qtype && strings.EqualFold(h.Name, r.Question[0].Name) {
				m.Answer = append(m.Answer, rr)
			}
		}
		if len(m.Answer) == 0 {
			m.Ns = []dns.RR{test.SOA("example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 1 7200 3600 1209600 60")}
		}
		return dns.RcodeSuccess, w.WriteMsg(m)
	})
}

var www = []dns.RR{
	test.A("www.example.org. 30 IN A 10.0.0.1"),
	test.A("www.example.org. 30 IN A 10.0.0.2"),
}

func query(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	return m
}

// serve asks the handler, and returns its reply, which is nil if it wrote none, and its code.
func serve(t *testing.T, h plugin.Handler, r *dns.Msg) (*dns.Msg, int) {
	t.Helper()
	w := dnstest.NewRecorder(&test.ResponseWriter{})
	code, err := h.ServeDNS(context.Background(), w, r)
	if err != nil {
		t.Fatal(err)
	}
	return w.Msg, code
}

func addressesOf(m *dns.Msg) string {
	var got []string
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			got = append(got, a.A.String())
		}
	}
	return strings.Join(got, " ")
}

func TestServeDNS(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.rule.Policy = answer.Policy{Limit: 8, MinUp: answer.Quorum{Count: 1}}
		h := serving(p, zoneOf(www...), s)
		n.Kill(pooltest.Addr(1))
		if m, _ := serve(t, h, query("www.example.org.", dns.TypeA)); addressesOf(m) != "10.0.0.1 10.0.0.2" {
			t.Errorf("before the first probe: %s", addressesOf(m))
		}
		pooltest.Elapse(30 * time.Second)
		for _, name := range []string{"www.example.org.", "wWw.eXAMPLE.org."} {
			if m, _ := serve(t, h, query(name, dns.TypeA)); addressesOf(m) != "10.0.0.2" {
				t.Errorf("%s with one dead: %s", name, addressesOf(m))
			}
		}
	})
}

// SERVFAIL is left to the server: nothing is written, and the code says so (B9, T14).
func TestServeDNSAllDown(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.rule.Policy.AllDown = answer.ServFail
		h := serving(p, zoneOf(www...), s)
		n.Kill(pooltest.Addr(1), pooltest.Addr(2))
		serve(t, h, query("www.example.org.", dns.TypeA))
		pooltest.Elapse(30 * time.Second)
		if m, code := serve(t, h, query("www.example.org.", dns.TypeA)); m != nil || code != dns.RcodeServerFailure {
			t.Errorf("code %d, reply %v", code, m)
		}
	})
}

// NODATA has the SOA that the plugins below gave, asked for ahead of need and never while a query waits (B31, T12).
func TestServeDNSNoData(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.rule.Policy.AllDown = answer.NoData
		h := serving(p, zoneOf(www...), s)
		n.Kill(pooltest.Addr(1), pooltest.Addr(2))
		serve(t, h, query("www.example.org.", dns.TypeA))
		pooltest.Elapse(30 * time.Second)
		m, code := serve(t, h, query("www.example.org.", dns.TypeA))
		if code != dns.RcodeSuccess || len(m.Answer) != 0 || len(m.Ns) != 1 || m.Rcode != dns.RcodeSuccess {
			t.Fatalf("code %d, reply\n%s", code, m)
		}
		if soa, ok := m.Ns[0].(*dns.SOA); !ok || soa.Hdr.Name != "example.org." || soa.Hdr.Ttl > 30 || soa.Minttl > 30 {
			t.Errorf("authority %s", m.Ns[0])
		}
		h.block.learner.close()
		h.block.learner.close()
	})
}

// What is none of ours gets its own writer (B19, T7, T14).
func TestServeDNSPasses(t *testing.T) {
	b := newBlock([]*parsedStanza{forZone(testStanza("tcp://:80", pooltest.NewNetwork(), pooltest.Pace), "example.org.")})
	b.zones["static.example.org."] = &zone{name: "static.example.org."}
	odd := map[string]*dns.Msg{
		"outside":     query("www.example.com.", dns.TypeA),
		"exempt":      query("a.static.example.org.", dns.TypeA),
		"txt":         query("www.example.org.", dns.TypeTXT),
		"axfr":        query("example.org.", dns.TypeAXFR),
		"ixfr":        query("example.org.", dns.TypeIXFR),
		"chaos":       query("www.example.org.", dns.TypeA),
		"notify":      query("example.org.", dns.TypeA),
		"update":      query("example.org.", dns.TypeA),
		"no question": new(dns.Msg),
		"two":         query("www.example.org.", dns.TypeA),
	}
	odd["chaos"].Question[0].Qclass = dns.ClassCHAOS
	odd["notify"].Opcode = dns.OpcodeNotify
	odd["update"].Opcode = dns.OpcodeUpdate
	odd["two"].Question = append(odd["two"].Question, odd["two"].Question[0])
	for what, r := range odd {
		own := dnstest.NewRecorder(&test.ResponseWriter{})
		h := Multivalue{block: b, Next: plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, _ *dns.Msg) (int, error) {
			if _, ours := w.(interface{ Rule(string) *answer.Rule }); ours {
				t.Errorf("%s: went through our writer", what)
			}
			m := new(dns.Msg)
			m.Answer = www
			return dns.RcodeSuccess, w.WriteMsg(m)
		})}
		if _, err := h.ServeDNS(context.Background(), own, r); err != nil || len(own.Msg.Answer) != 2 {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Codes, errors and odd replies of the plugins below pass unchanged (F9).
func TestServeDNSErrors(t *testing.T) {
	s := forZone(testStanza("tcp://:80", pooltest.NewNetwork(), pooltest.Pace), "example.org.")
	s.pool = newPool()
	b := newBlock([]*parsedStanza{s})
	broken := errors.New("broken")
	for what, next := range map[string]plugin.Handler{
		"an error":     test.ErrorHandler(),
		"never writes": test.NextHandler(dns.RcodeRefused, broken),
	} {
		w := dnstest.NewRecorder(&test.ResponseWriter{})
		r := query("www.example.org.", dns.TypeA)
		wantCode, wantErr := next.ServeDNS(context.Background(), dnstest.NewRecorder(&test.ResponseWriter{}), r)
		code, err := Multivalue{Next: next, block: b}.ServeDNS(context.Background(), w, r)
		if code != wantCode || !errors.Is(err, wantErr) {
			t.Errorf("%s: %d, %v; want %d, %v", what, code, err, wantCode, wantErr)
		}
	}
	if code, err := (Multivalue{block: b}).ServeDNS(context.Background(), &test.ResponseWriter{}, query("www.example.org.", dns.TypeA)); code != dns.RcodeServerFailure || err == nil {
		t.Errorf("without a next plugin: %d, %v", code, err)
	}
	odd := plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		for _, m := range []*dns.Msg{nil, {}, {Question: []dns.Question{{Name: "other.", Qtype: dns.TypeTXT, Qclass: dns.ClassINET}}}} {
			if err := w.WriteMsg(m); (err == nil) == (m == nil) {
				t.Errorf("writing %v: %v", m, err)
			}
		}
		before := testutil.ToFloat64(metrics.SkippedPacked)
		_, _ = w.Write([]byte("packed"))
		if testutil.ToFloat64(metrics.SkippedPacked) != before+1 {
			t.Error("a packed answer was not counted")
		}
		return dns.RcodeSuccess, nil
	})
	w := dnstest.NewMultiRecorder(&test.ResponseWriter{})
	if _, err := (Multivalue{Next: odd, block: b}).ServeDNS(context.Background(), w, query("www.example.org.", dns.TypeA)); err != nil || len(w.Msgs) != 2 {
		t.Errorf("%v, %d messages", err, len(w.Msgs))
	}
}

// A look-up that a plugin below makes through the whole chain is left whole, and the answer is judged and counted once
// (B27, T26).
func TestServeDNSNested(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.rule.Policy.MinUp = answer.Quorum{Percent: 50}
		s.rule.Policy.Limit = 3
		var h Multivalue
		inner := zoneOf(www...)
		h = serving(p, plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			if r.Question[0].Name != "alias.example.org." {
				return inner.ServeDNS(ctx, w, r)
			}
			target := dnstest.NewRecorder(&test.ResponseWriter{})
			if _, err := h.ServeDNS(ctx, target, query("www.example.org.", dns.TypeA)); err != nil {
				return dns.RcodeServerFailure, err
			}
			if addressesOf(target.Msg) != "10.0.0.1 10.0.0.2" {
				t.Errorf("the look-up of the target gave %s", addressesOf(target.Msg))
			}
			m := new(dns.Msg)
			m.SetReply(r)
			m.Answer = append([]dns.RR{test.CNAME("alias.example.org. 30 IN CNAME www.example.org.")}, target.Msg.Answer...)
			return dns.RcodeSuccess, w.WriteMsg(m)
		}), s)
		n.Kill(pooltest.Addr(1))
		serve(t, h, query("alias.example.org.", dns.TypeA))
		pooltest.Elapse(30 * time.Second)
		counter := metrics.Answers.WithLabelValues("", "example.org.", "", "thin")
		before := testutil.ToFloat64(counter)
		m, _ := serve(t, h, query("alias.example.org.", dns.TypeA))
		if addressesOf(m) != "10.0.0.2" || m.Answer[0].Header().Rrtype != dns.TypeCNAME {
			t.Errorf("answer\n%s", m)
		}
		if got := testutil.ToFloat64(counter) - before; got != 1 {
			t.Errorf("counted %v times", got)
		}
	})
}

// Metadata tells, after the answer went out, what became of it (B77).
func TestMetadata(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		h := serving(p, zoneOf(www...), forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org."))
		n.Kill(pooltest.Addr(1))
		serve(t, h, query("www.example.org.", dns.TypeA))
		pooltest.Elapse(30 * time.Second)
		r := query("www.example.org.", dns.TypeA)
		w := &test.ResponseWriter{}
		collector := metadata.Metadata{Zones: []string{"."}, Providers: []metadata.Provider{h}, Next: h}
		ctx := collector.Collect(context.Background(), request.Request{Req: r, W: w})
		if _, err := collector.ServeDNS(ctx, w, r); err != nil {
			t.Fatal(err)
		}
		for label, want := range map[string]string{"multivalue/outcome": "thin", "multivalue/kept": "1", "multivalue/total": "2"} {
			if f := metadata.ValueFunc(ctx, label); f == nil || f() != want {
				t.Errorf("%s is not %s", label, want)
			}
		}
		ctx = collector.Collect(context.Background(), request.Request{Req: query("www.example.com.", dns.TypeA), W: w})
		if metadata.ValueFunc(ctx, "multivalue/outcome") != nil {
			t.Error("metadata for a query that is none of ours")
		}
	})
}

// secure is a writer with a TLS connection, and knows which plugin wrote.
type secure struct {
	test.ResponseWriter
	wrote string
}

func (s *secure) ConnectionState() *tls.ConnectionState {
	return &tls.ConnectionState{ServerName: "dns.example.org"}
}
func (s *secure) SetPlugin(name string) { s.wrote = name }
func (s *secure) GetPlugin() string     { return s.wrote }

// What other plugins look for on a writer is there behind ours (T29).
func TestExchangeForwards(t *testing.T) {
	s := new(secure)
	x := &exchange{ResponseWriter: s}
	x.SetPlugin("file")
	if x.ConnectionState().ServerName != "dns.example.org" || x.GetPlugin() != "file" {
		t.Errorf("%v, %s", x.ConnectionState(), x.GetPlugin())
	}
	x = &exchange{ResponseWriter: &test.ResponseWriter{}}
	x.SetPlugin("file")
	if x.ConnectionState() != nil || x.GetPlugin() != "" {
		t.Error("a plain writer has a connection")
	}
}

type named string

func (n named) Name() string { return string(n) }
func (n named) ServeDNS(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
	return dns.RcodeSuccess, nil
}

// What the neighbours in the chain make of the place of multivalue (T33).
func TestNeighbours(t *testing.T) {
	stanzas, err := parseCorefile("example.org {\nmultivalue {\ncheck tcp://:80\n}\n}")
	if err != nil {
		t.Fatal(err)
	}
	above := []string{"multivalue", "cache", "dnssec", "forward"}
	below := []string{"cache", "dnssec", "multivalue", "forward"}
	for _, tc := range []struct {
		order    []string
		handlers []plugin.Handler
		want     []string
	}{
		{above, []plugin.Handler{named("cache")}, nil},
		{above, []plugin.Handler{named("cache"), named("dnssec")}, []string{"above dnssec"}},
		{below, []plugin.Handler{named("cache")}, []string{"below cache"}},
		{below, []plugin.Handler{named("dnssec")}, []string{"below dnssec"}},
	} {
		got := misfits(stanzas, tc.handlers, tc.order)
		if len(got) != len(tc.want) || len(got) > 0 && !strings.Contains(got[0], tc.want[0]) {
			t.Errorf("%v in %v: %q, want %q", tc.handlers, tc.order, got, tc.want)
		}
	}
	for _, policy := range []answer.AllDown{answer.NoData, answer.ServFail, answer.Fixed} {
		stanzas[0].rule.Policy.AllDown = policy
		if got := misfits(stanzas, []plugin.Handler{named("dnssec")}, below); len(got) != 1 {
			t.Errorf("all_down %v below dnssec: %q", policy, got)
		}
	}
	stanzas[0].rule.Policy.Limit = 0
	if got := misfits(stanzas, []plugin.Handler{named("dnssec")}, below); len(got) != 0 {
		t.Errorf("limit off below dnssec: %q", got)
	}
	for _, forwarder := range remote {
		err := needWithin(stanzas, []plugin.Handler{named("cache"), named(forwarder)})
		if err == nil || !strings.HasPrefix(err.Error(), "Corefile:2 - ") || !strings.Contains(err.Error(), forwarder) {
			t.Errorf("beside %s: %v", forwarder, err)
		}
	}
	stanzas[0].rule.Policy.Client = true
	for _, tc := range []struct {
		order []string
		want  string
	}{{above, ""}, {below, "Corefile:2 - select client below cache"}} {
		if err := fit(stanzas, []plugin.Handler{named("cache")}, tc.order); (err != nil) != (tc.want != "") || err != nil && !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("select client in %v: error %v, want %q", tc.order, err, tc.want)
		}
	}
	stanzas[0].within = network.List{network.New(netip.MustParsePrefix("192.0.2.0/24"))}
	if err := needWithin(stanzas, []plugin.Handler{named("forward")}); err != nil {
		t.Errorf("with within: %v", err)
	}
}

// An alias that leads out of the stanza's zones is judged only where within says what may be probed (B60).
func TestAliasOutOfTheZone(t *testing.T) {
	s := forZone(testStanza("tcp://:80", pooltest.NewNetwork(), pooltest.Pace), "example.org.")
	b := newBlock([]*parsedStanza{s})
	x := &exchange{block: b, zone: b.zones["example.org."], request: query("www.example.org.", dns.TypeA)}
	if x.Rule("cdn.example.com.") != nil || x.Rule("lb.example.org.") == nil {
		t.Error("without within, a target out of the zones is judged, or one inside is not")
	}
	s.within = network.List{network.New(netip.MustParsePrefix("192.0.2.0/24"))}
	if x.Rule("cdn.example.com.") == nil {
		t.Error("with within, it is not judged")
	}
}

// A host out of the zones, which somebody else owns, counts for the records that name it only where within says what may be
// probed; an exempt one never does (B60).
func TestHostOutOfTheZone(t *testing.T) {
	s := forZone(testStanza("tcp://:80", pooltest.NewNetwork(), pooltest.Pace), "example.org.")
	s.except = []string{"static.example.org."}
	s.zones = []string{"_x._tcp.example.org."}
	b := newBlock([]*parsedStanza{s})
	b.origins = []string{"example.org."}
	x := &exchange{block: b, zone: b.zones["_x._tcp.example.org."], request: query("_x._tcp.example.org.", dns.TypeSRV)}
	follows := func(host string) bool { return x.Follow("_x._tcp.example.org.", host) }
	if follows("cdn.example.com.") || !follows("lb.example.org.") || follows("a.static.example.org.") {
		t.Error("without within, a host out of the zones is followed, or one inside is not, or an exempt one is")
	}
	s.within = network.List{network.New(netip.MustParsePrefix("192.0.2.0/24"))}
	if !follows("cdn.example.com.") || follows("static.example.org.") {
		t.Error("with within, a host out of the zones is not followed, or an exempt one is")
	}
}
