package status

import (
	"net/netip"
	"strings"
	"testing"
)

// A query finds a word in everything that a target has, all words of it in one target, and a name by itself or by a target.
func TestFind(t *testing.T) {
	target := func(at, name, state, reason, site string, names ...string) Target {
		return Target{Address: netip.MustParseAddrPort(at), Check: "http://:80/healthz", Name: name, Names: append(names, name), State: state, Reason: reason, Site: site, Stanzas: []string{"Corefile:1"}}
	}
	s := Snapshot{
		Targets: []Target{target("192.0.2.1:80", "www.", "up", "", "ams", "api."), target("192.0.2.2:80", "www.", "down", "Connection refused", "fra"), target("[2001:db8::1]:443", "api.", "down", "timeout", "")},
		Names:   []Name{{Name: "www."}, {Name: "api."}, {Name: "bare."}},
	}
	s.Targets[2].Check, s.Targets[2].Stanzas = "https://:443/", []string{"Corefile:12"}
	for _, x := range s.Targets {
		s.Changes = append(s.Changes, Change{Address: x.Address, Check: x.Check, Name: x.Name, From: "unknown", To: x.State, Reason: x.Reason})
	}
	s.Sort()
	for query, want := range map[string]string{
		"":                        "192.0.2.1:80 192.0.2.2:80 [2001:db8::1]:443 | api. bare. www. | 3",
		"www":                     "192.0.2.1:80 192.0.2.2:80 | www. | 2",
		"API":                     "192.0.2.1:80 [2001:db8::1]:443 | api. | 2",
		"192.0.2.0/31":            "192.0.2.1:80 | api. www. | 1",
		"192.0.2":                 "192.0.2.1:80 192.0.2.2:80 | api. www. | 2",
		"2001:db8::/32":           "[2001:db8::1]:443 | api. | 1",
		"https":                   "[2001:db8::1]:443 | api. | 1",
		"connection REFUSED":      "192.0.2.2:80 | www. | 1",
		"timeout":                 "[2001:db8::1]:443 | api. | 1",
		"AMS":                     "192.0.2.1:80 | api. www. | 1",
		"corefile:1":              "192.0.2.1:80 192.0.2.2:80 | api. www. | 2", // and not Corefile:12
		"www refused":             "192.0.2.2:80 | www. | 1",
		"refused ams":             " |  | 0", // no one target has both
		"api ams":                 "192.0.2.1:80 | api. | 1",
		"bare":                    " | bare. | 0",
		"nothing":                 " |  | 0",
		strings.Repeat("w ", 100): "192.0.2.1:80 192.0.2.2:80 | www. | 2",
	} {
		f := Filter{Query: query}
		var targets, names []string
		for _, x := range s.FilterTargets(f) {
			targets = append(targets, x.Address.String())
		}
		for _, x := range s.FilterNames(f) {
			names = append(names, x.Name)
		}
		got := strings.Join(targets, " ") + " | " + strings.Join(names, " ") + " | " + string(rune('0'+len(s.FilterChanges(f, s.Changes))))
		if got != want {
			t.Errorf("%.30q finds %q, want %q", query, got, want)
		}
	}
	// With another filter, one target must match both.
	if got := s.FilterNames(Filter{Query: "ams", State: "down"}); len(got) != 0 {
		t.Errorf("no target is both down and in ams, and %q leads to one", got[0].Name)
	}
	if got := s.FilterNames(Filter{Query: "www", State: "down"}); len(got) != 1 || got[0].Name != "www." {
		t.Errorf("%d names", len(got))
	}
}

