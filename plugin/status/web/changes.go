package web

import (
	"fmt"
	"net/http"
	"strconv"
)

// changes lists the changes behind a number, the earliest first.
func (s *Server) changes(w http.ResponseWriter, r *http.Request) {
	shot, f := s.picked(w, r)
	if shot == nil {
		return
	}
	v := r.URL.Query()
	limit, err := limitOf(v)
	after := uint64(0)
	if text := v.Get("after"); text != "" && err == nil {
		after, err = numberOf("after", text)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	news, lost := shot.ChangesAfter(after)
	news = shot.FilterChanges(f, news)
	list, next := orEmpty(news[:min(len(news), limit)]), shot.LastChange()
	if len(news) > limit {
		next = list[limit-1].Number
	}
	replyJSON(w, r, map[string]any{"changes": list, "total": len(news), "next": next, "lost": lost})
}

// numberOf reads the number of a change.
func numberOf(what, text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s %q: want the number of a change, such as 12, or 0 for all", what, text)
	}
	return n, nil
}
