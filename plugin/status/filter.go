package status

import (
	"net/netip"
	"slices"
	"strings"
)

// Filter picks targets and names.
type Filter struct {
	Name    string // a part of it
	Address string // a part of it, or a network
	State   string // measured or forced
	Check   string // a part of it
	network netip.Prefix
}

// normalized prepares the filter.
func (f Filter) normalized() Filter {
	f.Name, f.State = strings.ToLower(f.Name), strings.ToLower(f.State)
	if p, err := netip.ParsePrefix(f.Address); err == nil {
		f.network = p.Masked()
	}
	return f
}

// matchesName reports whether a target has a name that the filter picks.
func (f *Filter) matchesName(t *Target) bool {
	return strings.Contains(t.Name, f.Name) || slices.ContainsFunc(t.Names, func(name string) bool { return strings.Contains(name, f.Name) })
}

// matches reports whether a target is one of those picked.
func (f *Filter) matches(t *Target) bool {
	switch {
	case f.State != "" && t.State != f.State && (t.Forced == "" || t.Forced != f.State),
		f.Name != "" && !f.matchesName(t),
		f.Check != "" && !strings.Contains(t.Check, f.Check):
		return false
	case f.network.IsValid():
		return f.network.Contains(t.Address.Addr())
	}
	return f.Address == "" || strings.Contains(t.Address.String(), f.Address)
}

// matchesChange reports whether a change is of a target that the filter may pick, by the names that lead there now, too. By state it
// picks what came from it or to it.
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

// FilterTargets are those that the filter picks.
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

// FilterChanges are those of the changes that the filter picks, in their order.
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

// FilterNames are those that the filter picks. One by address, state or check picks the names that lead to the targets that it picks.
func (s *Snapshot) FilterNames(f Filter) []*Name {
	f = f.normalized()
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
