package pool

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Here is what the status shows of the fleet. The loop hands out what it has, some hundred members at a time; who lacks which check
// is found out by those who ask.

const (
	// longestFact is how many bytes of a text of another member are shown.
	longestFact = 128
	// maxLacks is how many checks that a member lacks are listed.
	maxLacks = 16
)

// addVotes adds to the row of a shared target who has a say on it, and what they say.
func (p *Pool) addVotes(m *monitor, t *status.Target) {
	s := m.shared
	t.Shared = &status.Shared{Role: s.role.String(), Quorum: m.check.terms.Quorum.String(), Votes: []status.Vote{}}
	for _, line := range m.check.seats.Lines(&s.ballot, s.shard) {
		if !line.Seat && line.Brief.State() == verdict.Unknown {
			continue // it stands in for no other, so nothing is missing
		}
		t.Votes = append(t.Votes, status.Vote{
			Member: shown(line.Name), Site: shown(line.Site), Self: p.member != nil && line.Name == p.member.self, Seat: line.Seat,
			Standing: line.Standing.String(), State: line.Brief.State().String(), Since: sinceOf(line.Brief), Reason: shown(line.Reason), Doubt: int(line.Doubt),
		})
	}
}

// shown is a text of another member as it may be shown: short, and without what cannot be printed.
func shown(text string) string {
	bad := func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
	if len(text) <= longestFact && !strings.ContainsFunc(text, bad) {
		return text
	}
	var out strings.Builder
	for _, r := range text {
		if bad(r) {
			r = '?'
		}
		if out.Len()+utf8.RuneLen(r) > longestFact {
			break
		}
		out.WriteRune(r)
	}
	return out.String()
}

// fleetReading is what the loop has handed out of the fleet.
type fleetReading struct {
	engine  membership.Engine
	totals  status.Fleet
	checks  []sharedCheck // of this process
	members []readMember
}

// readMember is a member with what it shares.
type readMember struct {
	status.FleetMember
	name   string       // as it says itself
	groups fleet.Groups // nil if they are not known, or do not matter
}

// sharedCheck is a check that this process shares.
type sharedCheck struct {
	group fleet.Group
	status.Lack
}

// AddFleet adds to a snapshot that has all targets what this process knows of its fleet; nothing if it is a member of none. It may be
// called from any goroutine but the loop's.
func (p *Pool) AddFleet(ctx context.Context, shot *status.Snapshot) error {
	var x fleetReading
	if err := p.Do(ctx, func(v View) { v.fleet(&x) }); err != nil || x.engine == nil {
		return err
	}
	for after, more := "", true; more; {
		more = false // if the loop has to recover from a fault, this ends
		if err := p.Do(ctx, func(v View) { after, more = v.members(&x, after) }); err != nil {
			return err
		}
	}
	x.addTo(shot)
	return nil
}

// fleet reads all but the members.
func (v View) fleet(x *fleetReading) {
	f := v.pool.member
	if f == nil {
		return
	}
	x.engine = f.engine
	x.totals = status.Fleet{Seat: f.roles[fleet.Seat], Heard: f.roles[fleet.Heard], Unheard: f.roles[fleet.Alone], Thin: f.thin, Contradicted: f.contradicted}
	at := v.pool.stanzasOfChecks()
	for group, c := range f.checks {
		x.checks = append(x.checks, sharedCheck{group, status.Lack{Check: c.Name, Pace: c.PaceText(), Stanza: at[group]}})
	}
}

// stanzasOfChecks are the first stanzas that have a check, by file and line.
func (p *Pool) stanzasOfChecks() map[fleet.Group]string {
	at := make(map[fleet.Group]string)
	for _, g := range p.generations {
		for _, group := range g.groups {
			for _, c := range group.Checks.All() {
				if _, known := at[c.fleetGroup]; !known {
					at[c.fleetGroup] = group.At
				}
			}
		}
	}
	return at
}

