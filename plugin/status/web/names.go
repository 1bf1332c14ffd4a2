package web

import (
	"cmp"
	"context"
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
var severityOrder = []string{"thin", "backup", "open", "closed"}

// severity ranks the current answer by its worst outcome; -1 if nothing needs attention.
func (row *nameRow) severity() int {
	worst := -1
	for _, e := range row.Now {
		worst = max(worst, slices.Index(severityOrder, e.Outcome))
	}
	return worst
}

// sortBySeverity sorts names by how bad their last answer was. A name with a target that is down counts as filtered even if
// it was not asked for since. Names of equal rank keep their order.
func sortBySeverity(s *status.Snapshot, names []*status.Name) {
	worst := make(map[string]int)
	for i := range s.Targets {
		if t := &s.Targets[i]; t.State == "down" { // 1 is the rank of thin below
			for _, name := range t.Names {
				worst[name] = 1
			}
		}
	}
	for _, n := range names {
		for _, a := range n.Answers {
			worst[n.Name] = max(worst[n.Name], 1+slices.Index(severityOrder, a.Outcome))
		}
	}
	slices.SortStableFunc(names, func(a, b *status.Name) int { return cmp.Compare(worst[b.Name], worst[a.Name]) })
}
