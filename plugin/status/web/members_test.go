package web

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// newFleetSource is a source with four targets and so many members, of which the first is this process.
func newFleetSource(members int) *testSource {
	f := newTestSource(4)
	f.snap.Summary.Fleet = &status.Fleet{Alive: members - 1, Seat: 3, Heard: 1}
	for i := range members {
		m := status.FleetMember{
			Name: fmt.Sprintf("192.0.2.%d:9254", i), State: "alive", Self: i == 0, Since: noon.Add(-time.Hour), Seats: 3, Targets: 4, Version: "1.2.3",
			Site: "ams", Lacks: []status.Lack{},
		}
		if i > 0 {
			m.Heard, m.RoundTrip = noon.Add(-time.Second), 0.0012
		}
		f.snap.Members = append(f.snap.Members, m)
	}
	f.snap.Targets[3].Shared = &status.Shared{Role: "heard", Quorum: "18%", Votes: []status.Vote{
		{Member: "192.0.2.1:9254", Site: "ams", Seat: true, Standing: "counts", State: "down", Since: noon.Add(-2 * time.Minute), Reason: "connection refused"},
		{Member: "192.0.2.2:9254", Seat: true, Standing: "counts", State: "down", Since: noon.Add(-2 * time.Minute), Reason: "timed out", Doubt: 1},
		{Member: "192.0.2.3:9254", Seat: true, Standing: "silent", State: "up", Since: noon.Add(-time.Hour)},
		{Member: "192.0.2.0:9254", Self: true, Standing: "spare", State: "up", Since: noon.Add(-time.Hour)},
	}}
	f.snap.Sort()
	return f
}

// between is what a page has between two marks.
func between(page, from, to string) string {
	_, page, _ = strings.Cut(page, from)
	page, _, _ = strings.Cut(page, to)
	return page
}

// The page has a row for each member of the fleet, those first that are silent or differ (B113).
func TestFleetOnThePage(t *testing.T) {
	f := newFleetSource(5)
	f.snap.Members[3].State, f.snap.Members[3].Heard = "silent", noon.Add(-10*time.Second)
	f.snap.Members[1].State = "gone"
	x := &f.snap.Members[2]
	x.Lacks = []status.Lack{{Check: "http://:80/healthz", Pace: "every 10s", Stanza: "Corefile:3"}}
	x.MoreLacks, x.Others, x.Isolated = 2, 1, true
	page := body(t, ask(t, f, "GET", "/"))
	rows := strings.Split(between(page, `id="fleet"`, `id="changes"`), "<tr")[2:]
	if len(rows) != 5 {
		t.Fatalf("%d rows", len(rows))
	}
	for i, want := range [][]string{
		{"192.0.2.3:9254", ">silent</abbr>", `datetime="2026-01-02T11:59:50Z" title="2026-01-02T11:59:50Z">10 s</time> ago`},
		{"192.0.2.2:9254", ">isolated</small>", "does not have <code>check http://:80/healthz</code>", "of Corefile:3", "and 2 more", "has 1 check that this server does not have"},
		{"192.0.2.0:9254", "this server", `<td class="heard"></td>`, `<td class="trip"></td>`, `<span class="none">none</span>`},
		{"192.0.2.4:9254", ">alive</abbr>", ">ams<", "1 h 00 m", "1.2 ms", "3 of 4", "1.2.3", `<span class="none">none</span>`},
		{"192.0.2.1:9254", ">gone</abbr>", `<td class="differs"></td>`},
	} {
		for _, words := range want {
			if !strings.Contains(rows[i], words) {
				t.Errorf("row %d lacks %q: %s", i, words, rows[i])
			}
		}
	}
	if !strings.Contains(page, "1–5 of 5 members; of 4 shared targets this one probes 3 itself, hears of 1 from others</small>") {
		t.Error("the heading lacks the numbers")
	}
}

// Without a fleet the page says nothing of one; nor do the targets that are not shared (B113).
func TestPageWithoutAFleet(t *testing.T) {
	f := newTestSource(4)
	page := body(t, ask(t, f, "GET", "/"))
	if strings.Contains(page, ">Fleet") || strings.Contains(page, "alone") || strings.Contains(page, `class="votes"`) {
		t.Error("the page has something of a fleet")
	}
	if text := body(t, ask(t, f, "GET", "/v1/targets")); strings.Contains(text, "votes") || strings.Contains(text, "role") || strings.Contains(text, "quorum") {
		t.Errorf("JSON has something of a fleet: %s", text)
	}
	if text := body(t, ask(t, f, "GET", "/v1/members")); !strings.Contains(text, `"members": []`) || !strings.Contains(text, `"total": 0`) {
		t.Error(text)
	}
	if text := body(t, ask(t, f, "GET", "/v1/summary")); strings.Contains(text, "fleet") {
		t.Error(text)
	}
}

