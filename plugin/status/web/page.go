package web

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

const (
	// namesAPage, targetsAPage and changesAPage are how many rows a page has: so few that it is quick to read, and to make.
	namesPerPage   = 20
	targetsPerPage = 50
	changesPerPage = 10
	// explainTimeout bounds how long a page waits for the plugins below to say what a name has now, explainAtOnce how many of
	// its names are asked for at a time.
	explainTimeout = 2 * time.Second
	maxExplains    = 8
)

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"ago": formatAge, "stamp": stamp, "glyph": stateGlyph, "plot": newPlot, "ms": milliseconds, "lower": tierNote, "last": probeSummary, "key": rowID,
	"meaning": status.MeaningOf, "outcomes": func() []status.Term { return status.Outcomes }, "states": func() []status.Term { return status.States },
	"clock": formatClock, "command": curlFor,
}).ParseFS(assets, "assets/*.html"))

// pageView is what the page shows.
type pageView struct {
	*status.Snapshot
	Filter   status.Filter
	Sort     string
	Sorts    []string
	States   []string
	Names    []nameRow
	Targets  []targetRow
	NamePage pager
	Page     pager
	Rules    []*status.Check // of the targets on this page
	Recent   []status.Change // the latest first
}

// nameRow is an answer for a name, as it would go out now, or what the last one came to if that is not known.
type nameRow struct {
	Name, Type string
	Last       *status.Last
	Now        []status.Explanation
}

// targetRow is a target as a row.
type targetRow struct {
	*status.Target
	ID   string
	Rule *status.Check // nil if its check is about to leave
}

// pager leads to the pages before and behind.
type pager struct {
	First, Last, Total int
	Previous, Next     string // addresses; empty at the ends
}

// servePage shows the names, the targets and the latest changes.
func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	filter, err := parseFilter(r)
	if err != nil {
		showError(w, r, http.StatusBadRequest, err)
		return
	}
	snap := s.loadPageSnapshot(w, r)
	if snap == nil {
		return
	}
	v := pageView{Snapshot: snap, Filter: filter, Sort: r.URL.Query().Get("sort"), Sorts: sortOrders, States: filterStates}
	if !slices.Contains(sortOrders, v.Sort) {
		v.Sort = sortOrders[0]
	}
	names := snap.FilterNames(v.Filter)
	if v.Sort == sortOrders[0] {
		sortBySeverity(snap, names)
	}
	v.NamePage = newPager(r, "names", len(names), namesPerPage)
	v.Names = s.nameRows(r.Context(), names[v.NamePage.First:v.NamePage.Last])
	if v.Sort == sortOrders[0] {
		slices.SortStableFunc(v.Names, func(a, b nameRow) int { return cmp.Compare(b.severity(), a.severity()) })
	}
	all := snap.FilterTargets(v.Filter)
	sortTargets(all, v.Sort)
	v.Page = newPager(r, "page", len(all), targetsPerPage)
	v.addTargets(all[v.Page.First:v.Page.Last])
	v.Recent = latestFirst(snap.FilterChanges(v.Filter, snap.Changes), changesPerPage)
	renderPage(w, r, http.StatusOK, "page.html", v)
}

// latestFirst are up to limit changes, the latest first.
func latestFirst(changes []status.Change, limit int) []status.Change {
	latest := slices.Clone(changes[max(0, len(changes)-limit):])
	slices.Reverse(latest)
	return latest
}

// errorView is what a page shows in the place of what it cannot.
type errorView struct {
	status.Summary
	Error string
	Retry bool // it may be there a moment later
}

// showError says what is wrong, as a page.
func showError(w http.ResponseWriter, r *http.Request, status int, err error) {
	renderPage(w, r, status, "failure.html", errorView{Error: err.Error(), Retry: status == http.StatusServiceUnavailable})
}

