package web

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// mixedSource has targets in every state, several checks of one address, and what is forced against what is measured.
func mixedSource() *testSource {
	f := newTestSource(40) // 4 are down, with the same reason
	for i := range f.snap.Targets {
		t := &f.snap.Targets[i]
		switch i {
		case 0: // measured up, forced down: it counts as up everywhere
			t.Force = status.Force{Forced: "down", Note: "disk"}
		case 1:
			t.Force = status.Force{Forced: "drain"}
		case 2:
			t.Drained = true
		case 5, 6:
			t.Idle = true
		case 7:
			t.State = "unknown"
		case 13: // measured down, forced up: it counts as down everywhere
			t.Force = status.Force{Forced: "up"}
		}
	}
	second := f.snap.Targets[20]
	second.Address, second.Check, second.State, second.Reason = netip.AddrPortFrom(second.Address.Addr(), 443), "https://:443/", "down", "timeout"
	f.snap.Targets = append(f.snap.Targets, second)
	f.snap.Changes = []status.Change{{Number: 1, At: noon, Address: second.Address, Check: second.Check, Name: second.Name, From: "up", To: "down"}}
	f.snap.Summary.Running, f.snap.Summary.Ready, f.snap.Summary.Names = true, true, len(f.snap.Names)
	f.snap.Sort()
	return f
}

// picks counts targets of a snapshot, and their addresses.
func picks(s *status.Snapshot, is func(*status.Target) bool) (targets, addresses int) {
	seen := make(map[netip.Addr]bool)
	for i := range s.Targets {
		if t := &s.Targets[i]; is(t) {
			targets++
			seen[t.Address.Addr()] = true
		}
	}
	return targets, len(seen)
}

