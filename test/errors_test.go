package test

import (
	"bytes"
	"testing"

	"github.com/miekg/dns"
)

// ill holds the faulty replies of a server, by the name in the query. All of them have addresses that are down, so a
// reply that multivalue judged would differ.
func ill(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg).SetReply(r)
	name, dead := r.Question[0].Name, []string{"A 127.0.0.11", "A 127.0.0.12"}
	alias := []string{"CNAME gone.example.org."}
	answer := map[string][]string{
		"www.example.org.": dead, "truncated.example.org.": dead, "servfail.example.org.": dead, "refused.example.org.": dead,
		"notimp.example.org.": dead, "nxdomain.example.org.": alias,
	}[name]
	m.Answer = records(name, answer)
	switch name {
	case "truncated.example.org.", "cut.example.org.":
		m.Truncated = true
	case "servfail.example.org.":
		m.Rcode = dns.RcodeServerFailure
	case "refused.example.org.":
		m.Rcode = dns.RcodeRefused
	case "notimp.example.org.":
		m.Rcode = dns.RcodeNotImplemented
	case "nxdomain.example.org.":
		m.Rcode = dns.RcodeNameError
		m.Ns = records("example.org.", []string{"SOA ns hostmaster 1 2 3 4 5"})
	case "nodata.example.org.":
		m.Ns = records("example.org.", []string{"SOA ns hostmaster 1 2 3 4 5"})
	case "sub.example.org.":
		m.Ns, m.Extra = records(name, []string{"NS ns.sub.example.org."}), records("ns.sub.example.org.", dead)
	}
	_ = w.WriteMsg(m)
}

// records parses records of one name.
func records(name string, list []string) []dns.RR {
	var all []dns.RR
	for _, data := range list {
		rr, err := dns.NewRR(name + " 300 IN " + data)
		if err != nil {
			panic(err)
		}
		all = append(all, rr)
	}
	return all
}

// A reply that is not a complete positive answer passes byte for byte, even if all its addresses are down and
// all_down would replace the answer: errors, denials, referrals, truncated answers (B19, B28, T6, T8).
func TestErrorsFromBelowPassByteForByte(t *testing.T) {
	s := newScene(t)
	corefile := ".:0 {\n bind 127.0.0.1\n OTHERS\n forward . " + s.upstream(ill) + "\n OURS\n}"
	for name, others := range map[string]string{"forward": "", "forward and minimal": "minimal"} {
		t.Run(name, func(t *testing.T) {
			s := &scene{TB: t, dir: t.TempDir(), port: s.port}
			judged := s.serve(replace(corefile, "OTHERS", others, "OURS", "multivalue {\n CALM\n all_down servfail\n }"))
			plain := s.serve(replace(corefile, "OTHERS", others, "OURS", ""))
			judged.ask("www.example.org A")
			s.down(2)
			if m := judged.ask("www.example.org A"); m.Rcode != dns.RcodeServerFailure {
				t.Fatalf("the answer should be judged, and is not:\n%s", m)
			}
			for _, name := range []string{"truncated", "cut", "servfail", "refused", "notimp", "nxdomain", "nodata", "sub", "empty"} {
				for _, edit := range []func(*dns.Msg){func(*dns.Msg) {}, edns, do} {
					m := query(name+".example.org A", edit)
					if got, want := judged.raw("udp", m), plain.raw("udp", m); !bytes.Equal(got, want) {
						t.Errorf("%s: got %x, want %x", name, got, want)
					}
				}
			}
		})
	}
}

// Errors that CoreDNS's own plugins make pass byte for byte too: erratic truncates every other answer and fails for
// other types, template replies SERVFAIL (B19, B28).
func TestErraticPassesByteForByte(t *testing.T) {
	s := newScene(t)
	const corefile = `
example.org:0 {
    bind 127.0.0.1
    template IN A failing.example.org {
        rcode SERVFAIL
    }
    erratic {
        drop 0
        truncate 1
        delay 2 1ms
    }
    OURS
}`
	judged := s.serve(replace(corefile, "OURS", "multivalue {\n CALM\n all_down servfail\n }"))
	plain := s.serve(replace(corefile, "OURS", ""))
	for _, question := range []string{"www.example.org A", "www.example.org AAAA", "www.example.org A", "www.example.org TXT", "www.failing.example.org A"} {
		for _, network := range []string{"udp", "tcp"} {
			m := query(question, edns)
			if got, want := judged.raw(network, m), plain.raw(network, m); !bytes.Equal(got, want) {
				t.Errorf("%s over %s: got %x, want %x", question, network, got, want)
			}
		}
	}
}
