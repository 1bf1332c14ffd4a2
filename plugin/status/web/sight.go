package web

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// sight is what the page says first: one sentence, a strip that shows the same at a glance, and counts that lead to what they count.
// All of it is counted in one snapshot, without the filter.
type sight struct {
	Sentence     string
	Down         int    // targets
	Trouble      bool   // anything needs attention
	NameStrip    strip  // by the worst outcome of a name
	TargetStrip  strip  // by measured state
	Tiles        []tile // of targets
	AllNames     int
	AllTargets   int
	AllAddresses int
}

// tile is a count that leads to the targets that it counts.
type tile struct {
	State string // for the filter
	Count int
	Alert bool
	On    bool // the filter picks it now
}

// strip is a bar that is divided by share. What needs attention is higher than what does not, so that form tells it as well as colour.
type strip struct {
	Text          string // the same in words
	Width, Height int
	Parts         []stripPart
}

// stripPart is a part of a strip, in user units of an SVG.
type stripPart struct {
	Class               string
	X, Y, Width, Height int
}

const (
	stripWidth  = 1000
	stripHeight = 12
	calmHeight  = 5 // of parts that need no attention
	leastWidth  = 6 // so that one of ten thousand is seen
)

// nameClasses are the worst outcomes of names as the strip has them, the worst one first. What is not known comes before what is well.
var nameClasses = []string{"closed", "open", "down", "backup", "thin", "drained", "forced", "unchecked", "none", "whole"}

// attention is how many of nameClasses need it. What people have drained or forced up is told, and is no trouble.
const attention = 5

// newSight counts a snapshot. Outcomes of names are those of outcomesOf.
func newSight(s *status.Snapshot, outcomes map[string]string, chosen string) sight {
	v := sight{AllNames: len(s.Names), AllTargets: len(s.Targets), AllAddresses: countAddresses(s)}
	names := make(map[string]int)
	for _, outcome := range outcomes {
		names[outcome]++
	}
	targets := s.CountStates()
	v.Down = targets["down"]
	ill := slices.ContainsFunc(nameClasses[:attention], func(class string) bool { return names[class] > 0 })
	switch {
	case v.AllTargets > 0:
		v.Sentence = namesText(names, v.AllNames) + "; " + targetsText(targets, v.AllTargets)
	case ill: // by a forced state
		v.Sentence = namesText(names, v.AllNames) + "; no address is probed"
	default:
		v.Sentence = nothingText(s)
	}
	v.Trouble = targets["down"] > 0 || ill
	v.NameStrip, v.TargetStrip = newStrip("names", nameClasses, names, attention), newStrip("targets", []string{"down", "unknown", "up"}, targets, 1)
	for _, state := range filterStates {
		one := tile{state, targets[state], state == "down" && targets[state] > 0, state == chosen}
		if one.Count > 0 || one.On || slices.Contains(filterStates[:3], state) {
			v.Tiles = append(v.Tiles, one)
		}
	}
	return v
}

// countAddresses counts the addresses of all targets. A sorted snapshot has those of one address together.
func countAddresses(s *status.Snapshot) (n int) {
	for i := range s.Targets {
		if i == 0 || s.Targets[i].Address.Addr() != s.Targets[i-1].Address.Addr() {
			n++
		}
	}
	return n
}

// nothingText says why no target is watched.
func nothingText(s *status.Snapshot) string {
	if len(s.Names) == 0 {
		return "Nothing is checked yet: the addresses of a name are, once a query has asked for it"
	}
	return fmt.Sprintf("Nothing is checked: %s, and no address to probe", counted(len(s.Names), "name was asked for", "names were asked for"))
}

