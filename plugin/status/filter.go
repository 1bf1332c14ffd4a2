package status

import (
	"net/netip"
	"slices"
	"strings"
)

// Filter picks targets, names and changes. An empty field picks everything, and all fields must match. Names and states
// match in any case.
type Filter struct {
	Name    string       // a part of the name
	Address string       // a part of the address with its port, or a network such as 192.0.2.0/24
	State   string       // the measured state, or the forced one; drain also for what its backend drains; or idle
	Check   string       // a part of the text of the check
	network netip.Prefix // Address, if it is a network
}

// normalized returns the filter in the form that the methods below need.
func (f Filter) normalized() Filter {
	f.Name, f.State = strings.ToLower(f.Name), strings.ToLower(f.State)
	if p, err := netip.ParsePrefix(f.Address); err == nil {
		f.network = p.Masked()
	}
	return f
}

// matchesName reports whether any name of a target matches: the one it was learned by, or one that leads to it now.
func (f *Filter) matchesName(t *Target) bool {
	return strings.Contains(t.Name, f.Name) || slices.ContainsFunc(t.Names, func(name string) bool { return strings.Contains(name, f.Name) })
}

// matches reports whether a target matches.
func (f *Filter) matches(t *Target) bool {
	switch {
	case f.State != "" && t.State != f.State && (t.Forced == "" || t.Forced != f.State) && (f.State != "drain" || !t.Drained) && (f.State != "idle" || !t.Idle),
		f.Name != "" && !f.matchesName(t),
		f.Check != "" && !strings.Contains(t.Check, f.Check):
		return false
	case f.network.IsValid():
		return f.network.Contains(t.Address.Addr())
	}
	return f.Address == "" || strings.Contains(t.Address.String(), f.Address)
}

// matchesChange reports whether a change matches. By name it also matches the names that lead to the target now, which the
// change does not have. By state it matches the state before the change and the one after.
func (s *Snapshot) matchesChange(f *Filter, c *Change) bool {
	t := Target{Address: c.Address, Check: c.Check, Name: c.Name, State: c.To}
	for _, now := range s.At(c.Address) {
		if now.Check == c.Check {
			t.Names = now.Names
		}
	}
	if f.State == c.From {
		t.State = c.From
	}
	return f.matches(&t)
}

// FilterTargets returns the targets that match, in the order of the snapshot. They belong to the snapshot: do not change
// them.
func (s *Snapshot) FilterTargets(f Filter) []*Target {
	f = f.normalized()
	var picked []*Target
	for i := range s.Targets {
		if t := &s.Targets[i]; f.matches(t) {
			picked = append(picked, t)
		}
	}
	return picked
}

// FilterChanges returns those of the changes that match, in their order. The changes are of this snapshot or older.
func (s *Snapshot) FilterChanges(f Filter, changes []Change) []Change {
	f = f.normalized()
	var picked []Change
	for i := range changes {
		if s.matchesChange(&f, &changes[i]) {
			picked = append(picked, changes[i])
		}
	}
	return picked
}

// FilterNames returns the names that match, in the order of the snapshot. A filter by address, state or check picks the
// names that lead to a target which matches those.
func (s *Snapshot) FilterNames(f Filter) []*Name {
	f = f.normalized()
	var leading map[string]bool // names that lead to a matching target; nil if all do
	if f.Address != "" || f.State != "" || f.Check != "" {
		leading = make(map[string]bool)
		wide := f
		wide.Name = "" // the name is matched below: a target may match by another of its names
		for _, t := range s.FilterTargets(wide) {
			for _, name := range t.Names {
				leading[name] = true
			}
		}
	}
	var picked []*Name
	for i := range s.Names {
		if n := &s.Names[i]; strings.Contains(n.Name, f.Name) && (leading == nil || leading[n.Name]) {
			picked = append(picked, n)
		}
	}
	return picked
}
