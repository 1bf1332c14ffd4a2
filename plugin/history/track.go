package history

import (
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
)

// mark is what a step is shown as, the worst one last.
type mark uint8

const (
	markUnknown mark = iota // nothing is known, or was recorded
	markUp                  // all the time
	markMixed               // up and down within the step; of a name: some of its addresses are down
	markDown                // all the time; of a name: all of its addresses
)

// String is the mark as the state of a run.
func (m mark) String() string { return [...]string{"unknown", "up", "mixed", "down"}[m] }

// mark is what the step is shown as.
func (c *cell) mark() mark {
	switch {
	case !c.known:
		return markUnknown
	case c.flips > 0 || c.some || c.down > 0 && !c.endsDown:
		return markMixed
	case c.down > 0:
		return markDown
	}
	return markUp
}

// Run is some steps in one state.
type Run struct {
	From        time.Time `json:"from"`
	To          time.Time `json:"to"`
	State       string    `json:"state"` // unknown, up, mixed or down: a mark
	Down        float64   `json:"down_seconds"`
	Transitions int       `json:"transitions"`
}

// Summary is a timeline in a few numbers. Seconds that nothing is known of count neither as up nor as down.
type Summary struct {
	Up          float64  `json:"up_seconds"`
	Down        float64  `json:"down_seconds"`
	Some        float64  `json:"some_down_seconds"`    // of a name: some addresses were down; these seconds are in Up
	Share       *float64 `json:"share,omitempty"`      // of up in up and down; nil if nothing is known
	Transitions int      `json:"transitions"`          // between up and down
	Falls       int      `json:"went_down"`            // how often it went down; of a name: its addresses, each check counted
	More        bool     `json:"more_transitions"`     // there may have been more, also of Falls
	Longest     float64  `json:"longest_down_seconds"` // the longest time down without a break
	Known       float64  `json:"known_for_seconds"`    // since the first step that is known
}

// Track is the timeline of a target or a name over a span.
type Track struct {
	Span    Span
	From    time.Time
	To      time.Time // now
	Runs    []Run     // they follow each other from From to To
	State   string    // now, as of a run: the last run is what its steps are
	Summary Summary
}

// TrackOf is the timeline of a line, which is a copy, up to now. A line that is nil is unknown.
func TrackOf(l *Line, s Span, now clock.Instant) Track {
	t := trackOf(l.cells(s, now), s, now)
	t.State = stateOf([][]*Line{{l}}).String()
	return t
}

// stateOf is what addresses are now, by their lines.
func stateOf(addresses [][]*Line) mark {
	var known, down int
	for _, lines := range addresses {
		worst := Unknown
		for _, l := range lines {
			if l != nil {
				worst = max(worst, l.state)
			}
		}
		if worst != Unknown {
			known++
		}
		if worst == Down {
			down++
		}
	}
	switch {
	case known == 0:
		return markUnknown
	case down == 0:
		return markUp
	case down < known:
		return markMixed
	}
	return markDown
}

// NameTrack is the timeline of a name: up while all of its addresses are, down while all of them are down, mixed otherwise. Each
// address has some lines, one a check, which are copies; it is down if any of them is. Its transitions are those to and from down,
// and right to a step.
func NameTrack(addresses [][]*Line, s Span, now clock.Instant) Track {
	if len(addresses) == 1 && len(addresses[0]) == 1 {
		return TrackOf(addresses[0][0], s, now) // it is the name, and better than right to a step
	}
	var parts Summary
	cells := make([]cell, s.Steps)
	all, down, touched := make([]int, s.Steps), make([]int, s.Steps), make([]int, s.Steps)
	for _, lines := range addresses {
		for i, worst := range worstMarks(lines, s, now, &parts) {
			switch worst {
			case markUnknown:
				continue
			case markDown:
				down[i]++
			case markMixed:
				touched[i]++
			}
			all[i]++
		}
	}
	for i := range cells {
		c := &cells[i]
		c.known, c.took = all[i] > 0, s.Step
		if i == s.Steps-1 {
			c.took = now.Sub(begins(stepOf(now, s.Step), s.Step))
		}
		if c.known && down[i] == all[i] {
			c.down, c.endsDown = c.took, true
		}
		c.some = !c.endsDown && down[i]+touched[i] > 0
	}
	t := trackOf(cells, s, now)
	t.State, t.Summary.Falls, t.Summary.More = stateOf(addresses).String(), parts.Falls, parts.More
	return t
}

