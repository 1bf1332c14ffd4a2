package verdict

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/report"
)

// What a backend says counts at once, whatever rise and fall are; what it does not say stays as it was (B100). Each word is a
// report, with a reason behind #; "-" says nothing, and "!" is a probe that failed.
func TestHear(t *testing.T) {
	pace := Pace{Interval: 10 * time.Second, Fast: 2 * time.Second, Timeout: time.Second, Rise: 3, Fall: 4}
	for _, tc := range []struct{ said, want string }{
		{"-", "up 100%"},
		{"75%", "up 75%"},
		{"down", "down: backend says down"},
		{"down -", "down: backend says down"},
		{"down 50%", "down: backend says down"},
		{"down 50% up", "up 50%"},
		{"fail#full", "down: backend says fail: full"},
		{"stopped#old -#new", "down: backend says stopped: new"},
		{"stopped#old stopped", "down: backend says stopped"},
		{"maint#a", "down: backend says maint: a"},
		{"maint up", "down: backend says maint"},
		{"maint#a up#b", "down: backend says maint: b"},
		{"maint drain", "up 100% drained"},
		{"maint ready", "up 100%"},
		{"down maint ready", "down: backend says down"},
		{"down maint up ready", "up 100%"},
		{"drain", "up 100% drained"},
		{"drain up 40%", "up 40% drained"},
		{"drain ready", "up 100%"},
		{"0%", "up 0% drained"},
		{"0% 10%", "up 10%"},
		{"199%", "up 100%"},
		{"up ! ! !", "up 100%"},
		{"up ! ! ! !", "down: lost"},
		{"! ! ! !", "down: lost"},
		{"! ! ! ! -", "down: lost"},
		{"! ! ! ! - -", "down: lost"},
		{"! ! ! ! - - -", "up 100%"},
		{"! ! ! ! up", "up 100%"},
		{"! ! ! ! ready", "up 100%"},
		{"?", "unknown 100%"}, // what no agent says proves nothing
		{"! ! ! ! ? ? ? ?", "down: lost"},
		{"up ! ! ! ? ? ? !", "down: lost"},
		{"up ! ! ! up ! ! !", "down: lost"},
		{"30% ! ! ! ! up", "up 30%"},
		{"maint ! ! ! ! up", "down: backend says maint"},
		{"drain ! ! ! ! - - -", "up 100% drained"},
	} {
		var m Machine
		now := time.Unix(1e9, 0)
		var v Verdict
		for word := range strings.FieldsSeq(tc.said) {
			now = now.Add(time.Second)
			if word == "!" {
				v, _ = m.Step(pace, errLost, now)
				continue
			}
			v, _ = m.Hear(pace, reportOf(word), now)
		}
		got := v.State.String()
		if v.State == Down {
			got += ": " + v.Reason
		} else {
			got += fmt.Sprintf(" %d%%", v.Brief().Weight())
			if v.Brief().Drained() {
				got += " drained"
			}
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.said, got, tc.want)
		}
		if again := Resume(v); again.Verdict(v.Holds) != v {
			t.Errorf("%s: resumed as %+v, not %+v", tc.said, again.Verdict(v.Holds), v)
		}
	}
}

var errLost = errors.New("lost")

// reportOf reads a report of one word.
func reportOf(word string) (r report.Report) {
	word, r.Reason, _ = strings.Cut(word, "#")
	switch {
	case word == "-":
	case word == "?":
		r.Decides = true
	case strings.HasSuffix(word, "%"):
		r.HasWeight = true
		for _, digit := range strings.TrimSuffix(word, "%") {
			r.Weight = r.Weight*10 + uint8(digit-'0')
		}
	case word == "ready" || word == "drain" || word == "maint":
		r.Admin = word
	default:
		r.Health = word
	}
	return r
}
