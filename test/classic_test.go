package test

import (
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/ports"

	"github.com/miekg/dns"
)

const classic = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        QUICK
    }
}`

// Of three web servers behind one name, the one that stops leaves the answers, and it returns when it is back (B1).
func TestDeadServerLeavesAndReturns(t *testing.T) {
	s := newScene(t, 11, 12, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13")
	v := s.serve(classic)
	v.comesTo("www.example.org A", "11 12 13")
	s.kill(12)
	v.comesTo("www.example.org A", "11 13")
	s.start(12)
	v.comesTo("www.example.org A", "11 12 13")
}

// An alias is judged by its target, and its CNAME stays, in front (B14).
func TestAliasFollowsItsTarget(t *testing.T) {
	s := newScene(t, 11, 13)
	s.zone("example.org", `
shop CNAME www
www  A     127.0.0.11
www  A     127.0.0.12
www  A     127.0.0.13`)
	v := s.serve(classic)
	reply := v.comesTo("shop.example.org A", "11 13")
	if got := types(reply.Answer); got != "CNAME A A" {
		t.Errorf("the answer has %s, want CNAME A A", got)
	}
	s.start(12)
	reply = v.comesTo("shop.example.org A", "11 12 13")
	if got := types(reply.Answer); got != "CNAME A A A" {
		t.Errorf("the answer has %s, want CNAME A A A", got)
	}
}

// The IPv6 addresses of a name and its IPv4 addresses are judged separately: losing all of one family leaves the
// other unchanged, and each family fails open on its own (B12, T16).
func TestFamiliesAreJudgedApart(t *testing.T) {
	ports.Need(t, "::1")
	s := newScene(t, 11)
	six := s.listen("::1", answerHTTP)
	s.zone("example.org", `
www  A    127.0.0.11
www  A    127.0.0.12
www  AAAA ::1
www  AAAA ::ffff:127.0.0.19`)
	v := s.serve(strings.Replace(classic, "QUICK", "QUICK\n within ::1/128 ::ffff:127.0.0.0/104", 1))
	v.comesTo("www.example.org A", "11")
	v.comesTo("www.example.org AAAA", "1")
	six.close()
	v.comesTo("www.example.org AAAA", "1 19")
	if got := members(v.ask("www.example.org A")); got != "11" {
		t.Errorf("with all of IPv6 down, A has %q, want 11 as before", got)
	}
}

// Names compare without regard to case, and an answer keeps the case of the question (T9, B20).
func TestCaseOfTheQuestionIsKept(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	v := s.serve(classic)
	reply := v.comesTo("wWw.eXaMpLe.OrG A", "11")
	if got := reply.Question[0].Name; got != "wWw.eXaMpLe.OrG." {
		t.Errorf("the question came back as %s", got)
	}
}

// A name under except keeps all its addresses, and the other names of the zone do not (B20).
func TestExemptNameStaysWhole(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nraw A 127.0.0.11\nraw A 127.0.0.12")
	v := s.serve(strings.Replace(classic, "QUICK", "QUICK\n except raw.example.org", 1))
	v.comesTo("www.example.org A", "11")
	if got := members(v.ask("raw.example.org A")); got != "11 12" {
		t.Errorf("the exempt name has %q, want 11 12", got)
	}
}

// If all servers are down, all are served, up to the limit: the answer is never empty (B8).
func TestAllDownServesAll(t *testing.T) {
	s := newScene(t)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	v := s.serve(classic)
	v.ask("www.example.org A")
	s.down(2)
	reply := v.ask("www.example.org A")
	if got := members(reply); got != "11 12" || reply.Rcode != dns.RcodeSuccess {
		t.Errorf("with all down, the answer has %q and %s", got, dns.RcodeToString[reply.Rcode])
	}
}

// The TTL of an answer is never above the zone's TTL, and never above what the verdicts allow (B29, B30).
func TestTTLIsCapped(t *testing.T) {
	s := newScene(t, 11, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13\nbrief 7 A 127.0.0.11\nbrief 7 A 127.0.0.12")
	v := s.serve(strings.Replace(classic, "QUICK", "QUICK\n ttl 1h 20s", 1))
	for question, want := range map[string]uint32{"www.example.org A": 20, "brief.example.org A": 7} {
		expected := map[string]string{"www.example.org A": "11 13", "brief.example.org A": "11"}[question]
		for _, rr := range v.comesTo(question, expected).Answer {
			if got := rr.Header().Ttl; got != want {
				t.Errorf("%s has a TTL of %d, want %d", question, got, want)
			}
		}
	}
}
