package web

import (
	"fmt"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// rowsOf are the rows of the table of targets, without those that unfold: the words of the state and the rest until what unfolds.
func rowsOf(t *testing.T, f *testSource, path string) (rows []string) {
	t.Helper()
	_, table, _ := strings.Cut(body(t, ask(t, f, "GET", path)), `id="b-targets"`)
	table, _, _ = strings.Cut(table, `id="p-targets"`)
	for {
		_, rest, found := strings.Cut(table, "<tr ")
		if !found {
			return rows
		}
		end := "</tr>"
		if strings.Contains(rest[:strings.IndexByte(rest, '>')], "group") {
			end = "</details>"
		}
		var row string
		row, table, _ = strings.Cut(rest, end)
		rows = append(rows, row)
	}
}

// Addresses that are down with the same check and reason are one row, which has all of them inside; the checks of one address are one
// row. An address that is forced, or down for another reason, has a row of its own (B75).
func TestGroups(t *testing.T) {
	f := mixedSource()
	f.snap.Targets[3].Since = noon.Add(-3 * time.Minute)
	rows := rowsOf(t, f, "/")
	if len(rows) != 38 { // 40 addresses, of which 3 share a row
		t.Errorf("%d rows", len(rows))
	}
	var same, checks string
	for _, row := range rows {
		if strings.Contains(row, "</summary>") && strings.Contains(row, "addresses</b>") {
			same += row
		} else if strings.Contains(row, "</summary>") {
			checks += row
		}
	}
	if n := strings.Count(same, "data-state="); n != 3 || !strings.Contains(same, "<b>3 addresses</b> of") || !strings.Contains(same, `<span class="reason">connection refused</span> for 3 m 00 s to 1 h 00 m`) {
		t.Errorf("%d targets share a row: %s", n, same)
	}
	for _, at := range []string{"10.0.0.3:80", "10.0.0.23:80", "10.0.0.33:80"} {
		if !strings.Contains(same, ">"+at+"<") {
			t.Errorf("the row lacks %s", at)
		}
	}
	if strings.Contains(same, ">10.0.0.13:80<") {
		t.Error("a forced address is in the row")
	}
	if n := strings.Count(checks, "data-state="); n != 2 || !strings.Contains(checks, "10.0.0.20</b>") || !strings.Contains(checks, "1 of 2 checks down") {
		t.Errorf("%d checks of one address: %s", n, checks)
	}
	for query, want := range map[string]int{"/?rows=each": 41, "/?sort=address": 40, "/?sort=latency": 40} {
		if rows := rowsOf(t, f, query); len(rows) != want {
			t.Errorf("%s: %d rows, want %d", query, len(rows), want)
		}
	}
	f.snap.Targets[3].Reason, f.snap.Targets[23].Reason = "timeout", "no route to host"
	if rows := rowsOf(t, f, "/"); len(rows) != 40 {
		t.Errorf("%d rows where no reasons are equal", len(rows))
	}
}

// What the backend and the Corefile say of a target is in its row.
func TestRowSaysAll(t *testing.T) {
	f := newTestSource(1)
	weight := uint8(40)
	x := &f.snap.Targets[0]
	x.Site, x.Rank, x.Weight, x.Warmup, x.Idle, x.Drained = "ams", 2, &weight, 0.25, true, true
	x.Force = status.Force{Forced: "drain", Note: "disk", Until: noon.Add(time.Hour)}
	row := strings.Join(rowsOf(t, f, "/"), "")
	for _, want := range []string{"site ams, backup of rank 2", "weight 40%", "warming up, 25%", ">idle<", ">drained<", "forced drain", "2026-01-02T13:00:00Z", "“disk”"} {
		if !strings.Contains(row, want) {
			t.Errorf("the row lacks %q: %s", want, row)
		}
	}
	weight = 100 // the usual one is not worth a word
	if row := strings.Join(rowsOf(t, f, "/"), ""); strings.Contains(row, "weight 100%") {
		t.Errorf("the row has the usual weight: %s", row)
	}
}

// Checks are listed under the stanzas that name them, with file and line.
func TestChecksByStanza(t *testing.T) {
	f := newTestSource(4)
	f.snap.Checks = []status.Check{
		{Check: "http://:80/", Pace: "every 10s", Stanzas: []string{"Corefile:3", "Corefile:9"}, Rise: 2, Fall: 3, Up: 3, Down: 1},
		{Check: "tcp://:25", Stanzas: []string{"Corefile:9"}, Rise: 1, Fall: 1}, {Check: "tcp://:99", Rise: 1, Fall: 1},
	}
	f.snap.Summary.Stanzas = []status.Stanza{{At: "Corefile:3", Zones: "a.example."}, {At: "Corefile:9", Zones: "b.example."}}
	_, list, _ := strings.Cut(body(t, ask(t, f, "GET", "/")), `id="checks"`)
	list, _, _ = strings.Cut(list, "</section>")
	want := []string{"<code>Corefile:3</code> a.example.", "http://:80/", "shared with <code>Corefile:9</code>", "<code>Corefile:9</code> b.example.", "http://:80/", "shared with <code>Corefile:3</code>", "tcp://:25", "Of annotations", "tcp://:99"}
	for _, w := range want {
		before, after, found := strings.Cut(list, w)
		if !found {
			t.Fatalf("the list lacks %q after the one before it: %s", w, list)
		}
		_, list = before, after
	}
	if page := body(t, ask(t, f, "GET", "/")); !strings.Contains(page, "down after 3 failures, up again after 2 successful probes in a row") {
		t.Error("failures add up: they need not be in a row")
	}
}

// hugeSource has 10,000 targets and 4,096 names with long names, full histories and answers. Every second target is down, for one of a
// hundred reasons, so that most of what can unfold does.
func hugeSource() *testSource {
	f := &testSource{snap: status.Snapshot{Taken: noon, Summary: status.Summary{Running: true, Ready: true}}}
	for i := range 4096 {
		name := fmt.Sprintf("service-%04d.department.example.org.", i)
		f.snap.Names = append(f.snap.Names, status.Name{Name: name, Answers: []status.Last{{Type: "A", Outcome: []string{"whole", "thin", "backup", "open", "closed"}[i%5], Checked: true, Kept: 3, Total: 4}}})
	}
	for i := range 10_000 {
		t := status.Target{
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 8080), Check: "https://www.example.org:8443/healthz?deep=1 expect 200-299 body \"all is well\"", Pace: "every 10s",
			Name: f.snap.Names[i%4096].Name, State: "up", Since: noon.Add(-time.Hour), Needed: 3, LastProbe: noon, NextProbe: noon.Add(5 * time.Second), Site: "amsterdam", Stanzas: []string{"Corefile:12"},
		}
		for k := range 4 {
			t.Names = append(t.Names, f.snap.Names[(i+k)%4096].Name)
		}
		for p := range status.HistoryLength {
			t.Probes.Add(time.Duration(p)*time.Millisecond, p%3 == 0)
		}
		if i%2 == 0 {
			t.State, t.Reason = "down", fmt.Sprintf("HTTP status 503 Service Unavailable in place of 200-299, from the proxy of rack %d", i%200)
		}
		f.snap.Targets = append(f.snap.Targets, t)
	}
	for i := range 1024 {
		t := f.snap.Targets[i*2]
		f.snap.Changes = append(f.snap.Changes, status.Change{Number: uint64(i + 1), At: noon, Address: t.Address, Check: t.Check, Name: t.Name, From: "up", To: "down", Reason: t.Reason})
	}
	set := status.Set{Owner: f.snap.Names[0].Name, Type: "A", Outcome: "thin", Checked: true, Why: "3 of 8 are up, and the others are left out", Kept: 3, Total: 8}
	for i := range 8 {
		set.Members = append(set.Members, status.Member{Member: fmt.Sprintf("10.0.0.%d", i), Served: i < 3, Why: "HTTP status 503 Service Unavailable in place of 200-299", Tier: "unfit", State: "down"})
	}
	f.explanations = []status.Explanation{{Block: "example.org:53", Name: set.Owner, Type: "A", Outcome: "thin", Checked: true, Sets: []status.Set{set}}}
	f.snap.Summary.Stanzas = []status.Stanza{{At: "Corefile:12", Zones: "example.org."}}
	f.snap.Checks = []status.Check{{Check: f.snap.Targets[0].Check, Pace: "every 10s", Stanzas: []string{"Corefile:12"}, Rise: 2, Fall: 3}}
	f.snap.Sort()
	return f
}

