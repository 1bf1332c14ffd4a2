package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/history"
	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// testSource is a source with as many targets as a test needs.
type testSource struct {
	snap         status.Snapshot
	explanations []status.Explanation
	err          error
	hangs        chan struct{}                                  // if not nil, a snapshot closes it, and does not come until the context ends
	slow         chan struct{}                                  // if not nil, an explanation comes when it is closed
	read         func(targets []*status.Target) history.Reading // nil if nothing was recorded
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func newTestSource(n int) *testSource {
	f := &testSource{snap: status.Snapshot{Taken: noon}}
	for i := range n {
		t := status.Target{
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 80),
			Check:   "http://:80/", Pace: "every 10s", Name: fmt.Sprintf("n%d.example.org.", i/4), State: "up", Since: noon.Add(-time.Hour), Needed: 3,
		}
		t.Names = []string{t.Name}
		t.Probes.Add(2*time.Millisecond, false)
		if i%10 == 3 {
			t.State, t.Reason = "down", "connection refused"
		}
		f.snap.Targets = append(f.snap.Targets, t)
		if i%4 == 0 {
			f.snap.Names = append(f.snap.Names, status.Name{Name: t.Name, Answers: []status.Last{{Type: "A", Outcome: "thin", Kept: 3, Total: 4}}})
		}
	}
	f.snap.Sort()
	return f
}

func (f *testSource) Snapshot(ctx context.Context) (*status.Snapshot, error) {
	if f.hangs != nil {
		close(f.hangs)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if f.err != nil {
		return nil, f.err
	}
	return &f.snap, nil
}

func (f *testSource) Explain(context.Context, status.Question) ([]status.Explanation, error) {
	if f.slow != nil {
		<-f.slow
	}
	return f.explanations, f.err
}

// ask sends a request to a handler, without a network.
func ask(t *testing.T, f *testSource, method, url string, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, url, nil)
	r.Host = "localhost:9253"
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	newServer("localhost:9253", f).http.Handler.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The form repeats every filter in use, so that a user can add another one.
func TestFormKeepsFilters(t *testing.T) {
	page := body(t, ask(t, newTestSource(10), "GET", "/?name=n1&address=10.0&state=down&check=http:&sort=name"))
	for _, want := range []string{`name="name" value="n1"`, `name="address" value="10.0"`, "<option selected>down</option>", `name="check" value="http:"`, "<option selected>name</option>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the form lacks %s", want)
		}
	}
}

// Without a snapshot a browser gets a page that says so and reloads itself.
func TestPageWithoutASnapshot(t *testing.T) {
	f := newTestSource(1)
	f.err = errors.New("the pool did not say in time")
	for _, url := range []string{"/", "/explain", "/explain?name=www.example.org"} {
		r := ask(t, f, "GET", url)
		page := body(t, r)
		if r.StatusCode != http.StatusServiceUnavailable || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") || r.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %s, %v", url, r.Status, r.Header)
		}
		for _, want := range []string{"<!doctype html>", "the pool did not say in time.", `http-equiv="refresh"`, `<main id="main">`} {
			if !strings.Contains(page, want) {
				t.Errorf("%s lacks %q: %s", url, want, page)
			}
		}
	}
}

