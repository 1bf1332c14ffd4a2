package multivalue

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/rules"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/loadbalance"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// upBlock returns a block whose one stanza has n addresses up, in the table of a pool that has stopped.
func upBlock(b *testing.B, n int) (*process, *rules.Block) {
	b.Helper()
	p, pace := newProcess(), verdict.Pace{Interval: time.Hour, Fast: time.Millisecond, Timeout: time.Second, Rise: 2, Fall: 3}
	s := testStanza("tcp://:80", pooltest.NewNetwork(), pace)
	s.Rule.Policy.Limit, s.Rule.Policy.MinUp.Count, s.Rule.Policy.TTL.Min = 8, 1, 30
	s.Within = network.List{network.New(netip.MustParsePrefix("10.0.0.0/8"))}
	g, block := blockOf(p, nil, s)
	p.pool.Join(&g.pool)
	p.pool.Confirm(&g.pool)
	for i, deadline := 0, time.Now().Add(time.Minute); i < n; {
		if stateOf(s, pooltest.Addr(i)) == verdict.Up {
			i++
		} else if time.Sleep(time.Millisecond); time.Now().After(deadline) {
			b.Fatalf("%d of %d addresses are up after a minute", i, n)
		}
	}
	p.pool.Leave(&g.pool)
	return p, block
}

// Counting allocates nothing, even if a block has several listeners and each of them has its own counters.
func TestCountersAllocateNothing(t *testing.T) {
	z := &rules.Zone{Name: "two-listeners.example."}
	one := context.WithValue(t.Context(), dnsserver.Key{}, &dnsserver.Server{Addr: "dns://127.0.0.1:53"})
	other := context.WithValue(t.Context(), dnsserver.Key{}, &dnsserver.Server{Addr: "dns://[::1]:53"})
	first, second := z.Counters(one), z.Counters(other)
	if first == second {
		t.Error("two listeners have the same counters")
	}
	allocs := testing.AllocsPerRun(1000, func() {
		if z.Counters(one) != first || z.Counters(other) != second {
			t.Error("a listener has different counters than before")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// BenchmarkServeDNS measures the whole handler between a plugin that answers and a writer that drops the answer: the
// chain without multivalue, with loadbalance in its place, and with multivalue.
func BenchmarkServeDNS(b *testing.B) {
	reply := new(dns.Msg)
	reply.SetReply(query("www.example.org.", dns.TypeA))
	for i := range 8 {
		reply.Answer = append(reply.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: "www.example.org.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30}, A: net.IP(pooltest.Addr(i).AsSlice())})
	}
	inner := plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, _ *dns.Msg) (int, error) {
		m := *reply
		return dns.RcodeSuccess, w.WriteMsg(&m)
	})
	p, block := upBlock(b, 8)
	for _, bm := range []struct {
		name    string
		handler plugin.Handler
	}{
		{"plain", inner},
		{"loadbalance", balanced(b, inner)},
		{"multivalue", Multivalue{Next: inner, block: block, process: p}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			w, r := &test.ResponseWriter{}, query("www.example.org.", dns.TypeA)
			ctx := context.WithValue(context.Background(), dnsserver.Key{}, &dnsserver.Server{Addr: "dns://:53"})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := plugin.NextOrFailure("outer", bm.handler, ctx, w, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// balanced returns loadbalance in front of next, set up as CoreDNS does it.
func balanced(b *testing.B, next plugin.Handler) plugin.Handler {
	b.Helper()
	c := caddy.NewTestController("dns", "loadbalance")
	setup, err := caddy.DirectiveAction("dns", "loadbalance")
	if err != nil {
		b.Fatal(err)
	}
	if err := setup(c); err != nil {
		b.Fatal(err)
	}
	h := dnsserver.GetConfig(c).Plugin[0](next)
	if _, ok := h.(loadbalance.LoadBalance); !ok {
		b.Fatalf("%T", h)
	}
	return h
}

// bigReply has a set of n addresses.
func bigReply(n int, ttl uint32) *dns.Msg {
	m := new(dns.Msg).SetReply(query("www.example.org.", dns.TypeA))
	for i := range n {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: "www.example.org.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: net.IP(pooltest.Addr(i).AsSlice())})
	}
	return m
}

// packer is a writer that packs the answer, as a server does.
type packer struct {
	test.ResponseWriter
	buffer []byte
}

func (p *packer) WriteMsg(m *dns.Msg) error {
	_, err := m.PackBuffer(p.buffer)
	return err
}

// BenchmarkLargeSet compares a set of 65,000 addresses with the same answer without the plugin and with a set of 4,096, of
// which all addresses are judged. The parts take turns, so that a machine that gets slower changes no ratio. "of the bar" is
// the time with 65,000 addresses, as a share of 1.2 times the time without the plugin plus the time with 4,096: it should be
// at most 1.
func BenchmarkLargeSet(b *testing.B) {
	const judged, many = 4096, 65_000
	p, block := upBlock(b, judged)
	policy := &block.Zones.Find("www.example.org.").Stanza.Rule.Policy
	for _, bm := range []struct {
		name  string
		limit int
		ttl   uint32
	}{
		{"nothing changes", 0, 30},
		{"TTL lowered", 0, 7200},
		{"limit 8", 8, 30},
	} {
		b.Run(bm.name, func(b *testing.B) {
			policy.Limit = bm.limit
			var spent [3]time.Duration
			serve := [3]func(){}
			for i, n := range []int{many, judged, many} {
				reply := bigReply(n, bm.ttl)
				var h plugin.Handler = plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, _ *dns.Msg) (int, error) {
					m := *reply
					return dns.RcodeSuccess, w.WriteMsg(&m)
				})
				if i > 0 {
					h = Multivalue{Next: h, block: block, process: p}
				}
				w, r := &packer{buffer: make([]byte, 4<<20)}, query("www.example.org.", dns.TypeA)
				ctx := context.WithValue(context.Background(), dnsserver.Key{}, &dnsserver.Server{Addr: "dns://:53"})
				serve[i] = func() {
					began := time.Now()
					if _, err := plugin.NextOrFailure("outer", h, ctx, w, r); err != nil {
						b.Fatal(err)
					}
					spent[i] += time.Since(began)
				}
			}
			for b.Loop() {
				for _, f := range serve {
					f()
				}
			}
			for i, unit := range []string{"ms-plain", "ms-4096", "ms-65000"} {
				b.ReportMetric(float64(spent[i].Microseconds())/1e3/float64(b.N), unit)
			}
			plain, small, large := spent[0].Seconds(), spent[1].Seconds(), spent[2].Seconds()
			b.ReportMetric(large/plain, "of-plain")
			b.ReportMetric(large/(1.2*plain+small), "of-the-bar")
		})
	}
}
