// Package history keeps what was so over time: for each target the states of an hour in steps of 10 seconds and of a day in
// steps of 5 minutes, how long its probes took, how many targets were up or down at each step, and what happened to the
// process.
//
// Book is the main type. The pool's loop writes it, and hands out copies (Reading), which the status page makes tracks of. A
// state is believed until it changes, so a Line is written when the state changes and not for each result: steps are filled
// in later, from the time of the last change. All of it is arithmetic on values: the package starts no goroutine and reads no
// clock, and instants are monotonic, so that a clock that is set does not matter.
package history

import (
	"time"
	"unsafe"

	"github.com/coredns-multivalue/multivalue/internal/clock"
)

const (
	// MaxBytes is how much the lines of all targets may take with a new day. Targets that come later have the hour alone, which
	// takes more.
	MaxBytes = 32 << 20
	// maxEvents is how many events are kept, the latest ones.
	maxEvents = 64

	hourSteps = 360
	daySteps  = 288
	hourStep  = 10 * time.Second
	dayStep   = 5 * time.Minute
)

// State is what a target is, or is not known to be. The zero value is that nothing is known.
type State uint8

const (
	// Unknown is the state of a target that no probe has decided.
	Unknown State = iota
	// Up is the state of a target that is up.
	Up
	// Down is the state of a target that is down.
	Down
)

// Span is how far a timeline goes back.
type Span struct {
	Name  string // hour or day, as in URLs
	Steps int
	Step  time.Duration
}

// Hour and Day are the two spans.
var (
	Hour = Span{"hour", hourSteps, hourStep}
	Day  = Span{"day", daySteps, dayStep}
)

// stepOf is the number of the step of some length that an instant is in. Steps are counted from the start of the process; before it
// they are negative.
func stepOf(at clock.Instant, length time.Duration) int32 {
	n := int64(at) / int64(length)
	if at < 0 && int64(at)%int64(length) != 0 {
		n--
	}
	return int32(n)
}

// begins is when a step begins.
func begins(step int32, length time.Duration) clock.Instant {
	return clock.Instant(int64(step) * int64(length))
}

// place is where a ring of some length has a step.
func place(step int32, length int) int {
	return int(((step % int32(length)) + int32(length)) % int32(length))
}

// Kind is what an event is about. Its text is what JSON has.
type Kind string

const (
	// Began is that the process began.
	Began Kind = "began"
	// Reloaded is that another Corefile was read.
	Reloaded Kind = "reloaded"
	// Forced is that a file of forced states changed.
	Forced Kind = "forced"
	// Fleet is that a member of the fleet came or went.
	Fleet Kind = "fleet"
)

// Event is something that happened to the process, and may explain what targets did next.
type Event struct {
	At   clock.Instant
	Kind Kind
	Text string // a sentence without a full stop
}

// Book has the lines of all targets, what they add up to, and the events. It belongs to one goroutine. Its methods may be called
// for nil, and then keep nothing.
type Book struct {
	whole  Whole
	events []Event
	bytes  int // of all lines
	// A line that has inherited is not in the whole while the other one is, which is of the same target, and has the same days.
	heirs, elders map[*Line]*Line // of each such pair, the one by the other
}

// NewBook returns a book that begins now. The process began before it.
func NewBook(now clock.Instant) *Book {
	b := &Book{events: []Event{{0, Began, "the process began"}}, heirs: make(map[*Line]*Line), elders: make(map[*Line]*Line)}
	b.whole.beginAt(now)
	return b
}

// The sizes of a line are those of its two parts as the memory allocator rounds them.
const (
	hourBytes = (int(unsafe.Sizeof(Line{})) + 31) &^ 31
	dayBytes  = daySteps
)

// Open begins the line of a target, which is in this state from now on.
func (b *Book) Open(state State, now clock.Instant) *Line {
	if b == nil {
		return nil
	}
	l := &Line{state: state, last: now}
	l.hour.step, l.day.step = stepOf(now, hourStep), stepOf(now, dayStep)
	b.bytes += hourBytes
	b.giveDays(l)
	b.whole.move(now, state, 1)
	return l
}

// giveDays gives a line without days some, if there is room.
func (b *Book) giveDays(l *Line) {
	if l.days == nil && b.bytes+dayBytes <= MaxBytes {
		l.days = new([daySteps]uint8)
		b.bytes += dayBytes
	}
}

// Inherit begins the line of a target that another line is of too, at another pace: with what was recorded, and in the same state.
// While the other line is open, the whole counts that one, and both write the same days. It returns nil if there is nothing to inherit.
func (b *Book) Inherit(from *Line) *Line {
	if b == nil || from == nil || b.heirs[from] != nil {
		return nil
	}
	l := new(Line)
	*l = *from
	b.bytes += hourBytes
	b.heirs[from], b.elders[l] = l, from
	return l
}

// Enter says that a target is in a state from now on.
func (b *Book) Enter(l *Line, state State, now clock.Instant) {
	if b == nil || l == nil || l.state == state {
		return
	}
	if b.elders[l] == nil {
		b.whole.move(now, l.state, -1)
		b.whole.move(now, state, 1)
	}
	l.become(state, now)
}

// Close ends the line of a target that is watched no longer.
func (b *Book) Close(l *Line, now clock.Instant) {
	if b == nil || l == nil {
		return
	}
	b.bytes -= hourBytes
	heir, elder := b.heirs[l], b.elders[l]
	delete(b.heirs, l)
	delete(b.elders, l)
	switch {
	case heir == nil && elder == nil:
		if l.days != nil {
			b.bytes -= dayBytes
		}
		b.whole.move(now, l.state, -1)
	case heir == nil: // the other one goes on as it was
		delete(b.heirs, elder)
	case elder == nil: // from now on the heir is the target
		delete(b.elders, heir)
		b.whole.move(now, l.state, -1)
		b.whole.move(now, heir.state, 1)
		b.giveDays(heir)
	default:
		b.heirs[elder], b.elders[heir] = heir, elder
	}
}

// NoteEvent adds an event.
func (b *Book) NoteEvent(kind Kind, text string, now clock.Instant) {
	if b == nil {
		return
	}
	if len(b.events) == maxEvents {
		b.events = append(b.events[:0], b.events[1:]...)
	}
	b.events = append(b.events, Event{now, kind, text})
}

// Reading is what the book had at one moment. Nothing changes it any more.
type Reading struct {
	At     clock.Instant
	Lines  []*Line // of the targets that were asked for, in their order; nil for one without
	Whole  *Whole
	Events []Event // the latest last
}

// Read adds to a reading what is the book's and no target's.
func (b *Book) Read(r *Reading, now clock.Instant) {
	r.At = now
	if b == nil {
		return
	}
	whole := b.whole
	r.Whole, r.Events = &whole, append([]Event(nil), b.events...)
}
