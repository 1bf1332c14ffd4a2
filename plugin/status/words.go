package status

import (
	"fmt"
	"slices"
)

// Term is a value of the JSON with its words for people. Value is stable: metrics, logs and programs use it.
type Term struct {
	Value   string // in JSON and metrics, such as open
	Label   string // on the page, such as fail-open
	Meaning string // one sentence, without a full stop
}

// Outcomes are the values of Explanation.Outcome, Set.Outcome and Last.Outcome, the best one first, and none at the end.
// They are those of answer.Outcome, which this package does not import; a test of the plugin holds the two together.
var Outcomes = []Term{
	{"whole", "all healthy", "no address is down, apart from backups and drained ones, which wait until they are needed; all the others are served"},
	{"sample", "limited", "no address is down, apart from backups and drained ones, but there are more than the limit: each answer has some of them"},
	{"thin", "filtered", "addresses that are down are left out, and enough others are up"},
	{"backup", "on backups", "too few addresses are up, so backups or drained addresses are served too"},
	{"open", "fail-open", "too few addresses are up, so health is ignored and addresses that are down are served too"},
	{"closed", "fail-closed", "no address is up and none is served; all_down says what the answer is instead"},
	{"none", "not filtered", "nothing in the answer is covered by a check, so it is passed on unchanged"},
}

// States are the states that an address is shown in: those of Target.State, and drained, which is forced by hand or said by the backend.
var States = []Term{
	{"up", "up", "the last probes succeeded; what is forced does not change it"},
	{"down", "down", "the last probes failed; what is forced does not change it"},
	{"unknown", "unknown", "not decided yet; served until it is"},
	{"unchecked", "unchecked", "not probed; always served"},
	{"drained", "drained", "drained by hand, or by what its backend says: left out while other addresses are up, and still probed"},
}

// Standings are the values of Vote.Standing. They are those of fleet.Standing, which this package does not import; a test holds the two
// together.
var Standings = []Term{
	{"missing", "missing", "it has not voted"},
	{"counts", "counts", "its vote counts"},
	{"spare", "spare", "its vote would count if one before it did not"},
	{"silent", "silent", "it is not heard, so its vote does not count"},
	{"isolated", "isolated", "it doubts its own probes, so its vote does not count while others can be heard"},
	{"refused", "refused", "it cannot probe the target, so another has its seat"},
	{"no seat", "no seat", "it has no seat, so its vote does not count"},
}

// MemberStates are the values of FleetMember.State.
var MemberStates = []Term{
	{"alive", "alive", "it is heard, and its votes count"},
	{"silent", "silent", "it is there, but not heard, or not all of what it says arrives, so its votes do not count"},
	{"gone", "gone", "it has left, or died"},
}

// Instead stand for the outcomes whole and sample, which say nothing of a health that changes nothing; the worst one first. Their values
// are those of the field health, but for the last one: then nothing is known of the health of any address.
var Instead = []Term{
	{"down", "down, but served", "the only address is down, or forced down: it is served all the same, because there is no other"},
	{"drained", "drained, but served", "every address is drained, so all are served as if none was"},
	{"forced", "forced up", "at least one address is served because a file forces it up, and not because it is measured up"},
	{"unchecked", "not checked", "no address has been checked, or not yet, so nothing is known of their health: see why in the explanation"},
}

// sentences has the words for names with an outcome in the first sentence of the page: of one name, and of several.
var sentences = map[string][2]string{
	"closed":  {"fails closed", "fail closed"},
	"open":    {"fails open", "fail open"},
	"down":    {"is down, but served", "are down, but served"},
	"backup":  {"is on backups", "are on backups"},
	"thin":    {"runs with fewer", "run with fewer"},
	"drained": {"is drained, but served", "are drained, but served"},
	"forced":  {"is forced up", "are forced up"},
}

// InSentence returns the words for one name with the outcome, and for several; empty if it needs no attention.
func (t Term) InSentence() (one, many string) { return sentences[t.Value][0], sentences[t.Value][1] }

// OutcomeOf returns the words for the outcome of an answer or a set, by whether any address was checked, and what is known of its health
// besides. An outcome that differs from what was served, because it is that of a dry run, says so.
func OutcomeOf(value string, checked bool, health string, dry ...bool) Term {
	if value == "whole" || value == "sample" {
		if health == "" && !checked {
			health = "unchecked"
		}
		if t := termIn(Instead, health); t.Meaning != "" {
			return t
		}
	}
	t := OutcomeTerm(value)
	if slices.Contains(dry, true) && value != "whole" && value != "none" {
		t.Label += " (dry run)"
		t.Meaning = "a dry run changes no answer; without it: " + t.Meaning
	}
	return t
}

// OutcomeTerm returns the words for an outcome. A value that is not known is its own label.
func OutcomeTerm(value string) Term { return termIn(Outcomes, value) }

// StandingTerm returns the words for the standing of a vote.
func StandingTerm(value string) Term { return termIn(Standings, value) }

// MemberTerm returns the words for the state of a member.
func MemberTerm(value string) Term { return termIn(MemberStates, value) }

// termIn returns the words for a value. One that is not known is its own label.
func termIn(terms []Term, value string) Term {
	for _, t := range terms {
		if t.Value == value {
			return t
		}
	}
	return Term{Value: value, Label: value}
}

// Recovery says in words what takes a target up again that is down.
func (c *Check) Recovery() string {
	if c.Rise == 1 {
		return "up again after 1 successful probe"
	}
	return fmt.Sprintf("up again after %d successful probes in a row", c.Rise)
}

// Thresholds says in words what changes the state of a target, and how often it is probed.
func (c *Check) Thresholds() string {
	failures := "1 failure"
	if c.Fall != 1 {
		failures = fmt.Sprintf("%d failures", c.Fall) // not in a row: see verdict.Machine
	}
	return fmt.Sprintf("down after %s, %s; probed every %g s, or every %g s while its state may be about to change",
		failures, c.Recovery(), c.Interval, c.Fast)
}

// VoteText says in words how many of the votes on a target agree with its state, such as "2 of 3 vantage points". It is empty for a target
// that is not shared.
func (t *Target) VoteText() string {
	if t.Shared == nil {
		return ""
	}
	agree, all := t.counted(t.State)
	switch all {
	case 0:
		return "no vote counts"
	case 1:
		return fmt.Sprintf("%d of 1 vantage point", agree)
	}
	return fmt.Sprintf("%d of %d vantage points", agree, all)
}

// FleetText says in words how the votes make the state of a check, and what this process does about it. It is empty for one that is not
// shared.
func (a *Asked) FleetText() string {
	why := ""
	if a.State == "down" && a.Reason != "" {
		why = ", " + a.Reason
	}
	switch {
	case a.Role == "alone":
		return "no vote is heard: this server probes it itself" + why
	case a.Role == "seat" && a.Fleet == "no vote counts":
		return "no vote counts yet: this server is a vantage point, and probes it" + why
	case a.Role == "heard":
		return a.Fleet + why + "; this server is not one of them"
	}
	return a.Fleet + why
}

// Progress says how far a target is from changing its state, such as "2 of 3 failures". It is empty if the last results
// agree with the state.
func (t *Target) Progress() string {
	switch {
	case t.Streak == 0:
		return ""
	case t.State == "down":
		return fmt.Sprintf("%d of %d successful probes", t.Streak, t.Needed)
	}
	return fmt.Sprintf("%d of %d failures", t.Streak, t.Needed)
}
