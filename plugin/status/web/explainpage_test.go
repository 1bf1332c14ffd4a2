package web

import (
	"errors"
	"html"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// aboutOne is a source with the explanation of one name, one address of which is left out.
func aboutOne() *testSource {
	f := newTestSource(4)
	share, lead, none := 0.625, 0.125, 0.0
	check := status.Asked{Address: netip.MustParseAddrPort("10.0.0.3:80"), Check: "tcp://:80", State: "down", Watched: true, Since: noon.Add(-time.Hour), Reason: "connection refused"}
	f.explanations = []status.Explanation{{
		Name: "n0.example.org.", Type: "A", Outcome: "thin", Checked: true, Stanza: "Corefile:3", Text: "multivalue {\n    check tcp://:80\n}\n", Steps: []string{"a step"},
		Message: ";; opcode: QUERY, status: NOERROR, id: 0\n", Site: "ams", SiteBy: "network 192.0.2.0/24",
		Sets: []status.Set{{Owner: "alias.example.org.", Type: "A", Outcome: "thin", Policy: status.Policy{Limit: 8, Meaning: []string{"limit 8: each answer has 8"}}, Members: []status.Member{
			{Member: "10.0.0.1", Served: true, State: "up", Tier: "backup", Rank: 2, Site: "fra", Share: &share, Leads: &lead, Weight: 3, Warmup: 0.25},
			{Member: "10.0.0.3", State: "down", Tier: "unfit", Share: &none, Since: noon.Add(-time.Hour), Recovery: "2 more good probes", Checks: []status.Asked{check}},
		}}},
	}}
	return f
}

// The page of a name answers why it lacks an address, since when, and what brings it back; and what each share of answers is (B75).
func TestExplainPageAnswers(t *testing.T) {
	page := body(t, ask(t, aboutOne(), "GET", "/explain?name=n0.example.org&client=192.0.2.7&do=1"))
	for _, want := range []string{
		"<b>What brings it back:</b> 2 more good probes", `for <time datetime="2026-01-02T11:00:00Z"`, "connection refused", `<a href="/?address=10.0.0.3%3a80#h-targets">see its target</a>`,
		"in 62.5 % of answers", "first in 12.5 %", "weight 3, warmed up to 25 %", "backup of rank 2, site fra", "the client is in site ams, by network 192.0.2.0/24",
		"<li>limit 8: each answer has 8</li>", "<h3>Stanza <small>Corefile:3</small></h3>", "check tcp://:80\n}", ";; opcode: QUERY", `data-copy-text="message-0"`,
		`name="client" value="192.0.2.7"`, `name="do" value="1" checked`, `href="/explain?client=192.0.2.7&amp;do=1&amp;name=alias.example.org.&amp;type=A"`,
		`data-copy="/v1/explain?client=192.0.2.7&amp;do=1&amp;format=markdown&amp;name=n0.example.org.&amp;type=A"`, `<a href="/v1/explain?client=192.0.2.7&amp;do=1&amp;name=n0.example.org.&amp;type=A">JSON</a>`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	// A type that the form does not offer stays in it.
	if page := body(t, ask(t, aboutOne(), "GET", "/explain?name=n0.example.org&type=TXT")); !strings.Contains(page, "<option selected>TXT</option>") {
		t.Error("the form would ask for another type")
	}
}

// Each page says in its title which server it is of, also one that has no snapshot: several replicas are open side by side.
func TestTitlesHaveTheHost(t *testing.T) {
	title := regexp.MustCompile(`<title>[^<]* on ([^<]+)</title>`)
	f := aboutOne()
	f.snap.Summary.Host = "ns1.example.net"
	for _, url := range []string{"/", "/config", "/explain", "/explain?name=n0.example.org", "/explain?name=n0.example.org&client=x"} {
		if got := title.FindStringSubmatch(body(t, ask(t, f, "GET", url))); got == nil || got[1] != "ns1.example.net" {
			t.Errorf("%s: the title is of %q", url, got)
		}
	}
	own, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	broken := newTestSource(0)
	broken.err = errors.New("late")
	for url, f := range map[string]*testSource{"/": broken, "/explain?name=a.example": broken, "/nope": f, "/?state=x": f} {
		if got := title.FindStringSubmatch(body(t, ask(t, f, "GET", url))); got == nil || html.UnescapeString(got[1]) != own {
			t.Errorf("%s: the title is of %q, want %q", url, got, own)
		}
	}
}

var hrefs = regexp.MustCompile(`(?:href|data-copy)="(/[^"]*)"`)

// A link to any state of a page stays what it is: what leads to another page of a list keeps all other parameters, also those that
// another part of the page has, and what is copied has those that it is about.
func TestLinksKeepParameters(t *testing.T) {
	f := newTestSource(1000)
	for i := range 120 {
		f.snap.Members = append(f.snap.Members, status.FleetMember{Name: "m" + string(rune('a'+i%26)) + strings.Repeat("x", i), State: "alive"})
	}
	f.snap.Summary.Fleet = new(status.Fleet)
	asked := url.Values{"name": {"example"}, "address": {"10."}, "check": {"http"}, "sort": {"name"}, "page": {"2"}, "names": {"2"}, "members": {"2"}, "span": {"day"}, "client": {"192.0.2.1"}}
	page := body(t, ask(t, f, "GET", "/?"+asked.Encode()))
	pagers, drops := 0, 0
	for _, m := range hrefs.FindAllStringSubmatch(page, -1) {
		u, err := url.Parse(html.UnescapeString(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		differs := 0
		for key := range asked {
			if q.Get(key) != asked.Get(key) {
				differs++
			}
		}
		if dropped := !q.Has("name") || !q.Has("address") || !q.Has("check"); u.Path == "/" && dropped && q.Has("client") {
			if drops++; differs != 3 || q.Has("page") || q.Has("names") {
				t.Errorf("%s drops a part of the filter, and changes %d parameters of %s", m[1], differs, asked.Encode())
			}
			continue
		}
		if u.Path == "/" && (q.Has("page") || q.Has("names") || q.Has("members")) {
			if pagers++; differs != 1 {
				t.Errorf("%s changes %d parameters of %s", m[1], differs, asked.Encode())
			}
		}
	}
	if pagers != 7 || drops != 3 { // back and forth, of three lists, another span, and a part of the filter each
		t.Errorf("%d links to other pages, %d drop a part of the filter", pagers, drops)
	}
	// The links of an explanation keep the client, and all of them lead somewhere.
	for _, m := range hrefs.FindAllStringSubmatch(body(t, ask(t, aboutOne(), "GET", "/explain?name=n0.example.org&client=192.0.2.7&do=1")), -1) {
		link := html.UnescapeString(m[1])
		if u, _ := url.Parse(link); strings.HasSuffix(u.Path, "/explain") && u.RawQuery != "" && (u.Query().Get("client") != "192.0.2.7" || u.Query().Get("do") != "1") {
			t.Errorf("%s has lost the client", link)
		}
		if r := ask(t, aboutOne(), "GET", strings.SplitN(link, "#", 2)[0]); r.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", link, r.Status)
		}
	}
}
