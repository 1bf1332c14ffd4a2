package history

import (
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
)

// Whole is how many targets were in each state over time. It is counted from changes: nothing goes through all targets.
type Whole struct {
	now  [Down + 1]uint32 // targets by state
	hour [hourSteps]Counts
	day  [daySteps]Counts
	open [2]wholeStep // of the hour and the day
}

// Counts is how many targets were in each state at the end of a step.
type Counts struct {
	Unknown, Up, Down uint32
	Most              uint32 // were down at a time within the step
	Known             bool   // the step was recorded
}

// wholeStep is a step that is under way.
type wholeStep struct {
	step int32
	most uint32
}

// beginAt has the counts begin now.
func (w *Whole) beginAt(now clock.Instant) {
	w.open[0].step, w.open[1].step = stepOf(now, hourStep), stepOf(now, dayStep)
}

// move counts targets more or less in a state.
func (w *Whole) move(now clock.Instant, state State, by int) {
	w.catchUp(now)
	w.now[state] = uint32(int(w.now[state]) + by)
	for i := range w.open {
		w.open[i].most = max(w.open[i].most, w.now[Down])
	}
}

// catchUp fills in the steps up to now.
func (w *Whole) catchUp(now clock.Instant) {
	w.open[0].elapse(hourStep, w.hour[:], w.now, now)
	w.open[1].elapse(dayStep, w.day[:], w.now, now)
}

// elapse is Whole.catchUp for one span.
func (o *wholeStep) elapse(length time.Duration, ring []Counts, state [Down + 1]uint32, now clock.Instant) {
	current := stepOf(now, length)
	if first := current - int32(len(ring)); o.step < first {
		*o = wholeStep{first, state[Down]}
	}
	for o.step < current {
		ring[place(o.step, len(ring))] = countsOf(state, o.most)
		*o = wholeStep{o.step + 1, state[Down]}
	}
}

// countsOf is a step as it is read.
func countsOf(state [Down + 1]uint32, most uint32) Counts {
	return Counts{state[Unknown], state[Up], state[Down], most, true}
}

// Steps are the steps of a span up to now, the one under way last, and when the first one begins. The whole is a copy.
func (w *Whole) Steps(s Span, now clock.Instant) (all []Counts, from time.Time) {
	from = begins(stepOf(now, s.Step)-int32(s.Steps-1), s.Step).Time()
	all = make([]Counts, s.Steps)
	if w == nil {
		return all, from
	}
	w.catchUp(now)
	ring, o := w.hour[:], w.open[0]
	if s.Step == dayStep {
		ring, o = w.day[:], w.open[1]
	}
	for i := range all[:s.Steps-1] {
		all[i] = ring[place(o.step-int32(s.Steps-1-i), s.Steps)]
	}
	all[s.Steps-1] = countsOf(w.now, o.most)
	return all, from
}
