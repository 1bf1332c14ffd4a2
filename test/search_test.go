package test

import (
	"testing"

	"github.com/miekg/dns"
)

const searching = `
.:0 {
    bind 127.0.0.1
    autopath DIR/resolv.conf
    file DIR/a.test a.test
    file DIR/b.test b.test
    multivalue a.test {
        QUICK
        all_down POLICY
    }
}`

// If every server of a name is down, autopath stays with that name under serve and nodata, because the name exists.
// With SERVFAIL it goes on to the next domain, as the manual says (T13).
func TestSearchStopsAtANameThatIsDown(t *testing.T) {
	for policy, want := range map[string]string{"serve": "11 12", "nodata": "", "servfail": "99"} {
		t.Run(policy, func(t *testing.T) {
			s := newScene(t, 11, 12)
			s.file("resolv.conf", "search a.test b.test\n")
			s.zone("a.test", "db A 127.0.0.11\ndb A 127.0.0.12\nhalf A 127.0.0.11\nhalf A 127.0.0.13")
			s.zone("b.test", "db A 192.0.2.99\nother A 192.0.2.98")
			v := s.serve(replace(searching, "POLICY", policy))
			v.comesTo("db.a.test A", "11 12")
			v.comesTo("half.a.test A", "11")
			v.comesTo("other.a.test A", "98") // the search list works: this name is in the second domain
			s.kill(11, 12)
			v.down(3)
			reply := v.ask("db.a.test A")
			if got := members(reply); got != want || reply.Rcode != dns.RcodeSuccess {
				t.Errorf("with all down, the answer is %s with %q, want NOERROR with %q", dns.RcodeToString[reply.Rcode], got, want)
			}
		})
	}
}

const translating = `
example.org:0 {
    bind 127.0.0.1
    dns64 {
        allow_ipv4
    }
    file DIR/example.org
    multivalue {
        QUICK
        within ::ffff:127.0.0.0/104
        all_down POLICY
    }
}`

// If every IPv6 server is down, nodata makes dns64 translate the IPv4 addresses that are up. serve and servfail do
// not (T15, T16).
func TestDNS64AndAllDown(t *testing.T) {
	for policy, want := range map[string]string{"nodata": "NOERROR 21", "serve": "NOERROR 11 12", "servfail": "SERVFAIL "} {
		t.Run(policy, func(t *testing.T) {
			s := newScene(t, 21)
			s.zone("example.org", "www AAAA ::ffff:127.0.0.11\nwww AAAA ::ffff:127.0.0.12\nwww A 127.0.0.21\nwww A 127.0.0.22\nfour A 127.0.0.21\nfour A 127.0.0.22")
			v := s.serve(replace(translating, "POLICY", policy))
			v.comesTo("four.example.org AAAA", "21") // a name without IPv6 addresses
			v.ask("www.example.org AAAA")
			v.down(3)
			reply := v.ask("www.example.org AAAA")
			if got := dns.RcodeToString[reply.Rcode] + " " + members(reply); got != want {
				t.Errorf("with all of IPv6 down, the answer is %s, want %s", got, want)
			}
		})
	}
}
