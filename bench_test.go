package multivalue

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/loadbalance"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// upBoard makes a stanza and a pool, which does not run, whose board says that n addresses are up.
func upBoard(n int) *parsedStanza {
	p := newPool()
	s := forZone(testStanza("tcp://:80", pooltest.NewNetwork(), pooltest.Pace), "example.org.")
	s.rule.Policy.Limit, s.rule.Policy.MinUp.Count, s.rule.Policy.TTL.Min = 8, 1, 30
	s.within = network.List{network.New(netip.MustParsePrefix("10.0.0.0/8"))}
	g := new(generation)
	g.add(s, p)
	p.join(g)
	for i := range n {
		t := verdict.Target{Identity: s.checks[0].identity, Addr: netip.AddrPortFrom(pooltest.Addr(i), 80)}
		w := p.addMonitor(t, p.checks[t.Identity], s.account, owner, time.Now())
		w.entry.Store(verdict.Verdict{State: verdict.Up, Holds: 13 * time.Second})
	}
	return s
}

// BenchmarkLook is one look-up of one address, among few and among many.
func BenchmarkLook(b *testing.B) {
	for _, n := range []int{8, 20_000} {
		b.Run(fmt.Sprintf("%d targets", n), func(b *testing.B) {
			s := upBoard(n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if s.Look(owner, pooltest.Addr(i%n), 0, 30).State() != verdict.Up {
					b.Fatal("not on the board")
				}
			}
		})
	}
}

// BenchmarkLookOwner is the same where each owner is asked for, and BenchmarkLookRequire with three checks of which two
// must pass.
func BenchmarkLookOwner(b *testing.B) {
	s := upBoard(8)
	s.checks[0].forOwner = func(string) Prober { return nil }
	for i := range 8 {
		id, _ := s.checks[0].identityFor(owner)
		t := verdict.Target{Identity: id, Addr: netip.AddrPortFrom(pooltest.Addr(i), 80)}
		c := s.pool.checks[s.checks[0].identity]
		c.forOwner = s.checks[0].forOwner
		s.pool.addMonitor(t, c, s.account, owner, time.Now()).entry.Store(verdict.Verdict{State: verdict.Up, Holds: time.Second})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if s.Look(owner, pooltest.Addr(i%8), 0, 30).State() != verdict.Up {
			b.Fatal("not on the board")
		}
	}
}

func BenchmarkLookRequire(b *testing.B) {
	s := upBoard(8)
	s.checks, s.need = append(s.checks, s.checks[0], s.checks[0]), 2
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if s.Look(owner, pooltest.Addr(i%8), 0, 30).State() != verdict.Up {
			b.Fatal("not on the board")
		}
	}
}

// BenchmarkRuleOf is finding the rule of a set where there are no annotations to heed, and where there are.
func BenchmarkRuleOf(b *testing.B) {
	heeds, block, g := heeding(b, newPool(), questioned{}, newEdited(), pooltest.Pace)
	starts(b, heeds.pool, g, block, heeds)
	g.notices[*heeds.cluster].take(map[string]string{"cart.shop": "http://:1/"})
	for name, s := range map[string]*parsedStanza{"plain": upBoard(1), "heeds": heeds} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.ruleOf("_http._tcp.cart.shop.svc.cluster.local.")
			}
		})
	}
}

// Looking allocates nothing.
func TestLookAllocatesNothing(t *testing.T) {
	s := upBoard(8)
	if allocs := testing.AllocsPerRun(1000, func() { s.Look(owner, pooltest.Addr(3), 0, 30) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// Counting allocates nothing either, also where a block has several listeners, each of which finds its own counters.
func TestCountersAllocateNothing(t *testing.T) {
	z := &zone{name: "two-listeners.example."}
	one := context.WithValue(t.Context(), dnsserver.Key{}, &dnsserver.Server{Addr: "dns://127.0.0.1:53"})
	other := context.WithValue(t.Context(), dnsserver.Key{}, &dnsserver.Server{Addr: "dns://[::1]:53"})
	first, second := z.metrics(one), z.metrics(other)
	if first == second {
		t.Error("two listeners have the same counters")
	}
	allocs := testing.AllocsPerRun(1000, func() {
		if z.metrics(one) != first || z.metrics(other) != second {
			t.Error("a listener has other counters than before")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// BenchmarkServeDNS is the whole handler between a plugin that answers and a writer that drops the answer: the chain
// without us, with loadbalance in our place, and with us.
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
	s := upBoard(8)
	for _, bm := range []struct {
		name    string
		handler plugin.Handler
	}{
		{"plain", inner},
		{"loadbalance", balanced(b, inner)},
		{"multivalue", Multivalue{Next: inner, block: newBlock([]*parsedStanza{s})}},
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

// balanced is loadbalance in front of next, set up the way CoreDNS does.
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
