package test

import (
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// loadbalance orders only the addresses that multivalue has kept: a preferred address, or the one with the highest
// weight, is not first when it is down (B7, T28).
func TestLoadbalanceOrdersWhatIsLeft(t *testing.T) {
	for _, c := range []struct{ name, balance, first string }{
		{"round_robin", "loadbalance round_robin", "11 13"},
		{"weighted", "loadbalance weighted DIR/weights", "11 13"},
		{"prefer", "loadbalance round_robin {\n prefer 127.0.0.12/32 127.0.0.13/32\n }", "13"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, 11, 13)
			s.file("weights", "www.example.org\n127.0.0.11 100\n127.0.0.12 255\n127.0.0.13 100\n")
			s.zone("example.org", twoOfThree)
			v := s.serve("example.org:0 {\n bind 127.0.0.1\n " + c.balance + "\n file DIR/example.org\n multivalue {\n CALM\n }\n}")
			v.comesTo("shop.example.org A", "11 13")
			firsts := new(dns.Msg)
			for range 60 {
				m := v.ask("shop.example.org A")
				if types(m.Answer) != "CNAME A A" || members(m) != "11 13" {
					t.Fatalf("want the alias, 11 and 13:\n%s", m)
				}
				firsts.Answer = append(firsts.Answer, m.Answer[1])
			}
			if got := distinct(firsts); got != c.first {
				t.Errorf("%q come first, want %q", got, c.first)
			}
		})
	}
}

// distinct returns the members without repetitions.
func distinct(m *dns.Msg) string {
	return members(&dns.Msg{Answer: dns.Dedup(m.Answer, nil)})
}

// A client that acl rejects gets acl's reply, and nothing is learned from its queries. Other clients get thinned
// answers (B60).
func TestClientsTurnedAway(t *testing.T) {
	for action, rcode := range map[string]int{"block": dns.RcodeRefused, "filter": dns.RcodeSuccess} {
		t.Run(action, func(t *testing.T) {
			s := newScene(t, 11, 13)
			s.zone("example.org", twoOfThree)
			v := s.serve("example.org:0 {\n bind 127.0.0.1\n acl {\n " + action + " net 127.0.0.2/32\n }\n file DIR/example.org\n multivalue {\n CALM\n }\n}")
			stranger := dns.Client{Timeout: patience, Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}}}
			turnedAway := func() {
				t.Helper()
				m, _, err := stranger.Exchange(query("www.example.org A"), v.addr)
				if err != nil || m.Rcode != rcode || len(m.Answer) > 0 {
					t.Fatalf("%v, want %s and no address:\n%s", err, dns.RcodeToString[rcode], m)
				}
			}
			turnedAway()
			v.settled(0, 0)
			v.comesTo("www.example.org A", "11 13")
			turnedAway()
		})
	}
}

// A query that another plugin drops stays without an answer, whether that plugin is above multivalue or below.
func TestDroppedQueriesStayDropped(t *testing.T) {
	for _, c := range []struct{ name, plugins, dropped, answered string }{
		{"acl above", "acl {\n drop type A\n }\n erratic {\n drop 0\n }", "www.example.org A", "www.example.org AAAA"},
		{"erratic below", "erratic {\n drop 2\n }", "www.example.org A", "www.example.org A"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t)
			v := s.serve("example.org:0 {\n bind 127.0.0.1\n prometheus 127.0.0.1:" + freePort(t) + "\n " + c.plugins + "\n multivalue {\n CALM\n all_down servfail\n }\n}")
			conn, err := dns.Dial("udp", v.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for range 5 {
				pair := []*dns.Msg{query(c.dropped), query(c.answered)}
				for _, m := range pair {
					before := metric("coredns_dns_requests_total")
					if err := conn.WriteMsg(m); err != nil {
						t.Fatal(err)
					}
					s.eventually(func() bool { return metric("coredns_dns_requests_total") > before }, func() string { return "the query is not counted" })
				}
				_ = conn.SetReadDeadline(time.Now().Add(patience))
				// If the server had sent a second answer to the two queries before, it would be read here.
				m, err := conn.ReadMsg()
				if err != nil || m.Question[0] != pair[1].Question[0] || m.Id != pair[0].Id && m.Id != pair[1].Id {
					t.Fatalf("%v, want one answer, to %s:\n%s", err, c.answered, m)
				}
			}
		})
	}
}

