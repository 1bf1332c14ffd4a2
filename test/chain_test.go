package test

import (
	"fmt"
	"testing"

	"github.com/miekg/dns"
)

const twoOfThree = "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13\nshop CNAME www"

// A dead server leaves the answers, whatever other plugins are in the block (T13, T26-T28).
func TestAmongOtherPlugins(t *testing.T) {
	for _, c := range []struct{ name, plugins, question string }{
		{"alone", "", "www.example.org A"},
		{"loadbalance", "loadbalance round_robin", "shop.example.org A"},
		{"minimal", "minimal", "shop.example.org A"},
		{"minimal and cache", "minimal\n cache", "shop.example.org A"},
		{"header", "header {\n response set ra\n }", "www.example.org A"},
		{"rewrite", "rewrite name exact new.example.org www.example.org answer auto", "new.example.org A"},
		{"multisocket", "multisocket 2", "www.example.org A"},
		{"nsid, bufsize, any and errors", "nsid here\n bufsize 1232\n any\n errors", "www.example.org A"},
		{"template over the file", "template IN A example.org {\n match ^alias\\.\n answer \"{{ .Name }} 60 IN CNAME www.example.org.\"\n fallthrough\n }", "alias.example.org A"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, 11, 13)
			s.zone("example.org", twoOfThree)
			v := s.serve(fmt.Sprintf(`
example.org:%s {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        QUICK
    }
    %s
}`, freePort(t), c.plugins))
			reply := v.comesTo(c.question, "11 13")
			if got := reply.Question[0].Name + " A"; got != dns.Fqdn(c.question[:len(c.question)-2])+" A" {
				t.Errorf("the answer is to %s, not to %s", got, c.question)
			}
			if n := len(reply.Answer); n == 3 && reply.Answer[0].Header().Rrtype != dns.TypeCNAME {
				t.Errorf("the alias does not come first: %v", reply.Answer)
			}
		})
	}
}

// A stanza names what rewrite makes of a name: one that names what clients ask for does not judge it.
func TestZonesAreThoseAfterRewrite(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	v := s.serve(`
example.org:0 shop.test:0 {
    bind 127.0.0.1
    file DIR/example.org example.org
    rewrite name suffix .shop.test .example.org answer auto
    multivalue example.org {
        QUICK
        except never.example.org
    }
    multivalue shop.test {
        QUICK
        all_down nodata
    }
}`)
	v.comesTo("www.shop.test A", "11") // by the first stanza
	s.kill(11)
	v.down(2)
	if got := members(v.ask("www.shop.test A")); got != "11 12" { // the second one would answer with NODATA
		t.Errorf("with all down, the answer has %q, want both", got)
	}
}

// What header and rewrite do to an answer on its way out also applies to a thinned answer.
func TestOuterPluginsSeeTheThinnedAnswer(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	v := s.serve(`
example.org:0 shop.test:0 {
    bind 127.0.0.1
    file DIR/example.org example.org
    header {
        response set ra
    }
    rewrite name suffix .shop.test .example.org answer auto
    multivalue example.org {
        QUICK
    }
}`)
	reply := v.comesTo("www.shop.test A", "11")
	if owner := reply.Answer[0].Header().Name; owner != "www.shop.test." {
		t.Errorf("the address belongs to %s, want www.shop.test., the name in the question", owner)
	}
	if !v.ask("www.example.org A").RecursionAvailable {
		t.Error("header did not set RA on a thinned answer")
	}
}

// Records from hosts and template, which make them for each answer, are judged like records of a zone. So are records
// of a zone that auto found (B59).
func TestRecordsWithoutAZoneFile(t *testing.T) {
	for name, source := range map[string]string{
		"hosts":                    "hosts {\n 127.0.0.11 www.example.org\n 127.0.0.12 www.example.org\n 127.0.0.13 www.example.org\n }",
		"hosts that falls through": "hosts {\n 127.0.0.11 other.example.org\n fallthrough\n }\n file DIR/example.org",
		"auto":                     "auto {\n directory DIR (.*) {1}\n }",
		"template":                 "template IN A {\n answer \"{{ .Name }} 60 IN A 127.0.0.11\"\n answer \"{{ .Name }} 60 IN A 127.0.0.12\"\n answer \"{{ .Name }} 60 IN A 127.0.0.13\"\n }",
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 11, 13)
			s.zone("example.org", twoOfThree)
			v := s.serve("example.org:0 {\n bind 127.0.0.1\n multivalue {\n QUICK\n }\n " + source + "\n}")
			v.comesTo("www.example.org A", "11 13")
		})
	}
}

// Answers from forward are judged too, within the networks that within names (B60).
func TestForwardedAnswersAreJudged(t *testing.T) {
	s := newScene(t, 11, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13")
	upstream := s.serve("example.org:0 {\n bind 127.0.0.1\n file DIR/example.org\n}")
	v := s.serve(".:0 {\n bind 127.0.0.1\n forward . " + upstream.addr + "\n cache\n multivalue {\n QUICK\n }\n}")
	v.comesTo("www.example.org A", "11 13")
	if got := members(upstream.ask("www.example.org A")); got != "11 12 13" {
		t.Errorf("the upstream server has %q, want all", got)
	}
}

// If two views of a zone have a stanza each, each view answers by its own stanza.
func TestViewsHaveTheirOwnStanzas(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	port := freePort(t)
	v := s.serve(`
example.org:` + port + ` {
    bind 127.0.0.1
    view validators {
        expr do() == true
    }
    file DIR/example.org
    multivalue {
        CALM
    }
}
example.org:` + port + ` {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        CALM
        dry_run
    }
}`)
	before := metric("coredns_multivalue_answers_total", "view=validators", "outcome=thin")
	v.comesTo("www.example.org A", "11", do)
	if got := members(v.ask("www.example.org A")); got != "11 12" {
		t.Errorf("the view with dry_run has %q, want all", got)
	}
	if metric("coredns_multivalue_answers_total", "view=validators", "outcome=thin") == before {
		t.Error("no answer was counted for the view")
	}
}

// Several sockets and blocks with the same check share one pool: a backend is probed once, however many of them use
// it (B64, B72).
func TestOneProbeForAllThatShareACheck(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	s.zone("example.net", "www A 127.0.0.11\nwww A 127.0.0.12")
	port := freePort(t)
	block := " {\n bind 127.0.0.1\n multisocket 2\n file DIR/%[1]s\n multivalue {\n CALM\n }\n}\n"
	v := s.serve("example.org:" + port + fmt.Sprintf(block, "example.org") + "example.net:" + port + fmt.Sprintf(block, "example.net"))
	for range 20 {
		v.ask("www.example.org A")
		v.ask("www.example.net A")
	}
	v.settled(2, 0)
	for n, b := range s.backends {
		if got := b.accepted.Load(); got != 1 {
			t.Errorf("backend %d was asked %d times, want once", n, got)
		}
	}
}
