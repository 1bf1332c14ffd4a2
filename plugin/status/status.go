// Package status shows what the pool believes, and why a name answers with the addresses that it does: as a page, as
// JSON, and as a stream of changes. It shows and never changes anything.
//
// What is shown comes from a Source, in snapshots that are never changed once they are made. Everything that is asked of
// this package is bounded: connections, headers, time, the size of an answer. It knows nothing of pools or DNS messages.
package status

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Source is where what is shown comes from.
type Source interface {
	// Snapshot is how things stood a moment ago. It waits for nobody but the pool, and not beyond the context.
	Snapshot(ctx context.Context) (*Snapshot, error)
	// Explain says how the answer to a question comes about, on each server block that has one.
	Explain(ctx context.Context, q Question) ([]Explanation, error)
}

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

// TypeOf is the type to ask a name for, to see what becomes of an address that it leads to: that of the address, unless the name
// was only asked for records that name hosts, or hint at addresses.
func (s *Snapshot) TypeOf(name string, at netip.AddrPort) string {
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

// Filter picks targets and names.
type Filter struct {
	Name    string // a part of it
	Address string // a part of it, or a network
	State   string // measured or forced
	Check   string // a part of it
	network netip.Prefix
}

// ready prepares the filter.
func (f Filter) ready() Filter {
	f.Name, f.State = strings.ToLower(f.Name), strings.ToLower(f.State)
	if p, err := netip.ParsePrefix(f.Address); err == nil {
		f.network = p.Masked()
	}
	return f
}

// named reports whether a target has a name that the filter picks.
func (f *Filter) named(t *Target) bool {
	return strings.Contains(t.Name, f.Name) || slices.ContainsFunc(t.Names, func(name string) bool { return strings.Contains(name, f.Name) })
}

// target reports whether a target is one of those picked.
func (f *Filter) target(t *Target) bool {
	switch {
	case f.State != "" && t.State != f.State && (t.Forced == "" || t.Forced != f.State),
		f.Name != "" && !f.named(t),
		f.Check != "" && !strings.Contains(t.Check, f.Check):
		return false
	case f.network.IsValid():
		return f.network.Contains(t.Address.Addr())
	}
	return f.Address == "" || strings.Contains(t.Address.String(), f.Address)
}

// change reports whether a change is of a target that the filter may pick, by the names that lead there now, too. By state it
// picks what came from it or to it.
func (s *Snapshot) change(f *Filter, c *Change) bool {
	t := Target{Address: c.Address, Check: c.Check, Name: c.Name, State: c.To}
	for _, now := range s.At(c.Address) {
		if now.Check == c.Check {
			t.Names = now.Names
		}
	}
	if f.State == c.From {
		t.State = c.From
	}
	return f.target(&t)
}

// FilterTargets are those that the filter picks.
func (s *Snapshot) FilterTargets(f Filter) []*Target {
	f = f.ready()
	var picked []*Target
	for i := range s.Targets {
		if t := &s.Targets[i]; f.target(t) {
			picked = append(picked, t)
		}
	}
	return picked
}

// FilterChanges are those of the changes that the filter picks, in their order.
func (s *Snapshot) FilterChanges(f Filter, changes []Change) []Change {
	f = f.ready()
	var picked []Change
	for i := range changes {
		if s.change(&f, &changes[i]) {
			picked = append(picked, changes[i])
		}
	}
	return picked
}

// FilterNames are those that the filter picks. One by address, state or check picks the names that lead to the targets that it picks.
func (s *Snapshot) FilterNames(f Filter) []*Name {
	f = f.ready()
	var of map[string]bool
	if f.Address != "" || f.State != "" || f.Check != "" {
		of = make(map[string]bool)
		wide := f
		wide.Name = "" // one name of a target must not stand for another
		for _, t := range s.FilterTargets(wide) {
			for _, name := range t.Names {
				of[name] = true
			}
		}
	}
	var picked []*Name
	for i := range s.Names {
		if n := &s.Names[i]; strings.Contains(n.Name, f.Name) && (of == nil || of[n.Name]) {
			picked = append(picked, n)
		}
	}
	return picked
}

// Sort puts a snapshot in order, once, before it is shown.
func (s *Snapshot) Sort() {
	slices.SortFunc(s.Targets, func(a, b Target) int { return a.Compare(&b) })
	slices.SortFunc(s.Names, func(a, b Name) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Checks, func(a, b Check) int { return cmp.Or(cmp.Compare(a.Check, b.Check), cmp.Compare(a.Pace, b.Pace)) })
}
