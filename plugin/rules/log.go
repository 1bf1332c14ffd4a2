package rules

import (
	"github.com/coredns-multivalue/multivalue/plugin/answer"
)

// Log writes what an operator must know of an answer for a name in the zone: that a signature keeps it whole, once; and that
// too few addresses are healthy, once a minute and stanza.
func (z *Zone) Log(name string, r answer.Report) {
	s := z.Stanza
	if r.Signed && s.loggedSigned.First() {
		s.Group.Warn("answers for %s are signed before multivalue sees them, and stay whole: see DNSSEC in the manual", z.Name)
	}
	if r.Outcome < answer.Open || !s.loggedOpen.First() {
		return
	}
	served := r.Kept
	if r.Enforced < answer.Open { // a dry run
		served = r.Total
	}
	s.Group.Warn("%s: %d of %d addresses are down, serving %d (all_down, min_up and dry_run of zone %s decide)", name, r.Down, r.Total, served, z.Name)
}
