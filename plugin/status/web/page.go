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
	namesAPage   = 20
	targetsAPage = 50
	changesAPage = 10
	// explainWithin bounds how long a page waits for the plugins below to say what a name has now, explainAtOnce how many of
	// its names are asked for at a time.
	explainWithin = 2 * time.Second
	explainAtOnce = 8
)

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"ago": ago, "stamp": stamp, "glyph": glyph, "plot": plot, "ms": milliseconds, "lower": lowerTier, "last": lastProbe, "key": key,
	"meaning": status.MeaningOf, "outcomes": func() []status.Meaning { return status.Outcomes }, "conditions": func() []status.Meaning { return status.Conditions },
	"clock": clock, "question": questionTo,
}).ParseFS(assets, "assets/*.html"))

// view is what the page shows.
type view struct {
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
	Before, Behind     string // addresses; empty at the ends
}

// page shows the names, the targets and the latest changes.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	filter, err := filterOf(r)
	if err != nil {
		fail(w, r, http.StatusBadRequest, err)
		return
	}
	shot := s.pageSnapshot(w, r)
	if shot == nil {
		return
	}
	v := view{Snapshot: shot, Filter: filter, Sort: r.URL.Query().Get("sort"), Sorts: sortNames, States: filterStates}
	if !slices.Contains(sortNames, v.Sort) {
		v.Sort = sortNames[0]
	}
	names := shot.FilterNames(v.Filter)
	if v.Sort == sortNames[0] {
		troubleFirst(shot, names)
	}
	v.NamePage = pagerOf(r, "names", len(names), namesAPage)
	v.Names = s.nameRows(r.Context(), names[v.NamePage.First:v.NamePage.Last])
	if v.Sort == sortNames[0] {
		slices.SortStableFunc(v.Names, func(a, b nameRow) int { return cmp.Compare(b.trouble(), a.trouble()) })
	}
	all := shot.FilterTargets(v.Filter)
	order(all, v.Sort)
	v.Page = pagerOf(r, "page", len(all), targetsAPage)
	v.rows(all[v.Page.First:v.Page.Last])
	v.Recent = latestFirst(shot.FilterChanges(v.Filter, shot.Changes), changesAPage)
	show(w, r, http.StatusOK, "page.html", v)
}

// latestFirst are up to limit changes, the latest first.
func latestFirst(changes []status.Change, limit int) []status.Change {
	latest := slices.Clone(changes[max(0, len(changes)-limit):])
	slices.Reverse(latest)
	return latest
}

// failure is what a page shows in the place of what it cannot.
type failure struct {
	status.Summary
	Error string
	Again bool // it may be there a moment later
}

// fail says what is wrong, as a page.
func fail(w http.ResponseWriter, r *http.Request, status int, err error) {
	show(w, r, status, "failure.html", failure{Error: err.Error(), Again: status == http.StatusServiceUnavailable})
}

// pageSnapshot gets one, or shows that there is none.
func (s *Server) pageSnapshot(w http.ResponseWriter, r *http.Request) *status.Snapshot {
	shot, err := s.source.Snapshot(r.Context())
	if err != nil {
		w.Header().Set("Retry-After", "1")
		fail(w, r, http.StatusServiceUnavailable, err)
		return nil
	}
	return shot
}

// namesARow is how many names the row of a target has.
const namesARow = 3

// Some are the names of a row, the one that the target was learned by first. Those of whom it is known that they lead elsewhere
// by now are none.
func (row targetRow) Some() []string {
	some := slices.Clone(row.Names[:min(len(row.Names), namesARow)])
	if _, known := slices.BinarySearch(row.Names, row.Name); known && !slices.Contains(some, row.Name) {
		some = append([]string{row.Name}, some[:namesARow-1]...)
	}
	if len(some) == 0 {
		return []string{row.Name}
	}
	return some
}

// Others is how many more there are.
func (row targetRow) Others() int { return max(0, len(row.Names)-namesARow) }

// rows adds targets to the page, and the checks that they have.
func (v *view) rows(targets []*status.Target) {
	rules := make(map[string]*status.Check, len(v.Checks))
	for i := range v.Checks {
		c := &v.Checks[i]
		rules[c.Check+" "+c.Pace] = c
	}
	for _, t := range targets {
		rule := rules[t.Check+" "+t.Pace]
		v.Targets = append(v.Targets, targetRow{t, key(t.Address.String(), t.Check, t.Pace), rule})
		if rule != nil && !slices.Contains(v.Rules, rule) {
			v.Rules = append(v.Rules, rule)
		}
	}
}

// explainView is what the page about one answer shows.
type explainView struct {
	*status.Snapshot
	Question status.Question
	Client   string
	Types    []string
	Error    string
	Asked    bool
	Live     bool // it is worth to be asked again
	All      []status.Explanation
}

