package fleet

import (
	"slices"
	"strings"
	"time"
)

const (
	// MaxMembers bounds the members that a roster knows, the absent ones included.
	MaxMembers = 4096
	// settleTime is how long a member has to run before it has seats, so that one which starts again and again moves none. It is
	// the member's own time, which all know, and not how often this process has lost it: members that differ in who has seats
	// would ask those that take themselves for no vantage point.
	settleTime = 10 * time.Second
	// goneFor is how long a member that has left is remembered.
	goneFor = 10 * time.Minute
	// silentFor is how long a member that is there may be silent before it loses its seats: its loop hangs, or what it says
	// does not arrive.
	silentFor = 10 * time.Second
	// beatsPerSecond is the most beats that a member sends, if it sends one to each of the others.
	beatsPerSecond = 200
	// votesPerSecond is how many votes, wants and last calls a second are taken from an author, after votesAtOnce that may come
	// together. What one member says in two seconds may reach another at once, after a gap: so votesLate more may come together than an
	// author says together.
	votesPerSecond = 2000
	votesAtOnce    = 4000
	votesLate      = 2 * votesPerSecond
)

// Beat is how often a member shows the others that it is there, in a fleet of so many.
func Beat(members int) time.Duration {
	return max(time.Second, time.Duration(members)*time.Second/beatsPerSecond)
}

// FreshFor is how long the votes of an author count after it was heard, in a fleet of so many: three beats and a second.
func FreshFor(members int) time.Duration { return 3*Beat(members) + time.Second }

// Groups is what a member shares. It never changes, and members with equal Corefiles may have one between them.
type Groups map[Group]struct{}

// Member is what an engine knows of a member.
type Member struct {
	Name   string    // differs from that of all others; seats follow it, so one that is kept over a restart moves fewer
	Epoch  uint64    // chosen at random when it starts: a stream of votes belongs to one epoch
	Site   string    // where it stands; empty if it does not say
	Joined time.Time // when it came to the fleet, as far as it can be told; the zero time for now
	Groups Groups
}

// Stream is the votes of one author since it started, as this process numbers them. No two streams have the same number, and 0 is
// none. A stream that starts again is another one: nothing that was said in the old one counts.
type Stream uint32

// author is a member as the roster keeps it.
type author struct {
	Member
	hash    uint64    // of its name
	present bool      // the engine says that it is there
	changed time.Time // when present became what it is
	settled time.Time // it has seats from then on

	stream   Stream
	fresh    bool      // its stream is complete, and it was heard lately
	isolated bool      // it doubts its own probes
	heard    time.Time // when it was heard last
	lapsed   time.Time // when this process noticed that it is not fresh
	told     standing  // what Lapse has told of it
	allowed  float64   // votes that it may say now
	counted  time.Time // when allowed was true
}

// standing is what of an author decides whether its votes count.
type standing struct {
	stream          Stream
	fresh, isolated bool
}

// Roster knows who is there, whose votes are fresh, and who may have seats.
type Roster struct {
	self    *author
	authors map[string]*author
	sorted  []*author // by name
	live    map[Stream]*author
	last    Stream
	seats   map[uint64]*Seats
}

// NewRoster returns the roster of a process that is alone so far. Its own votes are always fresh.
func NewRoster(self Member, now time.Time) *Roster {
	r := &Roster{authors: make(map[string]*author), live: make(map[Stream]*author), seats: make(map[uint64]*Seats)}
	r.Meet(self, now)
	r.self = r.authors[self.Name]
	r.self.fresh, r.self.heard = true, now
	return r
}

// Meet notes that a member is there, or that what is known of it has changed. Its votes do not count before it is heard. It returns
// the stream of its votes, or 0 if there are too many members, or if it has the name of this process.
func (r *Roster) Meet(m Member, now time.Time) Stream {
	if r.self != nil && m.Name == r.self.Name {
		return 0
	}
	if m.Joined.IsZero() || m.Joined.After(now) {
		m.Joined = now
	}
	a := r.authors[m.Name]
	if a == nil {
		if len(r.authors) >= MaxMembers && !r.makeRoom() {
			return 0
		}
		a = &author{hash: textHash(m.Name), allowed: votesAtOnce + votesLate, counted: now}
		r.authors[m.Name] = a
		a.Name = m.Name
		i, _ := slices.BinarySearchFunc(r.sorted, a, compareNames)
		r.sorted = slices.Insert(r.sorted, i, a)
	}
	if !a.present {
		a.present, a.changed, a.lapsed = true, now, now
	}
	if settled := m.Joined.Add(settleTime); a.stream == 0 || a.Epoch != m.Epoch || settled.Before(a.settled) {
		a.settled = settled
	}
	if a.stream == 0 || a.Epoch != m.Epoch {
		r.restart(a, now)
		a.lapsed = now
	}
	a.Member = m
	return a.stream
}

// Own is the stream of this process.
func (r *Roster) Own() Stream { return r.self.stream }

// Share sets the groups of this process.
func (r *Roster) Share(groups Groups) { r.self.Groups = groups }

// Doubt notes whether this process doubts its own probes.
func (r *Roster) Doubt(isolated bool) { r.self.isolated = isolated }

// restart begins another stream of an author.
func (r *Roster) restart(a *author, now time.Time) {
	delete(r.live, a.stream)
	r.last++
	a.stream, a.isolated = r.last, false
	r.live[a.stream] = a
	a.silence(now)
}

// silence notes that the votes of an author do not count.
func (a *author) silence(now time.Time) {
	if a.fresh {
		a.fresh, a.lapsed = false, now
	}
}

