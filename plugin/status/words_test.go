package status

import (
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
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

// There are words for each standing of a vote that package fleet knows, and for no other.
func TestStandingsOfFleet(t *testing.T) {
	if len(Standings) != int(fleet.Seatless)+1 {
		t.Errorf("%d standings have words, want %d", len(Standings), fleet.Seatless+1)
	}
	for s := range fleet.Seatless + 1 {
		if term := StandingTerm(s.String()); term.Meaning == "" || term.Label == "" {
			t.Errorf("%s has no words: %+v", s, term)
		}
	}
}

// How votes make a state is said in words, for each role (B113).
func TestVotesInWords(t *testing.T) {
	vote := func(standing, state string) Vote { return Vote{Standing: standing, State: state} }
	for _, c := range []struct {
		state, role, reason string
		votes               []Vote
		want                string
	}{
		{"down", "seat", "connection refused 2, timed out 1", []Vote{vote("counts", "down"), vote("counts", "down"), vote("counts", "down")}, "3 of 3 vantage points, connection refused 2, timed out 1"},
		{"up", "seat", "refused", []Vote{vote("counts", "up"), vote("counts", "down"), vote("silent", "up")}, "1 of 2 vantage points"},
		{"up", "heard", "", []Vote{vote("counts", "up")}, "1 of 1 vantage point; this server is not one of them"},
		{"down", "heard", "refused", []Vote{vote("counts", "down"), vote("counts", "down")}, "2 of 2 vantage points, refused; this server is not one of them"},
		{"up", "alone", "", []Vote{vote("silent", "up"), vote("missing", "unknown")}, "no vote is heard: this server probes it itself"},
		{"down", "alone", "refused", nil, "no vote is heard: this server probes it itself, refused"},
		{"unknown", "seat", "", []Vote{vote("missing", "unknown")}, "no vote counts yet: this server is a vantage point, and probes it"},
	} {
		target := Target{State: c.state, Shared: &Shared{Role: c.role, Votes: c.votes}}
		a := Asked{State: c.state, Reason: c.reason, Role: c.role, Fleet: target.VoteText()}
		if got := a.FleetText(); got != c.want {
			t.Errorf("%s, %s: %q, want %q", c.state, c.role, got, c.want)
		}
	}
	if words := new(Target).VoteText() + new(Asked).FleetText(); words != "" {
		t.Errorf("a target that is not shared has votes: %s", words)
	}
}
