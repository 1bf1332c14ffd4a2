package inspect

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Here is what explanations say of the members of a set: why each is served or left out.

// member says what is known of one candidate, and what happens to it.
func (d *decision) member(i int, known map[verdict.Target]status.Target) status.Member {
	c, x := d.Candidates[i], &d.members[i]
	m := status.Member{Within: x.within, More: x.more, Served: i < d.Served || d.DryRun, Tier: c.Tier.String(), State: c.Verdict.State().String(), Checks: []status.Asked{}}
	m.Member = c.Addr.String()
	if !c.Addr.IsValid() { // a record that names a host: its data, without owner, TTL, class and type
		m.Member = strings.TrimSpace(strings.ReplaceAll(strings.TrimPrefix(c.Record.String(), c.Record.Header().String()), "\t", " "))
	}
	if c.Addr.IsValid() {
		m.Force = d.stanza.ShowForced(c.Addr)
	}
	for _, t := range x.targets {
		m.Checks = append(m.Checks, asked(&t, known))
	}
	// What is down has no rank: as a last resort, only how recently it was up counts.
	m.Rank, m.Site = c.Tier.Rank(), d.siteOf(c)
	m.Why = d.memberReason(c, &m) + drainText(&m)
	if d.Alone && d.isKnown() && m.Forced == "" { // another set has it checked
		m.Why += checkedFor(x, known, m.State)
	}
	d.addShare(c, &m)
	if c.Draw != nil {
		if c.Draw.Report < 100 {
			m.Reported = &c.Draw.Report
		}
		m.Weight, m.Warmup, m.First = c.Draw.Weight, rounded(c.Draw.Warmth), rounded(c.Draw.First)
		m.Why += d.shareText(&m)
	}
	d.addRecovery(c, &m, d.stanza.Need)
	if x.more > 0 {
		m.Why += fmt.Sprintf("; and %s not listed", text.Counted(x.more, "more address is", "more addresses are"))
	}
	return m
}

// rounded is a share with three digits that matter, so that a reader is not given more than matters, and that an explanation of the same
// answer does not change with every millisecond of a warm-up.
func rounded(share float64) float64 {
	short, _ := strconv.ParseFloat(strconv.FormatFloat(share, 'g', 3, 64), 64) // which reads what it has written
	return short
}

// percent is a share with up to three digits.
func percent(share float64) string { return fmt.Sprintf("%.3g%%", 100*share) }

// shareText says how much a member has of the draw, if that is not the same for all.
func (d *decision) shareText(m *status.Member) string {
	words := fmt.Sprintf("; weight %d", m.Weight) + wantedText(m)
	if m.Warmup < 1 {
		words += fmt.Sprintf(", warmed up to %s", percent(m.Warmup))
	}
	switch {
	case m.Served && m.Tier == d.Candidates[0].Tier.String() && m.Rank == d.Candidates[0].Tier.Rank():
		words += fmt.Sprintf(", first in %s of answers", percent(m.First))
	case m.Served: // what is in a better tier comes before it
		words += fmt.Sprintf(", the first %s in %s of answers", d.tierName(m), percent(m.First))
	}
	return words
}

// asked says what is known of one target. One that is not watched has no row, and nothing but its address and check to show.
func asked(t *pool.Key, known map[verdict.Target]status.Target) status.Asked {
	a := status.Asked{Check: t.Check.Name, Address: t.Addr, State: verdict.Unknown.String()}
	if w, ok := known[t.Target]; ok {
		a.Watched, a.State, a.Since, a.Reason, a.Streak, a.Needed = true, w.State, w.Since, w.Reason, w.Streak, w.Needed
		addReport(&a, &w)
		addShared(&a, &w)
		addNext(&a, t, &w)
	}
	return a
}

