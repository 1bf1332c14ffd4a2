package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

const failover = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org {
        reload 0
    }
    CACHE
    multivalue www.example.org {
        QUICK
        all_down ANOTHER
        status 127.0.0.1:STATUS
    }
    multivalue second.example.org {
        QUICK
    }
}
example.net:0 {
    bind 127.0.0.1
    file DIR/example.net
}`

// A failover record, as Route 53 has it: one address each. When the primary dies, the address of the other name goes out in the
// owner's name, with the lower TTL of both; when it comes back, it is served again; when both are dead, the primary is (B102).
func TestFailoverRecord(t *testing.T) {
	for name, cache := range map[string]string{"without cache": "", "with cache": "cache", "with minimal": "minimal"} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 11, 12)
			s.zone("example.org", "www A 127.0.0.11\nshop.www CNAME www\nsecond 20 A 127.0.0.12")
			v, base := s.shown(replace(failover, "ANOTHER", "second.example.org", "CACHE", cache))
			v.comesTo("www.example.org A", "11")
			v.settled(2, 0) // both are probed, although no client has asked for the second name
			mark := logs.Mark()
			s.kill(11)
			m := v.comesTo("www.example.org A", "12")
			if rr := m.Answer[0].Header(); len(m.Answer) != 1 || rr.Name != "www.example.org." || rr.Ttl > 20 || m.Rcode != dns.RcodeSuccess {
				t.Errorf("the second one takes over with\n%s", m)
			}
			if got := types(v.comesTo("shop.www.example.org A", "12").Answer); got != "CNAME A" {
				t.Errorf("the alias has %s", got)
			}
			e := s.explain(base, "www.example.org A")
			if got := e.brief(); got != "NOERROR closed, -11 connection refused" || e.Explanations[0].Sets[0].Fallback != "second.example.org." {
				t.Errorf("%s, %+v", got, e.Explanations[0].Sets)
			}
			if steps := fmt.Sprint(e.Explanations[0].Steps); !strings.Contains(steps, "all_down is second.example.org, which takes over with 1 address") {
				t.Error(steps)
			}
			s.eventually(func() bool {
				return strings.Contains(logs.Since(mark), "1 of 1 addresses are down, serving those of second.example.org. (all_down")
			}, func() string { return logs.Since(mark) })
			s.kill(12)
			v.comesTo("www.example.org A", "11") // as serve
			if m := v.ask("www.example.org A", edns); !strings.Contains(fmt.Sprint(m.Extra), "health was disregarded") {
				t.Errorf("when both are down, the Extended DNS Error is missing: %s", m)
			}
			s.start(12)
			v.comesTo("www.example.org A", "12")
			s.start(11)
			v.comesTo("www.example.org A", "11")
		})
	}
}

// A name of another server block takes over, which is looked up through the whole server as an alias would be, and probed as the
// stanza says that names it. A reload keeps it (B69, B102).
func TestFailoverToAnotherBlock(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11")
	s.zone("example.net", "www 20 A 127.0.0.12\nwww 20 A 127.0.0.13")
	corefile := replace(failover, "ANOTHER", "www.example.net", "CACHE", "", "status 127.0.0.1:STATUS", "")
	v := s.serve(corefile)
	v.comesTo("www.example.org A", "11")
	v.settled(2, 1)
	s.kill(11)
	v.comesTo("www.example.org A", "12")
	v.mustReload(corefile + "\n")
	if m := v.ask("www.example.org A"); members(m) != "12" {
		t.Errorf("after a reload: %s", m)
	}
	s.kill(12)
	v.comesTo("www.example.org A", "11")
}

// A set that *dnssec* has signed stays whole, and no name takes over from it. Clients without the DO bit get the other name, and
// AD is never set (B24, B102).
func TestAnotherNameAboveDNSSEC(t *testing.T) {
	s := newScene(t, 12)
	s.zone("example.org", "www A 127.0.0.11\nsecond 20 A 127.0.0.12")
	s.newKey()
	v := s.serve(replace(failover, "ANOTHER", "second.example.org", "CACHE", "dnssec {\n key file DIR/Kexample.org.+013+00001\n }", "status 127.0.0.1:STATUS", ""))
	if m := v.comesTo("www.example.org A", "12"); m.AuthenticatedData {
		t.Errorf("AD is set:\n%s", m)
	}
	if m := v.ask("www.example.org A", do); members(m) != "11" || types(m.Answer) != "A RRSIG" {
		t.Errorf("the signed set became\n%s", m)
	}
}