// The sentence, the title, the counts, the filters, the captions and the JSON count the same, and say what they count (B75).
func TestCountsAgree(t *testing.T) {
	f := mixedSource()
	all, addresses := picks(&f.snap, func(*status.Target) bool { return true })
	page := body(t, ask(t, f, "GET", "/"))
	states := map[string]func(*status.Target) bool{
		"up": func(t *status.Target) bool { return t.State == "up" }, "down": func(t *status.Target) bool { return t.State == "down" },
		"unknown": func(t *status.Target) bool { return t.State == "unknown" }, "idle": func(t *status.Target) bool { return t.Idle },
		"forced": func(t *status.Target) bool { return t.Forced != "" }, "drain": func(t *status.Target) bool { return t.Forced == "drain" || t.Drained },
	}
	down, _ := picks(&f.snap, states["down"])
	for _, want := range []string{
		fmt.Sprintf("%d of %d targets are down.</p>", down, all), fmt.Sprintf("<title>%d down – ", down),
		fmt.Sprintf("<b>%d</b> targets</a> at %d addresses", all, addresses), fmt.Sprintf("<b>%d</b> names</a>", len(f.snap.Names)),
		fmt.Sprintf("%d targets at %d addresses; rows 1–", all, addresses), fmt.Sprintf(`data-live>1–%d of %d</small>`, len(f.snap.Names), len(f.snap.Names)),
		fmt.Sprintf(`aria-label="targets: %d down, 1 unknown, %d up"`, down, all-down-1), fmt.Sprintf(`aria-label="names: %d thin"`, len(f.snap.Names)),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n, want := strings.Count(page, "data-state="), all; n != want {
		t.Errorf("%d rows of targets, with those that unfold, want %d", n, want)
	}
	sum := 0
	for state, is := range states {
		n, at := picks(&f.snap, is)
		tile := regexp.MustCompile(`<a href="/\?state=` + state + `"[^>]*><b>(\d+)</b>`).FindStringSubmatch(page)
		if tile == nil || tile[1] != fmt.Sprint(n) {
			t.Errorf("%s: the tile says %q, want %d", state, tile, n)
		}
		if state == "up" || state == "down" || state == "unknown" {
			sum += n
		}
		picked := body(t, ask(t, f, "GET", "/?state="+state))
		words := counted(n, "target", "targets") + " at " + counted(at, "address", "addresses")
		if !strings.Contains(picked, ">"+words+"; rows") || !strings.Contains(picked, fmt.Sprintf("and %d of %d targets</p>", n, all)) || strings.Count(picked, "data-state=") != n {
			t.Errorf("%s: want %s and as many rows: %s", state, words, picked)
		}
		if !strings.Contains(picked, fmt.Sprintf("%d of %d targets are down.</p>", down, all)) {
			t.Errorf("%s: the filter changes the sentence", state)
		}
		if got := body(t, ask(t, f, "GET", "/v1/targets?state="+state)); !strings.Contains(got, fmt.Sprintf("\"total\": %d\n", n)) {
			t.Errorf("%s: the JSON has not %d", state, n)
		}
	}
	if sum != all {
		t.Errorf("the measured states add up to %d of %d", sum, all)
	}
}

func TestSentence(t *testing.T) {
	for want, c := range map[string]struct {
		names   map[string]int
		targets map[string]int
		all     int
	}{
		"1 name fails closed, 1 is on backups, 7 run with fewer; 17 of 93 targets are down":     {map[string]int{"closed": 1, "backup": 1, "thin": 7, "whole": 3}, map[string]int{"down": 17, "up": 76}, 12},
		"2 names fail open, 3 are not checked; 1 of 2 targets is down":                          {map[string]int{"open": 2, "unchecked": 2, "none": 1}, map[string]int{"down": 1, "up": 1}, 5},
		"1 name is down, but served, 2 are drained, but served, 1 is forced up; 1 target is up": {map[string]int{"down": 1, "drained": 2, "forced": 1, "whole": 3}, map[string]int{"up": 1}, 7},
		"2 names are drained, but served; 2 targets are up":                                     {map[string]int{"drained": 2}, map[string]int{"up": 2}, 2},
		"All 12 names are healthy; 93 targets are up":                                           {map[string]int{"whole": 12}, map[string]int{"up": 93}, 12},
		"The 1 name is healthy; 2 targets are up":                                               {map[string]int{"whole": 1}, map[string]int{"up": 2}, 1},
		"2 names are healthy, 1 is not checked; 90 of 93 targets are up, 3 not decided yet":     {map[string]int{"whole": 2, "unchecked": 1}, map[string]int{"up": 90, "unknown": 3}, 3},
		"No name has been checked yet; 0 of 3 targets are up, 3 not decided yet":                {map[string]int{"unchecked": 4}, map[string]int{"unknown": 3}, 4},
	} {
		n := 0
		for _, x := range c.targets {
			n += x
		}
		if got := namesText(c.names, c.all) + "; " + targetsText(c.targets, n); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	f := newTestSource(0)
	if page := body(t, ask(t, f, "GET", "/")); !strings.Contains(page, "Nothing is checked yet: ") || strings.Contains(page, "are healthy") {
		t.Errorf("with no name the page says: %s", page)
	}
	f.snap.Names = []status.Name{{Name: "a.example.org.", Answers: []status.Last{{Type: "A", Outcome: "whole"}}}}
	if page := body(t, ask(t, f, "GET", "/")); !strings.Contains(page, "Nothing is checked: 1 name was asked for, and no address to probe.") || strings.Contains(page, "healthy;") {
		t.Errorf("with a name without a check the page says: %s", page)
	}
	// A forced state can take a name down that has no target.
	for want, last := range map[string]status.Last{
		"1 name is down, but served; no address is probed.": {Type: "A", Outcome: "whole", Checked: true, Health: "down"},
		"1 name fails closed; no address is probed.":        {Type: "A", Outcome: "closed", Checked: true},
	} {
		f.snap.Names = []status.Name{{Name: "a.example.org.", Answers: []status.Last{last}}}
		if page := body(t, ask(t, f, "GET", "/")); !strings.Contains(page, want) {
			t.Errorf("the page does not say %q: %s", want, page)
		}
	}
}

// What the first page says of names goes by their current answers, whatever the filter and the page are.
func TestSentenceGoesByCurrentAnswers(t *testing.T) {
	f := newTestSource(400) // 100 names, whose last answers were filtered
	f.explanations = []status.Explanation{{Name: "n0.example.org.", Type: "A", Outcome: "closed", Checked: true, Sets: []status.Set{{Outcome: "closed"}}}}
	for _, query := range []string{"", "?q=nothing", "?names=1&sort=state&state=unknown"} {
		page := body(t, ask(t, f, "GET", "/"+query))
		if want := "20 names fail closed, 80 run with fewer; "; !strings.Contains(page, want) {
			t.Errorf("%q lacks %q", query, want)
		}
	}
	// Without a current answer, a name that has lost an address since its last one runs with fewer. A target that is down does not
	// say so: it may be a backup, or the other check of an address may be enough.
	f.explanations = nil
	for i := range f.snap.Names {
		f.snap.Names[i].Answers = []status.Last{{Type: "A", Outcome: "whole", Checked: true, Fell: i < 30}}
	}
	for _, query := range []string{"", "?names=2", "?sort=name", "?q=n99"} {
		if page, want := body(t, ask(t, f, "GET", "/"+query)), "30 names run with fewer; 40 of 400 targets are down."; !strings.Contains(page, want) {
			t.Errorf("%q: the page lacks %q", query, want)
		}
	}
}

// Each thing that is true of the whole process has a banner, and a healthy process has none.
func TestProcessNotices(t *testing.T) {
	f := newTestSource(4)
	sum := &f.snap.Summary
	sum.Running, sum.Ready = true, true
	if page := body(t, ask(t, f, "GET", "/")); strings.Contains(page, `class="notice"`) {
		t.Errorf("a healthy process has a banner: %s", page)
	}
	for want, change := range map[string]func(){
		"Not probing.":                          func() { sum.Running = false },
		"Isolated.":                             func() { sum.IsolatedSince = noon.Add(-90e9) },
		"Not ready.":                            func() { sum.Ready = false },
		"Probes are late,":                      func() { sum.LateSince = noon.Add(-90e9) },
		"It hears no other member of the fleet": func() { sum.Fleet = &status.Fleet{Alone: true} },
		"As many targets are watched as is allowed in all": func() { sum.Full = true },
		"1 force file is invalid":                          func() { sum.Forced.Broken = 1 },
		"1 force file is invalid. What was in force before stays in force: /etc/forced:3: unknown state &#34;dwon&#34;<": func() {
			sum.Forced.Broken, sum.Forced.Errors = 1, []string{`/etc/forced:3: unknown state "dwon"`}
		},
		"2 files of sites are invalid. What was in force before stays in force: /a:1: x; /b:2: y<": func() {
			sum.BrokenSites, sum.SitesErrors = 2, []string{"/a:1: x", "/b:2: y"}
		},
		"/f:4: e, and 2 more.<": func() {
			sum.Forced.Broken, sum.Forced.Errors = 6, []string{"/f:1: e", "/f:2: e", "/f:3: e", "/f:4: e", "/f:5: e", "/f:6: e"}
		},
		"State file not read.</b> When the server started: state: /s: broken": func() { sum.StateUnread = "state: /s: broken" },
		"2 files of sites are invalid":                                        func() { sum.BrokenSites = 2 },
		"no space left on device":                                             func() { sum.StateError = "no space left on device" },
		"The stanza at Corefile:3 watches 5 targets of at most 5":             func() { sum.Stanzas = []status.Stanza{{At: "Corefile:3", Full: true, Targets: 5, MaxTargets: 5}} },
		"The stanza at Corefile:0 reports what it would do": func() {
			for i := range 6 {
				sum.Stanzas = append(sum.Stanzas, status.Stanza{At: fmt.Sprint("Corefile:", i), DryRun: true})
			}
		},
		"The same holds for 2 more stanzas.": func() {
			for i := range 6 {
				sum.Stanzas = append(sum.Stanzas, status.Stanza{At: fmt.Sprint("Corefile:", i), DryRun: true})
			}
		},
	} {
		before := *sum
		change()
		if page := body(t, ask(t, f, "GET", "/")); !strings.Contains(page, want) || !strings.Contains(page, `<p class="notice">`) {
			t.Errorf("no banner says %q", want)
		}
		*sum = before
	}
}

// Changes since the reader last looked are marked, with a line between them and those before, and a link marks all as seen.
func TestSinceLastLooked(t *testing.T) {
	f := newTestSource(1)
	for i := range uint64(14) {
		f.snap.Changes = append(f.snap.Changes, status.Change{Number: i + 5, At: noon, Address: f.snap.Targets[0].Address, Name: "a.example.org.", From: "up", To: "down"})
	}
	for query, want := range map[string]string{
		"":                   "0 fresh, marker at -1, 10 in all",
		"?since=15":          "3 fresh, marker at 3, 10 in all",
		"?seen=15":           "3 fresh, marker at 3, 10 in all",
		"?since=18":          "0 fresh, marker at -1, 10 in all",
		"?since=2":           "10 fresh, marker at -1, 10 in all",
		"?since=9000":        "10 fresh, marker at -1, 10 in all", // of a process before this one
		"?since=7&changes=2": "1 fresh, marker at 1, 4 in all",
	} {
		page := body(t, ask(t, f, "GET", "/"+query))
		_, list, _ := strings.Cut(page, `id="changes"`)
		list, _, _ = strings.Cut(list, "</ol>")
		marker := -1
		if before, _, found := strings.Cut(list, `class="marker"`); found {
			marker = strings.Count(before, "<time")
		}
		if got := fmt.Sprintf("%d fresh, marker at %d, %d in all", strings.Count(list, `class="fresh"`), marker, strings.Count(list, "<time")); got != want {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
		if !strings.Contains(page, `since=18#h-changes">mark all as seen`) {
			t.Errorf("%q: no link marks all as seen", query)
		}
		if query == "?since=15" && !strings.Contains(page, "3 since you last looked") {
			t.Error("the heading does not count them")
		}
		if strings.Contains(page, "seen=15&amp;") || strings.Contains(page, "?seen=") {
			t.Errorf("%q: a link repeats what the script remembers", query)
		}
	}
}

// A target that is down changes no answer of a dry run, so its name is healthy as long as nothing else is known of it (B117).
func TestDryRunCountsAsHealthy(t *testing.T) {
	last := status.Last{Type: "A", Outcome: "open", Checked: true, Kept: 2, Total: 2, DryRun: true}
	names := []status.Name{{Name: "dry.example.org.", Answers: []status.Last{last}}}
	if got := outcomesOf(names, map[string]bool{"dry.example.org.": true}, nil); got["dry.example.org."] != "whole" {
		t.Errorf("it counts as %s", got["dry.example.org."])
	}
	snap := &status.Snapshot{Names: names, Targets: []status.Target{{State: "down", Names: []string{"dry.example.org."}}}}
	names[0].Answers[0].Fell = true
	if got := worstOutcomes(snap); got["dry.example.org."] != 0 {
		t.Errorf("an incident ranks it as %d", got["dry.example.org."])
	}
}
