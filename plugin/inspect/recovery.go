package inspect

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// Here is what brings back a member that is left out: what has to happen, and when that can be at the earliest.

// addNext adds to what is known of a target when it is probed next, and when it can be up at the earliest: at the fast pace, which
// holds while a target may be about to change. Nothing is known of the probes of other members of a fleet.
func addNext(a *status.Asked, t *pool.Key, row *status.Target) {
	if row.NextProbe.IsZero() {
		return
	}
	// A probe that is under way may be the next one; then this is when the one after it is due, and so a little late.
	a.Next = row.NextProbe
	if left := row.Needed - row.Streak; row.State == "down" && left > 0 {
		a.UpAt = a.Next.Add(time.Duration(left-1) * t.Check.Pace().Fast)
	}
}

// addRecovery says of a member since when it is down, and what brings it back if it is not served, or served although it is down.
func (d *decision) addRecovery(c answer.Candidate, m *status.Member, need int) {
	if m.State == "down" {
		m.Since = sinceDown(c, m)
	}
	if m.Served && (m.Tier != "unfit" || d.DryRun) {
		return
	}
	// The order is that of memberReason: a forced state decides before the checks, and the tier before the draw.
	var words []string
	switch {
	case m.Forced == "down":
		words = append(words, forcedRecovery(&m.Force))
	case m.State == "down":
		words = d.probeRecovery(m, need)
	case m.Tier == "drained":
		words = append(words, drainRecovery(m), d.drainedToo())
	case m.Tier == "backup":
		words = append(words, fmt.Sprintf("it is served if fewer than %s", d.enough()))
	case d.stayedHome(c):
		words = append(words, "it is served to clients of its own site, and to others if nearer sites have too few")
	case m.Share != nil && *m.Share > 0:
		words = append(words, fmt.Sprintf("nothing has to: it is in %s of answers, and not in this one", percent(*m.Share)))
	default:
		words = append(words, fmt.Sprintf("it is served if others are down, since the limit is %d", d.Limit))
	}
	m.Recovery = strings.Join(words, "; ")
}

// sinceDown is since when a member is down, which is not known of one that is forced.
func sinceDown(c answer.Candidate, m *status.Member) time.Time {
	if since := c.Verdict.Since(); since > 0 && m.Forced != "down" {
		return time.UnixMilli(int64(since))
	}
	return time.Time{}
}

// enough is what makes others than primaries unnecessary.
func (d *decision) enough() string {
	fit := d.count().fit
	return fmt.Sprintf("%s up, and %s now", text.Counted(d.Need, "primary is", "primaries are"), text.Counted(fit, "is", "are"))
}

// drainedToo says when an address is served although it is drained: the better ones together are too few.
func (d *decision) drainedToo() string {
	// Primaries and backups count alike here: drained addresses fill up after both.
	if d.Need == 1 {
		return "it is also served if no other address is up"
	}
	return fmt.Sprintf("it is also served if fewer than %d addresses that are not drained are up", d.Need)
}

// instant is a time for people. The day is part of it: who reads it may do so tomorrow, in what was copied.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// forcedRecovery says how long a member is forced down.
func forcedRecovery(f *status.Force) string {
	if f.Until.IsZero() {
		return "it is forced down without an end: remove its line from the file of force"
	}
	return fmt.Sprintf("it is forced down until %s, or until its line is removed from the file of force", instant(f.Until))
}

// drainRecovery says what ends the draining of a member.
func drainRecovery(m *status.Member) string {
	// A file decides over the backend, so its line has to go first.
	if m.Forced == "drain" {
		if m.Until.IsZero() {
			return "it is drained, without an end: release it, or remove its line from the file of force"
		}
		return fmt.Sprintf("it is drained until %s, or until it is released", instant(m.Until))
	}
	return "its backend has to ask for clients again"
}

// probeRecovery says which checks have to find a member up. need is how many of them have to, 0 for all.
func (d *decision) probeRecovery(m *status.Member, need int) (words []string) {
	// All of them are listed, also where fewer are enough: nothing says which of them will be the first.
	fit := 0
	for i := range m.Checks {
		if a := &m.Checks[i]; a.State == "down" {
			words = append(words, checkRecovery(a))
		} else {
			fit++
		}
	}
	switch {
	case len(words) == 0:
		return []string{"its checks have to find it up"}
	case need > 0 && need-fit < len(words): // see require
		return slices.Insert(words, 0, fmt.Sprintf("%d of these checks %s enough", need-fit, text.Plural(need-fit, "is", "are")))
	}
	return words
}

// checkRecovery says how many good probes one check needs, and when they can be there.
func checkRecovery(a *status.Asked) string {
	what := fmt.Sprintf("of %s at %s", a.Check, a.Address)
	// This server does not know when the others probe, nor how many of their probes have succeeded.
	if a.Role == "heard" {
		return fmt.Sprintf("the votes of the members that probe it have to say up (%s), now %s", what, a.Fleet)
	}
	// A target may have all that it needs, and wait for other checks of its address, or for the votes of others. Then the next
	// probe is what a reader can watch.
	left := max(1, a.Needed-a.Streak)
	words := fmt.Sprintf("%s %s", text.Counted(left, "more good probe", "more good probes"), what)
	if left > 1 {
		words += " in a row"
	}
	if !a.UpAt.IsZero() {
		words += fmt.Sprintf(", at %s at the earliest", instant(a.UpAt))
	}
	if a.Role == "seat" {
		words += ", and the votes of the others as the quorum asks"
	}
	return words
}
