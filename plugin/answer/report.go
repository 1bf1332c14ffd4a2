package answer

import "github.com/coredns-multivalue/multivalue/plugin/verdict"

// Report says what Thin did to an answer, for metrics and metadata.
type Report struct {
	Outcome Outcome // the worst one of all sets
	Kept    int     // records that the policy serves, in all sets with a rule; of HTTPS and SVCB records, their hints
	Total   int     // different records, or hints, in these sets
	Down    int     // of those, how many are down
	// Enforced is the worst outcome of the sets whose rule is not a dry run.
	Enforced Outcome
	Signed   bool // a set was left unchanged because a DNSSEC signature covers it
	// Checked is true if the checks, or a forced state, say of any address whether it is up or down. Without it no one may call
	// the answer healthy.
	Checked   bool
	Unchecked [verdict.Gaps]bool // why addresses in the answer are not checked
}

// noteMember notes what is known of a member of a set.
func (r *Report) noteMember(v verdict.Brief) {
	switch v.State() {
	case verdict.Up:
		r.Checked = true
	case verdict.Down:
		r.Checked = true
		r.Down++
	case verdict.Unchecked:
		r.Unchecked[v.Gap()] = true
	}
}

// addChoice adds the choice on one set.
func (r *Report) addChoice(c choice) {
	r.Outcome = max(r.Outcome, c.outcome)
	r.Kept += len(c.served) + c.rest.passing()
	r.Total += c.total
}
