package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

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
		"/v1/members?state=up": 400, "/v1/members?state=ALIVE&limit=1": 200, "/v1/members?limit=0": 400, "/v1/members?after=x": 400,
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
		"/v1/targets?state=bogus": `{"error":"invalid state \"bogus\": use one of up, down, unknown, forced, drain, idle"}`, "/v1/explain?name=a.example&do=true": `invalid do \"true\": use 1`,
		"/v1/nope": `{"error":"no such resource: see /openapi.json for those there are"}`, "/nope": "<b>Error:</b> no such page.</p>",
		"/?name=nope": "The filter picks none of 3 names. <a href=\"/\">Clear the filter</a>", "/?q=nope": "The filter picks none of 10 targets. <a href=\"/\">Clear the filter</a>", "/?since=x": "invalid since &#34;x&#34;", "/?state=bogus": "invalid state &#34;bogus&#34;: use one of up, down, unknown, forced, drain, idle.</p>", "/explain?name=a.example&do=true": "invalid do &#34;true&#34;: use 1",
	} {
		if got := body(t, ask(t, f, "GET", url)); !strings.Contains(got, want) {
			t.Errorf("%s lacks %q: %s", url, want, got)
		}
	}
	f.err = errors.New("busy")
	for _, url := range []string{"/", "/explain", "/events", "/v1/summary", "/v1/targets", "/v1/names", "/v1/checks", "/v1/changes", "/v1/members"} {
		if got := ask(t, f, "GET", url); got.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("without a snapshot, %s: %d", url, got.StatusCode)
		}
	}
}

// An empty list is a list and not null, as the OpenAPI file says. Before anything runs all lists are empty.
func TestEmptyLists(t *testing.T) {
	for _, path := range []string{"/v1/summary", "/v1/targets", "/v1/names", "/v1/checks", "/v1/changes", "/v1/members", "/v1/explain?name=www.example.org"} {
		if text := body(t, ask(t, &testSource{snap: status.Snapshot{Taken: noon}}, "GET", path)); strings.Contains(text, "null") || !strings.Contains(text, "[]") {
			t.Errorf("%s: %s", path, text)
		}
	}
	f := &testSource{snap: status.Snapshot{Taken: noon, Targets: []status.Target{{Name: "www.example.org."}}}}
	if text := body(t, ask(t, f, "GET", "/v1/targets")); strings.Contains(text, "null") {
		t.Errorf("a target without names: %s", text)
	}
}

func TestReadOnly(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} {
		if got := ask(t, newTestSource(1), method, "/v1/targets"); got.StatusCode != http.StatusMethodNotAllowed || got.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d", method, got.StatusCode)
		}
		if got := ask(t, newTestSource(1), method, forcePath); method != "POST" && (got.StatusCode != http.StatusMethodNotAllowed || got.Header.Get("Allow") != "GET, HEAD, POST" || strings.Contains(body(t, got), "read-only")) {
			t.Errorf("%s %s: %d, allowed are %s", method, forcePath, got.StatusCode, got.Header.Get("Allow"))
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

// An explanation that is there is shown, however late the caller comes to look (B75).
func TestExplanationThatIsThere(t *testing.T) {
	f := newTestSource(1)
	f.explanations = []status.Explanation{{Name: "a.example.org."}}
	s := newServer("127.0.0.1:9253", f)
	for n := range 20_000 {
		if all, err := s.explainInTime(t.Context(), status.Question{Name: "a.example.org.", Type: "A"}); err != nil || len(all) != 1 {
			t.Fatalf("call %d: %v, %v", n, all, err)
		}
	}
}
