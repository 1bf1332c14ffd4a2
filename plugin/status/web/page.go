package web

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/fnv"
	"html/template"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

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
	"ago": formatAge, "stamp": stamp, "glyph": stateGlyph, "plot": plainPlot, "ms": milliseconds, "lower": tierNote, "last": probeSummary,
	"term": status.OutcomeOf, "instead": func() []status.Term { return status.Instead }, "outcomes": func() []status.Term { return status.Outcomes }, "states": func() []status.Term { return status.States },
	"clock": formatClock, "manual": manualLink, "cell": newCell, "wholePercent": wholePercent, "command": curlFor, "votes": newVotes, "standing": status.StandingTerm, "member": status.MemberTerm,
	"copyFrom": linksTo, "percent": percent, "quoted": func(s string) string { return `"` + s + `"` },
}).ParseFS(assets, "assets/*.html"))

// pageView is the data of page.html.
type pageView struct {
	*status.Snapshot
	Sight    sight
	Notices  []notice
	Filter   status.Filter
	InUse    []usedFilter // what the filter has, each with a link that drops it
	Sort     string       // the order in use, one of Sorts
	Sorts    []string     // all that can be chosen
	States   []string     // all that can be filtered by
	Each     bool         // equal rows are not put together
	Names    []nameRow
	NamePage pager // of Names

	Rows            []*group // of targets
	Page            pager    // of Rows
	Picked          int      // targets that the filter picks
	PickedAddresses int      // their addresses
	Stanzas         []stanzaRow
	MoreStanzas     int // that are not listed

	Recent     []changeRow // the latest first
	ChangePage pager       // of Recent
	Fresh      int         // changes since the reader last looked
	Marked     bool        // it is known when that was
	Since      uint64      // the change that the reader saw last, if so
	MarkURL    string      // a link that marks all changes as seen

	Members    []*status.FleetMember // those to look at first
	MemberPage pager                 // of Members

	Time   *timeView
	Acting actingView

	used map[string]int // how many rows have been given the id of these words
}

// targetRow is a row for a target.
type targetRow struct {
	*status.Target
	ID   string        // of the table row
	Rule *status.Check // nil if a reload is removing the check

	Acting actingView
}

// OwnWeight is the weight that the backend wants, or nil for the usual one, which is not worth a reader's time.
func (row targetRow) OwnWeight() *uint8 {
	if row.Weight != nil && *row.Weight == 100 {
		return nil
	}
	return row.Weight
}

// pager links to the page before and the page after this one.
type pager struct {
	First, Last, Total int    // rows from First on, before Last, of Total
	Previous, Next     string // URLs; empty if there is no such page
}

// servePage shows the main page: what is wrong, names, the latest changes, targets and checks. Parameters, all optional: q, name,
// address, state and check filter all of them; sort orders the targets, and rows=each lists equal ones apart; page, names, changes and
// members are the numbers of the pages; since is the number of the last change that the reader has seen.
func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	filter, err := parseFilter(r)
	since, err2 := parseSince(r)
	if err = cmp.Or(err, err2); err != nil {
		showError(w, r, http.StatusBadRequest, err)
		return
	}
	snap := s.loadPageSnapshot(w, r)
	if snap == nil {
		return
	}
	v := &pageView{Snapshot: snap, Filter: filter, InUse: usedFilters(r), Sort: r.URL.Query().Get("sort"), Sorts: sortOrders, States: filterStates, Each: r.URL.Query().Get("rows") == "each"}
	if !slices.Contains(sortOrders, v.Sort) {
		v.Sort = sortOrders[0]
	}
	asked := time.Now()
	s.addNames(r, v)
	waited := time.Since(asked)
	v.Acting = s.acting(snap)
	v.addTargets(r)
	v.Time = s.readTimes(r, snap, v.Names, v.timedRows())
	v.addChanges(r, since)
	v.addMembers(r)
	v.Notices = newNotices(snap)
	v.Stanzas, v.MoreStanzas = stanzaRows(snap)
	// The script asks less often for a page that takes long to make. Waiting for other plugins takes no time of the processor.
	addTiming(w, "page", time.Since(began)-waited)
	renderPage(w, r, http.StatusOK, "page.html", v)
}

// Filtered reports whether the filter leaves anything out.
func (v *pageView) Filtered() bool { return v.Filter != (status.Filter{}) }

// addTargets adds the rows of targets. In the order by state those that are down for the same reason are one row.
func (v *pageView) addTargets(r *http.Request) {
	all := v.FilterTargets(v.Filter)
	sortTargets(all, v.Sort)
	rows := groupTargets(all)
	v.Picked, v.PickedAddresses = len(all), len(rows)
	switch {
	case v.Each:
		rows = eachTarget(all)
	case v.Sort == sortOrders[0]:
		rows = mergeEqual(rows)
	}
	v.Page = newPager(r, "page", len(rows), targetsPerPage)
	v.addGroups(rows[v.Page.First:v.Page.Last])
}

