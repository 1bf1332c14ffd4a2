package test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// lateComer is an explanation with what it says about coming back, and about shares.
type lateComer struct {
	Explanations []struct {
		Message    string
		StanzaText string `json:"stanza_text"`
		Sets       []struct {
			Limit, Primaries, Fit int
			MinUp                 int `json:"min_up"`
			Meaning               []string
			Members               []struct {
				Member, Recovery string
				Served           bool
				Since            time.Time
				Share            *float64
				First            *float64 `json:"first_share"`
				Checks           []struct {
					Next time.Time `json:"next_probe"`
					UpAt time.Time `json:"up_at"`
				}
			}
		}
	}
}

// later requests an explanation with all that.
func (s *scene) later(base, query string) (e lateComer) {
	s.Helper()
	if s.json(base+"/v1/explain?name="+query, &e); len(e.Explanations) != 1 {
		s.Fatalf("%s: %d explanations", query, len(e.Explanations))
	}
	return e
}

// An explanation says of each member that is left out since when, what brings it back and when at the earliest; of each member its
// share of answers; what limit and min_up mean; the stanza; and the answer as dig prints it (B75).
func TestExplainSaysWhatBringsBack(t *testing.T) {
	s := newScene(t, 11, 12, 21, 22)
	v, base := s.explains("drain 127.0.0.22\ndown 127.0.0.21 # until the disk is replaced")
	for name := range strings.FieldsSeq("thin sample backup forced drain weight few") {
		v.ask(name + ".example.org A")
	}
	v.settled(4, 1)
	for query, want := range map[string]string{
		"thin.example.org":   `13: 2 more good probes of http://:PORT/ at 127.0.0.13:PORT in a row, at ....-..-.. ..:..:.. UTC at the earliest`,
		"sample.example.org": `12: nothing has to: it is in 50% of answers, and not in this one`,
		"forced.example.org": `21: it is forced down without an end: remove its line from the file of force`,
		"drain.example.org":  `22: it is drained, without an end: release it, or remove its line from the file of force; it is also served if no other address is up`,
	} {
		got := ""
		for _, m := range s.later(base, query).Explanations[0].Sets[0].Members {
			if !m.Served {
				got += m.Member[strings.LastIndexByte(m.Member, '.')+1:] + ": " + m.Recovery
			}
			if m.Served != (m.Recovery == "") || m.Share == nil {
				t.Errorf("%s: %+v", query, m)
			}
		}
		if want = "^" + strings.ReplaceAll(want, "PORT", s.port) + "$"; !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %s\nwant %s", query, got, want)
		}
	}
	thin := s.later(base, "thin.example.org").Explanations[0]
	down := thin.Sets[0].Members[1]
	if check := down.Checks[0]; time.Since(down.Since) > patience || check.UpAt.Sub(check.Next) != 100*time.Millisecond || check.Next.Before(down.Since) || *down.Share != 0 {
		t.Errorf("down since %s, the next probe at %s, up at %s at the earliest, in %v of answers", down.Since, check.Next, check.UpAt, *down.Share)
	}
	for _, part := range []string{";; opcode: QUERY, status: NOERROR", ";thin.example.org.\tIN\t A", "thin.example.org.\t", "\tIN\tA\t127.0.0.11"} {
		if !strings.Contains(thin.Message, part) || strings.Contains(thin.Message, "127.0.0.13") {
			t.Errorf("the answer lacks %q, or has what is left out:\n%s", part, thin.Message)
		}
	}
	if !strings.HasPrefix(thin.StanzaText, "multivalue {\n") || !strings.Contains(thin.StanzaText, "except exempt.example.org") {
		t.Errorf("the stanza is %q", thin.StanzaText)
	}
	if got := fmt.Sprint(thin.Sets[0].Meaning); got != "[limit 8: it leaves none out, because 1 is up or not known to be down min_up 1: if one more goes down, members that are down are served too]" {
		t.Errorf("limit and min_up mean %s", got)
	}
	weights := s.later(base, "weight.example.org").Explanations[0].Sets[0].Members
	if first := *weights[0].First + *weights[1].First; *weights[0].Share != 1 || first != 1 || *weights[0].First != 0.75 && *weights[0].First != 0.25 {
		t.Errorf("weights: %v and %v", *weights[0].First, *weights[1].First)
	}
}

// Checks that look the same are one entry, with the places of all stanzas that name it.
func TestEqualChecksAreOne(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\na.other A 127.0.0.11\na.other A 127.0.0.12")
	stanza := func(zone, secret string) string {
		return "    multivalue " + zone + " {\n        check http://:PORT/ header X-Token " + secret + "\n        interval 24h 100ms\n        timeout 1m\n        within 127.0.0.0/8\n        status 127.0.0.1:STATUS\n    }\n"
	}
	v, base := s.shown("\nexample.org:0 {\n    bind 127.0.0.1\n    file DIR/example.org\n" + stanza("", "one") + stanza("other.example.org", "two") + "}")
	v.ask("www.example.org A")
	v.ask("a.other.example.org A")
	var page struct {
		Checks []struct {
			Check   string
			Stanzas []string
			Up      int
		}
	}
	v.eventually(func() bool {
		s.json(base+"/v1/checks", &page)
		return len(page.Checks) == 1 && page.Checks[0].Up == 4
	}, func() string { return fmt.Sprintf("%+v", page) })
	if got := fmt.Sprint(page.Checks[0].Stanzas); got != "[Corefile:5 Corefile:12]" {
		t.Errorf("named by %s", got)
	}
}
