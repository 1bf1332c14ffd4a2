// Package status holds what the status page shows, as plain data: a Snapshot of the targets, names, checks and latest
// changes at one moment, and the Explanation of one answer.
//
// The plugin fills them in, and plugin/status/web shows them as a page and as JSON; the JSON tags are its public format.
// A Snapshot is never changed after Sort, so any number of requests may read it at once. The package starts nothing,
// and it imports no other package of this module.
package status

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Snapshot is how things stood at one moment.
type Snapshot struct {
	Taken   time.Time
	Summary Summary
	Targets []Target // in the order of Target.Compare
	Names   []Name   // by name
	Checks  []Check
	Changes []Change // the latest of them, the last one last
	Changed uint64   // how many there were, which is the number of the last one
}

// Summary is all of it in a few numbers.
type Summary struct {
	Host          string    `json:"host"`    // whose process this is; empty if it has no name
	Started       time.Time `json:"started"` // the process
	Running       bool      `json:"running"`
	Up            int       `json:"up"`
	Down          int       `json:"down"`
	Unknown       int       `json:"unknown"`
	Names         int       `json:"names"`
	InFlight      int       `json:"probes_in_flight"`
	Held          int       `json:"held_connections"`
	IsolatedSince time.Time `json:"isolated_since,omitzero"`
	Full          bool      `json:"full"` // no more targets are taken up
	Forced        Forced    `json:"forced"`
	Stanzas       []Stanza  `json:"stanzas"`
}

// Forced is how many networks and addresses are forced into a state by hand.
type Forced struct {
	Up     int `json:"up"`
	Down   int `json:"down"`
	Drain  int `json:"drain"`
	Broken int `json:"broken_files"`
}

// Stanza is a stanza of the Corefile.
type Stanza struct {
	At         string `json:"at"` // file and line
	Zones      string `json:"zones"`
	Targets    int    `json:"targets"`
	MaxTargets int    `json:"max_targets"`
	Full       bool   `json:"full"`
	DryRun     bool   `json:"dry_run"`
}

// Target is an address with a check.
type Target struct {
	Address   netip.AddrPort `json:"address"`
	Check     string         `json:"check"`
	Pace      string         `json:"pace"`  // interval, fast interval, time-out, rise and fall
	Name      string         `json:"name"`  // that it was first asked for
	Names     []string       `json:"names"` // that lead to it, in order
	MoreNames int            `json:"more_names,omitempty"`
	State     string         `json:"state"`
	Forced    string         `json:"forced,omitempty"`
	Since     time.Time      `json:"since,omitzero"`
	Reason    string         `json:"reason,omitempty"`
	Streak    int            `json:"streak"` // results that speak against the state
	Needed    int            `json:"needed"` // so many change it
	LastProbe time.Time      `json:"last_probe,omitzero"`
	NextProbe time.Time      `json:"next_probe,omitzero"`
	Probing   bool           `json:"probing"`
	Held      bool           `json:"held"`
	Probes    History        `json:"probes"` // the last ones, the latest last
}

// Compare orders targets by address, then by check and pace.
func (t *Target) Compare(o *Target) int {
	return cmp.Or(t.Address.Compare(o.Address), cmp.Compare(t.Check, o.Check), cmp.Compare(t.Pace, o.Pace))
}

// At are the targets at an address, of a snapshot in order.
func (s *Snapshot) At(addr netip.AddrPort) []Target {
	first, _ := slices.BinarySearchFunc(s.Targets, addr, func(t Target, a netip.AddrPort) int { return t.Address.Compare(a) })
	end := first
	for end < len(s.Targets) && s.Targets[end].Address == addr {
		end++
	}
	return s.Targets[first:end]
}

// QueryType is the type to ask a name for, to see what becomes of an address that it leads to: that of the address, unless the name
// was only asked for records that name hosts, or hint at addresses.
func (s *Snapshot) QueryType(name string, at netip.AddrPort) string {
	family := "AAAA"
	if at.Addr().Unmap().Is4() {
		family = "A"
	}
	i, known := slices.BinarySearchFunc(s.Names, name, func(n Name, name string) int { return cmp.Compare(n.Name, name) })
	if !known || slices.ContainsFunc(s.Names[i].Answers, func(a Last) bool { return a.Type == family }) {
		return family
	}
	for _, a := range s.Names[i].Answers {
		if a.Type != "A" && a.Type != "AAAA" {
			return a.Type
		}
	}
	return family
}

// Name is a name that is asked for.
type Name struct {
	Name    string `json:"name"`
	Answers []Last `json:"answers"` // by type; none for a name that only targets tell of
}

// Last is what became of the last answer for a name that was judged.
type Last struct {
	Type    string `json:"type"`
	Outcome string `json:"outcome"`
	Kept    int    `json:"kept"`
	Total   int    `json:"total"`
}

// Check is a line of a Corefile that says what to ask.
type Check struct {
	Check    string  `json:"check"`
	Pace     string  `json:"pace"`
	Interval float64 `json:"interval_seconds"`
	Fast     float64 `json:"fast_seconds"`
	Timeout  float64 `json:"timeout_seconds"`
	Rise     int     `json:"rise"`
	Fall     int     `json:"fall"`
	Hold     bool    `json:"hold"`
	Up       int     `json:"up"`
	Down     int     `json:"down"`
	Unknown  int     `json:"unknown"`
}

// Change is a target that went down, or came up.
type Change struct {
	Number  uint64         `json:"number"` // they are counted
	At      time.Time      `json:"at"`
	Address netip.AddrPort `json:"address"`
	Check   string         `json:"check"`
	Name    string         `json:"name"` // that the address was first asked for
	From    string         `json:"from"`
	To      string         `json:"to"`
	Reason  string         `json:"reason,omitempty"`
}

// Sort puts a snapshot in order, once, before it is shown.
func (s *Snapshot) Sort() {
	slices.SortFunc(s.Targets, func(a, b Target) int { return a.Compare(&b) })
	slices.SortFunc(s.Names, func(a, b Name) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Checks, func(a, b Check) int { return cmp.Or(cmp.Compare(a.Check, b.Check), cmp.Compare(a.Pace, b.Pace)) })
}

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