// loadPageSnapshot gets one, or shows that there is none.
func (s *Server) loadPageSnapshot(w http.ResponseWriter, r *http.Request) *status.Snapshot {
	snap, err := s.source.Snapshot(r.Context())
	if err != nil {
		w.Header().Set("Retry-After", "1")
		showError(w, r, http.StatusServiceUnavailable, err)
		return nil
	}
	return snap
}

// namesPerRow is how many names the row of a target has.
const namesPerRow = 3

// LinkedNames are the names of a row, the one that the target was learned by first. Those of whom it is known that they lead elsewhere
// by now are none.
func (row targetRow) LinkedNames() []string {
	some := slices.Clone(row.Names[:min(len(row.Names), namesPerRow)])
	if _, known := slices.BinarySearch(row.Names, row.Name); known && !slices.Contains(some, row.Name) {
		some = append([]string{row.Name}, some[:namesPerRow-1]...)
	}
	if len(some) == 0 {
		return []string{row.Name}
	}
	return some
}

// HiddenNames is how many more there are.
func (row targetRow) HiddenNames() int { return max(0, len(row.Names)-namesPerRow) }

// addTargets adds targets to the page, and the checks that they have.
func (v *pageView) addTargets(targets []*status.Target) {
	rules := make(map[string]*status.Check, len(v.Checks))
	for i := range v.Checks {
		c := &v.Checks[i]
		rules[c.Check+" "+c.Pace] = c
	}
	for _, t := range targets {
		rule := rules[t.Check+" "+t.Pace]
		v.Targets = append(v.Targets, targetRow{t, rowID(t.Address.String(), t.Check, t.Pace), rule})
		if rule != nil && !slices.Contains(v.Rules, rule) {
			v.Rules = append(v.Rules, rule)
		}
	}
}

// explainView is what the page about one answer shows.
type explainView struct {
	*status.Snapshot
	Question     status.Question
	Client       string
	Types        []string
	Error        string
	Asked        bool
	Live         bool // it is worth to be asked again
	Explanations []status.Explanation
}

// serveExplainPage shows how one answer comes about.
func (s *Server) serveExplainPage(w http.ResponseWriter, r *http.Request) {
	snap := s.loadPageSnapshot(w, r)
	if snap == nil {
		return
	}
	status := http.StatusOK
	v := explainView{Snapshot: snap, Client: r.URL.Query().Get("client"), Types: []string{"A", "AAAA", "HTTPS", "SVCB", "SRV", "MX"}}
	v.Asked = r.URL.Query().Get("name") != ""
	if v.Asked {
		var err error
		if v.Question, err = parseQuestion(r); err == nil {
			v.Explanations, err = s.explainInTime(r.Context(), v.Question)
		} else {
			status = http.StatusBadRequest
		}
		if err != nil {
			v.Error = err.Error()
		}
	}
	v.Live = v.Asked && status == http.StatusOK
	renderPage(w, r, status, "explain.html", v)
}

// renderPage sends a page.
func renderPage(w http.ResponseWriter, r *http.Request, status int, name string, v any) {
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, name, v); err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	writeBody(w, r, status, "text/html; charset=utf-8", body.Bytes())
}

// nameRows explains the answers for a page of names, a few at a time.
func (s *Server) nameRows(ctx context.Context, names []*status.Name) []nameRow {
	var rows []nameRow
	for _, n := range names {
		for i := range n.Answers {
			rows = append(rows, nameRow{Name: n.Name, Type: n.Answers[i].Type, Last: &n.Answers[i]})
		}
		if len(n.Answers) == 0 {
			rows = append(rows, nameRow{Name: n.Name, Type: "A"}, nameRow{Name: n.Name, Type: "AAAA"})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
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
			rows[i].Now, _ = s.explainInTime(ctx, status.Question{Name: rows[i].Name, Type: rows[i].Type}) // what is not known is said to be so
		})
	}
	work.Wait()
	return slices.DeleteFunc(rows, func(row nameRow) bool { return row.Last == nil && !row.hasSets() })
}

