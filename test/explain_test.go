package test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// explain requests one explanation, for a name, a type and the other parameters of the query.
func (s *scene) explain(base, question string) (e explained) {
	s.Helper()
	words := append(strings.Fields(question), "", "")
	query := url.Values{"name": {words[0]}, "type": {words[1]}}
	if key, value, ok := strings.Cut(words[2], "="); ok {
		query.Set(key, value)
	}
	s.json(base+"/v1/explain?"+query.Encode(), &e)
	return e
}

// brief is an explanation in one line: the outcome, then each member with a plus if it is served, and the reason.
func (e explained) brief() string {
	if len(e.Explanations) != 1 {
		return fmt.Sprint(len(e.Explanations), " explanations")
	}
	x := e.Explanations[0]
	line := x.Rcode + " " + x.Outcome
	for _, s := range x.Sets {
		for _, m := range s.Members {
			sign := "-"
			if m.Served {
				sign = "+"
			}
			line += ", " + sign + m.Member[strings.LastIndexByte(m.Member, '.')+1:] + " " + m.Why
		}
	}
	return line
}

const explaining = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org {
        reload 0
    }
    multivalue {
        CALM
        types A SRV
        force DIR/forced
        except exempt.example.org
        status 127.0.0.1:STATUS
    }
    multivalue sample.example.org {
        CALM
        limit 1
    }
    multivalue client.example.org {
        CALM
        limit 1
        select client
    }
    multivalue backup.example.org {
        CALM
        backup 127.0.0.12/32
    }
    multivalue nodata.example.org {
        CALM
        all_down nodata
    }
    multivalue servfail.example.org {
        CALM
        all_down servfail
    }
    multivalue fixed.example.org {
        CALM
        all_down 127.0.0.99
    }
    multivalue within.example.org {
        check http://:PORT/
        interval 24h 100ms
        timeout 1m
        within 127.0.0.8/29
    }
    multivalue cap.example.org {
        check http://:PORT/cap
        interval 24h 100ms
        timeout 1m
        within 127.0.0.0/8
        max_targets 1
    }
    multivalue special.example.org {
        CALM
        within 0.0.0.0/0
    }
    multivalue dry.example.org {
        CALM
        dry_run
    }
    multivalue weight.example.org {
        CALM
        weight 3 127.0.0.12/32
    }
    multivalue warm.example.org {
        CALM
        warmup 1h
        weight 4 127.0.0.12/32
    }
    multivalue order.example.org {
        CALM
        select client
    }
    multivalue tiers.example.org {
        CALM
        weight 3 127.0.0.12/32
        weight 65535 127.0.0.21/32
        backup 127.0.0.21/32 127.0.0.22/32
        min_up 100%
    }
    multivalue even.example.org {
        CALM
        weight 3 127.0.0.21/32
        backup 127.0.0.21/32
    }
    multivalue few.example.org {
        CALM
        weight 3 127.0.0.21/32
        limit 1
    }
    multivalue dead.example.org {
        CALM
        weight 3 127.0.0.15/32
        weight 2 127.0.0.14/32
        limit 2
    }
}`

const explainedZone = `
whole A 127.0.0.11
whole A 127.0.0.12
thin A 127.0.0.11
thin A 127.0.0.13
open A 127.0.0.13
open A 127.0.0.14
one A 127.0.0.13
alias CNAME thin
exempt A 127.0.0.13
signed A 127.0.0.11
signed A 127.0.0.13
signed RRSIG A 8 3 300 20400101000000 20200101000000 1 example.org. AAAA
forced A 127.0.0.11
forced A 127.0.0.21
drain A 127.0.0.11
drain A 127.0.0.22
_s._tcp SRV 1 1 PORT a
_s._tcp SRV 1 1 PORT b
a A 127.0.0.11
b A 127.0.0.13
sample A 127.0.0.11
sample A 127.0.0.12
client A 127.0.0.11
client A 127.0.0.12
backup A 127.0.0.12
backup A 127.0.0.13
nodata A 127.0.0.13
nodata A 127.0.0.14
servfail A 127.0.0.13
servfail A 127.0.0.14
fixed A 127.0.0.13
fixed A 127.0.0.14
within A 127.0.0.11
within A 127.0.0.80
cap A 127.0.0.11
cap A 127.0.0.12
dry A 127.0.0.11
dry A 127.0.0.13
special A 169.254.0.1
special A 169.254.0.254
new A 127.0.0.71
new A 127.0.0.72
weight A 127.0.0.11
weight A 127.0.0.12
warm A 127.0.0.11
warm A 127.0.0.12
order A 127.0.0.11
order A 127.0.0.12
tiers A 127.0.0.11
tiers A 127.0.0.12
tiers A 127.0.0.13
tiers A 127.0.0.21
tiers A 127.0.0.22
even A 127.0.0.11
even A 127.0.0.12
even A 127.0.0.21
few A 127.0.0.11
few A 127.0.0.12
dead A 127.0.0.13
dead A 127.0.0.14
dead A 127.0.0.15`

// Where several tiers are served, a share is that of its own tier. What is served whole with equal shares has none. Of those that
// are down, only those that are served are drawn from (B93).
func TestExplainOrderOfTiers(t *testing.T) {
	s := newScene(t, 11, 12, 21, 22)
	v, base := s.explains("")
	for name := range strings.FieldsSeq("tiers even few dead") {
		v.ask(name + ".example.org A")
	}
	v.settled(4, 3)
	for question, want := range map[string]string{
		"tiers.example.org A": "NOERROR backup, +12 up; weight 3, first in 75% of answers, +11 up; weight 1, first in 25% of answers, " +
			"+21 backup, needed; weight 65535, the first backup in 100% of answers, +22 backup, needed; weight 1, the first backup in 0.00153% of answers, -13 connection refused",
		"few.example.org A":  "NOERROR sample, +11 up; weight 1, first in 50% of answers, -12 up, but not in this sample; weight 1",
		"even.example.org A": "NOERROR whole, +11 up, +12 up, -21 backup, not needed",
	} {
		if got := s.explain(base, question).brief(); got != want {
			t.Errorf("%s: %s\nwant %s", question, got, want)
		}
	}
	sum := 0.0
	e := s.explain(base, "dead.example.org A")
	for _, m := range e.Explanations[0].Sets[0].Members {
		if m.Served == (m.First == 0) {
			t.Errorf("dead: %+v", m)
		}
		sum += m.First
	}
	if sum < 0.99 || sum > 1.01 {
		t.Errorf("the shares of the dead that are served sum up to %v", sum)
	}
}

// What is drawn by weight shows weights, shares and warm-up, and says that the order is drawn (B75, B93).
func TestExplainOrder(t *testing.T) {
	s := newScene(t, 11, 12)
	v, base := s.explains("")
	for name := range strings.FieldsSeq("weight warm order whole") {
		v.ask(name + ".example.org A")
	}
	v.settled(2, 0)
	for _, c := range []struct {
		question, why, of11, of12 string
		by11, by12                share
	}{
		{"whole.example.org A", "2 of 2 are up, and all are served", "up", "up", share{}, share{}},
		{"weight.example.org A", "2 of 2 are up, and all are served; their order is drawn by weight",
			"up; weight 1, first in 25% of answers", "up; weight 3, first in 75% of answers", share{1, 1, 0.25}, share{3, 1, 0.75}},
		{"warm.example.org A", "2 of 2 are up, and all are served; their order is drawn by weight and warmup",
			"up; weight 1, warmed up to 1%, first in 20% of answers", "up; weight 4, warmed up to 1%, first in 80% of answers", share{1, 0.01, 0.2}, share{4, 0.01, 0.8}},
		{"order.example.org A client=192.0.2.0/24", "2 of 2 are up, and all are served; their order is drawn by the client's network, here 192.0.2.0/24",
			"up; weight 1, first in 50% of answers", "up; weight 1, first in 50% of answers", share{1, 1, 0.5}, share{1, 1, 0.5}},
		{"order.example.org A", "2 of 2 are up, and all are served; their order is drawn by the client's network, here 127.0.0.0/24",
			"up; weight 1, first in 50% of answers", "up; weight 1, first in 50% of answers", share{1, 1, 0.5}, share{1, 1, 0.5}},
	} {
		e := s.explain(base, c.question)
		set := e.Explanations[0].Sets[0]
		if set.Why != c.why || len(set.Members) != 2 {
			t.Errorf("%s: %d members, %q, want %q", c.question, len(set.Members), set.Why, c.why)
		}
		for _, m := range set.Members {
			why, want := c.of11, c.by11
			if m.Member == "127.0.0.12" {
				why, want = c.of12, c.by12
			}
			if m.Why != why || m.share != want {
				t.Errorf("%s: %s: %q, %+v, want %q, %+v", c.question, m.Member, m.Why, m.share, why, want)
			}
		}
	}
}

// explains starts a server whose answers can be explained, with a file of forced states.
func (s *scene) explains(forced string) (v *server, base string) {
	s.Helper()
	s.zone("example.org", explainedZone)
	s.file("forced", forced)
	return s.shown(explaining)
}

// Each outcome is explained by what is served (B75). The explanation is of the answer that a query gets.
func TestExplain(t *testing.T) {
	s := newScene(t, 11, 12, 21, 22)
	v, base := s.explains("down 127.0.0.21\ndrain 127.0.0.22")
	for name := range strings.FieldsSeq("whole thin open drain forced sample client backup nodata servfail fixed within cap dry special") {
		v.ask(name + ".example.org A")
	}
	v.ask("_s._tcp.example.org SRV")
	v.settled(5, 2) // 11, 12, 21 and 22, and one target of the other check; 13 and 14 are down
	cases := map[string]string{
		"whole A":           "NOERROR whole, +11 up, +12 up",
		"thin A":            "NOERROR thin, +11 up, -13 connection refused",
		"alias A":           "NOERROR thin, +11 up, -13 connection refused",
		"open A":            "NOERROR open, +13 served although it is down: connection refused, +14 served although it is down: connection refused",
		"one A":             "NOERROR whole, +13 the only address, served although it is down: connection refused (checked for thin.example.org.)",
		"exempt A":          " none",
		"signed A do=1":     "NOERROR none",
		"forced A":          "NOERROR thin, +11 up, -21 forced down",
		"drain A":           "NOERROR whole, +11 up, -22 drained, not needed",
		"sample A":          "NOERROR sample, +11 up, -12 up, but not in this sample",
		"backup A":          "NOERROR backup, +12 backup, needed, -13 connection refused",
		"nodata A":          "NOERROR closed, -13 connection refused, -14 connection refused",
		"servfail A":        "SERVFAIL closed, -13 connection refused, -14 connection refused",
		"fixed A":           "NOERROR closed, -13 connection refused, -14 connection refused",
		"within A":          "NOERROR whole, +11 up, +80 outside within, served unchecked",
		"dry A":             "NOERROR thin, +11 dry run, +13 dry run",
		"special A":         "NOERROR whole, +1 a special address that within does not name, served unchecked, +254 a special address that within does not name, served unchecked",
		"new A":             "NOERROR whole, +71 not watched yet, so it is served, +72 not watched yet, so it is served",
		"whole TXT":         " none",
		"nowhere A":         "NXDOMAIN none",
		"_s._tcp SRV":       "NOERROR thin, + up, - connection refused",
		"outside.invalid A": "0 explanations",
	}
	for question, want := range cases {
		if name, rest, _ := strings.Cut(question, " "); !strings.Contains(name, ".inv") {
			question = name + ".example.org " + rest
		}
		got := s.explain(base, question).brief()
		if want == "NOERROR open, +13 served although it is down: connection refused, +14 served although it is down: connection refused" && strings.HasPrefix(got, "NOERROR open, +14") {
			continue // the one that came up last is first
		}
		if got != want {
			t.Errorf("%s: %s\nwant %s", question, got, want)
		}
	}
	for question, has := range map[string]bool{"thin.example.org A": true, "nodata.example.org A": true, "servfail.example.org A": false} { // SERVFAIL has no TTL
		if steps := fmt.Sprint(s.explain(base, question).Explanations[0].Steps); strings.Contains(steps, "the TTL of") != has {
			t.Errorf("a step about the TTL of %s: want %t: %s", question, has, steps)
		}
	}
	if n := targetsIn("unknown"); n != 0 {
		t.Errorf("explaining added targets: %d", n)
	}
	v.agrees(base, cases)
}

// agrees checks that an explanation has the same records as an answer, where the answer does not depend on chance.
func (v *server) agrees(base string, cases map[string]string) {
	v.Helper()
	for question := range cases {
		name, qtype, _ := strings.Cut(question, " ")
		if strings.Contains(name, ".inv") || name == "sample" || name == "new" || name == "exempt" || qtype == "TXT" || strings.Contains(qtype, "do=") {
			continue
		}
		reply := v.ask(name + ".example.org " + qtype)
		e := v.explain(base, name+".example.org "+qtype).Explanations[0]
		var want []string
		for _, rr := range reply.Answer {
			want = append(want, strings.ReplaceAll(rr.String(), "\t", " "))
		}
		if fmt.Sprint(want) != fmt.Sprint(e.Records) {
			v.Errorf("%s: the explanation has %q, the answer has %q", question, e.Records, want)
		}
	}
}

// The steps name what decided, and a client's explanation shows the draw that this client gets in its answers.
func TestExplainSteps(t *testing.T) {
	s := newScene(t, 11, 12)
	v, base := s.explains("")
	for name := range strings.FieldsSeq("thin client cap signed") {
		v.ask(name + ".example.org A")
	}
	v.settled(3, 1)
	v.ask("cap.example.org A")
	for question, want := range map[string]string{
		"thin.example.org A":        "judges this name, which is in its zone example.org.",
		"signed.example.org A do=1": "a DNSSEC signature covers it",
		"exempt.example.org A":      "is exempt",
		"one.example.org A":         "one.example.org. A is down, but served: it is the only address, served although it is down: connection refused (checked for thin.example.org.)",
		"new.example.org A":         "new.example.org. A is not checked: 2 of 2 are not down, and all are served",
		"special.example.org A":     "special.example.org. A is not checked: 2 of 2 are not down, and all are served",
		"nowhere.example.org A":     "the answer is negative",
		"thin.example.org TXT":      "this type is not judged",
		"cap.example.org A":         "cap.example.org. A is all healthy: 2 of 2 are not down, and all are served",
	} {
		e := s.explain(base, question)
		if text := fmt.Sprint(e.Explanations[0].Steps); !strings.Contains(text, want) {
			t.Errorf("%s: %s", question, text)
		}
	}
	s.eventually(func() bool {
		v.ask("cap.example.org A")
		return strings.Contains(s.explain(base, "cap.example.org A").brief(), "not watched, because a limit of targets is reached (max_targets), served unchecked")
	}, func() string { return s.explain(base, "cap.example.org A").brief() })
	drawn := make(map[string]bool)
	for n := range 8 {
		e := s.explain(base, fmt.Sprintf("client.example.org A client=198.51.%d.0/24", n)).Explanations[0]
		drawn[fmt.Sprint(e.Records)] = true
		if !strings.Contains(fmt.Sprint(e.Steps), fmt.Sprintf("here 198.51.%d.0/24, decides which are served", n)) {
			t.Errorf("%q", e.Steps)
		}
	}
	if len(drawn) != 2 {
		t.Errorf("eight clients draw %v", drawn)
	}
}

// A reader of the page learns nothing that multivalue does not judge: explain does no zone transfer and asks for no
// other type, because a plugin above, such as acl, may deny those to all clients (B75).
func TestExplainAsksForNothingElse(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww TXT secret\nhidden A 127.0.0.13")
	v, base := s.shown(`
