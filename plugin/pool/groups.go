package pool

import (
	"maps"
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// shareChecks notes which checks are shared now, after they have changed. Two with one text and different secrets are not: nothing
// tells the others which of them is meant.
func (p *Pool) shareChecks(now time.Time) {
	f := p.member
	if f == nil {
		return
	}
	before := f.twins
	f.checks, f.twins = p.sharedChecks(f.checks)
	for group := range f.twins {
		if !before[group] {
			log.Warningf("%s is not shared with the fleet: there are two with other secrets", f.checks[group].Name)
		}
		delete(f.checks, group)
	}
	groups := make(fleet.Groups, len(f.checks))
	for group := range f.checks {
		groups[group] = struct{}{}
	}
	if f.announced == nil || !maps.Equal(groups, f.announced) {
		f.announced = groups
		f.roster.Share(groups)
		f.engine.Announce(groups)
	}
	f.seat(now)
	for _, m := range p.monitors {
		if f.checks[m.check.fleetGroup] == m.check {
			p.share(m, now)
		} else {
			p.unshare(m, now)
		}
	}
}

// sharedChecks are the checks that are shared, by their groups, and the groups of those that are not, because there are several. Those
// of a Corefile that is about to stop give way to the same ones with other secrets. In a reload the old Corefile leaves before the
// new one is confirmed, and no check is live: what both have stays shared in between.
func (p *Pool) sharedChecks(before map[fleet.Group]*checkState) (shared map[fleet.Group]*checkState, twins map[fleet.Group]bool) {
	shared, twins = make(map[fleet.Group]*checkState), make(map[fleet.Group]bool)
	newest := p.newest()
	for id, c := range p.checks {
		if c.terms == nil || !c.live && before[c.fleetGroup] != c {
			continue
		}
		other := shared[c.fleetGroup]
		switch {
		case other == nil, newest[id] && !newest[other.identity]:
			shared[c.fleetGroup] = c
		case newest[id] == newest[other.identity]:
			twins[c.fleetGroup] = true
		}
	}
	return shared, twins
}

// newest are the checks of the Corefile that was confirmed last.
func (p *Pool) newest() map[verdict.Identity]bool {
	all := make(map[verdict.Identity]bool)
	for _, g := range slices.Backward(p.generations) {
		if g.stage != confirmed {
			continue
		}
		for _, group := range g.groups {
			for _, spec := range group.Checks.All() {
				all[spec.identity] = true
			}
		}
		break
	}
	return all
}

// othersFindDown reports whether another member that does not doubt its own probes finds the target down, and none up: then the
// network of this process is not to blame.
func (p *Pool) othersFindDown(m *monitor) bool {
	if m.shared == nil {
		return false
	}
	up, down := m.check.seats.Elsewhere(&m.shared.ballot, m.shared.shard)
	return down > 0 && up == 0
}
