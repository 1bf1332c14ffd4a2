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

// closed starts a server of two zones, one below the other, whose addresses are all down, and waits until it has
// noticed.
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

// NODATA has NOERROR and one record in the authority section: the start of authority of the zone that holds the name,
// with a TTL that the answer's own would have had (B9, B31, T12, T13).
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

// deniesWithSOA waits until the answer is NODATA with a start of authority, which is learned in the background, and
// looks at it closely.
func (v *server) deniesWithSOA(question, zone string) {
	v.Helper()
	var m *dns.Msg
	v.eventually(func() bool {
		m = v.ask(question)
		return members(m) == "" && len(m.Ns) > 0
	}, func() string { return question + " does not become NODATA with a start of authority:\n" + m.String() })
	if m.Rcode != dns.RcodeSuccess || types(m.Ns) != "SOA" || len(m.Extra) > 0 {
		v.Fatalf("want NOERROR, one SOA and nothing else:\n%s", m)
	}
	soa := m.Ns[0].(*dns.SOA)
	if soa.Hdr.Name != zone {
		v.Errorf("%s is denied by the zone %s, want %s", question, soa.Hdr.Name, zone)
	}
	if soa.Hdr.Ttl > 30 || soa.Minttl > 30 {
		v.Errorf("%s: the denial is kept for %d s, and by its minimum for %d s: want 30 s at most", question, soa.Hdr.Ttl, soa.Minttl)
	}
}

// An alias whose target is closed still leads there: the CNAME stays (B14).
func TestNodataKeepsTheAlias(t *testing.T) {
	v := closed(t, "nodata", "")
	if got := types(v.comesTo("shop.example.org A", "").Answer); got != "CNAME" {
		t.Errorf("the answer has %q, want the CNAME alone", got)
	}
}

// With EDNS, NODATA keeps the OPT record, and nothing else in the additional section.
func TestNodataWithEDNS(t *testing.T) {
	v := closed(t, "nodata", "")
	if m := v.comesTo("www.example.org A", "", edns); types(m.Extra) != "OPT" {
		t.Errorf("the additional section has %q, want the OPT alone", types(m.Extra))
	}
}

// SERVFAIL comes as one reply, at once and without records: the client does not wait in vain (B9, T14).
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
				// A second reply to the question before would be read here, and have its ID.
				if reply.Id != m.Id || reply.Rcode != dns.RcodeServerFailure || len(reply.Answer) > 0 {
					t.Errorf("%s: want one SERVFAIL without records, got\n%s", question, reply)
				}
			}
		})
	}
}

// The other types of a name whose addresses are all down still answer: the name is not gone (B8, T13).
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
				t.Errorf("a type that the name never had: %s", m)
			}
		})
	}
}
