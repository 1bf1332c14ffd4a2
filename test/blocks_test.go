package test

import (
	"strings"
	"testing"
)

func replace(text string, pairs ...string) string { return strings.NewReplacer(pairs...).Replace(text) }

const twoBlocks = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        CALM
        ORG
    }
}
example.net:0 {
    bind 127.0.0.1
    file DIR/example.net
    multivalue {
        CALM
        NET
    }
}`

// If two blocks alias into each other, the stanza of each block judges its own set once, and a client's query counts
// once in each block that judged a part of it (B27, T26).
func TestBlocksThatAliasIntoEachOther(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "shop CNAME www.example.net.\nwww A 127.0.0.11\nwww A 127.0.0.12")
	s.zone("example.net", "shop CNAME www.example.org.\nwww A 127.0.0.11\nwww A 127.0.0.12")
	v := s.serve(replace(twoBlocks, "ORG", "dry_run", "NET", ""))
	for question, want := range map[string]string{
		"www.example.net A":  "11",
		"shop.example.org A": "11", // an alias in the block with dry_run leads to a block without it
		"www.example.org A":  "11 12",
		"shop.example.net A": "11 12",
	} {
		v.comesTo(question, want)
	}
}

// If the inner block samples a set, the outer block does not sample it again (B27).
func TestSampleIsDrawnOnce(t *testing.T) {
	s := newScene(t, 11, 12, 13, 14)
	s.zone("example.org", "shop CNAME www.example.net.")
	s.zone("example.net", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13\nwww A 127.0.0.14")
	v := s.serve(replace(twoBlocks, "ORG", "limit 1", "NET", "limit 3"))
	for range 30 {
		if got := len(strings.Fields(members(v.ask("shop.example.org A")))); got != 3 {
			t.Fatalf("the answer has %d addresses, want the 3 of the stanza that holds them", got)
		}
	}
}

// A query whose alias's target is in the same block counts as one answer (B27).
func TestAliasCountsOnce(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "a CNAME b\nb CNAME c.sub.example.org.\nc.sub A 127.0.0.11\nc.sub A 127.0.0.12")
	s.zone("sub.example.org", "c A 127.0.0.11\nc A 127.0.0.12")
	s.zone("alias.org", "www CNAME c.sub.example.org.")
	v := s.serve(`
.:0 {
    bind 127.0.0.1
    file DIR/alias.org alias.org
    file DIR/sub.example.org sub.example.org
    file DIR/example.org example.org
    multivalue {
        CALM
    }
}`)
	v.comesTo("www.alias.org A", "11")
	before := metric("coredns_multivalue_answers_total")
	for range 10 {
		v.ask("www.alias.org A")
	}
	if got := metric("coredns_multivalue_answers_total") - before; got != 10 {
		t.Errorf("10 queries count as %v answers", got)
	}
}

// A query whose alias's target is in another server block counts as one answer too.
func TestAliasIntoAnotherBlockCountsOnce(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "shop CNAME www.example.net.")
	s.zone("example.net", "www A 127.0.0.11\nwww A 127.0.0.12")
	v := s.serve(replace(twoBlocks, "ORG", "", "NET", ""))
	v.comesTo("shop.example.org A", "11")
	thin := metric("coredns_multivalue_answers_total", "outcome=thin")
	all := metric("coredns_multivalue_answers_total")
	for range 10 {
		v.ask("shop.example.org A")
	}
	if got := metric("coredns_multivalue_answers_total", "outcome=thin") - thin; got != 10 {
		t.Errorf("10 queries count as %v thinned answers", got)
	}
	if got := metric("coredns_multivalue_answers_total") - all; got != 10 {
		t.Errorf("10 queries count as %v answers", got)
	}
}

// If a block has several stanzas, the one with the most specific zone judges a name (B20).
func TestMostSpecificStanzaJudges(t *testing.T) {
	s := newScene(t, 11)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww.eu A 127.0.0.11\nwww.eu A 127.0.0.12\nnoteu A 127.0.0.11\nnoteu A 127.0.0.12")
	v := s.serve(`
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        CALM
    }
    multivalue eu.example.org {
        CALM
        dry_run
    }
}`)
	v.comesTo("www.example.org A", "11")
	v.comesTo("www.eu.example.org A", "11 12")
	v.comesTo("noteu.example.org A", "11")
}
