package web

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

const (
	// explainTimeout bounds how long a page waits for the plugins below to answer for its names, and maxExplains how many of
	// the names are asked for at a time.
	explainTimeout = 2 * time.Second
	maxExplains    = 8
)

// nameRow is a row for a name and type: the answer as it would be now, or the outcome of the last one if that is not known.
type nameRow struct {
	Name, Type string
	Last       *status.Last         // nil if no query for the name was seen lately
	Now        []status.Explanation // one a server block; none if the plugins below did not answer in time
}

// nameRows explains the current answers for a page of names, maxExplains at a time. After explainTimeout the remaining rows stay
// without an explanation: the page must come up while a plugin below is slow. It returns when all goroutines have ended.
func (s *Server) nameRows(ctx context.Context, names []*status.Name) []nameRow {
	var rows []nameRow
	for _, n := range names {
		for i := range n.Answers {
			rows = append(rows, nameRow{Name: n.Name, Type: n.Answers[i].Type, Last: &n.Answers[i]})
		}
		if len(n.Answers) == 0 { // a name of a target that was not asked for lately
			rows = append(rows, nameRow{Name: n.Name, Type: "A"}, nameRow{Name: n.Name, Type: "AAAA"})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	// rows is fixed in size from here on, and each goroutine writes only to a row of its own.
	var work sync.WaitGroup
	places := make(chan struct{}, maxExplains)
	for i := range rows {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		work.Go(func() {
			defer func() { <-places }()
			rows[i].Now, _ = s.explainInTime(ctx, status.Question{Name: rows[i].Name, Type: rows[i].Type}) // after an error the row shows the last outcome
		})
	}
	work.Wait()
	// A type that was only guessed, and that no rule covers, is not shown.
	return slices.DeleteFunc(rows, func(row nameRow) bool { return row.Last == nil && !row.hasSets() })
}

// hasSets reports whether a check covers any record of the current answer.
func (row *nameRow) hasSets() bool {
	return slices.ContainsFunc(row.Now, func(e status.Explanation) bool { return len(e.Sets) > 0 })
}

// severityOrder has the outcomes that need attention, the worst one last.
var severityOrder = []string{"forced", "drained", "thin", "backup", "down", "open", "closed"}

// severity ranks the current answer by its worst outcome; -1 if nothing needs attention.
func (row *nameRow) severity() int {
	worst := -1
	for _, e := range row.Now {
		worst = max(worst, slices.Index(severityOrder, classOf(e.Outcome, e.Checked, e.Health, e.DryRun)))
	}
	return worst
}

// addNames adds the names that match the filter, and what the page says first. Names are sorted twice: by their last outcomes, to find
// those of this page without asking for all of them, and by the current answers within the page.
//
// The worst names of all are explained as well, because what the page says first is about them whatever the filter is.
func (s *Server) addNames(r *http.Request, v *pageView) {
	names, down := v.FilterNames(v.Filter), namesDown(v.Snapshot)
	worst := make([]*status.Name, len(v.Snapshot.Names))
	for i := range worst {
		worst[i] = &v.Snapshot.Names[i]
	}
	sortBySeverity(down, worst)
	if v.Sort == sortOrders[0] {
		sortBySeverity(down, names)
	}
	v.NamePage = newPager(r, "names", len(names), namesPerPage)
	listed := names[v.NamePage.First:v.NamePage.Last]
	asked := slices.Clone(listed)
	for _, n := range worst[:min(len(worst), namesPerPage)] {
		if !slices.Contains(listed, n) {
			asked = append(asked, n)
		}
	}
	rows := s.nameRows(r.Context(), asked)
	v.Sight = newSight(v.Snapshot, outcomesOf(v.Snapshot.Names, down, rows), v.Filter.State)
	for _, row := range rows {
		if slices.ContainsFunc(listed, func(n *status.Name) bool { return n.Name == row.Name }) {
			v.Names = append(v.Names, row)
		}
	}
	if v.Sort == sortOrders[0] {
		slices.SortStableFunc(v.Names, func(a, b nameRow) int { return cmp.Compare(b.severity(), a.severity()) })
	}
}

// enforced is the outcome that an answer counts under. Clients of a dry run get all, whatever was decided.
func enforced(outcome string, dry bool) string {
	if dry && slices.Contains(severityOrder, outcome) {
		return "whole"
	}
	return outcome
}

// classOf is the value of the words that an answer counts under: its outcome, or what that does not tell of its health.
func classOf(outcome string, checked bool, health string, dry bool) string {
	return status.OutcomeOf(enforced(outcome, dry), checked, health).Value
}

// hasFewer reports whether the next answer for a name has fewer addresses than the last one, because one has gone down since. Of a name
// that was not asked for lately, a target in down is all that is known.
func hasFewer(n *status.Name, down map[string]bool) bool {
	return slices.ContainsFunc(n.Answers, func(a status.Last) bool { return a.Fell && !a.DryRun }) || len(n.Answers) == 0 && down[n.Name]
}

// namesDown are the names with a target that is down.
func namesDown(s *status.Snapshot) map[string]bool {
	down := make(map[string]bool)
	for i := range s.Targets {
		if t := &s.Targets[i]; t.State == "down" {
			for _, name := range t.Names {
				down[name] = true
			}
		}
	}
	return down
}

// sortBySeverity sorts names by how bad their last answer was. One that has fewer addresses since counts as filtered. Names of equal rank keep their order.
func sortBySeverity(down map[string]bool, names []*status.Name) {
	ranks := make([][]*status.Name, 1+len(severityOrder)) // what needs no attention is first
	for _, n := range names {
		worst := 0
		if hasFewer(n, down) {
			worst = 1 + slices.Index(severityOrder, "thin")
		}
		for _, a := range n.Answers {
			worst = max(worst, 1+slices.Index(severityOrder, classOf(a.Outcome, a.Checked, a.Health, a.DryRun)))
		}
		ranks[worst] = append(ranks[worst], n)
	}
	slices.Reverse(ranks)
	copy(names, slices.Concat(ranks...))
}
