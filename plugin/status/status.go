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

// Snapshot is the state of everything at one moment. The caller that fills one in calls Sort before it is shown; after that nothing
// in it changes.
type Snapshot struct {
	Taken   time.Time
	Summary Summary
	Targets []Target // in the order of Target.Compare
	Names   []Name   // by name
	Checks  []Check
	Members []FleetMember // of the fleet, this process among them, by name; none without a fleet
	Changes []Change      // the latest ones, in order; older ones are dropped
	Changed uint64        // how many changes there were in all, which is the number of the last one
}

// Summary is the state of everything in a few numbers.
type Summary struct {
	Host          string    `json:"host"` // the name of the machine; empty if it has none
	Version       string    `json:"version,omitempty"`
	Started       time.Time `json:"started"` // when the process started
	Running       bool      `json:"running"` // targets are probed: a server of the Corefile runs and is not stopping
	Ready         bool      `json:"ready"`   // the plugin ready may say so: nothing waits for first verdicts
	Up            int       `json:"up"`
	Down          int       `json:"down"`
	Unknown       int       `json:"unknown"`
	Idle          int       `json:"idle"` // of all these, the ones that no query asks for
	Names         int       `json:"names"`
	InFlight      int       `json:"probes_in_flight"`
	Held          int       `json:"held_connections"`
	IsolatedSince time.Time `json:"isolated_since,omitzero"`    // no target has answered since then
	LateSince     time.Time `json:"late_since,omitzero"`        // probes are late since then, so that dead addresses stay in answers for longer
	Full          bool      `json:"full"`                       // the limit of all targets is reached; new addresses are not watched
	BrokenSites   int       `json:"broken_topology_files"`      // files of sites that cannot be parsed; their last valid content is in force
	SitesErrors   []string  `json:"topology_errors,omitempty"`  // what is wrong with these, with file and line
	StateUnread   string    `json:"state_read_error,omitempty"` // why the state file could not be read at the start, until it is saved
	StateError    string    `json:"state_error,omitempty"`      // why the state file could not be saved the last time
	Forced        Forced    `json:"forced"`
	Stanzas       []Stanza  `json:"stanzas"`
	Fleet         *Fleet    `json:"fleet,omitempty"` // nil if this process is a member of none
	Peers         []string  `json:"peers,omitempty"` // URLs of the pages of other replicas; of the page that is asked, not of the snapshot
}

// Forced counts the networks and addresses that are forced into a state, by state.
type Forced struct {
	Up     int      `json:"up"`
	Down   int      `json:"down"`
	Drain  int      `json:"drain"`
	Broken int      `json:"broken_files"`     // force files that cannot be parsed; their last valid content is in force
	Errors []string `json:"errors,omitempty"` // what is wrong with these, with file and line
}

// Force is what people have forced for an address. The zero value is nothing.
type Force struct {
	Forced string    `json:"forced,omitempty"`        // up, down or drain
	Note   string    `json:"forced_reason,omitempty"` // as they wrote it; text of others, which pages have to escape
	Until  time.Time `json:"forced_until,omitzero"`   // zero if it has no end
}

// Stanza is one multivalue stanza of the Corefile.
type Stanza struct {
	At         string `json:"at"` // file and line
	Zones      string `json:"zones"`
	Targets    int    `json:"targets"`
	MaxTargets int    `json:"max_targets"`
	Full       bool   `json:"full"`
	DryRun     bool   `json:"dry_run"`
	Force      string `json:"force,omitempty"` // the file of forced states that it reads; empty for none
}

// Target is one check of one address, with its state.
type Target struct {
	Address   netip.AddrPort `json:"address"`
	Check     string         `json:"check"`
	Pace      string         `json:"pace"`                 // as verdict.Pace prints it: intervals, timeout, rise and fall
	Name      string         `json:"name"`                 // the name by which it was learned
	Names     []string       `json:"names"`                // all names that lead to it, in order
	MoreNames int            `json:"more_names,omitempty"` // names left out of Names in the JSON
	Stanzas   []string       `json:"stanzas,omitempty"`    // file and line of those that it was found by; not known for one that no answer led to
	Site      string         `json:"site,omitempty"`       // of the address, where a stanza goes by sites
	Rank      int            `json:"rank,omitempty"`       // of the backups that the address is in; 0 for a primary
	Warmup    float64        `json:"warmup,omitempty"`     // the share of its weight that it has reached since it came up; 0 if it is warm
	State     string         `json:"state"`                // as measured: a forced state does not change it
	Force
	Weight    *uint8    `json:"weight,omitempty"`  // how much of its weight the backend wants, in per cent; nil if the check does not ask
	Drained   bool      `json:"drained,omitempty"` // the backend wants no clients while others can take them
	Said      string    `json:"said,omitempty"`    // what the backend says that it wants; empty if it wants all that it can get
	Since     time.Time `json:"since,omitzero"`    // when it entered the state; zero if it was never decided
	Reason    string    `json:"reason,omitempty"`  // why the last failure failed
	Streak    int       `json:"streak"`            // results that speak against the state
	Needed    int       `json:"needed"`            // this many results change the state
	LastProbe time.Time `json:"last_probe,omitzero"`
	NextProbe time.Time `json:"next_probe,omitzero"`
	Probing   bool      `json:"probing"` // a probe is in flight
	Held      bool      `json:"held"`    // a connection to it is held open between probes
	Idle      bool      `json:"idle"`    // no query asks for it, so it is probed less often
	Probes    History   `json:"probes"`  // the latest ones of this process
	Handle    any       `json:"-"`       // by which the source finds its timeline
	*Shared             // nil unless it is shared with a fleet
}

