package multivalue

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/rules"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// client is a writer whose queries come from an address.
type client struct {
	test.ResponseWriter
	msg *dns.Msg
}

func (c *client) WriteMsg(m *dns.Msg) error { c.msg = m; return nil }

func withEDNS(r *dns.Msg, options ...dns.EDNS0) *dns.Msg {
	r.SetEdns0(1232, false)
	r.IsEdns0().Option = options
	return r
}

// exchangeOf sends a query as a client at ip, and returns the OPT record of the answer, and the answer.
func exchangeOf(t *testing.T, h plugin.Handler, ip string, r *dns.Msg) (*dns.OPT, *dns.Msg) {
	t.Helper()
	c := &client{ResponseWriter: test.ResponseWriter{RemoteIP: ip}}
	if _, err := h.ServeDNS(context.Background(), c, r); err != nil {
		t.Fatal(err)
	}
	return c.msg.IsEdns0(), c.msg
}

// manyStanza answers with 64 addresses. Each client gets eight of them.
func manyStanza(t *testing.T, p *process, n *pooltest.FakeNetwork) plugin.Handler {
	var rrs []dns.RR
	for i := range 64 {
		rrs = append(rrs, test.A(fmt.Sprintf("www.example.org. 30 IN A %s", pooltest.Addr(i))))
	}
	s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
	s.Rule.Policy = answer.Policy{Limit: 8, MinUp: answer.Quorum{Count: 1}, Client: true}
	h := serving(p, zoneOf(rrs...), s)
	keepAsking(t, h, 15*time.Second, "www.example.org.", dns.TypeA)
	return h
}

// Clients of one network keep getting the same addresses. The client subnet takes precedence over the sender's
// address, and the answer says how much of it was used (B5, B6).
func TestSelectClient(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		h := manyStanza(t, p, n)
		subnet := func(ip string, bits uint8) *dns.EDNS0_SUBNET {
			a := netip.MustParseAddr(ip)
			family := uint16(1)
			if a.Is6() {
				family = 2
			}
			return &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: bits, Address: a.AsSlice()}
		}
		answerTo := func(ip string, options ...dns.EDNS0) string {
			_, m := exchangeOf(t, h, ip, withEDNS(query("www.example.org.", dns.TypeA), options...))
			return addressesOf(m)
		}
		one := answerTo("198.51.100.7")
		if got := answerTo("198.51.100.250"); got != one || strings.Count(one, " ") != 7 {
			t.Errorf("one network got\n%s and\n%s", one, got)
		}
		if answerTo("198.51.101.7") == one {
			t.Error("two networks got the same eight of 64")
		}
		if got := answerTo("203.0.113.1", subnet("198.51.100.0", 24)); got != one {
			t.Errorf("a resolver for the network got\n%s, want\n%s", got, one)
		}
		for _, tc := range []struct {
			subnet *dns.EDNS0_SUBNET
			scope  uint8
		}{{subnet("198.51.100.0", 24), 24}, {subnet("198.51.100.9", 32), 24}, {subnet("198.51.0.0", 16), 16}, {subnet("2001:db8::", 64), 56}, {subnet("0.0.0.0", 0), 0}} {
			r := withEDNS(query("www.example.org.", dns.TypeA), tc.subnet)
			opt, _ := exchangeOf(t, h, "203.0.113.1", r)
			if opt == nil || len(opt.Option) != 1 {
				t.Fatalf("%s: options %v", tc.subnet, opt)
			}
			back := opt.Option[0].(*dns.EDNS0_SUBNET)
			if back.SourceScope != tc.scope || back.SourceNetmask != tc.subnet.SourceNetmask || back.Family != tc.subnet.Family || !back.Address.Equal(tc.subnet.Address) {
				t.Errorf("%s: answered with %s, want the scope %d", tc.subnet, back, tc.scope)
			}
			if tc.subnet.SourceScope != 0 || r.IsEdns0() == opt {
				t.Error("the query was changed")
			}
		}
		if opt, _ := exchangeOf(t, h, "203.0.113.1", query("www.example.org.", dns.TypeA)); opt != nil {
			t.Error("an OPT for a client that sent none (RFC 6891)")
		}
	})
}

// The upstream server may have used more of the client's subnet than this plugin. The answer is then valid for no
// more than that (RFC 7871, section 7.2.1). The upstream's message is not changed.
func TestScopeOfTheUpstream(t *testing.T) {
	theirs := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 32, SourceScope: 32, Address: []byte{198, 51, 100, 7}}
	m := new(dns.Msg)
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = []dns.EDNS0{theirs}
	ours := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 32, SourceScope: 24, Address: []byte{198, 51, 100, 7}}
	out := rules.WithOptions(m, m, []dns.EDNS0{ours})
	got := out.IsEdns0().Option
	if len(got) != 1 || got[0].(*dns.EDNS0_SUBNET).SourceScope != 32 {
		t.Errorf("options %v, want the subnet once, with the scope 32", got)
	}
	if out == m || len(m.IsEdns0().Option) != 1 || m.IsEdns0().Option[0] != dns.EDNS0(theirs) {
		t.Error("the message from below was changed")
	}
}

