package web

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// changeRow is a change in the list of the page.
type changeRow struct {
	status.Change
	Fresh bool // the reader has not seen it
	Ends  bool // it is the latest one that the reader has seen, and newer ones are listed before it
}

// parseSince reads which change the reader saw last; nil if that is not known.
func parseSince(r *http.Request) (*uint64, error) {
	text := cmp.Or(r.URL.Query().Get("since"), r.URL.Query().Get("seen")) // the script remembers it, and links do not repeat that
	if text == "" {
		return nil, nil
	}
	n, err := parseChangeNumber("since", text)
	return &n, err
}

// addChanges adds the changes that match the filter, the latest first, and marks those since the reader last looked.
func (v *pageView) addChanges(r *http.Request, since *uint64) {
	all := v.FilterChanges(v.Filter, v.Changes)
	v.MarkURL = linkWith(r, "since", strconv.FormatUint(v.LastChange(), 10), "h-changes")
	v.ChangePage = newPager(r, "changes", len(all), changesPerPage)
	last := v.LastChange() + 1 // of those seen: all are, as long as it is not known
	if v.Marked = since != nil; v.Marked {
		v.Since = *since
		if last = *since; last > v.LastChange() { // it was a change of a process before this one
			last = 0
		}
	}
	slices.Reverse(all) // a copy of those in the snapshot
	for i, c := range all {
		fresh := v.Marked && c.Number > last
		if fresh {
			v.Fresh++
		}
		if i >= v.ChangePage.First && i < v.ChangePage.Last {
			v.Recent = append(v.Recent, changeRow{c, fresh, !fresh && i > 0 && v.Marked && all[i-1].Number > last})
		}
	}
}

// serveChanges answers /v1/changes: the changes after a number, the earliest first, so that a program can poll for new ones. It
// has no cursor as the other lists do, since the numbers of the changes never change.
func (s *Server) serveChanges(w http.ResponseWriter, r *http.Request) {
	snap, f := s.filteredSnapshot(w, r)
	if snap == nil {
		return
	}
	v := r.URL.Query()
	limit, err := parseLimit(v)
	after := uint64(0)
	if text := v.Get("after"); text != "" && err == nil {
		after, err = parseChangeNumber("after", text)
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	// Filter first, then limit: total and next count only changes that match.
	news, lost := snap.ChangesAfter(after)
	news = snap.FilterChanges(f, news)
	list, next := nonNil(news[:min(len(news), limit)]), snap.LastChange()
	if len(news) > limit { // otherwise next is the latest change of all, so changes that do not match are not read again
		next = list[limit-1].Number
	}
	writeJSON(w, r, map[string]any{"changes": list, "total": len(news), "next": next, "lost": lost})
}

// parseChangeNumber reads the number of a change from a parameter or header.
func parseChangeNumber(what, text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("invalid %s %q: use the number of a change, such as 12, or 0 for all", what, text)
	}
	return n, nil
}
