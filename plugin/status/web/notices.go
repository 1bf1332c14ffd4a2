package web

import (
	"fmt"
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// notice is one thing that is true of the whole process, and that a reader must know before the rest makes sense.
type notice struct{ Title, Text string }

// maxNotices is how many stanzas have a notice of one kind each. The others are counted.
const maxNotices = 4

// newNotices says what is true of the process, what hides trouble first.
func newNotices(s *status.Snapshot) (all []notice) {
	sum := &s.Summary
	add := func(when bool, title, text string, args ...any) {
		if when {
			all = append(all, notice{title, fmt.Sprintf(text, args...)})
		}
	}
	add(!sum.Running, "Not probing.", "The server has not started yet, or it is stopping.")
	add(!sum.IsolatedSince.IsZero(), "Isolated.", "No target has answered for %s, so the network of this server may have failed. For up to a minute no target is taken down.", formatAge(s.Taken, sum.IsolatedSince))
	add(sum.Running && !sum.Ready, "Not ready.", "Readiness waits for the first verdicts of the names that are watched, or preloaded.")
	add(!sum.LateSince.IsZero(), "Probes are late,", "for %s: more targets are in doubt than there are places to probe them. An address that dies may stay in answers for longer than its pace says. Allow more open files, or use a longer interval or a shorter timeout.", formatAge(s.Taken, sum.LateSince))
	if f := sum.Fleet; f != nil && f.Alone {
		heard := "no other member of the fleet"
		if f.Alive > 0 {
			heard = "no vote on any target"
		}
		add(true, "This member is alone.", "It hears %s, so it probes all its targets itself.", heard)
	}
	add(sum.Full, "Target limit reached.", "As many targets are watched as is allowed in all. New addresses are served unchecked.")
	add(sum.Forced.Broken > 0, "Invalid force file.", "%s%s", counted(sum.Forced.Broken, "force file is invalid", "force files are invalid"), faultsText(sum.Forced.Errors))
	add(sum.BrokenSites > 0, "Invalid topology file.", "%s%s", counted(sum.BrokenSites, "file of sites is invalid", "files of sites are invalid"), faultsText(sum.SitesErrors))
	add(sum.StateUnread != "", "State file not read.", "When the server started: %s.", sum.StateUnread)
	add(sum.StateError != "", "State file not saved.", "After a restart, verdicts since then are not known: %s.", sum.StateError)
	return append(append(all, fullNotices(sum.Stanzas)...), dryNotices(sum.Stanzas)...)
}

// faultsText says what is wrong with files that are followed, with file and line.
func faultsText(faults []string) string {
	const kept = ". What was in force before stays in force"
	switch n := len(faults); {
	case n == 0:
		return kept + "."
	case n > maxNotices:
		return fmt.Sprintf("%s: %s, and %d more.", kept, strings.Join(faults[:maxNotices], "; "), n-maxNotices)
	}
	return kept + ": " + strings.Join(faults, "; ")
}

// fullNotices name the stanzas that watch as many targets as they may.
func fullNotices(stanzas []status.Stanza) []notice {
	return stanzaNotices(stanzas, "Target limit reached.", func(x *status.Stanza) bool { return x.Full }, func(x *status.Stanza) string {
		return fmt.Sprintf("The stanza at %s watches %d targets of at most %d (max_targets). New addresses are served unchecked.", x.At, x.Targets, x.MaxTargets)
	})
}

// dryNotices name the stanzas that change no answer.
func dryNotices(stanzas []status.Stanza) []notice {
	return stanzaNotices(stanzas, "Dry run.", func(x *status.Stanza) bool { return x.DryRun }, func(x *status.Stanza) string {
		return fmt.Sprintf("The stanza at %s reports what it would do, and serves every address.", x.At)
	})
}

func stanzaNotices(stanzas []status.Stanza, title string, is func(*status.Stanza) bool, text func(*status.Stanza) string) (all []notice) {
	more := 0
	for i := range stanzas {
		switch x := &stanzas[i]; {
		case !is(x):
		case len(all) < maxNotices:
			all = append(all, notice{title, text(x)})
		default:
			more++
		}
	}
	if more > 0 {
		all[len(all)-1].Text += fmt.Sprintf(" The same holds for %s.", counted(more, "more stanza", "more stanzas"))
	}
	return all
}
