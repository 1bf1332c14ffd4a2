package history

import (
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
)

// Line is the timeline of one target. There may be 100,000 of them, so a step of the hour takes half a byte, one of the day a
// byte, and neither is written while the state lasts.
type Line struct {
	days  *[daySteps]uint8 // nil for a target that has the hour alone
	last  clock.Instant    // up to then the steps are filled in
	hour  partial
	day   partial
	took  latencies
	hours [hourSteps / 2]uint8
	state State // since last
}

// partial is the step that is under way.
type partial struct {
	step        int32
	known, down uint32 // microseconds
	flips       uint8  // changes between up and down
	endsDown    bool   // in the state that was known last
}

// cell is one step as it is read.
type cell struct {
	known    bool
	took     time.Duration // how much of the step is over and known
	down     time.Duration
	flips    int
	more     bool // there were at least so many
	endsDown bool
	some     bool // of a name: some addresses were down for some of the time, and not all of them for all of it
}

// become fills in the time since the last change, and changes the state.
func (l *Line) become(state State, now clock.Instant) {
	l.catchUp(now)
	if l.state != Unknown && state != Unknown && l.state != state {
		for _, p := range []*partial{&l.hour, &l.day} {
			if p.flips < 255 {
				p.flips++
			}
			p.endsDown = state == Down
		}
	}
	l.state = state
}

// catchUp fills in the steps up to now.
func (l *Line) catchUp(now clock.Instant) {
	if now <= l.last {
		return
	}
	l.hour.elapse(hourStep, hourSteps, l.state, l.last, now, func(step, end int32, p *partial) {
		raw := p.nibble()
		for at := place(step, hourSteps); step < end; step++ {
			shift := at % 2 * 4
			l.hours[at/2] = l.hours[at/2]&^(15<<shift) | raw<<shift
			if at++; at == hourSteps {
				at = 0
			}
		}
	})
	l.day.elapse(dayStep, daySteps, l.state, l.last, now, func(step, end int32, p *partial) {
		if l.days == nil {
			return
		}
		raw := p.octet()
		for at := place(step, daySteps); step < end; step++ {
			l.days[at] = raw
			if at++; at == daySteps {
				at = 0
			}
		}
	})
	l.last = now
}

// elapse adds the time of a state to the step under way, and hands out the steps that are over: from one up to another, which are
// all the same. Steps that the ring has forgotten again are left out.
func (p *partial) elapse(length time.Duration, steps int32, state State, from, to clock.Instant, over func(step, end int32, p *partial)) {
	current := stepOf(to, length)
	if first := current - steps; p.step < first {
		*p = partial{step: first, endsDown: p.endsDown}
		from = begins(first, length)
	}
	if p.step < current {
		p.spend(state, begins(p.step+1, length).Sub(from))
		over(p.step, p.step+1, p)
		*p = partial{step: p.step + 1, endsDown: p.endsDown}
		from = begins(p.step, length)
	}
	if p.step < current { // whole steps
		p.spend(state, length)
		over(p.step, current, p)
		*p = partial{step: current, endsDown: p.endsDown}
		from = begins(current, length)
	}
	p.spend(state, to.Sub(from))
}

// spend adds some time in a state.
func (p *partial) spend(state State, d time.Duration) {
	us := uint32(d.Microseconds())
	switch state {
	case Down:
		p.known, p.down, p.endsDown = p.known+us, p.down+us, true
	case Up:
		p.known, p.endsDown = p.known+us, false
	}
}

// nibble packs a step of the hour: 0 if nothing is known; else how it ends, how many flips it has, up to four, and whether it was
// down for more than half.
func (p *partial) nibble() uint8 {
	if p.known == 0 {
		return 0
	}
	code := uint8(1)
	switch half := p.down > p.known/2; {
	case p.flips >= 3:
		code = 3 + min(p.flips, 4)
	case p.flips > 0 && half:
		code = 1 + 2*p.flips
	case p.flips > 0:
		code = 2 * p.flips
	}
	if p.endsDown {
		code |= 8
	}
	return code
}

