package web

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

const (
	// fewestEqual is how many addresses have to be down with the same check and reason to share a row.
	fewestEqual = 3
	// unfoldedPerPage is how many rows all unfolding rows of a page have inside, and unfoldedPerRow how many one has: others are a
	// link away. They bound the size of the page.
	unfoldedPerPage = 50
	unfoldedPerRow  = 25
)

// group is a row of the table of targets: a target, the targets of one address, or addresses that are down for the same reason.
type group struct {
	ID      string
	State   string      // of the worst target
	Lead    targetRow   // the worst one, which the row is about
	All     []targetRow // all of them, as far as they are listed
	More    int         // that are not listed
	Targets int         // all of them
	Same    bool        // they are of several addresses, and equal
	Count   int         // addresses
	names   []string    // that lead to any of them
	members []*status.Target
}

// Single reports whether the row is about one target.
func (g *group) Single() bool { return g.Targets == 1 }

// SharedName returns a name that leads to a target of the row, and how many more do.
func (g *group) SharedName() string { return g.names[0] }

// OtherNames is how many more names lead to the targets of the row.
func (g *group) OtherNames() int { return len(g.names) - 1 }

// Down is how many of the row's targets are down.
func (g *group) Down() (n int) {
	for _, t := range g.members {
		if t.State == "down" {
			n++
		}
	}
	return n
}

// Duration says for how long the targets of the row have been in their state.
func (g *group) Duration(now time.Time) string {
	first, last := g.Lead.Since, g.Lead.Since
	for _, t := range g.members {
		if t.Since.Before(first) {
			first = t.Since
		}
		if t.Since.After(last) {
			last = t.Since
		}
	}
	long, short := formatAge(now, first), formatAge(now, last)
	if long == short || last.Sub(first) < 10*time.Second { // probes are spread over an interval
		return long
	}
	return short + " to " + long
}

// eachTarget makes a row of each target.
func eachTarget(targets []*status.Target) []*group {
	rows := make([]*group, len(targets))
	for i := range targets {
		rows[i] = &group{Count: 1, members: targets[i : i+1]}
	}
	return rows
}

// groupTargets makes a row of the targets of each address, in their order.
func groupTargets(targets []*status.Target) []*group {
	byAddress := make(map[netip.Addr]*group, len(targets))
	var addresses []*group
	for _, t := range targets {
		g := byAddress[t.Address.Addr()]
		if g == nil {
			g = &group{Count: 1}
			byAddress[t.Address.Addr()], addresses = g, append(addresses, g)
		}
		g.members = append(g.members, t)
	}
	return addresses
}

// sameTrouble is what addresses that share a row have in common.
type sameTrouble struct{ check, pace, reason string }

// mergeEqual makes one row of addresses that are down with the same check and reason, where the first of them was.
func mergeEqual(rows []*group) []*group {
	counts := make(map[sameTrouble]int)
	for _, g := range rows {
		if key, ok := g.trouble(); ok {
			counts[key]++
		}
	}
	merged := make(map[sameTrouble]*group)
	return slices.DeleteFunc(rows, func(g *group) bool {
		key, ok := g.trouble()
		if !ok || counts[key] < fewestEqual {
			return false
		}
		if first := merged[key]; first != nil {
			first.members, first.Count, first.Same = append(first.members, g.members...), first.Count+1, true
			return true
		}
		merged[key] = g
		return false
	})
}

// trouble returns what an address has in common with others that are down. One that is forced, or has other checks too, keeps a row of
// its own.
func (g *group) trouble() (key sameTrouble, ok bool) {
	t := g.members[0]
	if len(g.members) > 1 && !g.Same || t.State != "down" || t.Forced != "" {
		return key, false
	}
	return sameTrouble{t.Check, t.Pace, t.Reason}, true
}

