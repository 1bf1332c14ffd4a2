package status

import (
	"fmt"
	"net/http"
	"strconv"
)

// LastChange is the number of the last change that there was.
func (s *Snapshot) LastChange() uint64 {
	if n := len(s.Changes); n > 0 {
		return max(s.Changed, s.Changes[n-1].Number)
	}
	return s.Changed
}

// ChangesAfter are the changes behind the one of a number, and how many of them are kept no longer. A number that none has had yet
// is of a process that is gone, and all changes are behind it.
func (s *Snapshot) ChangesAfter(after uint64) (news []Change, lost uint64) {
	if after > s.LastChange() {
		after = 0
	}
	for i, c := range s.Changes {
		if c.Number > after {
			return s.Changes[i:], c.Number - after - 1
		}
	}
	return nil, s.LastChange() - after
}

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
