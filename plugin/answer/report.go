package answer

import (
	"net/netip"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Report says what Thin did to an answer, for metrics and metadata.
type Report struct {
	Outcome Outcome // the worst one of all sets
	Kept    int     // records that the policy serves, in all sets with a rule; of HTTPS and SVCB records, their hints
	Total   int     // different records, or hints, in these sets
	Down    int     // of those, how many are down
	Rank    int     // the highest rank of the backups that are served; 0 if none are, or if health was disregarded
	Sites   Sites   // from which sites the answer is, by the set of which that is the worst
	// Enforced is the worst outcome of the sets whose rule is not a dry run.
	Enforced Outcome
	Signed   bool // a set was left unchanged because a DNSSEC signature covers it
	// Checked is true if the checks, or a forced state, say of any address whether it is up or down. Without it no one may call
	// the answer healthy.
	Checked bool
	// Drained is true if all members of a set are drained, so that they are served as if none was, and Forced if a member that is
	// served, or would be without the limit, counts as up by hand alone. Neither shows in the outcome.
	Drained   bool
	Forced    bool
	Unchecked [verdict.Gaps]bool // why addresses that are served are not checked
	Mendable  Mendable           // one of those whose reason the operator can mend; the zero value if there is none
	Instead   Instead            // how it went with the name that all_down has for a set, if one needed it
}

// Mendable is a member of a set that is served unchecked, where the Corefile could change that.
type Mendable struct {
	Owner string
	Addr  netip.Addr // invalid for a record that names a host
	Gap   verdict.Gap
}

// noteMembers notes what is known of the members of a set, of which the first are served, and why those are not checked.
func (r *Report) noteMembers(owner string, all, served []candidate) {
	unchecked, drained := false, 0
	for i := range all {
		if all[i].verdict.Drained() {
			drained++
		}
		r.Forced = r.Forced || all[i].verdict.ForcedUp() && (i < len(served) || all[i].tier() == primary)
		switch all[i].verdict.State() {
		case verdict.Up:
			r.Checked = true
		case verdict.Down:
			r.Checked = true
			r.Down++
		case verdict.Unchecked:
			unchecked = true
		}
	}
	r.Drained = r.Drained || drained > 0 && drained == len(all)
	if unchecked {
		r.noteUnchecked(owner, served)
	}
}

// noteUnchecked notes why addresses that are served are not checked.
func (r *Report) noteUnchecked(owner string, served []candidate) {
	for i := range served {
		c := &served[i]
		if c.verdict.State() != verdict.Unchecked {
			continue
		}
		g := c.verdict.Gap()
		r.Unchecked[g] = true
		if (g == verdict.Special || g == verdict.NoPort) && r.Mendable.Owner == "" {
			r.Mendable = Mendable{owner, c.addr, g}
		}
	}
}

// addChoice adds the choice on one set.
func (r *Report) addChoice(c choice) {
	r.Outcome = max(r.Outcome, c.outcome)
	r.Kept += len(c.served) + c.rest.passing()
	r.Total += c.total
	if c.outcome == Backup {
		for i := range c.served {
			r.Rank = max(r.Rank, Tier(c.served[i].tier()).Rank())
		}
	}
}