example.org:0 {
    bind 127.0.0.1
    acl {
        block
    }
    transfer {
        to 127.0.0.1
    }
    file DIR/example.org
    multivalue {
        CALM
        status 127.0.0.1:STATUS
    }
}`)
	if m := v.ask("www.example.org TXT"); m.Rcode != dns.RcodeRefused {
		t.Fatalf("acl answers %s", dns.RcodeToString[m.Rcode])
	}
	for question, want := range map[string]string{
		"example.org AXFR": "not judged", "example.org IXFR": "not judged", "www.example.org ANY": "not judged",
		"www.example.org TXT": "not judged", "www.example.org CNAME": "not judged", "www.example.org MX": "not judged",
		"www.example.org A": "not watched yet",
	} {
		_, body := s.get(base + "/v1/explain?name=" + strings.Replace(question, " ", "&type=", 1))
		if !strings.Contains(body, want) || strings.Contains(body, "secret") || strings.Contains(body, "127.0.0.13") {
			t.Errorf("%s: %s", question, body)
		}
		if e := s.explain(base, question).Explanations; want == "not judged" && (len(e) != 1 || len(e[0].Records) > 0 || e[0].Rcode != "") {
			t.Errorf("%s: %+v", question, e)
		}
	}
}

// What another server block judges is left to that block, and the explanation refers to it. Before the first query an
// alias cannot be followed, and the explanation says that (B75).
func TestExplainLeavesOthersAlone(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "shop CNAME www.example.net.\nwww A 127.0.0.11\nwww A 127.0.0.12")
	s.zone("example.net", "www CNAME web\nweb A 127.0.0.11\nweb A 127.0.0.12")
	for name, stanza := range map[string]string{"limit": "limit 1", "dry run": "dry_run"} {
		t.Run(name, func(t *testing.T) {
			s := &scene{TB: t, port: s.port, dir: s.dir}
			v, base := s.shown(replace(twoBlocks, "ORG", "status 127.0.0.1:STATUS", "NET", stanza))
			e := s.explain(base, "shop.example.org A").Explanations[0]
			if text := fmt.Sprint(e.Steps); !strings.Contains(text, "no query has arrived yet, so aliases cannot be followed: ask the server once") || e.Rcode != "" || len(e.Records) > 0 {
				t.Errorf("before any query: %+v", e)
			}
			v.ask("shop.example.org A")
			e = s.explain(base, "shop.example.org A").Explanations[0]
			if text := fmt.Sprint(e.Steps); !strings.Contains(text, "the server block dns://example.net.:0 judges www.example.net. A; ask for that name") || strings.Contains(text, "passes unchanged") {
				t.Errorf("%q", e.Steps)
			}
			if got := fmt.Sprint(len(e.Sets), " ", e.Rcode, " ", e.Records); got != "0 NOERROR [shop.example.org. 300 IN CNAME www.example.net.]" {
				t.Error(got)
			}
			if e := s.explain(base, "www.example.net A").Explanations; len(e) != 1 || len(e[0].Sets) != 1 {
				t.Errorf("%+v", e)
			}
		})
	}
}

// A block explains a name only if the query reaches that block. It does not if another block on the same listener has
// a longer zone, with or without multivalue, before it or after it. It does if a view may let the query through, or
// on a listener of its own (B75).
func TestExplainWhoIsAsked(t *testing.T) {
	const rest = "bind 127.0.0.1\n file DIR/zone example.org\n multivalue {\n CALM\n status 127.0.0.1:STATUS\n }\n"
	const none = "bind 127.0.0.1\n erratic\n"
	for name, c := range map[string]struct{ corefile, want string }{
		"alone":      {"example.org:0 {\n" + rest + "}", "example.org."},
		"after":      {"example.org:0 {\n" + rest + "}\nsub.example.org:0 {\n" + none + "}", ""},
		"before":     {"sub.example.org:0 {\n" + none + "}\nexample.org:0 {\n" + rest + "}", ""},
		"both":       {"example.org:0 {\n" + rest + "}\nexample.net:0 sub.example.org:0 {\n" + rest + "}", "sub.example.org."},
		"other":      {"example.org:0 {\n" + rest + "}\nother.example.org:0 {\n" + none + "}", "example.org."},
		"its own":    {"example.org:0 sub.example.org:0 {\n" + rest + "}", "sub.example.org."},
		"a view":     {"example.org:0 {\n" + rest + "}\nsub.example.org:0 {\n view some {\n expr incidr(client_ip(), '192.0.2.0/24')\n }\n " + none + "}", "example.org."},
		"a listener": {"example.org:0 {\n" + rest + "}\nsub.example.org:0 {\n" + strings.Replace(none, "0.0.1", "0.0.2", 1) + "}", "example.org."},
		"a port":     {"example.org:0 {\n" + rest + "}\nsub.example.org:PORT {\n" + none + "}", "example.org."},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.file("zone", zoneText("example.org", "www.sub A 127.0.0.11\nwww.sub A 127.0.0.12"))
			_, base := s.shown(c.corefile)
			var got []string
			for _, e := range s.explain(base, "www.sub.example.org A").Explanations {
				got = append(got, e.Zone)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("the explanation is of the stanza of %q, want %q", got, c.want)
			}
		})
	}
}
