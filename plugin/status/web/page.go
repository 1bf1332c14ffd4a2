package web

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/fnv"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

const (
	// These are the rows of each table on one page. A row of names costs an explanation, which asks the plugins below.
	namesPerPage   = 20
	targetsPerPage = 50
	changesPerPage = 10
	membersPerPage = 50
)

// pages are the templates. Each asset is one, and parts.html defines what they share. html/template escapes all values: names
// and reasons come from clients and targets.
var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"ago": formatAge, "stamp": stamp, "glyph": stateGlyph, "plot": newPlot, "ms": milliseconds, "lower": tierNote, "last": probeSummary, "key": rowID,
	"term": status.OutcomeOf, "notChecked": func() status.Term { return status.NotChecked }, "outcomes": func() []status.Term { return status.Outcomes }, "states": func() []status.Term { return status.States },
	"clock": formatClock, "manual": manualLink, "command": curlFor, "votes": newVotes, "standing": status.StandingTerm, "member": status.MemberTerm,
}).ParseFS(assets, "assets/*.html"))

// pageView is the data of page.html.
type pageView struct {
	*status.Snapshot
	Filter   status.Filter
	Sort     string   // the order in use, one of Sorts
	Sorts    []string // all that can be chosen
	States   []string // all that can be filtered by
	Names    []nameRow
	Targets  []targetRow
	NamePage pager           // of Names
	Page     pager           // of Targets
	Rules    []*status.Check // the checks of the targets on this page
	Recent   []status.Change // the latest first

	Members    []*status.FleetMember // those to look at first
	MemberPage pager                 // of Members
}

// targetRow is a row for a target.
type targetRow struct {
	*status.Target
	ID   string        // of the table row
	Rule *status.Check // nil if a reload is removing the check
}

// pager links to the page before and the page after this one.
type pager struct {
	First, Last, Total int    // rows from First on, before Last, of Total
	Previous, Next     string // URLs; empty if there is no such page
}

// servePage shows the main page: names, targets and the latest changes. Parameters, all optional: name, address, state and check
// filter all three; sort orders the targets; page, names and members are the numbers of the pages of targets, of names and of
// members of the fleet.
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
	// Names are sorted twice: by their last outcomes, to find those of this page without asking for all of them, and by the
	// current answers within the page.
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
	v.addMembers(r)
	renderPage(w, r, http.StatusOK, "page.html", v)
}

// Filtered reports whether the filter leaves anything out.
func (v pageView) Filtered() bool { return v.Filter != (status.Filter{}) }

// latestFirst returns the latest changes, at most limit of them, in reverse order.
func latestFirst(changes []status.Change, limit int) []status.Change {
	// The changes belong to the snapshot, which other requests share.
	latest := slices.Clone(changes[max(0, len(changes)-limit):])
	slices.Reverse(latest)
	return latest
}

// errorView is the data of failure.html. Its Summary is empty: there may be no snapshot.
type errorView struct {
	status.Summary
	Error string
	Retry bool // the error may pass, so the page reloads itself
}

// showError shows an error as a page, for people. Programs get JSON from writeError.
func showError(w http.ResponseWriter, r *http.Request, status int, err error) {
	renderPage(w, r, status, "failure.html", errorView{Error: err.Error(), Retry: status == http.StatusServiceUnavailable})
}

// loadPageSnapshot returns the snapshot for a page. If the source fails it shows that with status 503 and returns nil.
func (s *Server) loadPageSnapshot(w http.ResponseWriter, r *http.Request) *status.Snapshot {
	snap, err := s.source.Snapshot(r.Context())
	if err != nil {
		w.Header().Set("Retry-After", "1")
		showError(w, r, http.StatusServiceUnavailable, err)
		return nil
	}
	return snap
}

// namesPerRow is how many names the row of a target lists.
const namesPerRow = 3

// LinkedNames returns the names that the row of a target lists, at most namesPerRow. If the name by which it was learned still
// leads to it, it is always among them. If no name is known to lead to it, that name is listed alone.
func (row targetRow) LinkedNames() []string {
	some := slices.Clone(row.Names[:min(len(row.Names), namesPerRow)])
	if _, known := slices.BinarySearch(row.Names, row.Name); known && !slices.Contains(some, row.Name) {
		some = append([]string{row.Name}, some[:namesPerRow-1]...)
	}
	if len(some) == 0 { // the answers that led here were forgotten
		return []string{row.Name}
	}
	return some
}

// HiddenNames is how many more names lead to the target.
func (row targetRow) HiddenNames() int { return max(0, len(row.Names)-namesPerRow) }

// addTargets adds the rows of targets to the page, and each of their checks once.
func (v *pageView) addTargets(targets []*status.Target) {
	// A check is found by its text and pace. Checks that differ in a secret alone look the same on the page.
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

// renderPage renders a template and writes it. It renders to memory first, so an error cannot leave half a page.
func renderPage(w http.ResponseWriter, r *http.Request, status int, name string, v any) {
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, name, v); err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	writeBody(w, r, status, "text/html; charset=utf-8", body.Bytes())
}

// sortOrders are the values of the parameter sort. The first is the default.
var sortOrders = []string{"state", "address", "name", "since", "latency"}

// sortTargets sorts targets in one of sortOrders. They come sorted by address, and the sort is stable. It reorders the slice, not
// the targets, which belong to the snapshot.
func sortTargets(all []*status.Target, by string) {
	// The latency of a target is that of its last probe, also of one that failed.
	slow := func(t *status.Target) float64 { p, _ := t.Probes.Last(); return p.Seconds }
	orders := map[string]func(a, b *status.Target) int{
		"state":   func(a, b *status.Target) int { return cmp.Compare(urgency(a), urgency(b)) },
		"name":    func(a, b *status.Target) int { return cmp.Compare(a.Name, b.Name) },
		"since":   func(a, b *status.Target) int { return b.Since.Compare(a.Since) },
		"latency": func(a, b *status.Target) int { return cmp.Compare(slow(b), slow(a)) },
	}
	if compare := orders[by]; compare != nil { // nil for address: they come in that order
		slices.SortStableFunc(all, compare)
	}
}

// urgency ranks a target by how much it needs attention, 0 the most: down, forced, about to change, unknown, up.
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

// rowID hashes words to an id of an HTML element. The script matches rows by it, so it must not depend on the row's state.
func rowID(words ...string) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%q", words)
	return fmt.Sprintf("k%016x", h.Sum64())
}

// newPager divides total rows into pages of the given size, and selects the one in the parameter. A number outside of the range
// selects the nearest page.
func newPager(r *http.Request, parameter string, total, size int) pager {
	n, _ := strconv.Atoi(r.URL.Query().Get(parameter))
	n = min(max(1, n), max(1, (total+size-1)/size)) // an invalid number is 0 here, and becomes 1
	p := pager{First: (n - 1) * size, Last: min(total, n*size), Total: total}
	to := func(n int) string {
		q := r.URL.Query() // a copy: the link keeps the filter, the order and the page of the other table
		q.Set(parameter, strconv.Itoa(n))
		return (&url.URL{Path: r.URL.Path, RawQuery: q.Encode()}).String()
	}
	if n > 1 {
		p.Previous = to(n - 1)
	}
	if p.Last < total {
		p.Next = to(n + 1)
	}
	return p
}

// From is the number of the first row on the page, counted from 1; 0 if there are no rows.
func (p pager) From() int { return min(p.First+1, p.Total) }