// members reads some hundred members behind the one with a name. It returns the name to go on with, and false if there are no more.
func (v View) members(x *fleetReading, after string) (last string, more bool) {
	if v.pool.member == nil || v.pool.member.engine != x.engine {
		return "", false // this process has left that fleet
	}
	for _, k := range v.pool.member.roster.Known(after, RowsAtOnce) {
		m := readMember{name: k.Name, FleetMember: status.FleetMember{
			Name: shown(k.Name), Self: k.Self, Site: shown(k.Site), Isolated: k.Isolated, Since: clock.Steady(k.Joined), State: stateOfMember(k.Present, k.Fresh),
		}}
		if !k.Self && !k.Heard.IsZero() {
			m.Heard = clock.Steady(k.Heard)
		}
		if k.Present { // what one that is gone had does not matter
			m.groups = k.Groups
		}
		x.members = append(x.members, m)
		last, more = k.Name, true
	}
	return last, more
}

// stateOfMember is the state of a member in words.
func stateOfMember(present, fresh bool) string {
	switch {
	case !present:
		return "gone"
	case fresh:
		return "alive"
	}
	return "silent"
}

// addTo completes a snapshot with what was read. The groups of a member never change, so they are compared here.
func (x *fleetReading) addTo(shot *status.Snapshot) {
	slices.SortFunc(x.checks, func(a, b sharedCheck) int {
		return cmp.Or(cmp.Compare(a.Check, b.Check), cmp.Compare(a.Pace, b.Pace), a.group.Compare(b.group))
	})
	contacts := make(map[string]membership.Contact)
	for _, c := range x.engine.Contacts() {
		contacts[c.Name] = c
	}
	for _, m := range x.members {
		addContact(&m.FleetMember, contacts[m.name])
		delete(contacts, m.name)
		x.compare(&m)
		shot.Members = append(shot.Members, m.FleetMember)
	}
	for _, c := range contacts { // those that were never heard
		if len(shot.Members) == fleet.MaxMembers {
			break
		}
		m := status.FleetMember{Name: shown(c.Name), State: stateOfMember(!c.Gone, false), Lacks: []status.Lack{}}
		addContact(&m, c)
		shot.Members = append(shot.Members, m)
	}
	x.total(shot)
}

// compare finds out what the Corefiles of this process and of a member differ in.
func (x *fleetReading) compare(m *readMember) {
	m.Lacks = []status.Lack{}
	if m.groups == nil {
		return
	}
	m.Others = len(m.groups)
	for i := range x.checks {
		if _, has := m.groups[x.checks[i].group]; has {
			m.Others--
		} else if len(m.Lacks) < maxLacks {
			m.Lacks = append(m.Lacks, x.checks[i].Lack)
		} else {
			m.MoreLacks++
		}
	}
}

// addContact adds what the engine knows of the way to a member.
func addContact(m *status.FleetMember, c membership.Contact) {
	m.Address, m.Version, m.RoundTrip = shown(c.Address), shown(c.Version), c.RoundTrip.Seconds()
	if m.Site == "" {
		m.Site = shown(c.Site)
	}
	if m.Heard.IsZero() && c.Name != "" && c.Heard >= 0 {
		m.Heard = clock.Steady(time.Now().Add(-c.Heard))
	}
}

// total counts the members by state, and their seats by the votes in the rows of the targets.
func (x *fleetReading) total(shot *status.Snapshot) {
	seats := make(map[string]int)
	for i := range shot.Targets {
		if shared := shot.Targets[i].Shared; shared != nil {
			for _, v := range shared.Votes {
				if v.Seat {
					seats[v.Member]++
				}
			}
		}
	}
	sum := x.totals
	for i := range shot.Members {
		m := &shot.Members[i]
		m.Seats, m.Targets = seats[m.Name], sum.AllTargets()
		if m.Differs() {
			sum.Differ++
		}
		switch {
		case m.Self:
		case m.State == "alive":
			sum.Alive++
		case m.State == "silent":
			sum.Silent++
		default:
			sum.Gone++
		}
	}
	sum.Alone = sum.Alive == 0 || sum.Unheard > 0 && sum.Unheard == sum.AllTargets()
	shot.Summary.Fleet = &sum
}
