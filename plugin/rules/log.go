package rules

import (
	"fmt"
	"strconv"

	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
)

// Log writes what an operator must know of an answer for a name in the zone: that a signature keeps it whole, once; and that
// too few addresses are healthy, once a minute and stanza. It counts an answer with backups, and one that was chosen by sites.
func (z *Zone) Log(name string, r answer.Report) {
	s := z.Stanza
	if r.Signed && s.loggedSigned.First() {
		s.Group.Warn("answers for %s are signed before multivalue sees them, and stay whole: see DNSSEC in the manual", z.Name)
	}
	if r.Sites != 0 { // which most answers are not chosen by
		metrics.CountNearest(r.Sites.String())
	}
	if r.Rank > 0 {
		metrics.CountBackups(r.Rank)
	}
	// Each kind of shortage has a line of its own: a name that is on its backups must not hide that another one has no servers left.
	switch {
	case r.Outcome == answer.Backup && s.loggedBackup.First():
		s.Group.Warn("%s: %d of %d addresses are down, so %s (backup, min_up and dry_run of zone %s decide)", name, r.Down, r.Total, filledUp(&r), z.Name)
	case r.Outcome >= answer.Open && s.loggedOpen.First():
		served := strconv.Itoa(r.Kept)
		if r.Enforced < answer.Open { // a dry run
			served = strconv.Itoa(r.Total)
		} else if r.Instead.Served > 0 {
			served = "those of " + r.Instead.Name
		} else if r.Instead.TookOver() {
			served = "none, because " + r.Instead.Name + " has addresses of the other family only"
		}
		s.Group.Warn("%s: %d of %d addresses are down, serving %s (all_down, min_up and dry_run of zone %s decide)", name, r.Down, r.Total, served, z.Name)
	}
	// A name that is needed and cannot help is another fault than the one that it is needed for.
	if why := r.Instead.Why(); r.Instead.Name != "" && why != "" && s.loggedInstead.First() {
		s.Group.Warn("%s: none of its addresses is healthy, and %s, which should take over, %s: its own are served (all_down of the stanza at %s)", name, r.Instead.Name, why, s.Group.At)
	}
}

// filledUp says what is served in addition to healthy primaries, or would be without dry_run.
func filledUp(r *answer.Report) string {
	// Backups come before drained addresses, so these alone mean that no backup is fit.
	what, verb := "drained addresses", "are"
	if r.Rank > 0 {
		what = fmt.Sprintf("backups of rank %d", r.Rank)
	}
	if r.Enforced < answer.Backup {
		verb = "would be"
	}
	return fmt.Sprintf("%s %s served too", what, verb)
}
