// Package report has what backends say of themselves, in answer to checks that let them.
//
// A Report is what one answer says, and Said is what counts of all of them: how much of its weight a backend wants, and whether
// it wants clients at all. Package check makes reports, the machine of package verdict hears them, and what counts goes where
// a verdict goes. All of it is arithmetic on values: the package starts no goroutine and reads no clock.
package report

import (
	"fmt"
	"slices"
)

// Report is what one answer of a backend says of itself, beside whether the answer is good. The zero value says nothing, and
// what a report does not say stays as it was.
type Report struct {
	Decides   bool   // the backend was asked how it is: what it says counts at once, and not whether the probe has passed
	HasWeight bool   // Weight is set
	Weight    uint8  // in per cent of the weight that the address has, 0 to 100
	Health    string // "up"; "down", "fail" or "stopped"; or empty
	Admin     string // "ready", "drain", "maint", or empty
	Reason    string // in the words of the backend, quoted; empty if it gives none
	Odd       string // what could not be understood, for the log; empty if there was nothing
	OddKind   Oddity // of Odd, so that each kind is told once
}

// Oddity is a kind of mistake in a report. None changes what is believed.
type Oddity uint8

const (
	// OddWord is a word that no backend should say.
	OddWord Oddity = iota
	// OddWeight is a weight that is not a number from 0 to 100.
	OddWeight
	// OddExcess is a weight over 100 per cent, which counts as 100.
	OddExcess
	// Oddities is how many there are, for tables by kind.
	Oddities
)

// Said is all that counts of what a backend has said of itself so far. Nil is a backend that has said nothing, or that it
// is well and takes its full weight. A value never changes: a report that says something else makes another one.
type Said struct {
	Shed   uint8  // how many per cent of its weight it does not want
	Health string // "down", "fail" or "stopped", as it said last; empty otherwise
	Admin  string // "drain" or "maint", until it says "ready"; empty otherwise
	Reason string // quoted, as Report has it
}

// Refusal is why the backend has itself taken out by this report alone; empty if it has not.
func (r Report) Refusal() string { return (*Said)(nil).After(r).Refusal() }

// SaysNothing reports whether a backend that was asked how it is has said nothing of that: its answer has no word of an agent, as
// that of another service on the port of the agent.
func (r Report) SaysNothing() bool {
	return r.Decides && !r.HasWeight && r.Health == "" && r.Admin == "" && r.Reason == ""
}

// After returns what counts after one more report. The reason belongs to the states, so a report with a state and without
// a reason clears it.
func (s *Said) After(r Report) *Said {
	var next Said
	if s != nil {
		next = *s
	}
	if r.HasWeight {
		next.Shed = 100 - min(r.Weight, 100)
	}
	switch r.Health {
	case "":
	case "up":
		next.Health = ""
	default:
		next.Health = r.Health
	}
	switch r.Admin {
	case "":
	case "ready":
		next.Admin = ""
	default:
		next.Admin = r.Admin
	}
	if r.Health != "" || r.Admin != "" || r.Reason != "" {
		next.Reason = r.Reason
	}
	switch {
	case next.Shed == 0 && next.Health == "" && next.Admin == "":
		return nil
	case s != nil && next == *s:
		return s
	}
	return &next
}

// Weight is how much of its weight the backend wants, in per cent.
func (s *Said) Weight() uint8 {
	if s == nil {
		return 100
	}
	return 100 - min(s.Shed, 100)
}

// Drains reports whether the backend wants no clients while others can take them: it has said drain, or a weight of 0.
func (s *Said) Drains() bool { return s != nil && (s.Admin == "drain" || s.Shed >= 100) }

// Valid reports whether the value is one that reports lead to: that of a file may be any.
func (s Said) Valid() bool {
	return s.Shed <= 100 && slices.Contains([]string{"", "down", "fail", "stopped"}, s.Health) && slices.Contains([]string{"", "drain", "maint"}, s.Admin)
}

// Refusal is why the backend has itself taken out, in a few words; empty if it has not.
func (s *Said) Refusal() string {
	switch {
	case s == nil:
		return ""
	case s.Admin == "maint":
		return s.words("maint")
	case s.Health != "":
		return s.words(s.Health)
	}
	return ""
}

// String says in a few words what the backend wants other than all that it can get; empty if nothing.
func (s *Said) String() string {
	switch text := s.Refusal(); {
	case s == nil || text != "":
		return text
	case s.Admin != "":
		return s.words(s.Admin)
	}
	return s.words(fmt.Sprintf("%d%%", s.Weight()))
}

// words is one thing that the backend says, with its reason.
func (s *Said) words(what string) string {
	if s.Reason == "" {
		return "backend says " + what
	}
	return "backend says " + what + ": " + s.Reason
}
