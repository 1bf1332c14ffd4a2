package web

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// serveMembers answers /v1/members: one page of the members of the fleet that match the filter, by name; none without a fleet.
// Parameters, all optional: name, site and state; limit, and after with the cursor of the page before.
func (s *Server) serveMembers(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	state := strings.ToLower(q.Get("state"))
	if state != "" && !slices.ContainsFunc(status.MemberStates, func(t status.Term) bool { return t.Value == state }) {
		writeError(w, http.StatusBadRequest, fmt.Sprintf("invalid state %q: use one of alive, silent, gone", q.Get("state")))
		return
	}
	snap := s.loadSnapshot(w, r)
	if snap == nil {
		return
	}
	list, err := paginate(r, snap.FilterMembers(q.Get("name"), q.Get("site"), state), func(m *status.FleetMember) string { return m.Name })
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	writeJSON(w, r, map[string]any{"members": nonNil(list.items), "total": list.total, "next": list.next})
}

// addMembers adds the members of the fleet to the page: those first that are silent or gone, then those that differ.
func (v *pageView) addMembers(r *http.Request) {
	all := v.FilterMembers("", "", "") // the filters of the page are about addresses
	slices.SortStableFunc(all, func(a, b *status.FleetMember) int { return cmp.Compare(memberUrgency(a), memberUrgency(b)) })
	v.MemberPage = newPager(r, "members", len(all), membersPerPage)
	v.Members = all[v.MemberPage.First:v.MemberPage.Last]
}

// memberUrgency ranks a member by how much it needs attention, 0 the most.
func memberUrgency(m *status.FleetMember) int {
	switch {
	case m.State == "silent":
		return 0
	case m.Isolated:
		return 1
	case m.Differs() && m.State == "alive":
		return 2
	case m.State == "gone": // in most cases on purpose
		return 4
	}
	return 3
}

// votesView is the data of the template votes.
type votesView struct {
	Taken  time.Time
	Target *status.Target
}

func newVotes(taken time.Time, t *status.Target) votesView { return votesView{taken, t} }