// counted is a number with the word for one or for several.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// namesText says how the names fare, those in trouble first.
func namesText(by map[string]int, all int) string {
	var parts []string
	for _, class := range nameClasses {
		n := by[class]
		one, many := status.Term{Value: class}.InSentence()
		if n == 0 || one == "" {
			continue
		}
		if len(parts) == 0 { // the noun is said once
			one, many = "name "+one, "names "+many
		}
		parts = append(parts, counted(n, one, many))
	}
	unknown := by["unchecked"] + by["none"]
	switch {
	case len(parts) > 0 && unknown > 0:
		parts = append(parts, counted(unknown, "is not checked", "are not checked"))
	case len(parts) > 0:
	case unknown == all && all > 0:
		return "No name has been checked yet"
	case unknown > 0:
		return fmt.Sprintf("%s healthy, %s", counted(all-unknown, "name is", "names are"), counted(unknown, "is not checked", "are not checked"))
	case all == 1:
		return "The 1 name is healthy"
	default:
		return fmt.Sprintf("All %d names are healthy", all)
	}
	return strings.Join(parts, ", ")
}

// targetsText says how many targets are down, or else that none is.
func targetsText(by map[string]int, all int) string {
	switch down, unknown := by["down"], by["unknown"]; {
	case down > 0 && all == 1:
		return "the 1 target is down"
	case down == 1:
		return fmt.Sprintf("1 of %d targets is down", all)
	case down > 0:
		return fmt.Sprintf("%d of %d targets are down", down, all)
	case unknown > 0:
		return fmt.Sprintf("%d of %s up, %d not decided yet", by["up"], counted(all, "target is", "targets are"), unknown)
	}
	return counted(all, "target is up", "targets are up")
}

// newStrip divides a bar by the counts of some classes, of which the first ones need attention.
func newStrip(what string, classes []string, counts map[string]int, attention int) strip {
	all, x, words := 0, 0, []string(nil)
	for _, class := range classes {
		all += counts[class]
	}
	s := strip{Height: stripHeight}
	for i, class := range classes {
		n := counts[class]
		if n == 0 {
			continue
		}
		words = append(words, fmt.Sprintf("%d %s", n, class))
		p := stripPart{Class: class, X: x, Width: max(leastWidth, n*stripWidth/all), Y: stripHeight - calmHeight, Height: calmHeight}
		if i < attention {
			p.Y, p.Height = 0, stripHeight
		}
		x += p.Width
		s.Parts = append(s.Parts, p)
	}
	s.Width = max(x, 1) // narrow parts are made wider, so it may be more than stripWidth
	s.Text = what + ": " + cmp.Or(strings.Join(words, ", "), "none")
	return s
}

// outcomesOf says of each name what its worst outcome is. The answers in rows, which were made now, decide for their names. For other
// names that is the last answer, and thin if an address has gone down since.
func outcomesOf(names []status.Name, down map[string]bool, rows []nameRow) map[string]string {
	all := make(map[string]string, len(names))
	for i := range names {
		n := &names[i]
		outcome := "unchecked"
		for _, a := range n.Answers {
			outcome = worseOutcome(outcome, classOf(a.Outcome, a.Checked, a.Health, a.DryRun))
		}
		if outcome != "forced" && hasFewer(n, down) {
			outcome = worseOutcome(outcome, "thin")
		}
		all[n.Name] = outcome
	}
	fresh := make(map[string]string)
	for i := range rows {
		name := rows[i].Name
		for _, e := range rows[i].Now {
			fresh[name] = worseOutcome(cmp.Or(fresh[name], "unchecked"), classOf(e.Outcome, e.Checked, e.Health, e.DryRun))
		}
	}
	for name, outcome := range fresh {
		if _, known := all[name]; known {
			all[name] = outcome
		}
	}
	return all
}

// worseOutcome returns the one of two outcomes that a name is counted under. An answer that was not checked says nothing beside one of
// another type that was.
func worseOutcome(a, b string) string {
	rank := func(x string) int {
		switch x {
		case "unchecked":
			return len(nameClasses) + 1
		case "none":
			return len(nameClasses)
		case "sample":
			x = "whole"
		}
		return slices.Index(nameClasses, x)
	}
	if b == "sample" {
		b = "whole"
	}
	if rank(b) < rank(a) {
		return b
	}
	return a
}