// Names and reasons that strangers choose are text on the page, and never markup.
func TestHostileText(t *testing.T) {
	f := newTestSource(1)
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>'` + "`${1}`"
	f.snap.Targets[0].Name, f.snap.Targets[0].Reason, f.snap.Targets[0].Check = evil, evil, evil
	f.snap.Targets[0].Force = status.Force{Forced: "drain", Note: evil, Until: time.Unix(2e9, 0)}
	f.snap.Names[0].Name = evil
	f.snap.Changes = []status.Change{{Number: 1, Address: f.snap.Targets[0].Address, Check: evil, To: "down", Reason: evil}}
	f.snap.Summary.Stanzas = []status.Stanza{{At: evil, DryRun: true}}
	for _, url := range []string{"/", "/?name=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", "/explain?name=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&client=%3Cimg%20src=x%3E"} {
		r := ask(t, f, "GET", url)
		if page := body(t, r); strings.Contains(page, "<script>alert") || strings.Contains(page, "<img") {
			t.Errorf("%s has markup of others:\n%s", url, page)
		}
		if csp := r.Header.Get("Content-Security-Policy"); strings.Contains(csp, "unsafe") || !strings.HasPrefix(csp, "default-src 'none'; script-src 'self'; style-src 'self'") {
			t.Errorf("%s: the policy is %s", url, csp)
		}
		if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: headers %v", url, r.Header)
		}
	}
	if text := body(t, ask(t, f, "GET", "/v1/targets")); strings.Contains(text, "<script>") {
		t.Errorf("JSON has markup: %s", text)
	}
}