// Since is when what it is now began, right to a step: that it is down, or that it is not up all the time.
func (t *Track) Since() time.Time {
	since := t.From.Add(time.Duration(t.Span.Steps-1) * t.Span.Step)
	for i := len(t.Runs) - 1; i >= 0; i-- {
		r := &t.Runs[i]
		if r.State != markDown.String() && (t.State == markDown.String() || r.State != markMixed.String()) {
			break
		}
		since = r.From
	}
	return since
}

// worstMarks is what an address is at each step. How often it went down is added to a summary.
func worstMarks(lines []*Line, s Span, now clock.Instant, sum *Summary) []mark {
	worst := make([]mark, s.Steps)
	for _, l := range lines {
		cells := l.cells(s, now)
		for i := range cells {
			worst[i] = max(worst[i], cells[i].mark())
		}
		one := summaryOf(cells)
		sum.Falls += one.Falls
		sum.More = sum.More || one.More
	}
	return worst
}

// trackOf makes a track of steps.
func trackOf(cells []cell, s Span, now clock.Instant) Track {
	first := stepOf(now, s.Step) - int32(s.Steps-1)
	t := Track{Span: s, From: begins(first, s.Step).Time(), To: now.Time()}
	for i := range cells {
		from := begins(first+int32(i), s.Step)
		if to := min(begins(first+int32(i)+1, s.Step), now); to > from {
			t.extend(&cells[i], from, to)
		}
	}
	t.Summary = summaryOf(cells)
	for i := range t.Runs {
		if t.Runs[i].State != markUnknown.String() {
			t.Summary.Known = t.To.Sub(t.Runs[i].From).Seconds()
			break
		}
	}
	return t
}

// extend adds a step to the runs.
func (t *Track) extend(c *cell, from, to clock.Instant) {
	state, last := c.mark().String(), len(t.Runs)-1
	if last < 0 || t.Runs[last].State != state {
		t.Runs = append(t.Runs, Run{From: from.Time(), State: state})
		last++
	}
	r := &t.Runs[last]
	r.To = to.Time()
	r.Down += c.down.Seconds()
	r.Transitions += c.flips
}

// summaryOf adds up steps.
func summaryOf(cells []cell) (s Summary) {
	var up, down, some, longest, run time.Duration
	startsDown, follows := false, false // how the step before has ended, and that it is known
	for _, c := range cells {
		if !c.known {
			run, follows = 0, false
			continue
		}
		odd := c.flips%2 == 1
		if !follows {
			startsDown = c.endsDown != odd
		} else if startsDown != (c.endsDown != odd) { // between the steps, or in one that cannot count so far
			c.flips++
		}
		up, down = up+c.took-c.down, down+c.down
		if c.some {
			some += c.took
		}
		s.Transitions += c.flips
		s.Falls += c.flips / 2
		if odd := c.flips%2 == 1; odd && !startsDown {
			s.Falls++
		}
		s.More = s.More || c.more
		var most time.Duration
		run, most = c.outages(run, startsDown)
		longest = max(longest, most)
		startsDown, follows = c.endsDown, true
	}
	s.Up, s.Down, s.Some, s.Longest = up.Seconds(), down.Seconds(), some.Seconds(), longest.Seconds()
	if up+down > 0 {
		share := s.Up / (s.Up + s.Down)
		s.Share = &share
	}
	return s
}

// outages adds a step to the time that the target is down without a break, and returns that at the end of the step, and the
// longest one up to then. If a step has several outages, each is taken to be as long as the others.
func (c *cell) outages(run time.Duration, startsDown bool) (atEnd, longest time.Duration) {
	pieces := (c.flips + 1) / 2
	if startsDown {
		pieces = (c.flips + 2) / 2
	} else {
		run = 0
	}
	if c.down == 0 || pieces == 0 {
		return 0, run
	}
	piece := c.down / time.Duration(pieces)
	longest = run + piece
	switch {
	case !c.endsDown:
		return 0, longest
	case pieces == 1:
		return longest, longest
	}
	return piece, longest
}
