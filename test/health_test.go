package test

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
)

const healths = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        CALM
        types A AAAA SRV
        force DIR/forced
        status 127.0.0.1:STATUS
    }
    multivalue few.example.org {
        CALM
        force DIR/forced
        limit 1
        all_down nodata
    }
    multivalue dry.example.org {
        CALM
        force DIR/forced
        dry_run
    }
    multivalue plain.example.org {
        CALM
    }
}`

// labelled is what the JSON of an answer has of its outcome.
type labelled struct {
	Type, Outcome, Health string
	Checked               bool
	Sets                  []struct {
		Health  string
		Checked bool
	}
}

// text is the outcome, and what it leaves out.
func (x labelled) text() string {
	return strings.TrimRight(fmt.Sprintf("%s %t %s", x.Outcome, x.Checked, x.Health), " ")
}

// An outcome that says nothing of health is told with what is known of it: by a file, by the backend, and of an only address by what
// the checks of other names find. The names, the explanation, the page and its first sentence agree (B117).
func TestHealthIsTold(t *testing.T) {
	s := newScene(t, 11, 12, 21, 22)
	s.zone("example.org", `some A 127.0.0.11
some A 127.0.0.13
some A 127.0.0.14
drained A 127.0.0.21
drained A 127.0.0.22
six AAAA 2001:db8::1
six AAAA 2001:db8::2
few A 127.0.0.21
few A 127.0.0.22
dry A 127.0.0.21
dry A 127.0.0.22
plain A 127.0.0.21
plain A 127.0.0.22
part A 127.0.0.12
part A 127.0.0.21
up A 127.0.0.11
up A 127.0.0.14
both A 127.0.0.23
both A 127.0.0.24
only-down A 127.0.0.13
alias CNAME only-down
_s._tcp SRV 1 1 80 only-down
only-up A 127.0.0.11
only-drained A 127.0.0.21
only-forced-down A 127.0.0.23
only-forced-up A 127.0.0.14
only A 127.0.0.99
only AAAA 2001:db8::1`)
	s.file("forced", "drain 127.0.0.21 127.0.0.22 2001:db8::/32\nup 127.0.0.14\ndown 127.0.0.23 127.0.0.24 # a new disk\n")
	v, base := s.shown(healths)
	want := map[string]struct{ text, label string }{
		"some A": {"thin true", "filtered"}, "drained A": {"whole true drained", "drained, but served"}, "six AAAA": {"whole false drained", "drained, but served"},
		"few A": {"sample true drained", "drained, but served"}, "dry A": {"whole true drained", "drained, but served"}, "plain A": {"whole true", "all healthy"},
		"part A": {"whole true", "all healthy"}, "up A": {"whole true forced", "forced up"}, "both A": {"open true", "fail-open"},
		"only-down A": {"whole true down", "down, but served"}, "alias A": {"whole true down", "down, but served"}, "_s._tcp SRV": {"whole true down", "down, but served"},
		"only-up A": {"whole true", "all healthy"}, "only-drained A": {"whole true drained", "drained, but served"},
		"only-forced-down A": {"whole true down", "down, but served"}, "only-forced-up A": {"whole true forced", "forced up"},
		"only A": {"whole false", "not checked"}, "only AAAA": {"whole false drained", "drained, but served"},
	}
	ask := func() {
		for question := range want {
			name, qtype, _ := strings.Cut(question, " ")
			v.ask(name + ".example.org " + qtype)
		}
	}
	ask()
	v.settled(4, 4) // whatever is forced
	ask()
	names := s.lastAnswers(base)
	for _, question := range slices.Sorted(maps.Keys(want)) {
		w := want[question]
		name, qtype, _ := strings.Cut(question, " ")
		if got := names[question]; got != w.text {
			t.Errorf("%s: last answer %q, want %q", question, got, w.text)
		}
		var e struct{ Explanations []labelled }
		s.json(base+"/v1/explain?"+url.Values{"name": {name + ".example.org"}, "type": {qtype}}.Encode(), &e)
		x := e.Explanations[0]
		if got := x.text(); got != w.text {
			t.Errorf("%s: explained %q, want %q", question, got, w.text)
		}
		if len(x.Sets) != 1 || x.Sets[0].Health != x.Health || x.Sets[0].Checked != x.Checked {
			t.Errorf("%s: sets %+v", question, x.Sets)
		}
		if page := s.page(base + "/?name=" + name + ".example.org"); !strings.Contains(page, ">"+w.label+"</abbr>") {
			t.Errorf("the page does not say that %s is %s", question, w.label)
		}
	}
	const sentence = "1 name fails open, 4 are down, but served, 1 runs with fewer, 6 are drained, but served, 2 are forced up; 4 of 8 targets are down"
	if page := s.page(base + "/"); !strings.Contains(page, sentence) {
		t.Errorf("the page lacks %q", sentence)
	}
}

// lastAnswers are the last answers of all names, by their questions.
func (s *scene) lastAnswers(base string) map[string]string {
	s.Helper()
	var list struct {
		Names []struct {
			Name    string
			Answers []labelled
		}
	}
	s.json(base+"/v1/names", &list)
	all := make(map[string]string)
	for _, n := range list.Names {
		for _, a := range n.Answers {
			all[strings.TrimSuffix(n.Name, ".example.org.")+" "+a.Type] = a.text()
		}
	}
	return all
}

// Names are found by their outcome as it is labelled, on the page, in JSON and by mvctl; and what a filter does not find is said (B75).
func TestNamesByOutcome(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nfew A 127.0.0.13\nfew A 127.0.0.14\nplain A 127.0.0.13\nplain A 127.0.0.15\nonly A 127.0.0.99")
	s.file("forced", "")
	v, base := s.shown(healths)
	names := strings.Fields("www few plain only")
	ask := func() {
		for _, name := range names {
			v.ask(name + ".example.org A")
		}
	}
	ask()
	v.settled(2, 3)
	ask()
	s.eventually(func() bool { return s.lastAnswers(base)["few A"] == "closed true" }, func() string { return fmt.Sprint(s.lastAnswers(base)) })
	for query, want := range map[string]string{"fails closed": "few", "fail open": "plain", "All Healthy": "www", "not checked": "only", "on backups": "", "fails closed www": ""} {
		var list struct {
			Names []struct{ Name string }
			Total int
		}
		s.json(base+"/v1/names?q="+url.QueryEscape(query), &list)
		page := s.page(base + "/?q=" + url.QueryEscape(query))
		out, code := mvctl(t, base, "names", "--find", query)
		if !strings.Contains(page, `value="`+query+`"`) || code != 0 {
			t.Errorf("%q is not in the field of the page, or refused: %d %s", query, code, out)
		}
		if want == "" {
			if list.Total != 0 || !strings.Contains(page, "The filter picks none of 4 names.") || out != "The filter picks none.\n" {
				t.Errorf("%q: %+v, %s", query, list, out)
			}
			continue
		}
		if len(list.Names) != 1 || list.Names[0].Name != want+".example.org." {
			t.Errorf("%q: %+v, want %s", query, list, want)
		}
		for _, name := range names {
			if in := strings.Contains(page, ">"+name+".example.org.</a> <small>A</small>"); in != (name == want) || strings.Contains(out, name+".example.org.") != in {
				t.Errorf("%q: %s is on the page: %t; mvctl has %s", query, name, in, out)
			}
		}
	}
}