// A page of 10,000 targets and 4,096 names is under 300 KB, in every order and with every row apart.
func TestPageIsSmall(t *testing.T) {
	f := hugeSource()
	for _, query := range []string{"/", "/?rows=each", "/?sort=latency", "/?q=rack", "/?page=90&names=100", "/?state=down&names=2"} {
		if n := len(body(t, ask(t, f, "GET", query))); n > 300_000 {
			t.Errorf("%s has %d bytes, want at most 300000", query, n)
		} else {
			t.Logf("%s has %d bytes", query, n)
		}
	}
}

// BenchmarkHugePage renders pages of 10,000 targets and 4,096 names. It leaves out the time of the plugins below, and of the snapshot.
func BenchmarkHugePage(b *testing.B) {
	s := newServer("localhost:9253", hugeSource())
	for _, path := range []string{"/", "/?state=down", "/?q=service-0123", "/?q=10.0.3.0/24"} {
		b.Run(path[1:], func(b *testing.B) {
			r := httptest.NewRequest("GET", path, nil)
			r.Host = "localhost"
			size := 0
			for b.Loop() {
				w := httptest.NewRecorder()
				s.http.Handler.ServeHTTP(w, r)
				size = w.Body.Len()
			}
			b.ReportMetric(float64(size), "B/page")
		})
	}
}
