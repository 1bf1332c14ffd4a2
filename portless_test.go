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

// A check of a protocol without ports probes addresses whose records have no port, and has one target for records
// with different ports.
func TestCheckWithoutPorts(t *testing.T) {
	parsed, err := parseCorefile("example.org {\n multivalue {\n  check icmp:\n }\n}")
	if err != nil {
		t.Fatal(err)
	}
	if c := parsed[0].Checks[0]; c.Port() != 0 || !c.PortNamed() || c.String() != "icmp://" {
		t.Fatalf("%+v", c)
	}
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("icmp://", n, pooltest.Pace), "example.org.")
		s.Rule.Policy = answer.Policy{Limit: 8, MinUp: answer.Quorum{Count: 1}}
		h := serving(p, zoneOf(www...), s)
		n.Kill(pooltest.Addr(1))
		for range 3 {
			serve(t, h, query("www.example.org.", dns.TypeA))
			pooltest.Elapse(10 * time.Second)
		}
		if m, _ := serve(t, h, query("www.example.org.", dns.TypeA)); addressesOf(m) != "10.0.0.2" {
			t.Errorf("with one dead: %s", addressesOf(m))
		}
		before := targetsIn(p)
		s.Look(owner, pooltest.Addr(2), 8080, 30) // the port of an SRV record
		if v := s.Look(owner, pooltest.Addr(2), 8080, 30); v.State() != verdict.Up || targetsIn(p) != before {
			t.Errorf("with the port of a record: %v, %d targets, was %d", v.State(), targetsIn(p), before)
		}
	})
	at := verdict.Target{Identity: verdict.Identify("icmp://", 0), Addr: netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), 0)}
	if at.String() != "2001:db8::1 icmp://" {
		t.Errorf("%s", at)
	}
}
