package web

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// handed are the texts that are handed on, by the URL that has each.
var handed = []string{
	"/v1/incident?format=markdown", "/v1/targets?format=markdown", "/v1/targets?address=10.0.0.3&format=markdown",
	"/v1/explain?name=n0.example.org&format=markdown", "/explain?name=n0.example.org&client=192.0.2.0/24&format=markdown",
}

// sayAll is a source in which everything that others can say is one text.
func sayAll(text string) *testSource {
	f := newTestSource(4)
	t := &f.snap.Targets[3]
	t.Reason, t.Check, t.Name, t.Names = text, text, text, []string{text}
	t.Force = status.Force{Forced: "drain", Note: text, Until: noon.Add(time.Hour)}
	t.Shared = &status.Shared{Role: "seat", Quorum: "all", Votes: []status.Vote{{Member: text, Standing: "counts", State: "down", Reason: text}}}
	f.snap.Names = []status.Name{{Name: text, Answers: []status.Last{{Type: "A", Outcome: "thin", Kept: 3, Total: 4}}}}
	f.snap.Summary = status.Summary{Host: text, Version: text, Running: true, Started: noon.Add(-time.Hour), Up: 3, Down: 1, Stanzas: []status.Stanza{{At: text, DryRun: true}}}
	f.snap.Changes = []status.Change{{Number: 1, At: noon.Add(-time.Minute), Address: t.Address, Check: text, Name: text, From: "up", To: "down", Reason: text}}
	f.snap.Changed = 1
	share := 0.25
	f.explanations = []status.Explanation{{
		Block: text, Stanza: text, Name: text, Type: "A", Outcome: "thin", Checked: true, Steps: []string{text}, Message: ";; header\n" + text, Text: "multivalue {\n" + text + "\n}\n",
		Sets: []status.Set{{Owner: text, Type: "A", Outcome: "thin", Why: text, Kept: 3, Total: 4, Members: []status.Member{{Member: text, Why: text, Share: &share, Since: noon, Recovery: text}}}},
	}}
	return f
}

var codeSpan = regexp.MustCompile("`[^`\n]*`")

// skeleton is what a text has besides code: all that a reader of Markdown takes for markup.
func skeleton(text string) string {
	var kept []string
	inside := false
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "```") {
			inside = !inside
		} else if inside {
			continue
		}
		kept = append(kept, codeSpan.ReplaceAllString(line, "code"))
	}
	return strings.Join(kept, "\n")
}

// hostileTexts try to end what they stand in, and to begin something else.
var hostileTexts = []string{
	"`", "``` \n# heading", "\n```\n<script>alert(1)</script>", "a | b \\| c", "`<img src=x>`", "[click](javascript:alert(1))", "@everyone http://evil.example", "\r\n- item\n\n---\n",
	"~~~\n", "\u202eevil\u2066", "\x00\x1b[31m", "\u2028# heading", "   ", "````````", "\t`\t`", "&lt;b&gt; **bold** _x_ #1", strings.Repeat("`x", 400), "\xff\xfe`",
}

// What others say stands in code, and nowhere else: whatever it is, the rest of the text is the same.
func TestHostileMarkdown(t *testing.T) {
	for _, url := range handed {
		want := skeleton(body(t, ask(t, sayAll("harmless"), "GET", url)))
		if !strings.HasPrefix(want, "# ") || !strings.Contains(want, "code") {
			t.Fatalf("%s: %s", url, want)
		}
		for _, evil := range hostileTexts {
			r := ask(t, sayAll(evil), "GET", url)
			text := body(t, r)
			if got := skeleton(text); got != want {
				t.Errorf("%s with %q breaks out:\n%s\nwant\n%s", url, evil, text, want)
			}
			if media := r.Header.Get("Content-Type"); media != "text/plain; charset=utf-8" {
				t.Errorf("%s is %s", url, media)
			}
		}
	}
}

// FuzzMarkdown holds the same of any text, and that nothing invisible is left.
func FuzzMarkdown(f *testing.F) {
	for _, evil := range hostileTexts {
		f.Add(evil)
	}
	f.Fuzz(func(t *testing.T, evil string) {
		if evil == "" { // then there is nothing to say
			return
		}
		m, want := new(markdown), new(markdown)
		for text, m := range map[string]*markdown{evil: m, "harmless": want} {
			s := &sayAll(text).snap
			m.WriteString((&incident{Problems: problems(s), Targets: s.Targets, Changes: s.Changes, Names: []affectedName{{Name: text, Type: text, Why: "x" + text}}}).markdown(s).String())
			m.explanation(&sayAll(text).explanations[0])
		}
		if evil != "harmless" && skeleton(m.String()) != skeleton(want.String()) {
			t.Errorf("%q breaks out:\n%s", evil, m)
		}
		for _, r := range m.String() {
			if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
				t.Fatalf("%q leaves %q", evil, r)
			}
		}
	})
}

