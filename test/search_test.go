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
        all_down nodata
    }
}`

// With every server of a name down and all_down nodata, autopath does not go on to another domain's name: the name
// exists (T13).
func TestSearchStopsAtANameThatIsDown(t *testing.T) {
	s := newScene(t, 11, 12)
	s.file("resolv.conf", "search a.test b.test\n")
	s.zone("a.test", "db A 127.0.0.11\ndb A 127.0.0.12")
	s.zone("b.test", "db A 192.0.2.99\nother A 192.0.2.98")
	v := s.serve(searching)
	v.comesTo("db.a.test A", "11 12")
	v.comesTo("other.a.test A", "98") // the search works: this name is in the second domain
	s.kill(11, 12)
	reply := v.comesTo("db.a.test A", "")
	if reply.Rcode != dns.RcodeSuccess {
		t.Errorf("with all down, the answer is %s, want NOERROR", dns.RcodeToString[reply.Rcode])
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

// With every IPv6 server down, nodata makes dns64 translate the IPv4 ones; serve does not (T15, T16).
func TestDNS64AndAllDown(t *testing.T) {
	for policy, want := range map[string]string{"nodata": "21", "serve": "11 12"} {
		t.Run(policy, func(t *testing.T) {
			s := newScene(t, 21)
			s.zone("example.org", "www AAAA ::ffff:127.0.0.11\nwww AAAA ::ffff:127.0.0.12\nwww A 127.0.0.21\nwww A 127.0.0.22")
			v := s.serve(replace(translating, "POLICY", policy))
			v.ask("www.example.org AAAA")
			v.down(2)
			v.comesTo("www.example.org AAAA", want)
		})
	}
}
