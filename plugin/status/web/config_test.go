package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/status/config"
)

// testConfig is the configuration that the test source has.
var testConfig = config.InForce{Stanzas: []config.Stanza{
	{At: "Corefile:3", Block: "example.org:53", Zones: "example.org.", Text: "multivalue {\n    check http://:80/\n}\n", Properties: []config.Property{
		{Name: "check", Value: "http://:80/", At: "Corefile:4"}, {Name: "limit", Value: "8", Default: true}, {Name: "force", Default: true}}},
	{At: "Corefile:9", Block: "example.org:53", Zones: "a.example.org.", Text: "multivalue a.example.org {\n}\n", Properties: []config.Property{
		{Name: "fleet key", Value: "<script>alert(1)</script>", At: "other.conf:1"}}},
	{At: "Corefile:20", Block: "example.com:53", Zones: "example.com.", Text: "multivalue {\n}\n", Properties: []config.Property{}},
}}

// Config implements Source.
func (f *testSource) Config(context.Context) (*config.InForce, error) { return f.config(), f.err }

func (f *testSource) config() *config.InForce {
	c := testConfig
	for i := range f.snap.Summary.Names { // more than a page has, if a test wants so
		c.Stanzas = append(slices.Clip(c.Stanzas), config.Stanza{At: fmt.Sprintf("more:%d", i), Block: "more:53", Text: strings.Repeat("x", 1500), Properties: slices.Repeat([]config.Property{{Name: "limit", Value: "8", Default: true}}, 30)})
	}
	c.ReloadFailed = f.snap.Summary.Full // which no test of the configuration needs otherwise
	return &c
}

// /v1/config has each stanza, and marks defaults; the page has the same by server block, escaped (B119).
func TestConfig(t *testing.T) {
	f := newTestSource(1)
	var got config.InForce
	if err := json.Unmarshal([]byte(body(t, ask(t, f, "GET", "/v1/config"))), &got); err != nil || len(got.Stanzas) != 3 || got.Stanzas[0].Properties[1] != testConfig.Stanzas[0].Properties[1] {
		t.Errorf("%v: %+v", err, got)
	}
	page := body(t, ask(t, f, "GET", "/config"))
	for _, want := range []string{"Server block <span class=\"addr\">example.org:53</span>", ">Corefile:9</a>", "multivalue {\n    check http://:80/\n}", "&lt;script&gt;",
		`<td class="addr">8</td>` + "\n" + `<td><span class="none">default</span></td>`, `<td class="addr"><span class="none">none</span></td>`, `at <span class="addr">other.conf:1</span>`,
		manualURL + "#checks", manualURL + "#fleet", manualURL + "#syntax"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, "<script>alert") || strings.Contains(page, "older configuration") || strings.Count(page, "<h2>") != 2 {
		t.Errorf("the page is not escaped, or has too much:\n%s", page)
	}
	// It can be reached from the other pages.
	if main := body(t, ask(t, f, "GET", "/")); !strings.Contains(main, `href="/config"`) {
		t.Error("the page of the status has no link to it")
	}
}

// A filter picks stanzas by any of their words, and says so if it leaves out all (B119).
func TestConfigFilter(t *testing.T) {
	f := newTestSource(1)
	for find, want := range map[string]int{"": 3, "LIMIT": 1, "example.com": 1, "other.conf": 1, "Corefile:9": 1, "nope": 0, "fleet key <s": 1} {
		page := body(t, ask(t, f, "GET", "/config?find="+strings.ReplaceAll(strings.ReplaceAll(find, " ", "+"), "<", "%3C")))
		if n := strings.Count(page, "<article "); n != want {
			t.Errorf("%q: %d stanzas, want %d", find, n, want)
		}
		if (want == 0) != strings.Contains(page, "the filter leaves out all 3") {
			t.Errorf("%q: what the page says of the filter:\n%s", find, page)
		}
	}
}

// Many stanzas are on several pages, each stanza once, and no page is larger than 300 KB (B119).
func TestConfigPages(t *testing.T) {
	f := newTestSource(1)
	f.snap.Summary.Names = 57
	seen, next := 0, "/config?find=5"
	for range 10 {
		page := body(t, ask(t, f, "GET", next))
		if n := strings.Count(page, "<article "); n > stanzasPerPage || len(page) > 300_000 {
			t.Errorf("%s has %d stanzas in %d bytes", next, n, len(page))
		}
		seen += strings.Count(page, "<article ")
		m := regexp.MustCompile(`rel="next" href="([^"]+)"`).FindStringSubmatch(page)
		if m == nil {
			break
		}
		next = html.UnescapeString(m[1])
	}
	if seen != 60 || !strings.HasPrefix(next, "/config?find=5&page=") { // all have port 53
		t.Errorf("%d stanzas, the last at %s", seen, next)
	}
}

// After a reload that failed, both say that what is in force is older (B119).
func TestConfigAfterFailedReload(t *testing.T) {
	f := newTestSource(1)
	f.snap.Summary.Full = true
	if page := body(t, ask(t, f, "GET", "/config")); !strings.Contains(page, "The last reload failed") {
		t.Error("the page does not say it")
	}
	if text := body(t, ask(t, f, "GET", "/v1/config")); !strings.Contains(text, `"reload_failed": true`) {
		t.Error(text)
	}
	f.err = errors.New("busy")
	for _, url := range []string{"/config", "/v1/config"} {
		if got := ask(t, f, "GET", url); got.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s of a source that fails: %d", url, got.StatusCode)
		}
	}
}

// Each place of the manual that the page links to is there.
func TestManualLinks(t *testing.T) {
	manual, err := os.ReadFile("../../../docs/manual.md")
	if err != nil {
		t.Fatal(err)
	}
	headings := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(manual), -1) {
		headings[strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")] = true
	}
	for _, word := range []string{"defaults", "syntax"} {
		if !headings[word] {
			t.Errorf("the manual has no heading for #%s", word)
		}
	}
	for word, place := range manualPlaces {
		if !headings[place] || !strings.Contains(string(manual), "\n| `"+word+"` | ") {
			t.Errorf("%s: the manual has no heading for #%s, or no such property", word, place)
		}
	}
}