// No client is told what a dry run decided, even if an alias leads to the dry run from a stanza without it, or the
// other way round (B32, B57).
func TestExtendedErrorOfAnAlias(t *testing.T) {
	for dry, want := range map[bool]bool{true: false, false: true} {
		inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
			alias, end := forZone(testStanza("tcp://:80", n, pooltest.Pace), "shop.example.org."), forZone(testStanza("tcp://:80", n, pooltest.Pace), "www.example.org.")
			alias.Rule.Policy.DryRun, end.Rule.Policy.DryRun = !dry, dry
			h := serving(p, plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
				m := new(dns.Msg)
				m.SetReply(r)
				m.Answer = append([]dns.RR{test.CNAME("shop.example.org. 30 IN CNAME www.example.org.")}, www...)
				return dns.RcodeSuccess, w.WriteMsg(m)
			}), alias, end)
			n.Kill(pooltest.Addr(1), pooltest.Addr(2))
			keepAsking(t, h, 30*time.Second, "shop.example.org.", dns.TypeA)
			if opt, _ := exchangeOf(t, h, "203.0.113.1", withEDNS(query("shop.example.org.", dns.TypeA))); (opt != nil) != want {
				t.Errorf("dry_run at the alias's target %t: OPT %v", dry, opt)
			}
		})
	}
}

// The answer to an EDNS client says if health was disregarded, or if it emptied the answer. Other answers do not (B32).
func TestExtendedErrors(t *testing.T) {
	for policy, want := range map[answer.AllDown]string{answer.Serve: textOpen, answer.NoData: textClosed} {
		inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
			s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
			s.Rule.Policy.AllDown = policy
			h := serving(p, zoneOf(www...), s)
			if opt, _ := exchangeOf(t, h, "203.0.113.1", withEDNS(query("www.example.org.", dns.TypeA))); opt != nil {
				t.Errorf("with all addresses up: %s", opt)
			}
			n.Kill(pooltest.Addr(1), pooltest.Addr(2))
			keepAsking(t, h, 30*time.Second, "www.example.org.", dns.TypeA)
			opt, m := exchangeOf(t, h, "203.0.113.1", withEDNS(query("www.example.org.", dns.TypeA)))
			if opt == nil || len(opt.Option) != 1 {
				t.Fatalf("no error in\n%s", m)
			}
			if ede := opt.Option[0].(*dns.EDNS0_EDE); ede.InfoCode != 0 || ede.ExtraText != want {
				t.Errorf("error %s, want %q", ede, want)
			}
			if opt, _ := exchangeOf(t, h, "203.0.113.1", query("www.example.org.", dns.TypeA)); opt != nil {
				t.Error("an OPT for a client that sent none (RFC 6891)")
			}
			s.Rule.Policy.DryRun = true
			if opt, _ := exchangeOf(t, h, "203.0.113.1", withEDNS(query("www.example.org.", dns.TypeA))); opt != nil {
				t.Error("a dry run changed the answer")
			}
			s.Rule.Policy.Client = true // a client that may get an OPT record
			if opt, _ := exchangeOf(t, h, "203.0.113.1", withEDNS(query("www.example.org.", dns.TypeA))); opt != nil {
				t.Error("a dry run where the client chooses changed the answer")
			}
		})
	}
}

// An address that has come back is drawn into samples gradually (warmup).
func TestWarmupByThePoolsClock(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		var rrs []dns.RR
		for i := range 4 {
			rrs = append(rrs, test.A(fmt.Sprintf("www.example.org. 30 IN A %s", pooltest.Addr(i))))
		}
		config := *testStanza("tcp://:80", n, pooltest.Pace).config
		config.Policy = answer.Policy{Limit: 1, MinUp: answer.Quorum{Count: 1}, Warmup: 10 * time.Minute}
		s := stanzaOf(&config, n)
		h := serving(p, zoneOf(rrs...), s)
		share := func() float64 {
			hits := 0
			for range 2000 {
				if m, _ := serve(t, h, query("www.example.org.", dns.TypeA)); addressesOf(m) == pooltest.Addr(0).String() {
					hits++
				}
			}
			return float64(hits) / 2000
		}
		keepAsking(t, h, 11*time.Minute, "www.example.org.", dns.TypeA)
		n.Kill(pooltest.Addr(0))
		keepAsking(t, h, time.Minute, "www.example.org.", dns.TypeA)
		if got := share(); got != 0 {
			t.Errorf("share %.3f while dead", got)
		}
		n.Revive(pooltest.Addr(0))
		keepAsking(t, h, 30*time.Second, "www.example.org.", dns.TypeA)
		early := share()
		keepAsking(t, h, 5*time.Minute, "www.example.org.", dns.TypeA)
		half := share()
		keepAsking(t, h, 6*time.Minute, "www.example.org.", dns.TypeA)
		full := share()
		// The full share is a quarter. With half the weight of each of the three others it is a seventh.
		if early <= 0 || early > 0.04 || half < 0.10 || half > 0.19 || full < 0.21 || full > 0.29 {
			t.Errorf("share %.3f at first, %.3f halfway, %.3f at the end", early, half, full)
		}
	})
}