// openNibble is the step of the hour that nibble has packed. Its time down is right to a quarter of the step or so.
func openNibble(raw uint8) cell {
	code := raw & 7
	if code == 0 {
		return cell{}
	}
	c := cell{known: true, took: hourStep, endsDown: raw&8 != 0}
	switch {
	case code == 1 && c.endsDown:
		c.down = hourStep
	case code == 1:
	case code < 6:
		c.flips, c.down = int(code/2), hourStep/4+time.Duration(code%2)*hourStep/2
	default:
		c.flips, c.down, c.more = int(code)-3, hourStep/2, code == 7
	}
	return c
}

// octetUnit is the unit of the time down in a step of the day: a step of the hour.
const octetUnit = hourStep

// octet packs a step of the day: 0 if nothing is known; else one more than the time down in units of ten seconds, up to three
// flips, and how it ends. A step with a moment down is never shown as one without, nor one with a moment up as all down. What is not known
// of a step is read as up.
func (p *partial) octet() uint8 {
	if p.known == 0 {
		return 0
	}
	const unit, whole = uint32(octetUnit / time.Microsecond), uint32(dayStep / time.Microsecond)
	units := (p.down + unit/2) / unit
	if p.down > 0 {
		units = max(units, 1)
	}
	if p.down < whole {
		units = min(units, whole/unit-1)
	}
	raw := uint8(1+units) | min(p.flips, 3)<<5
	if p.endsDown {
		raw |= 1 << 7
	}
	return raw
}

// openOctet is the step of the day that octet has packed.
func openOctet(raw uint8) cell {
	if raw == 0 {
		return cell{}
	}
	flips := int(raw >> 5 & 3)
	return cell{known: true, took: dayStep, down: time.Duration(raw&31-1) * octetUnit, flips: flips, more: flips == 3, endsDown: raw>>7 != 0}
}

// nibbles and octets are all steps that there are, opened once: a page opens some 50,000.
var (
	nibbles = openAll[[16]cell](openNibble)
	octets  = openAll[[256]cell](openOctet)
)

// openAll opens all steps.
func openAll[T [16]cell | [256]cell](open func(uint8) cell) (all T) {
	for i := range len(all) {
		all[i] = open(uint8(i))
	}
	return all
}

// cell is the step under way as far as it is over, which is known exactly.
func (p *partial) cell() cell {
	return cell{
		known: p.known > 0, took: time.Duration(p.known) * time.Microsecond, down: time.Duration(p.down) * time.Microsecond,
		flips: int(p.flips), more: p.flips == 255, endsDown: p.endsDown,
	}
}

// Copy returns a copy of a line, which may be read while the line goes on. It is nil for nil.
func (l *Line) Copy() *Line {
	if l == nil {
		return nil
	}
	c := *l
	if l.days != nil {
		days := *l.days
		c.days = &days
	}
	return &c
}

// HasDay reports whether the line has the day, and not the hour alone.
func (l *Line) HasDay() bool { return l != nil && l.days != nil }

// cells are the steps of a span up to now, the one under way last. The line is a copy, and is filled in.
func (l *Line) cells(s Span, now clock.Instant) []cell {
	all := make([]cell, s.Steps)
	if l == nil {
		return all
	}
	l.catchUp(now)
	p, steps := &l.hour, hourSteps
	if s.Step == dayStep {
		p, steps = &l.day, daySteps
	}
	for i := range all[:steps-1] {
		at := place(p.step-int32(steps-1-i), steps)
		switch {
		case s.Step == hourStep:
			all[i] = nibbles[l.hours[at/2]>>(at%2*4)&15]
		case l.days != nil:
			all[i] = octets[l.days[at]]
		}
	}
	if s.Step == hourStep || l.days != nil {
		all[steps-1] = p.cell()
	}
	return all
}