// explainInTime asks the source for no longer than explainWithin. A plugin below may not heed its context: then it is left
// behind, for a page that does not come is of no use to anybody.
func (s *Server) explainInTime(ctx context.Context, q status.Question) ([]status.Explanation, error) {
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	type result struct {
		all []status.Explanation
		err error
	}
	done := make(chan result, 1)
	go func() {
		defer cancel()
		all, err := s.source.Explain(ctx, q)
		done <- result{all, err}
	}()
	select {
	case r := <-done:
		return r.all, r.err
	case <-ctx.Done():
		return nil, errLate
	}
}

var errLate = errors.New("the plugins below did not say in time")

// hasSets reports whether an answer has a set that was judged.
func (row *nameRow) hasSets() bool {
	return slices.ContainsFunc(row.Now, func(e status.Explanation) bool { return len(e.Sets) > 0 })
}

// sortOrders are the orders of targets. The first is the default.
var sortOrders = []string{"state", "address", "name", "since", "latency"}

// sortTargets puts targets in one of those orders. They come in that of their addresses, which is kept between equals.
func sortTargets(all []*status.Target, by string) {
	slow := func(t *status.Target) float64 { p, _ := t.Probes.Last(); return p.Seconds }
	orders := map[string]func(a, b *status.Target) int{
		"state":   func(a, b *status.Target) int { return cmp.Compare(urgency(a), urgency(b)) },
		"name":    func(a, b *status.Target) int { return cmp.Compare(a.Name, b.Name) },
		"since":   func(a, b *status.Target) int { return b.Since.Compare(a.Since) },
		"latency": func(a, b *status.Target) int { return cmp.Compare(slow(b), slow(a)) },
	}
	if compare := orders[by]; compare != nil {
		slices.SortStableFunc(all, compare)
	}
}

// urgency says how much a target needs a look: the down before the forced, the doubtful and the unknown, and the good last.
func urgency(t *status.Target) int {
	switch {
	case t.State == "down":
		return 0
	case t.Forced != "":
		return 1
	case t.Streak > 0:
		return 2
	case t.State == "unknown":
		return 3
	}
	return 4
}

// severityOrder are the outcomes that are worth a look, the worst one last.
var severityOrder = []string{"thin", "backup", "open", "closed"}

// severity says how bad an answer is, as it would go out now.
func (row *nameRow) severity() int {
	worst := -1
	for _, e := range row.Now {
		worst = max(worst, slices.Index(severityOrder, e.Outcome))
	}
	return worst
}

// sortBySeverity puts those names first whose last answer was the worst, or that have a target which is down. The others keep
// their order.
func sortBySeverity(s *status.Snapshot, names []*status.Name) {
	worst := make(map[string]int)
	for i := range s.Targets {
		if t := &s.Targets[i]; t.State == "down" {
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

// rowID is a word that stands for others on the page.
func rowID(words ...string) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%q", words)
	return fmt.Sprintf("k%016x", h.Sum64())
}

// newPager cuts total rows into pages, and finds the one that the request is about.
func newPager(r *http.Request, parameter string, total, size int) pager {
	n, _ := strconv.Atoi(r.URL.Query().Get(parameter))
	n = min(max(1, n), max(1, (total+size-1)/size))
	p := pager{First: (n - 1) * size, Last: min(total, n*size), Total: total}
	to := func(n int) string {
		q := r.URL.Query()
		q.Set(parameter, strconv.Itoa(n))
		return (&url.URL{Path: "/", RawQuery: q.Encode()}).String()
	}
	if n > 1 {
		p.Previous = to(n - 1)
	}
	if p.Last < total {
		p.Next = to(n + 1)
	}
	return p
}

// From is the number of a page's first row, counted from one.
func (p pager) From() int { return min(p.First+1, p.Total) }
