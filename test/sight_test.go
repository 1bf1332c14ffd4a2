package test

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sightCorefile = `example.org:0 {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        QUICK
        topology DIR/sites
        select nearest
        backup 127.0.0.12/32
        warmup 1h
        state DIR/gone/state
        force DIR/forced
        status 127.0.0.1:STATUS
    }
}`

// processSummary is what the summary says of the whole process.
type processSummary struct {
	Ready  bool
	Broken int      `json:"broken_topology_files"`
	State  string   `json:"state_error"`
	Sites  []string `json:"topology_errors"`
	Forced struct {
		Broken int `json:"broken_files"`
		Errors []string
	}
}

// The summary and the page say that a file of sites is invalid, and why the state file cannot be saved, until they are mended. Targets
// say what the stanza that leads to them knows of their address, and one field of the filter finds that (B75).
func TestSummaryOfTheProcess(t *testing.T) {
	s := newScene(t, 11, 12, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13")
	s.file("sites", nearestFile)
	s.file("forced", "")
	v, base := s.shown(sightCorefile)
	v.comesTo("www.example.org A", "11 13")
	becomes := func(what string, is func(processSummary) bool) {
		t.Helper()
		var sum processSummary
		v.eventually(func() bool { sum = processSummary{}; s.json(base+"/v1/summary", &sum); return is(sum) }, func() string { return fmt.Sprintf("%s: %+v", what, sum) })
	}
	becomes("no state file", func(x processSummary) bool { return x.Ready && x.Broken == 0 && strings.Contains(x.State, "gone") })
	s.file("sites", "site ams nonsense\n")
	becomes("a broken file of sites", func(x processSummary) bool {
		return x.Broken == 1 && len(x.Sites) == 1 && strings.HasPrefix(x.Sites[0], filepath.Join(s.dir, "sites")+":1: ")
	})
	s.file("forced", "# a comment\ndrain 127.0.0.13\ndwon 127.0.0.11\n")
	wrong := filepath.Join(s.dir, "forced") + `:3: unknown state "dwon": did you mean "down"?`
	becomes("a broken force file", func(x processSummary) bool {
		return x.Forced.Broken == 1 && len(x.Forced.Errors) == 1 && x.Forced.Errors[0] == wrong
	})
	page := s.page(base + "/")
	for _, want := range []string{"1 file of sites is invalid. What was in force before stays in force: " + filepath.Join(s.dir, "sites") + ":1: ", html.EscapeString(wrong), "State file not saved.", "All 1 names", "warming up, 1%", "site ams", "backup"} {
		if want == "All 1 names" {
			want = "The 1 name is healthy; 3 targets are up."
		}
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	s.file("sites", nearestFile)
	incident := s.page(base + "/v1/incident?format=markdown")
	for _, want := range []string{"`" + wrong + "`", filepath.Join(s.dir, "sites") + ":1: ", "the state file cannot be saved: `state: "} {
		if !strings.Contains(incident, want) {
			t.Errorf("the incident lacks %q:\n%s", want, incident)
		}
	}
	s.file("forced", "")
	becomes("files that are mended", func(x processSummary) bool {
		return x.Broken == 0 && x.Sites == nil && x.Forced.Broken == 0 && x.Forced.Errors == nil
	})
	var list struct {
		Targets []struct {
			Address, Site string
			Rank          int
			Warmup        float64
			Stanzas       []string
		}
	}
	s.json(base+"/v1/targets?q=AMS+127.0.0.12/32+Corefile:4", &list)
	if len(list.Targets) != 1 || list.Targets[0].Site != "ams" || list.Targets[0].Rank != 1 || list.Targets[0].Warmup == 0 || len(list.Targets[0].Stanzas) != 1 {
		t.Errorf("%+v", list)
	}
	var checks struct{ Checks []struct{ Stanzas []string } }
	if s.json(base+"/v1/checks", &checks); len(checks.Checks) != 1 || len(checks.Checks[0].Stanzas) != 1 || !strings.HasSuffix(checks.Checks[0].Stanzas[0], ":4") {
		t.Errorf("%+v", checks)
	}
	// The reload saves nothing, and what is not kept does not fail.
	if err := os.MkdirAll(filepath.Join(s.dir, "gone"), 0o755); err != nil {
		t.Fatal(err)
	}
	v.mustReload(strings.Replace(replace(strings.ReplaceAll(sightCorefile, "STATUS", base[strings.LastIndexByte(base, ':')+1:]), "limit", "limit"), "state DIR/gone/state", "", 1))
	becomes("no state", func(x processSummary) bool { return x.State == "" })
}

// The first sentence counts a name as running with fewer if its answer has lost an address since, whichever page of names is shown: a
// backup that waits is no loss, and neither is a check that another one outvotes (B75).
func TestSentenceOfManyNames(t *testing.T) {
	const names = 25 // more than the page asks for
	records := ""
	for i := range names {
		records += fmt.Sprintf("n%d A 127.0.0.11\nn%d A 127.0.0.12\nn%d A 127.0.0.13\n", i, i, i)
	}
	for what, c := range map[string]struct {
		stanza         string
		kill           []int
		up, down       int
		healthy, fewer string
	}{
		"a backup":      {"backup 127.0.0.13/32", []int{13}, 2, 1, "All 25 names are healthy; 1 of 3 targets is down.", "25 names run with fewer; 2 of 3 targets are down."},
		"another check": {"check tcp://:9\nrequire any", nil, 3, 3, "All 25 names are healthy; 3 of 6 targets are down.", "25 names run with fewer; 4 of 6 targets are down."},
	} {
		t.Run(what, func(t *testing.T) {
			s := newScene(t, 11, 12, 13)
			s.zone("example.org", records)
			v, base := s.shown("example.org:0 {\nbind 127.0.0.1\nfile DIR/example.org\nmultivalue {\nQUICK\n" + c.stanza + "\nstatus 127.0.0.1:STATUS\n}\n}")
			all := func() {
				for i := range names {
					v.ask(fmt.Sprintf("n%d.example.org A", i))
				}
			}
			all()
			v.settled(3, c.down-len(c.kill))
			s.kill(c.kill...)
			v.settled(c.up, c.down)
			all()
			says := func(want string) {
				t.Helper()
				for _, query := range []string{"/", "/?names=2", "/?sort=name&names=2", "/?q=n24"} {
					text := ""
					s.eventually(func() bool { text = s.page(base + query); return strings.Contains(text, want) }, func() string { return fmt.Sprintf("%s lacks %q:\n%s", query, want, text) })
				}
			}
			says(c.healthy)
			var incident struct{ Names []struct{ Name string } }
			if s.json(base+"/v1/incident", &incident); len(incident.Names) != 0 {
				t.Errorf("the incident has %+v", incident.Names)
			}
			s.kill(12) // and no query comes
			v.settled(c.up-1, c.down+1)
			says(c.fewer)
		})
	}
}
