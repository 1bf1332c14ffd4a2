package test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

const owned = `
example.org:0 {
    bind 127.0.0.1
    transfer {
        to *
    }
    file DIR/example.org
    CACHE
    multivalue {
        CALM
        ttl 3s 1s
        HOW
    }
}`

// The records of the zone never change, although many of its answers are thinned, sampled and lowered in TTL. A
// transfer is the same before and after, bit for bit, and so are the sets that are not judged (B23, T1-T3).
//
// The zone has no signatures, because the file plugin appends those to slices of its own, which is a race in CoreDNS
// (T2). The cache serves only the names that the test queries, not the whole zone, because it would lower the TTLs of
// a transfer to the smallest one.
func TestZoneSurvivesThousandsOfThinnedAnswers(t *testing.T) {
	for name, cache := range map[string]string{"without cache": "", "with cache": "cache pool.example.org", "with prefetch": "cache pool.example.org {\n prefetch 1 1h 90%\n }"} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
			var records strings.Builder
			for n := 31; n <= 50; n++ {
				fmt.Fprintf(&records, "www.pool 5 A 127.0.0.%d\n", n)
			}
			s.zone("example.org", records.String()+"shop.pool 5 CNAME www.pool\nwww.pool 5 TXT \"unjudged\"\n_http._tcp.pool SRV 1 2 80 www.pool")
			v := s.serve(replace(owned, "CACHE", cache, "HOW", "limit 4"))
			before := v.transfer("example.org.")
			if !strings.Contains(before, "www.pool.example.org.	5	IN	A	127.0.0.50") {
				t.Fatalf("the transfer lacks an address:\n%s", before)
			}
			v.ask("www.pool.example.org A")
			v.settled(10, 10)
			v.flood(4, 2000, flaw, "www.pool.example.org A", "shop.pool.example.org A", "www.pool.example.org TXT", "_http._tcp.pool.example.org SRV")
			if after := v.transfer("example.org."); after != before {
				t.Errorf("the zone was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// Records that name hosts do not change either. Answers contain parts of the zone's records, thinned hints and glue
// among them (B16, B17, B23).
func TestZoneSurvivesThinnedHosts(t *testing.T) {
	for name, cache := range map[string]string{"without cache": "", "with cache": "cache pool.example.org", "with minimal": "minimal"} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 31, 32)
			s.zone("example.org", `
a.pool       5 A     127.0.0.31
b.pool       5 A     127.0.0.32
c.pool       5 A     127.0.0.33
_x._tcp.pool 5 SRV   1 1 1 a.pool
_x._tcp.pool 5 SRV   1 1 2 b.pool
_x._tcp.pool 5 SRV   1 1 3 c.pool
pool         5 MX    1 a.pool
pool         5 MX    2 c.pool
web.pool     5 HTTPS 1 . ipv4hint=127.0.0.31,127.0.0.33
svc.pool     5 SVCB  1 c.pool ipv4hint=127.0.0.33,127.0.0.32`)
			v := s.serve(replace(owned, "CACHE", cache, "HOW", "types A AAAA SRV MX HTTPS SVCB"))
			before := v.transfer("example.org.")
			questions := []string{"_x._tcp.pool.example.org SRV", "pool.example.org MX", "web.pool.example.org HTTPS", "svc.pool.example.org SVCB"}
			for _, q := range questions {
				s.eventually(func() bool { return hostFlaw(v.ask(q)) == "" }, func() string { return q + ": " + hostFlaw(v.ask(q)) })
			}
			v.flood(4, 2000, hostFlaw, questions...)
			if after := v.transfer("example.org."); after != before {
				t.Errorf("the zone was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// hostFlaw returns what is wrong with an answer of TestZoneSurvivesThinnedHosts.
func hostFlaw(m *dns.Msg) string {
	want := map[uint16]string{
		dns.TypeSRV:   "1 1 1 a.pool.example.org., 1 1 2 b.pool.example.org.",
		dns.TypeMX:    "1 a.pool.example.org.",
		dns.TypeHTTPS: `1 . ipv4hint="127.0.0.31"`,
		dns.TypeSVCB:  `1 c.pool.example.org. ipv4hint="127.0.0.32"`,
	}[m.Question[0].Qtype]
	if got := rdata(m.Answer); got != want {
		return fmt.Sprintf("%q, want %q", got, want)
	}
	for _, rr := range slices.Concat(m.Answer, m.Extra) {
		if h := rr.Header(); h.Rrtype != dns.TypeOPT && h.Rrtype != dns.TypeSVCB && h.Ttl > 3 && h.Name != "c.pool.example.org." {
			return "a TTL over the cap: " + rr.String()
		}
	}
	return ""
}

// transfer returns the zone as AXFR gives it, bit for bit.
func (v *server) transfer(zone string) string {
	v.Helper()
	m := new(dns.Msg)
	m.SetAxfr(zone)
	m.Id = 1
	envelopes, err := new(dns.Transfer).In(m, v.tcp)
	if err != nil {
		v.Fatal(err)
	}
	var all []string // sorted, because a transfer has the types of a name in any order
	for e := range envelopes {
		if e.Error != nil {
			v.Fatal(e.Error)
		}
		for _, rr := range e.RR {
			packed := make([]byte, dns.MaxMsgSize)
			n, err := dns.PackRR(rr, packed, 0, nil, false)
			if err != nil {
				v.Fatal(err)
			}
			all = append(all, fmt.Sprintf("%s %x", rr, packed[:n]))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// flood asks each question from that many clients at once, with DO in every other query, and checks that each answer
// is right.
func (v *server) flood(clients, queries int, flaw func(*dns.Msg) string, questions ...string) {
	v.Helper()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			client := dns.Client{Timeout: patience, UDPSize: 4096}
			conn, err := client.Dial(v.addr)
			if err != nil {
				v.Error(err)
				return
			}
			defer conn.Close()
			for i := range queries {
				m := query(questions[i%len(questions)])
				if i/len(questions)%2 == 1 {
					do(m)
				}
				reply, _, err := client.ExchangeWithConn(m, conn)
				if err != nil {
					v.Error(err)
					return
				}
				if complaint := flaw(reply); complaint != "" {
					v.Errorf("%s: %s\n%s", m.Question[0].String(), complaint, reply)
					return
				}
			}
		})
	}
	all.Wait()
}

// flaw returns what is wrong with an answer of TestZoneSurvivesThousandsOfThinnedAnswers.
func flaw(m *dns.Msg) string {
	qtype := m.Question[0].Qtype
	if qtype != dns.TypeA {
		if len(m.Answer) != 1 || m.Answer[0].Header().Ttl > 300 {
			return "a set that is not judged has changed"
		}
		return ""
	}
	got := strings.Fields(members(m))
	if len(got) != 4 {
		return fmt.Sprintf("%d addresses, want 4", len(got))
	}
	for i, n := range got {
		if n > "40" || (i > 0 && n == got[i-1]) {
			return "a dead address, or a duplicate one"
		}
	}
	for _, rr := range m.Answer {
		if rr.Header().Rrtype == dns.TypeA && rr.Header().Ttl > 3 {
			return "a TTL over the cap"
		}
	}
	return ""
}