// A query finds names by their outcome, as the page labels it, as its first sentence has it, or as in JSON; a part of such words is none.
func TestFindOutcomes(t *testing.T) {
	name := func(name, outcome string, checked bool, health string) Name {
		return Name{Name: name + ".", Answers: []Last{{Type: "A", Outcome: outcome, Checked: checked, Health: health}}}
	}
	s := Snapshot{Names: []Name{
		name("a", "closed", true, ""), name("b", "open", true, ""), name("c", "backup", true, ""), name("d", "thin", true, ""), name("e", "whole", true, ""),
		name("f", "whole", false, ""), name("g", "none", false, ""), name("h", "whole", true, "drained"), name("i", "sample", true, "forced"),
		name("j", "whole", true, "down"), name("k", "sample", true, ""), name("l", "closed", true, ""), name("filtered-by-name", "whole", true, ""), {Name: "m."},
	}}
	s.Names[11].Answers[0].DryRun = true
	s.Names[4].Answers = append(s.Names[4].Answers, Last{Type: "AAAA", Outcome: "backup", Checked: true})
	s.Targets = []Target{{Address: netip.MustParseAddrPort("192.0.2.1:80"), Name: "a.", Names: []string{"a."}, State: "down"}, {Address: netip.MustParseAddrPort("[2001:db8::1]:80"), Name: "m.", State: "up"}}
	s.Sort()
	for query, want := range map[string]string{
		"fails closed": "a.", "fail closed": "a.", "Fail-Closed": "a. l.", "closed": "a.", "fails open": "b.", "fail-open": "b.", "on backups": "c. e.", "is on backups": "c. e.",
		"runs with fewer": "d.", "filtered": "d. filtered-by-name.", "not filtered": "g.", "all healthy": "e. filtered-by-name.", "whole": "e. filtered-by-name.", "not checked": "f.",
		"drained, but served": "h.", "drained but served": "h.", "forced up": "i.", "down, but served": "j.", "limited": "k.", "dry run": "l.", "(dry run)": "l.",
		"fail-closed (dry run)": "l.", "all healthy filtered-by": "filtered-by-name.", "on backups 192.0.2.1": "", "fails closed 192.0.2.1": "a.", "healthy": "", "fails": "", "ails closed": "",
	} {
		var names []string
		for _, x := range s.FilterNames(Filter{Query: query}) {
			names = append(names, x.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%q finds %q, want %q", query, got, want)
		}
	}
	if got := s.FilterTargets(Filter{Query: "fails closed"}); len(got) != 1 || got[0].Name != "a." {
		t.Errorf("%d targets of names that fail closed", len(got))
	}
	if got := s.FilterNames(Filter{Query: "fails closed", State: "up"}); len(got) != 0 {
		t.Errorf("%s has no target that is up", got[0].Name)
	}
}

// A whole address or a whole check in quotes is that one alone, and a part of one is all that have it, in any case.
func TestFilterOfAddressAndCheck(t *testing.T) {
	var s Snapshot
	for _, at := range []string{"192.0.2.1:80", "192.0.2.1:8080", "192.0.2.11:80", "[2001:db8::1]:80", "[2001:db8::11]:80"} {
		for _, check := range []string{"http://:80/health", "http://:80/healthz", "http://:80/health expect 204"} {
			s.Targets = append(s.Targets, Target{Address: netip.MustParseAddrPort(at), Check: check, State: "up"})
		}
	}
	s.Sort()
	for f, want := range map[Filter]int{
		{Address: "192.0.2.1"}:                                    6,
		{Address: "192.0.2.1:80"}:                                 3,
		{Address: "192.0.2.1:8"}:                                  0, // no target has that port
		{Address: "192.0.2."}:                                     9,
		{Address: "192.0.2.0/28"}:                                 9,
		{Address: ":8080"}:                                        3,
		{Address: "2001:DB8::1"}:                                  3,
		{Address: "[2001:db8::1]"}:                                3,
		{Address: "[2001:DB8::1]:80"}:                             3,
		{Address: "2001:DB8::/32"}:                                6,
		{Address: "2001:DB8"}:                                     6,
		{Check: "HTTP"}:                                           15,
		{Check: "health"}:                                         15,
		{Check: `"http://:80/health"`}:                            5,
		{Check: `"HTTP://:80/healthz"`}:                           5,
		{Check: `"health"`}:                                       0,
		{Address: "192.0.2.1:80", Check: `"http://:80/health"`}:   1,
		{Address: "192.0.2.11:80", Check: `"http://:80/healthz"`}: 1,
	} {
		if got := len(s.FilterTargets(f)); got != want {
			t.Errorf("%+v picks %d targets, want %d", f, got, want)
		}
	}
}

// A change matches by what its target is now where that is not a state that was measured: forced, drained or idle.
func TestFilterOfChangesByState(t *testing.T) {
	at := netip.MustParseAddrPort("192.0.2.1:80")
	for state, target := range map[string]Target{"forced": {Force: Force{Forced: "down"}}, "drain": {Drained: true}, "idle": {Idle: true}} {
		target.Address, target.Check, target.State = at, "tcp://:80", "up"
		other := Target{Address: netip.MustParseAddrPort("192.0.2.2:80"), Check: "tcp://:80", State: "up"}
		s := Snapshot{Targets: []Target{target, other}}
		for _, x := range s.Targets {
			s.Changes = append(s.Changes, Change{Address: x.Address, Check: x.Check, From: "down", To: "up"})
		}
		s.Sort()
		if got := s.FilterChanges(Filter{State: state}, s.Changes); len(got) != 1 || got[0].Address != at {
			t.Errorf("%s picks %+v", state, got)
		}
		if got := s.FilterChanges(Filter{State: "down"}, s.Changes); len(got) != 2 {
			t.Errorf("down picks %+v", got)
		}
	}
}