// A name that rewrite changes is judged under its new name, and the client's answer has the name from its question,
// even if all addresses are down (B8, B20, B31).
func TestRewrittenNames(t *testing.T) {
	for _, c := range []struct{ name, rewrite, question, answer string }{
		{"exact", "rewrite name exact new.example.org www.example.org answer auto", "new.example.org A", "A"},
		{"regex", `rewrite name regex (.*)\.old\.example\.org {1}.example.org answer auto`, "www.old.example.org A", "A"},
		{"the target of an alias", "rewrite cname exact www.cdn.test. www.example.org.", "cdn.example.org A", "CNAME A"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, 11)
			s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\ncdn CNAME www.cdn.test.")
			v := s.serve("example.org:0 {\n bind 127.0.0.1\n " + c.rewrite + "\n file DIR/example.org\n multivalue {\n QUICK\n all_down nodata\n }\n}")
			if m := v.comesTo(c.question, "11"); types(m.Answer) != c.answer {
				t.Errorf("with one down, the answer is\n%s", m)
			}
			s.kill(11)
			m := v.comesTo(c.question, "")
			if dns.Fqdn(c.question[:len(c.question)-2]) != m.Question[0].Name || m.Rcode != dns.RcodeSuccess {
				t.Errorf("with both down, the answer is\n%s", m)
			}
		})
	}
}

// tsig signs what went through multivalue, and the signature is valid: for thinned answers, for the replies of
// all_down, and for transfers, which pass unchanged (T7, T29).
func TestSignedTransactions(t *testing.T) {
	const name, secret = "client.", "c2VjcmV0IG9mIHRoZSBjbGllbnQ="
	s := newScene(t, 11, 13)
	s.zone("example.org", twoOfThree+"\nnone A 127.0.0.18\nnone A 127.0.0.19")
	v := s.serve(`
example.org:0 {
    bind 127.0.0.1
    tsig {
        secret ` + name + " " + secret + `
        require all
    }
    transfer {
        to *
    }
    file DIR/example.org
    multivalue {
        CALM
        all_down nodata
    }
}`)
	client := dns.Client{Timeout: patience, TsigSecret: map[string]string{name: secret}}
	sign := func(m *dns.Msg) { m.SetTsig(name, dns.HmacSHA256, 300, time.Now().Unix()) }
	signed := func(question string) string {
		m := query(question, sign)
		reply, _, err := client.Exchange(m, v.addr)
		if err != nil || reply.IsTsig() == nil || reply.Rcode != dns.RcodeSuccess {
			t.Fatalf("%s: %v\n%s", question, err, reply)
		}
		return members(reply)
	}
	for question, want := range map[string]string{"www.example.org A": "11 13", "none.example.org A": ""} {
		v.eventually(func() bool { return signed(question) == want }, func() string { return question + " does not come to " + want })
	}
	if m := v.ask("www.example.org A"); m.Rcode != dns.RcodeRefused {
		t.Errorf("a query without a signature gets an answer, so tsig is not in effect\n%s", m)
	}
	transfer := dns.Transfer{TsigSecret: client.TsigSecret}
	m := new(dns.Msg).SetAxfr("example.org.")
	sign(m)
	envelopes, err := transfer.In(m, v.tcp)
	if err != nil {
		t.Fatal(err)
	}
	for e := range envelopes {
		if e.Error != nil {
			t.Errorf("the transfer: %v", e.Error)
		}
	}
}
