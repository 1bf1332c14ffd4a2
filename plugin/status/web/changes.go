package web

import (
	"fmt"
	"net/http"
	"strconv"
)

// serveChanges lists the changes behind a number, the earliest first.
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
	news, lost := snap.ChangesAfter(after)
	news = snap.FilterChanges(f, news)
	list, next := nonNil(news[:min(len(news), limit)]), snap.LastChange()
	if len(news) > limit {
		next = list[limit-1].Number
	}
	writeJSON(w, r, map[string]any{"changes": list, "total": len(news), "next": next, "lost": lost})
}

// parseChangeNumber reads the number of a change.
func parseChangeNumber(what, text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s %q: want the number of a change, such as 12, or 0 for all", what, text)
	}
	return n, nil
}