// addGroups makes the rows of the page ready to be shown.
func (v *pageView) addGroups(rows []*group) {
	rules := v.rulesByText()
	left := unfoldedPerPage
	ids := make(map[*status.Target]string) // the first one of a row is in it, too
	row := func(t *status.Target) targetRow {
		if ids[t] == "" {
			ids[t] = v.RowID(t.Address.String(), t.Check, t.Pace)
		}
		return targetRow{Target: t, ID: ids[t], Rule: rules[t.Check+" "+t.Pace], Acting: v.Acting}
	}
	for _, g := range rows {
		g.Targets = len(g.members)
		worst := slices.MinFunc(g.members, func(a, b *status.Target) int { return urgency(a) - urgency(b) })
		g.Lead, g.State = row(worst), worst.State
		g.ID = g.Lead.ID
		if g.Single() {
			v.Rows = append(v.Rows, g)
			continue
		}
		g.ID = rowID("address", worst.Address.Addr().String())
		if g.Same { // it stays the same row while addresses join it and leave it
			g.ID = rowID("same", worst.Check, worst.Pace, worst.Reason)
		}
		listed := min(len(g.members), unfoldedPerRow, left)
		left -= listed
		for _, t := range g.members[:listed] {
			g.All = append(g.All, row(t))
		}
		g.More = len(g.members) - listed
		g.names = namesOf(g.members)
		v.Rows = append(v.Rows, g)
	}
}

// targetCell is the data of the template target.
type targetCell struct {
	Page  *pageView
	Taken time.Time
	Row   targetRow
	Plot  bool // the last probes are drawn
}

func newCell(v *pageView, row targetRow, plot bool) targetCell {
	return targetCell{v, v.Taken, row, plot}
}

// wholePercent formats a share.
func wholePercent(share float64) string { return fmt.Sprintf("%.0f%%", share*100) }

// namesOf are the names that lead to any of the targets, those of most targets first.
func namesOf(targets []*status.Target) []string {
	count := make(map[string]int)
	for _, t := range targets {
		for _, name := range t.Names {
			count[name]++
		}
	}
	if len(count) == 0 {
		return []string{targets[0].Name}
	}
	names := make([]string, 0, len(count))
	for name := range count {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if count[a] != count[b] {
			return count[b] - count[a]
		}
		if a < b {
			return -1
		}
		return 1
	})
	return names
}

// rulesByText finds a check by its text and pace. Checks that differ in a secret alone look the same on the page.
func (v *pageView) rulesByText() map[string]*status.Check {
	rules := make(map[string]*status.Check, len(v.Checks))
	for i := range v.Checks {
		c := &v.Checks[i]
		rules[c.Check+" "+c.Pace] = c
	}
	return rules
}

// stanzaRow is a stanza with its checks.
type stanzaRow struct {
	status.Stanza
	Checks []*status.Check
}

// maxStanzas is how many stanzas the page lists. The JSON has all of them.
const maxStanzas = 50

// stanzaRows lists the checks by stanza. Checks of no stanza are those of annotations, or of a Corefile that is leaving; they come last,
// under a stanza without a place.
func stanzaRows(s *status.Snapshot) (rows []stanzaRow, more int) {
	for _, x := range s.Summary.Stanzas[:min(len(s.Summary.Stanzas), maxStanzas)] {
		row := stanzaRow{Stanza: x}
		for i := range s.Checks {
			if c := &s.Checks[i]; slices.Contains(c.Stanzas, x.At) {
				row.Checks = append(row.Checks, c)
			}
		}
		rows = append(rows, row)
	}
	other := stanzaRow{}
	for i := range s.Checks {
		if c := &s.Checks[i]; len(c.Stanzas) == 0 && len(other.Checks) < maxStanzas {
			other.Checks = append(other.Checks, c)
		}
	}
	if len(other.Checks) > 0 {
		rows = append(rows, other)
	}
	return rows, max(0, len(s.Summary.Stanzas)-maxStanzas)
}

// rowsText says what the rows of the table are, in words.
func (v *pageView) RowsText() string {
	text := fmt.Sprintf("%s at %s", counted(v.Picked, "target", "targets"), counted(v.PickedAddresses, "address", "addresses"))
	if v.Page.Total == 0 {
		return text
	}
	return fmt.Sprintf("%s; rows %d–%d of %d", text, v.Page.From(), v.Page.Last, v.Page.Total)
}
