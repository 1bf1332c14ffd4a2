package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// testSource is a source with as many targets as a test needs.
type testSource struct {
	snap         status.Snapshot
	explanations []status.Explanation
	err          error
	wait         bool          // until the context ends
	slow         chan struct{} // if not nil, an explanation comes when it is closed
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
	if f.wait {
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

// Pages of any size together make the whole list, also if targets come and go between requests.
func TestPaging(t *testing.T) {
	for _, limit := range []int{1, 7, 100, 1000} {
		f := newTestSource(203)
		var got []string
		after := ""
		for n := 0; ; n++ {
			var page struct {
				Targets []struct{ Address string }
				Next    string
				Total   int
			}
			text := body(t, ask(t, f, "GET", fmt.Sprintf("/v1/targets?limit=%d&after=%s", limit, after)))
			if err := json.Unmarshal([]byte(text), &page); err != nil {
				t.Fatal(err, text)
			}
			for _, x := range page.Targets {
				got = append(got, x.Address)
			}
			if after = page.Next; after == "" {
				break
			}
			if n == 0 { // one that was shown goes, so that all others move up
				f.snap.Targets = slices.Delete(f.snap.Targets, 0, 1)
			}
		}
		want := newTestSource(203).snap.Targets
		if len(got) != len(want) {
			t.Errorf("limit %d: %d targets, want %d", limit, len(got), len(want))
		}
		for i := range min(len(got), len(want)) {
			if got[i] != want[i].Address.String() {
				t.Fatalf("limit %d: %s in place %d, want %s", limit, got[i], i, want[i].Address)
			}
		}
	}
}

func TestFilters(t *testing.T) {
	f := newTestSource(100)
	f.snap.Targets[5].Forced = "drain"
	for query, want := range map[string]int{
		"": 100, "state=down": 10, "state=drain": 1, "name=n7.": 4, "name=N7.": 4, "address=10.0.0.8/29": 8, "address=0.0.9": 11, "check=tcp": 0, "state=down&address=10.0.0.0/28": 2,
	} {
		if got := body(t, ask(t, f, "GET", "/v1/targets?"+query)); !strings.Contains(got, fmt.Sprintf("\"total\": %d\n", want)) {
			t.Errorf("%s: want %d, got %s", query, want, got[max(0, len(got)-40):])
		}
	}
	if got := body(t, ask(t, f, "GET", "/v1/names?state=down")); !strings.Contains(got, `"total": 10`) {
		t.Errorf("names with a target that is down: %s", got)
	}
}

func TestNonsenseIsRefused(t *testing.T) {
	f := newTestSource(10)
	for url, want := range map[string]int{
		"/v1/targets?limit=0": 400, "/v1/targets?limit=1001": 400, "/v1/targets?limit=x": 400, "/v1/targets?after=x": 400, "/v1/targets?after=0.": 400, "/v1/names?after=1.%23": 400, "/v1/changes?after=-1": 400, "/v1/changes?after=x": 400, "/v1/changes?limit=0": 400,
		"/v1/targets?state=bogus": 400, "/v1/names?state=unchecked": 400, "/v1/changes?state=x": 400, "/v1/targets?address=192.0.2.0/33": 400, "/v1/names?address=/": 400, "/v1/targets?state=DOWN": 200,
		"/v1/explain?name=www.example.org&do=true": 400, "/v1/explain?name=www.example.org&do=0": 200, "/v1/explain?name=www.example.org&do=1": 200,
		"/?state=bogus": 400, "/?address=x/24": 400, "/explain?name=www.example.org&do=yes": 400, "/explain?name=a..b": 400, "/explain": 200,
		"/v1/explain": 400, "/v1/explain?name=www.example.org&type=NONE": 400, "/v1/explain?name=www.example.org&client=me": 400, "/v1/explain?name=a..b": 400,
		"/v1/explain?name=www.example.org&client=192.0.2.1": 200, "/v1/explain?name=www.example.org&client=2001:db8::/32": 200,
		"/nothing": 404, "/v1/": 404, "/assets/page.html": 404, "/?name=" + strings.Repeat("x", maxQuery): 414, "/?page=-3&names=99999999999999999999": 200, "/?sort=up": 200,
	} {
		if got := ask(t, f, "GET", url); got.StatusCode != want {
			t.Errorf("%.60s: %d, want %d: %s", url, got.StatusCode, want, body(t, got))
		}
	}
	for url, want := range map[string]string{
		"/v1/targets?state=bogus": `{"error":"invalid state \"bogus\": use one of up, down, unknown, drain"}`, "/v1/explain?name=a.example&do=true": `invalid do \"true\": use 1`,
		"/?state=bogus": "invalid state &#34;bogus&#34;: use one of up, down, unknown, drain.</p>", "/explain?name=a.example&do=true": "invalid do &#34;true&#34;: use 1",
	} {
		if got := body(t, ask(t, f, "GET", url)); !strings.Contains(got, want) {
			t.Errorf("%s lacks %q: %s", url, want, got)
		}
	}
	f.err = errors.New("busy")
	for _, url := range []string{"/", "/explain", "/events", "/v1/summary", "/v1/targets", "/v1/names", "/v1/checks", "/v1/changes"} {
		if got := ask(t, f, "GET", url); got.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("without a snapshot, %s: %d", url, got.StatusCode)
		}
	}
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

// An empty list is a list and not null, as the OpenAPI file says. Before anything runs all lists are empty.
func TestEmptyLists(t *testing.T) {
	for _, path := range []string{"/v1/summary", "/v1/targets", "/v1/names", "/v1/checks", "/v1/changes", "/v1/explain?name=www.example.org"} {
		if text := body(t, ask(t, &testSource{snap: status.Snapshot{Taken: noon}}, "GET", path)); strings.Contains(text, "null") || !strings.Contains(text, "[]") {
			t.Errorf("%s: %s", path, text)
		}
	}
	f := &testSource{snap: status.Snapshot{Taken: noon, Targets: []status.Target{{Name: "www.example.org."}}}}
	if text := body(t, ask(t, f, "GET", "/v1/targets")); strings.Contains(text, "null") {
		t.Errorf("a target without names: %s", text)
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

func TestReadOnly(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} {
		if got := ask(t, newTestSource(1), method, "/v1/targets"); got.StatusCode != http.StatusMethodNotAllowed || got.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d", method, got.StatusCode)
		}
	}
	if got := ask(t, newTestSource(1), "HEAD", "/v1/targets"); got.StatusCode != http.StatusOK || body(t, got) != "" || got.ContentLength <= 0 {
		t.Errorf("HEAD: %d, %d bytes", got.StatusCode, got.ContentLength)
	}
}

// A request with the name of another site, which was made to resolve to our address, is refused.
func TestHosts(t *testing.T) {
	for address, hosts := range map[string]map[string]bool{
		"localhost:9253":    {"localhost:9253": true, "LOCALHOST": true, "localhost.:9253": true, "127.0.0.1:9253": true, "127.0.0.2": true, "[::1]:9253": true, "evil.example": false, "evil.example:9253": false, "localhost.evil.example": false, "192.0.2.1": false, "": false, "0.0.0.0": false},
		"status.local:9253": {"status.local:9253": true, "localhost:9253": true, "192.0.2.1": false, "other.local": false},
		"192.0.2.1:9253":    {"192.0.2.1:9253": true, "192.0.2.2:9253": false, "[::1]": true, "evil.example": false},
		":9253":             {"192.0.2.1:9253": true, "[2001:db8::1]:9253": true, "evil.example:9253": false, "": false},
		"0.0.0.0:9253":      {"192.0.2.1:9253": true, "evil.example:9253": false},
		"unix:/run/x":       {"evil.example": true, "": true},

		"[2001:DB8:0:0::1]:9253": {"[2001:db8::1]:9253": true, "[2001:db8::2]": false},
		"dns.example.:9253":      {"dns.example": true, "DNS.example.": true, "x.dns.example": false},
		"[fe80::1%eth0]:9253":    {"[fe80::1]": true, "[fe80::2]": false},
	} {
		s := newServer(address, newTestSource(1))
		for host, want := range hosts {
			if got := s.acceptsHost(host); got != want {
				t.Errorf("on %s, %q is meant for us: %t", address, host, got)
			}
		}
	}
	for _, url := range []string{"/", "/status.js", "/v1/targets", "/events"} {
		if got := ask(t, newTestSource(1), "GET", url, "Host", "evil.example:9253"); got.StatusCode != http.StatusMisdirectedRequest || strings.Contains(body(t, got), "10.0.0.0") {
			t.Errorf("%s by a strange name: %d", url, got.StatusCode)
		}
	}
}

// Another site may link to a page, and its scripts and images may request nothing.
func TestOtherSites(t *testing.T) {
	for _, url := range []string{"/", "/explain?name=www.example.org", "/v1/explain?name=www.example.org", "/v1/targets", "/events", "/status.js"} {
		for headers, want := range map[string]int{
			"": 200, "none navigate document": 200, "same-origin cors empty": 200, "same-origin no-cors script": 200, "cross-site navigate document": 200, "same-site navigate document": 200,
			"cross-site no-cors image": 403, "cross-site cors empty": 403, "cross-site navigate iframe": 403, "same-site cors empty": 403, "cross-site no-cors document": 403, "cross-site": 403, "odd": 403,
		} {
			words := append(strings.Fields(headers), "", "", "")
			method := "GET"
			if url == "/events" {
				method = "HEAD"
			}
			if got := ask(t, newTestSource(1), method, url, "Sec-Fetch-Site", words[0], "Sec-Fetch-Mode", words[1], "Sec-Fetch-Dest", words[2]); got.StatusCode != want {
				t.Errorf("%s from %q: %d, want %d", url, headers, got.StatusCode, want)
			}
		}
	}
}

// Every response limits what browsers do with it, and an error does, too.
func TestHeaders(t *testing.T) {
	for _, url := range []string{"/", "/explain", "/status.js", "/v1/targets", "/v1/targets?limit=0", "/nothing"} {
		got := ask(t, newTestSource(1), "GET", url).Header
		for name, want := range map[string]string{
			"Content-Security-Policy": contentSecurityPolicy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-cache",
		} {
			if got.Get(name) != want {
				t.Errorf("%s: %s is %q, want %q", url, name, got.Get(name), want)
			}
		}
	}
}

func TestETag(t *testing.T) {
	f := newTestSource(10)
	for _, url := range []string{"/", "/v1/targets", "/v1/names", "/v1/summary", "/openapi.json", "/status.css"} {
		first := ask(t, f, "GET", url)
		tag := first.Header.Get("ETag")
		if again := ask(t, f, "GET", url, "If-None-Match", `"other", `+tag); tag == "" || again.StatusCode != http.StatusNotModified || body(t, again) != "" {
			t.Errorf("%s with tag %s: %d", url, tag, again.StatusCode)
		}
	}
	tag := ask(t, f, "GET", "/v1/targets").Header.Get("ETag")
	for list, want := range map[string]int{tag: 304, "W/" + tag: 304, `W/"x", W/` + tag: 304, "*": 304, `"x"`: 200, "W/" + `"x"`: 200, strings.Trim(tag, `"`): 200, "w/" + tag: 200, "": 200} {
		if got := ask(t, f, "GET", "/v1/targets", "If-None-Match", list); got.StatusCode != want {
			t.Errorf("If-None-Match %s: %d, want %d", list, got.StatusCode, want)
		}
	}
	for _, url := range []string{"/v1/targets?limit=x", "/?state=x", "/explain?name=a..b"} {
		if refused := ask(t, f, "GET", url); refused.Header.Get("ETag") != "" {
			t.Errorf("%s: a refusal has a tag", url)
		}
	}
	f.snap.Targets[0].State = "down"
	if again := ask(t, f, "GET", "/v1/targets", "If-None-Match", tag); again.StatusCode != http.StatusOK {
		t.Errorf("after a change: %d", again.StatusCode)
	}
}

// Names and reasons that strangers choose are text on the page, and never markup.
func TestHostileText(t *testing.T) {
	f := newTestSource(1)
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>'` + "`${1}`"
	f.snap.Targets[0].Name, f.snap.Targets[0].Reason, f.snap.Targets[0].Check = evil, evil, evil
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
	first := body(t, ask(t, f, "GET", "/"))
	if n := strings.Count(first, `class="down"`); n != targetsPerPage {
		t.Errorf("%d of the first %d rows are down, want all: trouble comes first", n, targetsPerPage)
	}
}

func TestPlot(t *testing.T) {
	var h status.History
	for i := range status.HistoryLength {
		h.Add(time.Duration(i)*time.Millisecond, i%2 == 0)
	}
	h.Add(-time.Second, false)
	h.Add(24*time.Hour, true)
	d := newPlot(h)
	if len(d.Bars) != status.HistoryLength || !strings.Contains(d.Text, "16 failed") {
		t.Errorf("%d bars: %s", len(d.Bars), d.Text)
	}
	for _, b := range d.Bars {
		if b.Y < 0 || b.Height < 1 || b.Y+b.Height > d.Height {
			t.Errorf("a bar lies outside: %+v", b)
		}
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
