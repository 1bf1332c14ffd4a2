package multivalue

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestServeDNS(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.Rule.Policy = answer.Policy{Limit: 8, MinUp: answer.Quorum{Count: 1}}
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

// SERVFAIL is left to the server: the plugin writes nothing and returns that code (B9, T14).
func TestServeDNSAllDown(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.Rule.Policy.AllDown = answer.ServFail
		h := serving(p, zoneOf(www...), s)
		n.Kill(pooltest.Addr(1), pooltest.Addr(2))
		serve(t, h, query("www.example.org.", dns.TypeA))
		pooltest.Elapse(30 * time.Second)
		if m, code := serve(t, h, query("www.example.org.", dns.TypeA)); m != nil || code != dns.RcodeServerFailure {
			t.Errorf("code %d, reply %v", code, m)
		}
	})
}

// NODATA has the SOA record of the plugins below. It is looked up in advance, and never while a query waits (B31,
// T12).
func TestServeDNSNoData(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.Rule.Policy.AllDown = answer.NoData
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
		h.block.Resolver.Close()
		h.block.Resolver.Close()
	})
}

// A query that is not judged goes on with its own writer (B19, T7, T14).
func TestServeDNSPasses(t *testing.T) {
	p, s := newProcess(), forZone(testStanza("tcp://:80", pooltest.NewNetwork(), pooltest.Pace), "example.org.")
	s.config.Except = []string{"static.example.org."}
	_, b := blockOf(p, nil, s)
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
	// CoreDNS wraps the writer that a plugin gets. The count of packed answers shows whether it is the handler's
	// writer.
	ours := func(r *dns.Msg) (judged bool) {
		own := dnstest.NewRecorder(&test.ResponseWriter{})
		h := Multivalue{process: p, block: b, Next: plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, _ *dns.Msg) (int, error) {
			before := testutil.ToFloat64(metrics.SkippedPacked)
			_, _ = w.Write([]byte("packed"))
			judged = testutil.ToFloat64(metrics.SkippedPacked) != before
			m := new(dns.Msg)
			m.Answer = www
			return dns.RcodeSuccess, w.WriteMsg(m)
		})}
		if _, err := h.ServeDNS(context.Background(), own, r); err != nil || len(own.Msg.Answer) != 2 {
			t.Errorf("%v: %v", r, err)
		}
		return judged
	}
	for what, r := range odd {
		if ours(r) {
			t.Errorf("%s: the answer went through the handler's writer", what)
		}
	}
	if !ours(query("www.example.org.", dns.TypeA)) {
		t.Error("a query that is judged goes on with its own writer")
	}
}

// Codes, errors and unusual replies of the plugins below pass unchanged (F9).
func TestServeDNSErrors(t *testing.T) {
	s := forZone(testStanza("tcp://:80", pooltest.NewNetwork(), pooltest.Pace), "example.org.")
	p := newProcess()
	_, b := blockOf(p, nil, s)
	broken := errors.New("broken")
	for what, next := range map[string]plugin.Handler{
		"an error":     test.ErrorHandler(),
		"never writes": test.NextHandler(dns.RcodeRefused, broken),
	} {
		w := dnstest.NewRecorder(&test.ResponseWriter{})
		r := query("www.example.org.", dns.TypeA)
		wantCode, wantErr := next.ServeDNS(context.Background(), dnstest.NewRecorder(&test.ResponseWriter{}), r)
		code, err := Multivalue{Next: next, block: b, process: p}.ServeDNS(context.Background(), w, r)
		if code != wantCode || !errors.Is(err, wantErr) {
			t.Errorf("%s: %d, %v; want %d, %v", what, code, err, wantCode, wantErr)
		}
	}
	if code, err := (Multivalue{block: b, process: p}).ServeDNS(context.Background(), &test.ResponseWriter{}, query("www.example.org.", dns.TypeA)); code != dns.RcodeServerFailure || err == nil {
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
	if _, err := (Multivalue{Next: odd, block: b, process: p}).ServeDNS(context.Background(), w, query("www.example.org.", dns.TypeA)); err != nil || len(w.Msgs) != 2 {
		t.Errorf("%v, %d messages", err, len(w.Msgs))
	}
}

// The reply to a look-up that a plugin below makes through the whole chain is complete, and the answer is judged and
// counted once (B27, T26).
func TestServeDNSNested(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.Rule.Policy.MinUp = answer.Quorum{Percent: 50}
		s.Rule.Policy.Limit = 3
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

// The metadata has the outcome of an answer after that answer went out (B77).
func TestMetadata(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
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
			t.Error("metadata for a query that is not judged")
		}
	})
}
