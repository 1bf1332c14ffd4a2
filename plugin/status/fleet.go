package status

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Here is what the status shows of the fleet that this process is a member of. Names, sites, versions and reasons of other members
// are text of others: pages have to escape them.

// Fleet is the fleet in a few numbers, as this process sees it.
type Fleet struct {
	Alone        bool `json:"alone"`  // no other member is heard, or no vote on any target
	Alive        int  `json:"alive"`  // other members whose votes count, and so on
	Silent       int  `json:"silent"` // as in FleetMember.State, as is the next one
	Gone         int  `json:"gone"`
	Differ       int  `json:"differ"`       // members that lack a check of this process, or have one more
	Seat         int  `json:"targets_seat"` // shared targets by the role of this process, see Shared.Role
	Heard        int  `json:"targets_heard"`
	Unheard      int  `json:"targets_alone"`
	Thin         int  `json:"targets_thin"`         // shared targets whose verdict rests on one vote
	Contradicted int  `json:"targets_contradicted"` // targets on which all the others contradict this process
}

// AllTargets is how many targets are shared.
func (f *Fleet) AllTargets() int { return f.Seat + f.Heard + f.Unheard }

// FleetMember is a member of the fleet, as this process sees it.
type FleetMember struct {
	Name      string    `json:"name"`
	Self      bool      `json:"self"` // it is this process
	Site      string    `json:"site,omitempty"`
	Address   string    `json:"address,omitempty"` // where it is reached
	Version   string    `json:"version,omitempty"` // of its program
	State     string    `json:"state"`             // alive, silent or gone
	Isolated  bool      `json:"isolated"`          // it doubts its own probes
	Since     time.Time `json:"since,omitzero"`    // when it came to the fleet
	Heard     time.Time `json:"last_heard,omitzero"`
	RoundTrip float64   `json:"round_trip_seconds,omitempty"` // 0 if it was not measured
	Seats     int       `json:"seats"`                        // shared targets of this process that it is a vantage point of
	Targets   int       `json:"targets"`                      // all shared targets of this process
	Lacks     []Lack    `json:"lacks"`                        // checks that this process shares, and it does not
	MoreLacks int       `json:"more_lacks,omitempty"`         // such checks that are left out
	Others    int       `json:"other_checks"`                 // how many checks it shares that this process does not
}

// Lack is a check that a member does not have as this process has it: with the same pace, within, vantage and quorum.
type Lack struct {
	Check  string `json:"check"`
	Pace   string `json:"pace"`
	Stanza string `json:"stanza"` // file and line of the first stanza here that has it
}

// Differs reports whether the member shares other checks than this process.
func (m *FleetMember) Differs() bool { return len(m.Lacks) > 0 || m.Others > 0 }

// Shared is what the fleet has found out of a target.
type Shared struct {
	Role   string `json:"role"`   // of this process: seat if it probes for all, heard if it believes others, alone if it hears no vote
	Quorum string `json:"quorum"` // how many of the votes, or what share of them, must find it up
	Votes  []Vote `json:"votes"`  // of those who have a say, best first
}

// Vote is the part of one member in the verdict on a target.
type Vote struct {
	Member   string    `json:"member"`
	Site     string    `json:"site,omitempty"`
	Self     bool      `json:"self"`           // it is this process
	Seat     bool      `json:"seat"`           // it is a vantage point; others stand in for one
	Standing string    `json:"standing"`       // whether the vote counts, and why not: one of Standings
	State    string    `json:"state"`          // what it finds; unknown if it has not voted
	Since    time.Time `json:"since,omitzero"` // when the state was entered, as far as it says
	Reason   string    `json:"reason,omitempty"`
	Doubt    int       `json:"doubt,omitempty"` // results in a row that speak against the state
}

// counted is how many votes count, and how many of these find that state.
func (s *Shared) counted(state string) (agree, all int) {
	for i := range s.Votes {
		if v := &s.Votes[i]; v.Standing == "counts" {
			all++
			if v.State == state {
				agree++
			}
		}
	}
	return agree, all
}

// FilterMembers returns the members that match by a part of the name, a part of the site, and the state, in any case; an empty
// text picks everything. They are in the order of the snapshot and belong to it: do not change them.
func (s *Snapshot) FilterMembers(name, site, state string) (picked []*FleetMember) {
	has := func(text, part string) bool { return strings.Contains(strings.ToLower(text), strings.ToLower(part)) }
	for i := range s.Members {
		m := &s.Members[i]
		if has(m.Name, name) && has(m.Site, site) && (state == "" || strings.EqualFold(m.State, state)) {
			picked = append(picked, m)
		}
	}
	return picked
}

// sortMembers puts the members in order.
func (s *Snapshot) sortMembers() {
	slices.SortFunc(s.Members, func(a, b FleetMember) int { return cmp.Compare(a.Name, b.Name) })
}