// timedRows are the rows with a timeline: as many as a table may have.
func (v *pageView) timedRows() (rows []targetRow) {
	for _, g := range v.Rows {
		if g.Single() {
			rows = append(rows, g.Lead)
		}
		rows = append(rows, g.All...)
	}
	return rows[:min(len(rows), targetsPerPage)]
}

// usedFilter is a part of the filter that is in use.
type usedFilter struct{ Label, Value, Drop string }

// usedFilters are the parts of the filter that are in use, with links to the page without each.
func usedFilters(r *http.Request) (all []usedFilter) {
	for _, x := range [][2]string{{"q", "find"}, {"name", "name"}, {"address", "address"}, {"state", "state"}, {"check", "check"}} {
		if value := strings.TrimSpace(r.URL.Query().Get(x[0])); value != "" {
			all = append(all, usedFilter{x[1], value, linkWith(r, x[0], "", "")})
		}
	}
	return all
}

// linkWith links to this page with another value of a parameter, or without it. The pages of tables begin from the first again, unless
// the parameter is the number of one.
func linkWith(r *http.Request, parameter, value, fragment string) string {
	q := r.URL.Query() // a copy
	q.Del("seen")
	if !slices.Contains([]string{"page", "names", "changes", "members", "since"}, parameter) {
		for _, page := range []string{"page", "names", "changes"} {
			q.Del(page)
		}
	}
	if q.Set(parameter, value); value == "" {
		q.Del(parameter)
	}
	return (&url.URL{Path: r.URL.Path, RawQuery: q.Encode(), Fragment: fragment}).String()
}

// EachURL links to the targets of a row, each in a row of its own.
func (v *pageView) EachURL(g *group) string {
	f := url.Values{"q": {g.Lead.Reason}, "check": {g.Lead.Check}, "state": {"down"}, "rows": {"each"}}
	if !g.Same {
		at := g.Lead.Address.Addr()
		f = url.Values{"q": {netip.PrefixFrom(at, at.BitLen()).String()}, "rows": {"each"}}
	}
	return (&url.URL{Path: "/", RawQuery: f.Encode(), Fragment: "h-targets"}).String()
}

// errorView is the data of failure.html. Its Summary has the name of the machine alone: there may be no snapshot.
type errorView struct {
	status.Summary
	Error string
	Retry bool // the error may pass, so the page reloads itself
}

// showError shows an error as a page, for people. Programs get JSON from writeError.
func showError(w http.ResponseWriter, r *http.Request, status int, err error) {
	v := errorView{Error: err.Error(), Retry: status == http.StatusServiceUnavailable}
	v.Host, _ = os.Hostname() // there may be no snapshot that has it
	renderPage(w, r, status, "failure.html", v)
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

// renderPage renders a template and writes it. It renders to memory first, so an error cannot leave half a page.
func renderPage(w http.ResponseWriter, r *http.Request, status int, name string, v any) {
	began := time.Now()
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, name, v); err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	addTiming(w, "render", time.Since(began))
	writeBody(w, r, status, "text/html; charset=utf-8", body.Bytes())
}

// addTiming tells the client how long a part of the work took (Server-Timing, W3C).
func addTiming(w http.ResponseWriter, what string, took time.Duration) {
	w.Header().Add("Server-Timing", fmt.Sprintf("%s;dur=%.1f", what, float64(took.Microseconds())/1000))
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

// RowID is the id of a row of this page. Rows that are equal in words get different ones: views of a zone look the same, and so do checks
// that differ in a secret alone.
func (v *pageView) RowID(words ...string) string {
	if v.used == nil {
		v.used = make(map[string]int)
	}
	id := rowID(words...)
	v.used[id]++
	if n := v.used[id]; n > 1 {
		return rowID(append(words, strconv.Itoa(n))...)
	}
	return id
}

// pagedSections are the headings of the tables that have pages, by the parameter of the page.
var pagedSections = map[string]string{"names": "h-names", "page": "h-targets", "changes": "h-changes", "members": "h-fleet"}

// newPager divides total rows into pages of the given size, and selects the one in the parameter. A number outside of the range
// selects the nearest page.
func newPager(r *http.Request, parameter string, total, size int) pager {
	n, _ := strconv.Atoi(r.URL.Query().Get(parameter))
	n = min(max(1, n), max(1, (total+size-1)/size)) // an invalid number is 0 here, and becomes 1
	p := pager{First: (n - 1) * size, Last: min(total, n*size), Total: total}
	fragment := ""
	if r.URL.Path == "/" {
		fragment = pagedSections[parameter]
	}
	// The link keeps the filter, the order and the pages of the other tables.
	to := func(n int) string { return linkWith(r, parameter, strconv.Itoa(n), fragment) }
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