// A page of ten thousand targets has no more rows than one of a hundred, and links to the other pages, in every order.
func TestLargePage(t *testing.T) {
	f := newTestSource(10_000)
	page := body(t, ask(t, f, "GET", "/?page=3&sort=latency"))
	if rows := strings.Count(page, "data-state="); rows != targetsPerPage || len(page) > 300_000 {
		t.Errorf("%d rows, %d bytes", rows, len(page))
	}
	for _, want := range []string{"101–150 of 10000", "page=2&amp;sort=latency", "page=4&amp;sort=latency", "1–20 of 2500"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	for i := range f.snap.Targets {
		if f.snap.Targets[i].State == "down" {
			f.snap.Targets[i].Reason = fmt.Sprint("reason ", i) // equal ones would share a row
		}
	}
	first := body(t, ask(t, f, "GET", "/"))
	if n := strings.Count(first, `class="down"`); n != targetsPerPage {
		t.Errorf("%d of the first %d rows are down, want all: trouble comes first", n, targetsPerPage)
	}
}

func TestSplit(t *testing.T) {
	for address, good := range map[string]bool{
		"localhost:9253": true, ":9253": true, "[::1]:9253": true, "unix:/run/x": true, "localhost:http": true,
		"localhost": false, "9253": false, "unix:": false, "unix:@x": false, "localhost:0": false, "localhost:70000": false, "localhost:x": false, "::1:9253": false,
	} {
		if _, _, err := Split(address); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// BenchmarkPage renders the first page of many targets. It leaves out the time of the plugins below.
func BenchmarkPage(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("%d targets", n), func(b *testing.B) {
			s := newServer("localhost:9253", newTestSource(n))
			r := httptest.NewRequest("GET", "/", nil)
			r.Host = "localhost"
			for b.Loop() {
				s.http.Handler.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}

// Addresses that cannot both be listened on have the same canonical form.
func TestPlace(t *testing.T) {
	for _, same := range [][2]string{{"127.0.0.1:9253", "127.0.0.1:9253"}, {"unix:/run/x", "unix:/run/../run/x"}, {"[::1]:9253", "[0:0::1]:9253"}} {
		if Place(same[0]) != Place(same[1]) {
			t.Errorf("%s leads to %s, %s to %s", same[0], Place(same[0]), same[1], Place(same[1]))
		}
	}
	if Place("127.0.0.1:9253") == Place(":9253") || Place("unix:/run/x") == Place("unix:/run/y") {
		t.Error("different places are one")
	}
}

// If the plugins below never answer, the page comes up all the same, and says so.
func TestPageWithoutAnswers(t *testing.T) {
	f := newTestSource(40)
	f.slow = make(chan struct{})
	defer close(f.slow)
	began := time.Now()
	response := ask(t, f, "GET", "/")
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK || !strings.Contains(string(body), "did not answer in time") {
		t.Errorf("%s: %s", response.Status, body)
	}
	t.Logf("it took %s", time.Since(began))
	if body, _ := io.ReadAll(ask(t, f, "GET", "/explain?name=www.example.org").Body); !strings.Contains(string(body), errLate.Error()) {
		t.Errorf("%s", body)
	}
}

// The page shows the changes that match the filter, by the state before and after.
func TestChangesAreFiltered(t *testing.T) {
	f := newTestSource(1)
	f.snap.Changes = []status.Change{
		{At: noon, Address: netip.MustParseAddrPort("192.0.2.1:80"), Name: "a.example.org.", From: "up", To: "down"},
		{At: noon, Address: netip.MustParseAddrPort("192.0.2.2:80"), Name: "b.example.org.", From: "unknown", To: "down"},
	}
	for query, want := range map[string]string{"": "ab", "name=a.": "a", "address=192.0.2.2/32": "b", "state=up": "a", "state=down": "ab", "state=drain": "", "name=c.": ""} {
		_, list, _ := strings.Cut(body(t, ask(t, f, "GET", "/?"+query)), `id="changes"`)
		for _, name := range []string{"a", "b"} {
			if got := strings.Contains(list, ">"+name+".example.org.<"); got != strings.Contains(want, name) {
				t.Errorf("%q: the change of %s is shown: %t", query, name, got)
			}
		}
		if query == "" && !strings.Contains(list, "2026-01-02 12:00:00 UTC") {
			t.Errorf("no time of day: %s", list)
		}
	}
}

// A row and a change link to the explanation of the answer that contains the address.
func TestLinksToExplanations(t *testing.T) {
	f := newTestSource(0)
	for name, types := range map[string]string{"a": "", "b": "A AAAA", "c": "SRV", "d": "A HTTPS", "e": "A"} {
		n := status.Name{Name: name + ".example.org."}
		for kind := range strings.FieldsSeq(types) {
			n.Answers = append(n.Answers, status.Last{Type: kind})
		}
		f.snap.Names = append(f.snap.Names, n)
		for _, host := range []string{"192.0.2.1", "2001:db8::1"} {
			at := netip.AddrPortFrom(netip.MustParseAddr(host), uint16(name[0]))
			f.snap.Targets = append(f.snap.Targets, status.Target{Address: at, Name: n.Name, Names: []string{n.Name}})
			f.snap.Changes = append(f.snap.Changes, status.Change{Address: at, Name: n.Name})
		}
	}
	f.snap.Sort()
	for where, want := range map[string]string{
		"a 192.0.2.1": "A", "a 2001:db8::1": "AAAA", "b 192.0.2.1": "A", "b 2001:db8::1": "AAAA", "c 192.0.2.1": "SRV", "c 2001:db8::1": "SRV",
		"d 192.0.2.1": "A", "d 2001:db8::1": "HTTPS", "e 2001:db8::1": "AAAA",
	} {
		name, address, _ := strings.Cut(where, " ")
		page := body(t, ask(t, f, "GET", "/?name="+name+".&address="+address+"/128"))
		if address == "192.0.2.1" {
			page = body(t, ask(t, f, "GET", "/?name="+name+".&address="+address+"/32"))
		}
		_, page, _ = strings.Cut(page, `id="changes"`) // the targets come after them
		link := `href="/explain?name=` + name + `.example.org.&amp;type=` + want + `"`
		if n := strings.Count(page, link); n != 2 {
			t.Errorf("%s: %d links %s, want one of the row and one of the change", where, n, link)
		}
	}
}

// The explanation shows which address was probed, whatever the scheme, and the answer before the steps.
func TestExplainPage(t *testing.T) {
	f := newTestSource(1)
	asked := []status.Asked{{Address: netip.MustParseAddrPort("192.0.2.1:5432"), Check: "tcp://:5432"}, {Address: netip.MustParseAddrPort("192.0.2.2:80"), Check: "http://:80/"}}
	f.explanations = []status.Explanation{{
		Name: "a.example.org.", Type: "A", Outcome: "thin", Steps: []string{"the first step"}, Records: []string{"a record"},
		Sets: []status.Set{{Owner: "a.example.org.", Type: "A", Outcome: "thin", Members: []status.Member{{Member: "192.0.2.1", Checks: asked}}}},
	}}
	page := body(t, ask(t, f, "GET", "/explain?name=a.example.org"))
	last := 0
	for _, want := range []string{status.OutcomeTerm("thin").Meaning, "a record", "192.0.2.1:5432", "tcp://:5432", `curl <span class="flag">-i </span>http://192.0.2.2/`, "the first step"} {
		at := strings.Index(page[last:], want)
		if want == "" || at < 0 {
			t.Fatalf("the page lacks %q behind the one before it:\n%s", want, page)
		}
		last += at
	}
	if blank := body(t, ask(t, f, "GET", "/explain")); !strings.Contains(blank, "such as 192.0.2.0/24") {
		t.Errorf("the page before a question does not say what it is for:\n%s", blank)
	}
}

// A target that no query asks for keeps its state on the page, and is marked as idle. The heading counts such targets and
// leads to them; without one it says nothing of it (B84).
func TestIdleTargets(t *testing.T) {
	f := newTestSource(20)
	if page := body(t, ask(t, f, "GET", "/")); strings.Contains(page, "state=idle") {
		t.Error("the heading counts idle targets, and there are none")
	}
	f.snap.Targets[3].Idle, f.snap.Targets[4].Idle, f.snap.Summary.Idle = true, true, 2
	page := body(t, ask(t, f, "GET", "/"))
	if !strings.Contains(page, `<a href="/?state=idle"><b>2</b> of them idle</a>`) {
		t.Error("the heading does not count the idle targets")
	}
	for _, row := range strings.Split(page, "<tr")[1:] {
		want := strings.Contains(row, ">10.0.0.3:80<") || strings.Contains(row, ">10.0.0.4:80<")
		if got := strings.Contains(row, ">idle</small>"); got != want {
			t.Errorf("idle %t, want %t: %s", got, want, row)
		}
		if want && !strings.Contains(row, `curl <span class="flag">-i </span>http://10.0.0.`) {
			t.Errorf("it lost the rest of its row: %s", row)
		}
	}
	if got := body(t, ask(t, f, "GET", "/v1/targets?state=idle")); !strings.Contains(got, `"total": 2`) || !strings.Contains(got, `"state": "down"`) {
		t.Errorf("the filter finds %s", got)
	}
}

// Rows that look the same, of two views of a zone or of checks that differ in a secret alone, have ids of their own: the script would
// take one for the other, and show one of them (B117).
func TestRowsHaveDifferentIDs(t *testing.T) {
	f := newTestSource(3)
	f.snap.Targets = append(f.snap.Targets, f.snap.Targets...)
	f.snap.Sort()
	same := status.Explanation{Block: "example.org:53", Name: "n0.example.org.", Type: "A", Outcome: "closed", Checked: true, Sets: []status.Set{{Outcome: "closed"}}}
	other := same
	other.Outcome = "whole"
	f.explanations = []status.Explanation{same, other}
	for _, query := range []string{"/", "/?rows=each"} {
		page, ids := body(t, ask(t, f, "GET", query)), make(map[string]int)
		for _, rest := range strings.Split(page, ` id="`)[1:] {
			id, _, _ := strings.Cut(rest, `"`)
			ids[id]++
			if ids[id] == 2 {
				t.Errorf("%s: two elements have the id %s", query, id)
			}
		}
		_, names, _ := strings.Cut(page, `id="b-names"`)
		names, _, _ = strings.Cut(names, "</table>")
		if n := strings.Count(names, "<tr id="); n != 2 {
			t.Errorf("%s: %d rows of the two views", query, n)
		}
	}
}
