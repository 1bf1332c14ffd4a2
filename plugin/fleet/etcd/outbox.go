package etcd

import (
	"slices"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
)

const (
	// turnsWithin is how long ago the loop of the process must have turned for it to count as there. It turns about four times a second.
	turnsWithin = 2 * time.Second
	// maxAsks bounds the votes that were asked for and not looked up yet, maxGarbage the members whose votes are to be removed.
	maxAsks    = 1 << 15
	maxGarbage = 256
)

// ask is a question for the votes of some members.
type ask struct {
	of     []string
	target fleet.Target
}

// outbox is what the process says, until the writer writes it, and what the loop tells the writer. What is called on the loop of the
// pool only writes here, under a lock that is never held for long, so it never waits for etcd. Of the votes on a target the latest
// one waits; of wants and calls, those that do not fit are lost.
type outbox struct {
	toWriter, toLoop chan struct{} // signalled when there is something

	mu       sync.Mutex
	closed   bool
	turned   time.Time // when the loop of the process turned last
	isolated bool
	groups   string
	said     [parts]map[fleet.Target]pendingVote // votes that are not written yet, by part
	since    time.Time                           // since when there are some; the zero time if there are none
	waiting  []*notes                            // the last one is open
	bytes    int                                 // of those before
	asks     []ask
	lost     int // wants, calls and asks that had no room

	// What the loop has seen of the keys of this process.
	seen    map[string]int64 // the last revision of each key that was changed
	stored  *stored          // all of them, as of a snapshot that the writer has not looked at yet
	garbage []string         // members without a key whose votes are to be removed
	restate bool             // etcd was not heard for a while, so the own key has to show that this process is back
}

// stored is what etcd has of this process.
type stored struct {
	member int64 // the revision of its key; 0 if it is not there
	parts  map[uint8]storedPart
}

type storedPart struct {
	raw []byte
	rev int64
}

func newOutbox() *outbox {
	return &outbox{toWriter: make(chan struct{}, 1), toLoop: make(chan struct{}, 1), seen: make(map[string]int64)}
}

// signal tells that there is something, to one who may know it already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// alter has a function change the outbox, unless it is closed, and tells the writer.
func (o *outbox) alter(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		f()
		signal(o.toWriter)
	}
}

// say adds votes for all.
func (o *outbox) say(votes []fleet.Vote, now time.Time) {
	if len(votes) > 0 {
		o.alter(func() { o.hold(votes, "", now) })
	}
}

// reply adds votes for a member that has asked for them.
func (o *outbox) reply(to string, votes []fleet.Vote, now time.Time) {
	if len(votes) > 0 {
		o.alter(func() { o.hold(votes, to, now) })
	}
}

// hold adds votes. The caller holds the lock.
func (o *outbox) hold(votes []fleet.Vote, to string, now time.Time) {
	for _, v := range votes {
		part := partOf(v.Target)
		if o.said[part] == nil {
			o.said[part] = make(map[fleet.Target]pendingVote)
		}
		next := pendingVote{v, now, to}
		if before, known := o.said[part][v.Target]; known && before.to == "" {
			next.to = "" // what was said for all stays for all
		}
		o.said[part][v.Target] = next
	}
	if o.since.IsZero() {
		o.since = now
	}
}

// ask adds a want for some members, and asks for what is known of their votes.
func (o *outbox) ask(of []string, want fleet.Want) {
	of = slices.Clone(of)
	o.alter(func() {
		o.jot(of, func(b *fleet.Batch) bool { return b.Want(want) })
		if len(o.asks) >= maxAsks {
			o.lost++
			return
		}
		o.asks = append(o.asks, ask{of, want.Target})
		signal(o.toLoop)
	})
}

// call adds a last call for all.
func (o *outbox) call(call fleet.Call) {
	o.alter(func() { o.jot(nil, func(b *fleet.Batch) bool { return b.Call(call) }) })
}

// jot adds an entry to the notes for some members. The caller holds the lock.
func (o *outbox) jot(to []string, entry func(b *fleet.Batch) bool) {
	if len(o.waiting) > 0 && o.waiting[len(o.waiting)-1].addTo(to, entry) {
		return
	}
	// Notes that are full wait until the writer comes to them. Only the last ones are open.
	full := 0 // the size of the one that has no room
	if len(o.waiting) > 0 {
		full = o.waiting[len(o.waiting)-1].size
	}
	next := new(notes)
	if o.bytes+full > maxWaiting || !next.addTo(to, entry) {
		o.lost++
		return
	}
	o.bytes += full
	o.waiting = append(o.waiting, next)
}