// Compare orders targets by address, then by check, then by pace.
func (t *Target) Compare(o *Target) int {
	return cmp.Or(t.Address.Compare(o.Address), cmp.Compare(t.Check, o.Check), cmp.Compare(t.Pace, o.Pace))
}

// At returns the targets at an address, one for each check. The snapshot must be sorted.
func (s *Snapshot) At(addr netip.AddrPort) []Target {
	first, _ := slices.BinarySearchFunc(s.Targets, addr, func(t Target, a netip.AddrPort) int { return t.Address.Compare(a) })
	end := first
	for end < len(s.Targets) && s.Targets[end].Address == addr {
		end++
	}
	return s.Targets[first:end]
}

// QueryType returns the record type to explain, for a name, to see what happens to an address that it leads to. That is A or
// AAAA, by the address, unless clients have asked for the name only with types that name hosts or hint at addresses, such as
// SRV and HTTPS: then it is such a type.
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

// Name is a name that clients have asked for, or by which a target was learned.
type Name struct {
	Name    string `json:"name"`
	Answers []Last `json:"answers"` // by type; none if no query for the name was seen lately
}

// Last is the outcome of the last answer for a name and type that a stanza covers.
type Last struct {
	Type    string `json:"type"`
	Outcome string `json:"outcome"`          // one of Outcomes
	Checked bool   `json:"checked"`          // a check said of any address whether it is up or down
	Health  string `json:"health,omitempty"` // what the outcome whole or sample leaves out: one of Instead; empty if nothing
	Kept    int    `json:"kept"`             // records that went out, of the sets that a rule covers
	Total   int    `json:"total"`            // records in those sets
	DryRun  bool   `json:"dry_run"`          // the outcome is what would have become of the answer, and all was served
	Fell    bool   `json:"-"`                // an address has gone down since, and the outcome does not say so yet
}

// Check is a check as it runs, with its pace. Lines of the Corefile with the same text share one.
type Check struct {
	Check    string   `json:"check"`
	Pace     string   `json:"pace"`
	Stanzas  []string `json:"stanzas"` // file and line of those that name it, in the order of the Corefile
	Interval float64  `json:"interval_seconds"`
	Fast     float64  `json:"fast_seconds"`
	Timeout  float64  `json:"timeout_seconds"`
	Rise     int      `json:"rise"`
	Fall     int      `json:"fall"`
	Hold     bool     `json:"hold"`  // connections are held open between probes, so that their end is noticed
	Reuse    bool     `json:"reuse"` // connections are kept, and the next probe is asked on them
	Up       int      `json:"up"`    // targets in this state, and so on
	Down     int      `json:"down"`
	Unknown  int      `json:"unknown"`
}

// Change is one change of the state of a target: it went down, or came up.
type Change struct {
	Number  uint64         `json:"number"` // counted from 1 since the process started
	At      time.Time      `json:"at"`
	Address netip.AddrPort `json:"address"`
	Check   string         `json:"check"`
	Name    string         `json:"name"` // the name by which the target was learned
	From    string         `json:"from"`
	To      string         `json:"to"`
	Reason  string         `json:"reason,omitempty"`
}

// Sort puts the lists in the order that At, the filters and the pages of the JSON rely on.
func (s *Snapshot) Sort() {
	slices.SortFunc(s.Targets, func(a, b Target) int { return a.Compare(&b) })
	slices.SortFunc(s.Names, func(a, b Name) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Checks, func(a, b Check) int { return cmp.Or(cmp.Compare(a.Check, b.Check), cmp.Compare(a.Pace, b.Pace)) })
	s.sortMembers()
}

// LastChange is the number of the latest change, 0 if there was none.
func (s *Snapshot) LastChange() uint64 {
	if n := len(s.Changes); n > 0 {
		return max(s.Changed, s.Changes[n-1].Number)
	}
	return s.Changed
}

// ChangesAfter returns the changes after the one with a number, and how many more there were that are no longer kept. A number
// that no change has had yet comes from a process before this one; then all changes are returned.
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
