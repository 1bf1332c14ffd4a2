package status

import "fmt"

// Term is a word of the page, and what it means.
type Term struct{ Value, Meaning string }

// Outcomes are what may become of an answer, the worst ones last, and then the one that says nothing.
var Outcomes = []Term{
	{"whole", "nothing is left out for being down; backups and drained ones wait until they are needed"},
	{"sample", "none is down, but there are more than the limit: each answer has some of them"},
	{"thin", "those that are down are left out, and enough are up"},
	{"backup", "too few are up, so that backups or drained ones are served too"},
	{"open", "too few are up, so that health is disregarded, and those that are down are served too"},
	{"closed", "none is up, and none is served; all_down says what is answered instead"},
	{"none", "nothing was judged, and the answer passes as it is"},
}

// States are what may be believed of an address.
var States = []Term{
	{"up", "the last probes were good, or it is forced up by hand"},
	{"down", "the last probes failed, or it is forced down by hand"},
	{"unknown", "not decided yet, and served until it is"},
	{"unchecked", "not probed, and served"},
	{"drained", "drained by hand: left out as long as others are up, and probed all the same"},
}

// MeaningOf says what an outcome means.
func MeaningOf(outcome string) string {
	for _, m := range Outcomes {
		if m.Value == outcome {
			return m.Meaning
		}
	}
	return ""
}

// Recovery says what brings an address back that is down.
func (c *Check) Recovery() string { return "comes back after " + inARow(c.Rise, "good probe") }

// Thresholds says what changes the state of an address, and how fast.
func (c *Check) Thresholds() string {
	return fmt.Sprintf("%s, one every %g s while it is in doubt, %g s else; goes down after %s", c.Recovery(), c.Fast, c.Interval, inARow(c.Fall, "failure"))
}

func inARow(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss in a row", n, noun)
}

// Progress says how far a target is from another state, and nothing if nothing speaks against the one it has.
func (t *Target) Progress() string {
	switch {
	case t.Streak == 0:
		return ""
	case t.State == "down":
		return fmt.Sprintf("%d of %d good probes", t.Streak, t.Needed)
	}
	return fmt.Sprintf("%d of %d failures", t.Streak, t.Needed)
}