// A target's row has its votes, a row a vote, which unfold without a script (B113).
func TestVotesOnThePage(t *testing.T) {
	f := newFleetSource(4)
	page := body(t, ask(t, f, "GET", "/?state=down"))
	if n := strings.Count(page, `class="votes"`); n != 1 {
		t.Fatalf("%d targets have votes", n)
	}
	votes := between(page, `<details class="votes">`, "</details>")
	rows := strings.Split(votes, "<tr")[2:]
	if len(rows) != 4 || !strings.Contains(votes, "<summary>2 of 2 vantage points <small>heard</small></summary>") {
		t.Fatalf("%d rows: %s", len(rows), votes)
	}
	for i, want := range [][]string{
		{"192.0.2.1:9254", "site ams", "state down", "2 m 00 s", ">counts</abbr>", "connection refused"},
		{"192.0.2.2:9254", "timed out", "1 against"}, {"192.0.2.3:9254", "state up", ">silent</abbr>", status.StandingTerm("silent").Meaning},
		{"192.0.2.0:9254", "this server", ">spare</abbr>", "stands in"},
	} {
		for _, words := range want {
			if !strings.Contains(rows[i], words) {
				t.Errorf("row %d lacks %q: %s", i, words, rows[i])
			}
		}
	}
	if row := between(page, `id="b-targets"`, "</tbody>\n</table>\n</div>"); !strings.Contains(row, `<td class="next">by others</td>`) {
		t.Errorf("it does not say that others probe: %s", row)
	}
}

// A member that hears no other, or no vote, says so at the top of the page (B113).
func TestAloneOnThePage(t *testing.T) {
	f := newFleetSource(3)
	for _, c := range []struct {
		fleet status.Fleet
		want  string
	}{
		{status.Fleet{Alive: 2, Heard: 3, Unheard: 1}, ""},
		{status.Fleet{Alone: true, Gone: 2, Seat: 4}, "It hears no other member of the fleet, so"},
		{status.Fleet{Alone: true, Alive: 2, Unheard: 4}, "It hears no vote on any target, so"},
	} {
		f.snap.Summary.Fleet = &c.fleet
		page := body(t, ask(t, f, "GET", "/"))
		if got := strings.Contains(page, "shared targets this one probes"); got == c.fleet.Alone { // then the numbers mean nothing
			t.Errorf("%+v: the heading counts what others probe: %t", c.fleet, got)
		}
		top := between(page, `id="summary"`, "</section>")
		if got := strings.Contains(top, "This member is alone."); got != (c.want != "") || !strings.Contains(top, c.want) {
			t.Errorf("%+v: %s", c.fleet, top)
		}
	}
}

// What other members say of themselves is text on the page, and never markup (B113).
func TestHostileMembers(t *testing.T) {
	f := newFleetSource(2)
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>'`
	m := &f.snap.Members[1]
	m.Name, m.Site, m.Address, m.Version, m.State = "<script>", evil, evil, evil, evil
	m.Lacks = []status.Lack{{Check: evil, Pace: evil, Stanza: evil}}
	v := &f.snap.Targets[3].Votes[0]
	v.Member, v.Site, v.Reason, v.Standing, v.State = evil, evil, evil, evil, evil
	f.snap.Targets[3].Role, f.snap.Targets[3].Quorum = evil, evil
	a := status.Asked{Watched: true, Fleet: evil, Role: "heard", State: "down", Reason: evil}
	f.explanations = []status.Explanation{{Sets: []status.Set{{Members: []status.Member{{Checks: []status.Asked{a}}}}}}}
	for _, url := range []string{"/", "/explain?name=www.example.org"} {
		page := body(t, ask(t, f, "GET", url))
		if strings.Contains(page, "<script>") || strings.Contains(page, "<img") {
			t.Errorf("%s has markup of others:\n%s", url, page)
		}
		if !strings.Contains(page, "&lt;script&gt;") {
			t.Errorf("%s lacks what they say", url)
		}
	}
	for _, url := range []string{"/v1/members", "/v1/targets"} {
		if text := body(t, ask(t, f, "GET", url)); strings.Contains(text, "<script>") {
			t.Errorf("%s has markup: %s", url, text)
		}
	}
}

// Members come in pages, on the page and as JSON, and filters pick some of them (B113).
func TestManyMembers(t *testing.T) {
	f := newFleetSource(4000)
	for i := range f.snap.Members {
		f.snap.Members[i].Name = fmt.Sprintf("m%04d", i)
	}
	f.snap.Members[7].Site, f.snap.Members[8].State = "Fra", "silent"
	page := body(t, ask(t, f, "GET", "/?members=3&sort=name"))
	if n := strings.Count(page, `class="member `); n != membersPerPage || len(page) > 300_000 {
		t.Errorf("%d rows, %d bytes", n, len(page))
	}
	for _, want := range []string{"101–150 of 4000 members", "members=2&amp;sort=name", "members=4&amp;sort=name"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	seen := make(map[string]bool)
	for after := ""; ; {
		var list struct {
			Members []status.FleetMember
			Total   int
			Next    string
		}
		if err := json.Unmarshal([]byte(body(t, ask(t, f, "GET", "/v1/members?limit=999&after="+after))), &list); err != nil || list.Total != 4000 {
			t.Fatal(list.Total, err)
		}
		for _, m := range list.Members {
			seen[m.Name] = true
		}
		if after = list.Next; after == "" {
			break
		}
	}
	if len(seen) != 4000 {
		t.Errorf("the pages have %d members", len(seen))
	}
	for query, want := range map[string]int{"name=M001": 10, "site=fr": 1, "state=silent": 1, "state=Alive": 3999, "state=gone": 0, "site=fra&state=silent": 0} {
		if text := body(t, ask(t, f, "GET", "/v1/members?"+query)); !strings.Contains(text, fmt.Sprintf("\"total\": %d\n", want)) {
			t.Errorf("%s: want %d, got %s", query, want, text[max(0, len(text)-40):])
		}
	}
}