// forget drops a member.
func (r *Roster) forget(a *author) {
	delete(r.authors, a.Name)
	r.sorted = slices.DeleteFunc(r.sorted, func(x *author) bool { return x == a })
	delete(r.live, a.stream)
}

// makeRoom forgets an absent member. It reports whether there was one.
func (r *Roster) makeRoom() bool {
	for _, a := range r.sorted {
		if !a.present {
			r.forget(a)
			return true
		}
	}
	return false
}

// Leave notes that a member has left or died. It has no seats from the next Seats on.
func (r *Roster) Leave(name string, now time.Time) {
	a := r.authors[name]
	if a == nil || a == r.self || !a.present {
		return
	}
	a.present, a.changed = false, now
}

// Restart notes that an author says all of its votes again, because some were lost. It returns the new stream, or 0 for a member
// that is not known in this epoch.
func (r *Roster) Restart(name string, epoch uint64, now time.Time) Stream {
	a := r.inEpoch(name, epoch)
	if a == nil {
		return 0
	}
	r.restart(a, now)
	return a.stream
}

// inEpoch is another member in an epoch, or nil.
func (r *Roster) inEpoch(name string, epoch uint64) *author {
	if a := r.authors[name]; a != nil && a != r.self && a.Epoch == epoch {
		return a
	}
	return nil
}

// StreamOf is the stream of what another member says in an epoch, or 0 for one that is not known.
func (r *Roster) StreamOf(name string, epoch uint64) Stream {
	if a := r.inEpoch(name, epoch); a != nil {
		return a.stream
	}
	return 0
}

// Heard notes that a member is well, and that all it has said so far has arrived. isolated is whether it doubts its own probes. It
// reports whether the member is known in this epoch.
func (r *Roster) Heard(name string, epoch uint64, isolated bool, now time.Time) bool {
	a := r.inEpoch(name, epoch)
	if a == nil {
		return false
	}
	a.fresh, a.isolated, a.heard = true, isolated, now
	return true
}

// Silent notes that a member is not heard, or not all of what it says. Its votes count again when it is heard.
func (r *Roster) Silent(name string, now time.Time) {
	if a := r.authors[name]; a != nil && a != r.self {
		a.silence(now)
	}
}

// Lapse ends the freshness of authors that were not heard for too long, and returns the streams whose votes have begun or ceased to
// count since the last call: the targets that they are on have to be folded again. Call it about four times a second. It does not
// depend on the engine, so votes lapse as well if that hangs.
func (r *Roster) Lapse(now time.Time) (changed []Stream) {
	fresh := FreshFor(r.Present())
	for _, a := range slices.Clone(r.sorted) {
		if a != r.self && now.Sub(a.heard) > fresh {
			a.silence(now)
		}
		is := standing{a.stream, a.fresh, a.isolated}
		if is != a.told {
			if a.told.stream != a.stream && a.told.fresh {
				changed = append(changed, a.told.stream)
			}
			changed = append(changed, a.stream)
			a.told = is
		}
		if !a.present && !a.fresh && now.Sub(a.changed) > goneFor {
			r.forget(a)
		}
	}
	return changed
}

// Present is how many members are there, this one included.
func (r *Roster) Present() (n int) {
	for _, a := range r.sorted {
		if a.present {
			n++
		}
	}
	return n
}

// Known is a member as the roster knows it, for people.
type Known struct {
	Member
	Self, Present   bool      // it is this process; the engine says that it is there
	Fresh, Isolated bool      // its votes count; it doubts its own probes
	Heard           time.Time // last; the zero time for one that never was
}

// Known are up to so many members behind the one with a name, by name. An empty name is before all.
func (r *Roster) Known(after string, most int) (all []Known) {
	i, found := slices.BinarySearchFunc(r.sorted, after, func(a *author, name string) int { return strings.Compare(a.Name, name) })
	if found {
		i++
	}
	for _, a := range r.sorted[i:min(len(r.sorted), i+most)] {
		all = append(all, Known{a.Member, a == r.self, a.present, a.fresh, a.isolated, a.heard})
	}
	return all
}

// Admit is how many of n votes, wants and last calls of an author are taken now. What is not must count as lost: the engine hears the
// author as silent until it has said it again. Authors keep to the same pace by asking this of themselves.
func (r *Roster) Admit(name string, n int, now time.Time) int {
	a := r.authors[name]
	if a == nil {
		return 0
	}
	most := float64(votesAtOnce + votesLate)
	if a == r.self {
		most = votesAtOnce
	}
	a.allowed = min(most, a.allowed+max(0, now.Sub(a.counted).Seconds())*votesPerSecond)
	a.counted = now
	taken := min(n, int(a.allowed))
	a.allowed -= float64(taken)
	return taken
}

// eligible are the members that may have seats for a group, by name: those that are there, have the group, and were not silent for
// long. Newcomers are among them only if there are no others.
func (r *Roster) eligible(g Group, now time.Time) []*author {
	all, settled := make([]*author, 0, len(r.sorted)), make([]*author, 0, len(r.sorted))
	for _, a := range r.sorted {
		if _, shares := a.Groups[g]; !shares || !a.present || a != r.self && a.quiet(now) {
			continue
		}
		all = append(all, a)
		if !now.Before(a.settled) {
			settled = append(settled, a)
		}
	}
	if len(settled) > 0 {
		return settled
	}
	return all
}

// quiet reports whether a member is there, but has not been heard for so long that others take its seats. The time begins when
// this process notices it: if this process itself was stopped, the others have as long to be heard again.
func (a *author) quiet(now time.Time) bool {
	return a.present && !a.fresh && now.Sub(a.lapsed) > silentFor
}