// An incident says what is wrong now and since when, which names are affected, and what changed in the last hour, with the server,
// its version and all times in UTC.
func TestIncident(t *testing.T) {
	f := newTestSource(20)
	f.snap.Summary = status.Summary{Host: "ns1.example.net", Version: "1.2.3", Started: noon.Add(-48 * time.Hour), Running: true, Up: 18, Down: 2}
	f.snap.Changed = 3
	for i, ago := range []time.Duration{2 * time.Hour, 59 * time.Minute, time.Minute} {
		f.snap.Changes = append(f.snap.Changes, status.Change{Number: uint64(1 + i), At: noon.Add(-ago), Address: f.snap.Targets[3].Address, Check: "http://:80/", Name: "n0.example.org.", From: "up", To: "down", Reason: "connection refused"})
	}
	f.explanations = []status.Explanation{{Name: "n0.example.org.", Type: "A", Outcome: "thin", Checked: true, Sets: []status.Set{{Owner: "n0.example.org.", Type: "A", Outcome: "thin", Checked: true, Kept: 3, Total: 4, Why: "3 of 4 are up, and the other is left out"}}}}
	f.snap.Targets[3].Names = []string{"n0.example.org."}
	text := body(t, ask(t, f, "GET", "/v1/incident?format=markdown"))
	for _, want := range []string{
		"# Incident\n", "Server `ns1.example.net`, version `1.2.3`, since 2025-12-31 12:00:00 UTC", "As of 2026-01-02 12:00:00 UTC", "18 up, 2 down",
		"- `n0.example.org.` `A` is **filtered**, 3 of 4 served: `3 of 4 are up, and the other is left out`",
		"- `10.0.0.3:80` by `http://:80/` is **down** since 2026-01-02 11:00:00 UTC (1 h 00 m): `connection refused`",
		"## Changes since 2026-01-02 11:00:00 UTC", "- 2026-01-02 11:01:00 UTC: `10.0.0.3:80` up → down, `n0.example.org.`, `http://:80/`: `connection refused`",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the incident lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "10:00:00") || strings.Contains(text, "10.0.0.4:80") || strings.Contains(text, "no longer kept") {
		t.Errorf("the incident has what is old or well:\n%s", text)
	}
	var x struct {
		Host                    string
		Names, Targets, Changes []any
	}
	if err := json.Unmarshal([]byte(body(t, ask(t, f, "GET", "/v1/incident?name=n0"))), &x); err != nil || len(x.Targets) != 1 || len(x.Changes) != 2 || len(x.Names) != 1 || x.Host != "ns1.example.net" {
		t.Errorf("%+v, %v", x, err)
	}
	f.snap.Changes = f.snap.Changes[1:] // those of before are dropped, and the first one that is kept is of this hour
	if text := body(t, ask(t, f, "GET", "/v1/incident?format=markdown")); !strings.Contains(text, "no longer kept") {
		t.Errorf("the incident does not say that changes are lost:\n%s", text)
	}
}

// An incident has a bound, and says what it leaves out.
func TestLargeIncident(t *testing.T) {
	f := newTestSource(10_000)
	for i := range 1000 {
		f.snap.Changes = append(f.snap.Changes, status.Change{Number: uint64(1 + i), At: noon.Add(-time.Minute), Address: netip.MustParseAddrPort("192.0.2.1:80"), Name: "n0.example.org.", From: "up", To: "down"})
	}
	text := body(t, ask(t, f, "GET", "/v1/incident?format=markdown"))
	for _, want := range []string{"and 900 more targets", "and 800 more earlier changes", "and 2480 more names"} {
		if !strings.Contains(text, want) {
			t.Errorf("the incident lacks %q", want)
		}
	}
	if len(text) > 100_000 {
		t.Errorf("%d bytes", len(text))
	}
}

// A format that is not known is an error, and names those that are.
func TestFormats(t *testing.T) {
	for _, url := range []string{"/v1/incident?format=html", "/v1/targets?format=html", "/v1/explain?name=a.example&format=html", "/explain?name=a.example&format=html"} {
		if r := ask(t, newTestSource(1), "GET", url); r.StatusCode != http.StatusBadRequest || !strings.Contains(body(t, r), "use json or markdown") {
			t.Errorf("%s: %s", url, r.Status)
		}
	}
}
