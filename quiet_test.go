package multivalue

import (
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"

	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// The first query for a name after an hour does not get the dead address: the name was merely quiet (B84). Whether it is a set
// of addresses, the hosts of SRV records, or hints does not matter.
func TestQuietNames(t *testing.T) {
	for name, tc := range map[string]struct {
		rrs   []dns.RR
		qname string
		qtype uint16
		want  string
	}{
		"A":   {www, "www.example.org.", dns.TypeA, "10.0.0.2"},
		"SRV": {hostsOf(1, 2), "_x._tcp.example.org.", dns.TypeSRV, "b.example.org."},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
				s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
				if tc.qtype == dns.TypeSRV {
					s = srvStanza(n)
				}
				s.Rule.Policy.MinUp.Count = 1
				h := serving(p, changingZone(tc.rrs...), s)
				n.Kill(pooltest.Addr(1))
				read := func(m *dns.Msg) string {
					if tc.qtype == dns.TypeSRV {
						return targetsOf(m)
					}
					return addressesOf(m)
				}
				if got := read(keepAsking(t, h, 30*time.Second, tc.qname, tc.qtype)); got != tc.want {
					t.Fatalf("before it was quiet: %s", got)
				}
				for range 3 {
					pooltest.Elapse(time.Hour)
					if m, _ := serve(t, h, query(tc.qname, tc.qtype)); read(m) != tc.want {
						t.Errorf("after an hour without a query: %s, want %s", read(m), tc.want)
					}
				}
			})
		})
	}
}

// A name that was deleted is not merely quiet: while clients ask for it and are told that it does not exist, its addresses are
// forgotten as those of a roll-out are (B63, B85).
func TestDeletedNames(t *testing.T) {
	for name, then := range map[string][]dns.RR{
		"no records":          nil,
		"an alias elsewhere":  {test.CNAME("www.example.org. 30 IN CNAME www.example.net.")},
		"one other address":   {test.A("www.example.org. 30 IN A 10.0.0.9")},
		"two other addresses": {test.A("www.example.org. 30 IN A 10.0.0.8"), test.A("www.example.org. 30 IN A 10.0.0.9")},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
				s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
				z := changingZone(www...)
				h := serving(p, z, s)
				serve(t, h, query("www.example.org.", dns.TypeA))
				pooltest.Elapse(time.Second)
				if got := targetsIn(p); got != 2 {
					t.Fatalf("%d targets", got)
				}
				z.set(then...)
				for range 18 {
					serve(t, h, query("www.example.org.", dns.TypeA))
					pooltest.Elapse(time.Minute)
				}
				want := 0
				if len(then) == 2 {
					want = 2 // the new ones
				}
				if got := targetsIn(p); got != want {
					t.Errorf("%d targets after 18 minutes, want %d", got, want)
				}
			})
		})
	}
}