// explainPage shows how one answer comes about.
func (s *Server) explainPage(w http.ResponseWriter, r *http.Request) {
	shot := s.pageSnapshot(w, r)
	if shot == nil {
		return
	}
	status := http.StatusOK
	v := explainView{Snapshot: shot, Client: r.URL.Query().Get("client"), Types: []string{"A", "AAAA", "HTTPS", "SVCB", "SRV", "MX"}}
	v.Asked = r.URL.Query().Get("name") != ""
	if v.Asked {
		var err error
		if v.Question, err = questionOf(r); err == nil {
			v.All, err = s.explained(r.Context(), v.Question)
		} else {
			status = http.StatusBadRequest
		}
		if err != nil {
			v.Error = err.Error()
		}
	}
	v.Live = v.Asked && status == http.StatusOK
	show(w, r, status, "explain.html", v)
}

// show sends a page.
func show(w http.ResponseWriter, r *http.Request, status int, name string, v any) {
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, name, v); err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	reply(w, r, status, "text/html; charset=utf-8", body.Bytes())
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
	ctx, cancel := context.WithTimeout(ctx, explainWithin)
	defer cancel()
	var work sync.WaitGroup
	places := make(chan struct{}, explainAtOnce)
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
			rows[i].Now, _ = s.explained(ctx, status.Question{Name: rows[i].Name, Type: rows[i].Type}) // what is not known is said to be so
		})
	}
	work.Wait()
	return slices.DeleteFunc(rows, func(row nameRow) bool { return row.Last == nil && !row.judged() })
}

// explained asks the source for no longer than explainWithin. A plugin below may not heed its context: then it is left
// behind, for a page that does not come is of no use to anybody.
func (s *Server) explained(ctx context.Context, q status.Question) ([]status.Explanation, error) {
	ctx, cancel := context.WithTimeout(ctx, explainWithin)
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

// judged reports whether an answer has a set that was judged.
func (row *nameRow) judged() bool {
	return slices.ContainsFunc(row.Now, func(e status.Explanation) bool { return len(e.Sets) > 0 })
}

// sortNames are the orders of targets. The first is the default.
var sortNames = []string{"state", "address", "name", "since", "latency"}

// order puts targets in one of those orders. They come in that of their addresses, which is kept between equals.
func order(all []*status.Target, by string) {
	slow := func(t *status.Target) float64 { p, _ := t.Probes.Last(); return p.Seconds }
	orders := map[string]func(a, b *status.Target) int{
		"state":   func(a, b *status.Target) int { return cmp.Compare(rank(a), rank(b)) },
		"name":    func(a, b *status.Target) int { return cmp.Compare(a.Name, b.Name) },
		"since":   func(a, b *status.Target) int { return b.Since.Compare(a.Since) },
		"latency": func(a, b *status.Target) int { return cmp.Compare(slow(b), slow(a)) },
	}
	if compare := orders[by]; compare != nil {
		slices.SortStableFunc(all, compare)
	}
}

// rank says how much a target needs a look: the down before the forced, the doubtful and the unknown, and the good last.
func rank(t *status.Target) int {
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

// troubles are the outcomes that are worth a look, the worst one last.
var troubles = []string{"thin", "backup", "open", "closed"}

// trouble says how bad an answer is, as it would go out now.
func (row *nameRow) trouble() int {
	worst := -1
	for _, e := range row.Now {
		worst = max(worst, slices.Index(troubles, e.Outcome))
	}
	return worst
}

// troubleFirst puts those names first whose last answer was the worst, or that have a target which is down. The others keep
// their order.
func troubleFirst(s *status.Snapshot, names []*status.Name) {
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
			worst[n.Name] = max(worst[n.Name], 1+slices.Index(troubles, a.Outcome))
		}
	}
	slices.SortStableFunc(names, func(a, b *status.Name) int { return cmp.Compare(worst[b.Name], worst[a.Name]) })
}

// key is a word that stands for others on the page.
func key(words ...string) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%q", words)
	return fmt.Sprintf("k%016x", h.Sum64())
}

// pagerOf cuts total rows into pages, and finds the one that the request is about.
func pagerOf(r *http.Request, parameter string, total, size int) pager {
	n, _ := strconv.Atoi(r.URL.Query().Get(parameter))
	n = min(max(1, n), max(1, (total+size-1)/size))
	p := pager{First: (n - 1) * size, Last: min(total, n*size), Total: total}
	to := func(n int) string {
		q := r.URL.Query()
		q.Set(parameter, strconv.Itoa(n))
		return (&url.URL{Path: "/", RawQuery: q.Encode()}).String()
	}
	if n > 1 {
		p.Before = to(n - 1)
	}
	if p.Last < total {
		p.Behind = to(n + 1)
	}
	return p
}

// From is the number of a page's first row, counted from one.
func (p pager) From() int { return min(p.First+1, p.Total) }
