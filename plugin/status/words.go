package status

import "fmt"

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
	{"up", "up", "the last probes succeeded, or the address is forced up"},
	{"down", "down", "the last probes failed, or the address is forced down"},
	{"unknown", "unknown", "not decided yet; served until it is"},
	{"unchecked", "unchecked", "not probed; always served"},
	{"drained", "drained", "drained by hand, or by what its backend says: left out while other addresses are up, and still probed"},
}

// NotChecked stands for the outcomes whole and sample where no address has been checked: nothing is known of its health.
var NotChecked = Term{"unchecked", "not checked", "no address has been checked, or not yet, so nothing is known of their health: see why in the explanation"}

// OutcomeOf returns the words for the outcome of an answer or a set, and whether any address was checked.
func OutcomeOf(value string, checked bool) Term {
	if !checked && (value == "whole" || value == "sample") {
		return NotChecked
	}
	return OutcomeTerm(value)
}

// OutcomeTerm returns the words for an outcome. A value that is not known is its own label.
func OutcomeTerm(value string) Term {
	for _, t := range Outcomes {
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
