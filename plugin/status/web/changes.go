package web

import (
	"fmt"
	"net/http"
	"strconv"
)

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