// turn notes that the loop of the process turns.
func (o *outbox) turn(isolated bool, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	// Whether a process doubts its probes decides whether its votes count, so the writer is told at once.
	if isolated != o.isolated || now.Sub(o.turned) > turnsWithin {
		signal(o.toWriter)
	}
	o.turned, o.isolated = now, isolated
}

// announce sets the own groups.
func (o *outbox) announce(groups string) { o.alter(func() { o.groups = groups }) }

// shut lets nothing more in.
func (o *outbox) shut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
}

// bearing is how the process is.
type bearing struct {
	turns, isolated bool
	groups          string
	since           time.Time // since when something is not written
	notes           bool      // there are some
}

// bearing returns how the process is now.
func (o *outbox) bearing(now time.Time) bearing {
	o.mu.Lock()
	defer o.mu.Unlock()
	turns := !o.turned.IsZero() && now.Sub(o.turned) <= turnsWithin
	return bearing{turns, o.isolated, o.groups, o.since, len(o.waiting) > 0}
}

// takeSaid removes the votes of a part that are not written, and returns them.
func (o *outbox) takeSaid(part uint8) map[fleet.Target]pendingVote {
	o.mu.Lock()
	defer o.mu.Unlock()
	said := o.said[part]
	o.said[part] = nil
	return said
}

// putBack adds votes again that could not be written. What was said since is newer.
func (o *outbox) putBack(part uint8, said map[fleet.Target]pendingVote) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.said[part] == nil {
		o.said[part] = said
		return
	}
	for t, s := range said {
		if _, newer := o.said[part][t]; !newer {
			o.said[part][t] = s
		}
	}
}

// settle notes since when something is not written, after a look at all parts that began at a time.
func (o *outbox) settle(began time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	// What was said after the look began was said after that time.
	for _, said := range o.said {
		if len(said) > 0 {
			if o.since.Before(began) {
				o.since = began
			}
			return
		}
	}
	o.since = time.Time{}
}

// takeNotes removes the first notes that wait, and returns their value; nil if there are none.
func (o *outbox) takeNotes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) == 0 {
		return nil
	}
	first := o.waiting[0]
	o.waiting = o.waiting[1:]
	if len(o.waiting) > 0 {
		o.bytes -= first.size
	}
	return first.encode()
}

// noteFor adds a vote for the one member that has asked for it.
func (o *outbox) noteFor(s pendingVote) {
	o.alter(func() { o.jot([]string{s.to}, func(b *fleet.Batch) bool { return b.Vote(s.vote) }) })
}

// takeAsks removes what was asked, and returns it with how many things were lost.
func (o *outbox) takeAsks() (all []ask, lost int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	all, lost = o.asks, o.lost
	o.asks, o.lost = nil, 0
	return all, lost
}

// sawKey notes that a key of this process was changed, which it may have done itself.
func (o *outbox) sawKey(key string, rev int64) {
	o.alter(func() { o.seen[key] = rev })
}

// sawAll notes what etcd has of this process.
func (o *outbox) sawAll(s *stored) { o.alter(func() { o.stored = s }) }

// cameBack notes that etcd is heard again.
func (o *outbox) cameBack() { o.alter(func() { o.restate = true }) }

// takeSeen removes what the loop has seen, and returns it. again is whether etcd was not heard for a while.
func (o *outbox) takeSeen() (seen map[string]int64, all *stored, again bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	seen, all, again = o.seen, o.stored, o.restate
	o.seen, o.stored, o.restate = make(map[string]int64), nil, false
	return seen, all, again
}

// discard has the votes of a member removed, which has no key.
func (o *outbox) discard(id string) {
	o.alter(func() {
		if len(o.garbage) < maxGarbage && !slices.Contains(o.garbage, id) {
			o.garbage = append(o.garbage, id)
		}
	})
}

// takeGarbage removes the first member whose votes are to be removed, and returns it; empty if there is none.
func (o *outbox) takeGarbage() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.garbage) == 0 {
		return ""
	}
	id := o.garbage[0]
	o.garbage = o.garbage[1:]
	return id
}
