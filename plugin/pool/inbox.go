package pool

import (
	"slices"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
)

const (
	// maxInbox bounds the bytes of votes that wait for the loop, and maxEvents what else does.
	maxInbox  = 16 << 20
	maxEvents = 1 << 17
	// eventsAtOnce is how many of them the loop takes before it turns to something else.
	eventsAtOnce = 64
)

// inbox is what an engine tells, until the loop comes to it. It is the listener of one engine. What does not fit is lost, and the
// votes of its author count no longer: the loop asks for them again.
type inbox struct {
	ready chan<- struct{} // signalled when there is something

	mu     sync.Mutex
	events []event
	size   int               // in bytes of votes
	lost   map[string]uint64 // epochs of the authors of whom something was lost
	heard  map[string]life   // what each member said with its last beat, while beats come
}

// life is what a member says of itself with each beat.
type life struct {
	epoch    uint64
	isolated bool
}

// news notes what a member said with a beat, and reports whether it said otherwise before, or has not been heard.
func (b *inbox) news(name string, is life) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if was, heard := b.heard[name]; heard && was == is {
		return false
	}
	if b.heard == nil {
		b.heard = make(map[string]life)
	}
	if len(b.heard) < fleet.MaxMembers {
		b.heard[name] = is
	}
	return true
}

// unheard forgets what a member said last: its next beat is news.
func (b *inbox) unheard(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.heard, name)
}

// event is what the loop is to do about something that was told.
type event struct {
	run    func(m *member, now time.Time)
	weight int // in bytes of votes
}

var _ fleet.Listener = (*inbox)(nil)

// put adds an event of an author, which may weigh some bytes. Half of the room is for what weighs nothing: who is there is told once.
func (b *inbox) put(name string, epoch uint64, weight int, run func(m *member, now time.Time)) {
	b.lay(name, epoch, weight, run)
	select {
	case b.ready <- struct{}{}:
	default: // it has been signalled
	}
}

// lay is put without a signal: the loop comes to it with the next event, or at its next tick.
func (b *inbox) lay(name string, epoch uint64, weight int, run func(m *member, now time.Time)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	most := maxEvents
	if weight > 0 {
		most /= 2
	}
	if weight > 0 && b.size+weight > maxInbox || len(b.events) >= most {
		metrics.Fleet.Drops.WithLabelValues("busy").Inc()
		if b.lost == nil {
			b.lost = make(map[string]uint64)
		}
		if len(b.lost) < fleet.MaxMembers {
			b.lost[name] = epoch
		}
		return
	}
	if since, lost := b.lost[name]; lost { // between what came before and what comes after
		delete(b.lost, name)
		b.events = append(b.events, losing(name, since))
	}
	b.size += weight
	b.events = append(b.events, event{run, weight})
}

// losing notes that votes of an author were lost.
func losing(name string, epoch uint64) event {
	return event{run: func(m *member, now time.Time) { m.lose(name, epoch, now) }}
}

// some removes some events. more reports whether others are left.
func (b *inbox) some() (events []event, more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.events), eventsAtOnce)
	events = slices.Clone(b.events[:n])
	for _, e := range events {
		b.size -= e.weight
	}
	clear(b.events[:n]) // or what they refer to would be kept
	if b.events = b.events[n:]; len(b.events) > 0 {
		return events, true
	}
	for name, epoch := range b.lost { // after all that came before it
		events = append(events, losing(name, epoch))
	}
	b.events, b.lost = nil, nil
	return events, false
}

// Met implements fleet.Listener.
func (b *inbox) Met(who fleet.Member) {
	b.put(who.Name, who.Epoch, 0, func(m *member, now time.Time) {
		m.roster.Meet(who, now)
		if now.Sub(m.joined) < newFor {
			m.nextSeats = time.Time{} // a newcomer that has met the others leaves their seats to them at once
		}
	})
}

// Left implements fleet.Listener.
func (b *inbox) Left(name string) {
	b.unheard(name)
	b.put(name, 0, 0, func(m *member, now time.Time) {
		m.roster.Leave(name, now)
		m.nextSeats = time.Time{} // its seats are taken at once
	})
}

// Heard implements fleet.Listener. It comes from each member once a second, and wakes the loop if it is news.
func (b *inbox) Heard(name string, epoch uint64, isolated bool) {
	tell := b.lay
	if b.news(name, life{epoch, isolated}) {
		tell = b.put
	}
	tell(name, epoch, 0, func(m *member, now time.Time) { m.roster.Heard(name, epoch, isolated, now) })
}

// Silent implements fleet.Listener.
func (b *inbox) Silent(name string) {
	b.unheard(name)
	b.put(name, 0, 0, func(m *member, now time.Time) { m.roster.Silent(name, now) })
}

// Restarted implements fleet.Listener.
func (b *inbox) Restarted(name string, epoch uint64) {
	b.put(name, epoch, 0, func(m *member, now time.Time) { m.lose(name, epoch, now) })
}

// Said implements fleet.Listener.
func (b *inbox) Said(name string, epoch uint64, batch []byte) {
	batch = append([]byte(nil), batch...)
	b.put(name, epoch, len(batch), func(m *member, now time.Time) { m.hear(name, epoch, batch, now) })
}
