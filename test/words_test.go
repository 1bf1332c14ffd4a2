package test

import (
	"fmt"
	"strings"
	"testing"
)

const wording = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        CALM
        force DIR/forced
        status 127.0.0.1:STATUS
    }
    multivalue min.example.org {
        CALM
        min_up 2
        all_down nodata
    }
    multivalue nodata.example.org {
        CALM
        all_down nodata
    }
    multivalue fixed.example.org {
        CALM
        all_down 127.0.0.99 2001:db8::1
    }
    multivalue slow.example.org {
        CALM
        force DIR/forced
        min_up 2
    }
    multivalue dry.example.org {
        CALM
        dry_run
    }
}`

// Answers with a forced state, with all addresses drained, or with health disregarded are told by what decides them (B75, B55).
func TestExplainNamesWhatDecides(t *testing.T) {
	s := newScene(t, 11, 12, 21, 22, 23, 24)
	s.zone("example.org", `up A 127.0.0.11
up A 127.0.0.14
drained A 127.0.0.21
drained A 127.0.0.22
dead A 127.0.0.13
dead A 127.0.0.23
min A 127.0.0.11
min A 127.0.0.13
nodata A 127.0.0.13
nodata A 127.0.0.15
fixed A 127.0.0.13
fixed A 127.0.0.15
slow A 127.0.0.11
slow A 127.0.0.12
slow A 127.0.0.22`)
	s.file("forced", "up 127.0.0.14\ndrain 127.0.0.21 127.0.0.22\ndown 127.0.0.23 # a new disk\n")
	v, base := s.shown(wording)
	names := strings.Fields("up drained dead min nodata fixed slow")
	for _, name := range names {
		v.ask(name + ".example.org A")
	}
	v.settled(5, 3) // 11, 12, 21, 22 and 23; and 13, 14 and 15
	for name, want := range map[string]struct{ brief, why, meaning string }{
		"up":      {"NOERROR whole, +11 up, +14 forced up (measured down)", "2 of 2 are up, and all are served", ""},
		"drained": {"NOERROR whole, +21 drained, but all are, +22 drained, but all are", "all 2 are drained, so they are served as if none was", ""},
		"dead":    {`NOERROR open, +13 served although it is down: connection refused, +23 served although it is forced down ("a new disk")`, "0 of 2 are up, and min_up asks for 1: health is disregarded (all_down serve)", "fewer are up (0), so those that are down are served too"},
		"min":     {"NOERROR open, +11 up, +13 served although it is down: connection refused", "1 of 2 is up, and min_up asks for 2, so those that are down are served too", "fewer are up (1), so those that are down are served too"},
		"nodata":  {"NOERROR closed, -13 connection refused, -15 connection refused", "none of 2 is up, and all_down is nodata", "[]"},
		"fixed":   {"NOERROR closed, -13 connection refused, -15 connection refused", "so 127.0.0.99 is served instead", "[]"},
		"slow":    {"NOERROR whole, +11 up, +12 up, -22 drained, not needed", "1 drained address is not needed", "min_up 2: if one more goes down, drained addresses and at last those that are down are served too"},
	} {
		e := s.explain(base, name+".example.org A")
		if got := e.brief(); got != want.brief {
			t.Errorf("%s: %s\nwant %s", name, got, want.brief)
		}
		if text := fmt.Sprint(e.Explanations[0].Steps); !strings.Contains(text, want.why) {
			t.Errorf("%s: %s\nlacks %s", name, text, want.why)
		}
		set := s.later(base, name+".example.org").Explanations[0].Sets[0]
		if got := fmt.Sprint(set.Meaning); !strings.Contains(got, want.meaning) || strings.Contains(got, "go out") {
			t.Errorf("%s: the numbers mean %s", name, got)
		}
		for _, m := range set.Members { // what is served although it is down is told what mends it, as what is left out
			if bad := !m.Served || name == "dead" || name == "min" && strings.HasSuffix(m.Member, "13"); bad != (m.Recovery != "") {
				t.Errorf("%s: %s, recovery %q", name, m.Member, m.Recovery)
			}
		}
		if name == "slow" && set.Members[2].Recovery != "it is drained, without an end: release it, or remove its line from the file of force; it is also served if fewer than 2 addresses that are not drained are up" {
			t.Errorf("what ends the drain: %s", set.Members[2].Recovery)
		}
	}
}

// A dry run is told as one everywhere: clients get all, so it is neither in the first sentence nor in an incident (B75, B117).
func TestDryRunIsToldAsOne(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "dry A 127.0.0.11\ndry A 127.0.0.12\ndry A 127.0.0.13\nnodata A 127.0.0.11\nnodata A 127.0.0.12")
	s.file("forced", "")
	v, base := s.shown(wording)
	v.ask("nodata.example.org A")
	v.ask("dry.example.org A")
	v.settled(2, 1)
	v.ask("nodata.example.org A")
	if got := len(v.ask("dry.example.org A").Answer); got != 3 {
		t.Errorf("%d records", got)
	}
	var names struct {
		Names []struct {
			Name    string
			Answers []struct {
				Outcome     string
				Kept, Total int
				DryRun      bool `json:"dry_run"`
			}
		}
	}
	s.json(base+"/v1/names", &names)
	if got := fmt.Sprint(names.Names); got != "[{dry.example.org. [{thin 3 3 true}]} {nodata.example.org. [{whole 2 2 false}]}]" {
		t.Errorf("names: %s", got)
	}
	var incident struct{ Names []struct{ Name string } }
	if s.json(base+"/v1/incident", &incident); len(incident.Names) != 0 {
		t.Errorf("incident: %+v", incident)
	}
	page := s.page(base + "/")
	for _, want := range []string{"All 2 names are healthy", "filtered (dry run)"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if text := fmt.Sprint(s.explain(base, "dry.example.org A").Explanations[0].Steps); !strings.Contains(text, "is filtered (dry run): 2 of 3 are up") {
		t.Error(text)
	}
}
