package status

import (
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
)

// The page has words for each outcome that package answer knows, and for no other.
func TestOutcomesOfAnswer(t *testing.T) {
	if len(Outcomes) != answer.Outcomes {
		t.Errorf("%d outcomes have words, want %d", len(Outcomes), answer.Outcomes)
	}
	for o := range answer.Outcome(answer.Outcomes) {
		if term := OutcomeTerm(o.String()); term.Meaning == "" || term.Label == "" {
			t.Errorf("%s has no words: %+v", o, term)
		}
	}
	if got := OutcomeTerm("new"); got.Label != "new" {
		t.Errorf("an outcome that is not known is labelled %q", got.Label)
	}
}

func TestWords(t *testing.T) {
	c := Check{Interval: 10, Fast: 0.5, Rise: 2, Fall: 1}
	if got, want := c.Thresholds(), "down after 1 failure, up again after 2 successful probes in a row; probed every 10 s, or every 0.5 s while its state may be about to change"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	c = Check{Interval: 10, Fast: 2, Rise: 1, Fall: 3}
	if got, want := c.Thresholds(), "down after 3 failures, up again after 1 successful probe; probed every 10 s, or every 2 s while its state may be about to change"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for want, target := range map[string]Target{
		"": {State: "up", Needed: 3}, "2 of 3 failures": {State: "up", Streak: 2, Needed: 3}, "1 of 2 successful probes": {State: "down", Streak: 1, Needed: 2},
	} {
		if got := target.Progress(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
