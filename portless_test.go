package multivalue

import (
	"net/netip"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// A check of a protocol without ports is asked of addresses whose records name none, and has one target where they do.
func TestCheckWithoutPorts(t *testing.T) {
	parsed, err := parseCorefile("example.org {\n multivalue {\n  check icmp:\n }\n}")
	if err != nil {
		t.Fatal(err)
	}
	if c := parsed[0].checks[0]; c.port != 0 || !c.portNamed || c.Name != "icmp://" {
		t.Fatalf("%+v", c)
	}
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("icmp://", n, pooltest.Pace), "example.org.")
		s.checks[0].port, s.checks[0].portNamed = 0, true
		s.rule.Policy = answer.Policy{Limit: 8, MinUp: answer.Quorum{Count: 1}}
		h := serving(p, zoneOf(www...), s)
		n.Kill(pooltest.Addr(1))
		for range 3 {
			serve(t, h, query("www.example.org.", dns.TypeA))
			pooltest.Elapse(10 * time.Second)
		}
		if m, _ := serve(t, h, query("www.example.org.", dns.TypeA)); addressesOf(m) != "10.0.0.2" {
			t.Errorf("with one dead: %s", addressesOf(m))
		}
		before := sizeOf(p)
		s.Look(owner, pooltest.Addr(2), 8080, 30) // as an SRV record has it
		if v := s.Look(owner, pooltest.Addr(2), 8080, 30); v.State() != verdict.Up || sizeOf(p) != before {
			t.Errorf("by a record with a port: %v, %+v, was %+v", v.State(), sizeOf(p), before)
		}
	})
	at := verdict.Target{Identity: verdict.Identify("icmp://", 0), Addr: netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), 0)}
	if at.String() != "2001:db8::1 icmp://" {
		t.Errorf("%s", at)
	}
}
