package rules

import (
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/pool"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
)

// parseCorefile reads the stanzas of the first server block of a Corefile.
func parseCorefile(text string) ([]*corefile.Config, error) {
	blocks, err := caddyfile.Parse("Corefile", strings.NewReader(text), nil)
	if err != nil {
		return nil, err
	}
	return corefile.Parse(&caddy.Controller{
		Dispenser: caddyfile.NewDispenserTokens("Corefile", blocks[0].Tokens["multivalue"]), ServerBlockKeys: blocks[0].Keys,
	})
}

// The most specific zone wins, only whole labels match, and case does not matter (B20).
func TestZones(t *testing.T) {
	configs, err := parseCorefile(`example.org {
    multivalue {
        check tcp://:80
        except static.example.org
    }
    multivalue a.example.org {
        check tcp://:81
    }
    multivalue x.static.example.org {
        check tcp://:82
    }
}`)
	if err != nil {
		t.Fatal(err)
	}
	var stanzas []*Stanza
	for _, c := range configs {
		stanzas = append(stanzas, NewStanza(c, pool.NewCheckSpec))
	}
	b := NewBlock(nil, configs, stanzas)
	for name, want := range map[string]string{
		"example.org.":                "tcp://:80",
		"www.example.org.":            "tcp://:80",
		"WWW.EXAMPLE.ORG.":            "tcp://:80",
		"a.example.org.":              "tcp://:81",
		"b.A.example.org.":            "tcp://:81",
		"ba.example.org.":             "tcp://:80",
		`b\.a.example.org.`:           "tcp://:80", // the label is b.a
		"static.example.org.":         "exempt",
		"deep.in.static.example.org.": "exempt",
		"x.static.example.org.":       "tcp://:82",
		"org.":                        "none",
		".":                           "none",
		"evilexample.org.":            "none",
	} {
		got := "none"
		if z := b.Zones.Find(name); z != nil && z.Stanza == nil {
			got = "exempt"
		} else if z != nil {
			got = z.Stanza.checks[0].Name
		}
		if got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
