package test

import (
	"testing"

	"github.com/miekg/dns"
)

const closing = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org example.org
    file DIR/sub.example.org sub.example.org
    CACHE
    multivalue {
        QUICK
        all_down POLICY
    }
}`

// closed starts a server of two zones, one below the other, whose addresses are all down. It returns once they are
// all known to be down.
func closed(t *testing.T, policy, cache string) *server {
	t.Helper()
	s := newScene(t)
	records := `
www  A     127.0.0.11
www  A     127.0.0.12
www  TXT   "still here"
www  MX    10 www
shop CNAME www`
	s.zone("example.org", records)
	s.zone("sub.example.org", records)
	v := s.serve(replace(closing, "POLICY", policy, "CACHE", cache))
	v.ask("www.example.org A")
	v.down(2)
	return v
}

// A NODATA answer has NOERROR and one record in the authority section: the SOA record of the zone that holds the
// name. Its TTL is the TTL that the answer itself would have had (B9, B31, T12, T13).
func TestNodata(t *testing.T) {
	for name, cache := range map[string]string{"without cache": "", "with cache": "cache", "with minimal": "minimal", "with both": "minimal\n cache"} {
		t.Run(name, func(t *testing.T) {
			v := closed(t, "nodata", cache)
			for question, zone := range map[string]string{
				"www.example.org A":      "example.org.",
				"www.sub.example.org A":  "sub.example.org.",
				"wWw.SUB.example.org A":  "sub.example.org.",
				"shop.sub.example.org A": "sub.example.org.",
			} {
				v.deniesWithSOA(question, zone)
			}
		})
	}
}

// deniesWithSOA waits until the answer is NODATA with an SOA record, which is looked up in the background, and checks
// that answer in detail.
func (v *server) deniesWithSOA(question, zone string) {
	v.Helper()
	var m *dns.Msg
	v.eventually(func() bool {
		m = v.ask(question)
		return members(m) == "" && len(m.Ns) > 0
	}, func() string { return question + " does not become NODATA with an SOA record:\n" + m.String() })
	if m.Rcode != dns.RcodeSuccess || types(m.Ns) != "SOA" || len(m.Extra) > 0 {
		v.Fatalf("want NOERROR, one SOA and nothing else:\n%s", m)
	}
	soa := m.Ns[0].(*dns.SOA)
	if soa.Hdr.Name != zone {
		v.Errorf("%s the SOA record is of zone %s, want %s", question, soa.Hdr.Name, zone)
	}
	if soa.Hdr.Ttl > 30 || soa.Minttl > 30 {
		v.Errorf("%s: the SOA record has TTL %d s and minimum %d s, want at most 30 s", question, soa.Hdr.Ttl, soa.Minttl)
	}
}

// An alias keeps its CNAME when all addresses of its target are down (B14).
func TestNodataKeepsTheAlias(t *testing.T) {
	v := closed(t, "nodata", "")
	if got := types(v.comesTo("shop.example.org A", "").Answer); got != "CNAME" {
		t.Errorf("the answer has %q, want the CNAME alone", got)
	}
}

// With EDNS, a NODATA answer keeps the OPT record and nothing else in the additional section.
func TestNodataWithEDNS(t *testing.T) {
	v := closed(t, "nodata", "")
	if m := v.comesTo("www.example.org A", "", edns); types(m.Extra) != "OPT" {
		t.Errorf("the additional section has %q, want the OPT alone", types(m.Extra))
	}
}

// SERVFAIL comes as one reply, at once and without records, so the client does not wait for a timeout (B9, T14).
func TestServfail(t *testing.T) {
	for name, cache := range map[string]string{"without cache": "", "with cache": "cache", "with errors and log": "errors\n log"} {
		t.Run(name, func(t *testing.T) {
			v := closed(t, "servfail", cache)
			conn, err := dns.Dial("udp", v.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for _, question := range []string{"www.example.org A", "shop.example.org A", "www.example.org A"} {
				m := query(question)
				if err := conn.WriteMsg(m); err != nil {
					t.Fatal(err)
				}
				reply, err := conn.ReadMsg()
				if err != nil {
					t.Fatal(err)
				}
				// If the server had sent a second reply to the previous query, it would be read here, with that
				// query's ID.
				if reply.Id != m.Id || reply.Rcode != dns.RcodeServerFailure || len(reply.Answer) > 0 {
					t.Errorf("%s: want one SERVFAIL without records, got\n%s", question, reply)
				}
			}
		})
	}
}

// A name whose addresses are all down still answers queries for its other types, because the name exists (B8, T13).
func TestOtherTypesOfAClosedName(t *testing.T) {
	for _, policy := range []string{"nodata", "servfail"} {
		t.Run(policy, func(t *testing.T) {
			v := closed(t, policy, "cache")
			for question, want := range map[string]string{"www.example.org TXT": "TXT", "www.example.org MX": "MX", "shop.example.org CNAME": "CNAME"} {
				if got := types(v.ask(question).Answer); got != want {
					t.Errorf("%s has %q", question, got)
				}
			}
			if m := v.ask("www.example.org AAAA"); m.Rcode != dns.RcodeSuccess || len(m.Answer) > 0 {
				t.Errorf("a type that the name does not have: %s", m)
			}
		})
	}
}