// memberReason says why a candidate is served or left out. The order of the cases matters: a dry run and a set of one are
// served whatever the rest says, and the tier decides before the verdict does, because a forced state changes the tier alone.
func (d *decision) memberReason(c answer.Candidate, m *status.Member) string {
	switch {
	case d.Alone:
		return d.aloneReason(c, m)
	case d.DryRun:
		return "dry run"
	case c.Tier.String() == "unfit" && m.Served:
		return "served although it is " + downText(m)
	case c.Tier.String() == "unfit":
		return downReason(m)
	case m.Served && m.Tier != "primary":
		return d.tierName(m) + ", needed"
	case !m.Served && m.Tier != "primary": // a backup or a drained address
		return d.tierName(m) + ", not needed"
	case !m.Served && d.stayedHome(c):
		return d.fitText(c, m) + ", but nearer sites have enough"
	case !m.Served: // the limit left it out
		return d.fitText(c, m) + ", but not in this sample"
	case c.Verdict.Drained(), m.Forced == "up":
		return d.fitText(c, m)
	case c.Verdict.State() == verdict.Unknown:
		return unknown(m)
	case c.Verdict.State() == verdict.Unchecked:
		return uncheckedReason(c.Verdict.Gap()) + ", served unchecked"
	}
	return "up"
}

// aloneReason says what is known of the only member of a set.
func (d *decision) aloneReason(c answer.Candidate, m *status.Member) string {
	switch {
	case m.State == "down":
		return "the only address, served although it is " + downText(m)
	case c.Verdict.Drained():
		return "the only address, served although it is drained"
	case m.Forced == "up":
		return "the only address, " + d.fitText(c, m)
	case m.State == "up":
		return "the only address, up"
	}
	return "the only address"
}

// fitText says in words that a primary is fit, and whether people or its backend have said more of it.
func (d *decision) fitText(c answer.Candidate, m *status.Member) string {
	// Draining is told first: an address cannot be forced up and drained by hand at once.
	switch {
	case c.Verdict.Drained(): // a primary is not drained, unless all are, and then none counts as drained
		return "drained, but all are"
	case m.Forced == "up" && d.measuredDown(m):
		return "forced up" + because(&m.Force) + " (measured down)"
	case m.Forced == "up":
		return "forced up" + because(&m.Force)
	}
	return c.Verdict.State().String()
}

// measuredDown reports whether the checks of a member find it down, whatever is forced.
func (d *decision) measuredDown(m *status.Member) bool {
	// What is not watched, or not decided, is not down.
	down := 0
	for i := range m.Checks {
		if m.Checks[i].State == "down" {
			down++
		}
	}
	if d.stanza.Need == 0 { // all checks have to find it up
		return down > 0
	}
	return len(m.Checks) > 0 && len(m.Checks)-down < d.stanza.Need
}

// downText says that a member is down and why, after "although it is".
func downText(m *status.Member) string {
	// A forced state is not told as what was measured, and a word without a reason is not said twice.
	why := downReason(m)
	if why == "down" || m.Forced == "down" {
		return why
	}
	return "down: " + why
}

// checkedFor says for which name the target of an only address is checked, since its own set asks for no check.
func checkedFor(x *memberTargets, known map[verdict.Target]status.Target, state string) string {
	for _, t := range x.targets {
		if row, ok := known[t.Target]; ok && row.State == state {
			return fmt.Sprintf(" (checked for %s)", row.Name)
		}
	}
	return ""
}

// uncheckedReason says why no check covers a candidate, in the words of the property that would change it.
func uncheckedReason(g verdict.Gap) string {
	switch g {
	case verdict.Special:
		return "a special address that within does not name"
	case verdict.Full:
		return "not watched, because a limit of targets is reached (max_targets)"
	case verdict.NoPort:
		return "neither its record nor the check names a port"
	case verdict.NoAddress:
		return "the addresses of its host are not known, too many, or outside the zones and within"
	default:
		return "outside within"
	}
}

// downReason says why a member is down: the reason of the first check that says so. A host is down by its addresses, and has
// no forced state of its own.
func downReason(m *status.Member) string {
	if m.Forced == "down" {
		return "forced down" + because(&m.Force)
	}
	for _, a := range m.Checks {
		if a.State == m.State && a.Reason != "" {
			return fleetPrefix(&a) + a.Reason
		}
	}
	return "down"
}

// unknown says why an address has no verdict yet.
func unknown(m *status.Member) string {
	if slices.ContainsFunc(m.Checks, func(a status.Asked) bool { return a.Watched }) {
		return "not decided yet, so it is served"
	}
	return "not watched yet, so it is served"
}
