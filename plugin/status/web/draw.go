package web

import (
	"fmt"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/history"
)

// size is how large a timeline is drawn, in user units of an SVG. A step is one unit wide, whatever the page makes of that.
type size struct {
	height int
	least  int // width of an outage, so that one of a step can be seen
	titles int // outages that have a title of their own, the latest ones
}

var (
	rowSize   = size{height: 16, least: 3, titles: 6}
	wholeSize = size{height: 36, least: 1, titles: 24}
)

// shape is a path with what a pointer that rests on it is told.
type shape struct {
	Class, D, Title string
}

// drawing is a timeline as the template timeline draws it: a path for each state, whose forms differ as well as their colours, and
// for each outage a path that cannot be seen and has a title.
type drawing struct {
	Label         string // who it is about
	Class         string
	Width, Height int
	Left          int // the first column that is shown: a process that is young has no use for the rest
	Shapes        []shape
	Axis          []string // from the left; the whole has one for each quarter
	Text          string   // the summary
	Told          []string // outages and events in words, the latest first

	size size
	step time.Duration
}

// newDrawing returns a drawing of a span without states, of which the last steps are shown.
func newDrawing(label, class string, span history.Span, shown int, to time.Time, s size) *drawing {
	d := &drawing{Label: label, Class: class, Width: span.Steps, Height: s.height, Left: span.Steps - shown, size: s, step: span.Step}
	d.size.least = d.zoom(s.least)
	var grid strings.Builder
	for i := range 4 {
		fmt.Fprintf(&grid, "M%d 0v%d", d.Left+i*shown/4, s.height)
		if i == 0 || s == wholeSize { // a row has no room for more
			d.Axis = append(d.Axis, axisText(span, to, time.Duration((4-i)*shown/4)*span.Step))
		}
	}
	d.Shapes = append(d.Shapes, shape{Class: "grid", D: grid.String()})
	return d
}

// Shown is how many columns are shown.
func (d *drawing) Shown() int { return d.Width - d.Left }

// zoom is a width in columns that looks the same however many are shown, one at least.
func (d *drawing) zoom(columns int) int { return max(1, columns*d.Shown()/d.Width) }

// shownSteps is how many steps of a span are shown if the process is so old: at first a few, then more, so that an hour of which
// nothing can be known takes no room. Each has quarters for the axis.
func shownSteps(span history.Span, age time.Duration) int {
	choices := []int{24, 48, 120, 240} // 4, 8, 20 and 40 minutes
	if span == history.Day {
		choices = []int{12, 48, 144} // 1, 4 and 12 hours
	}
	for _, steps := range choices {
		if age <= time.Duration(steps-1)*span.Step { // the step under way is a part of one
			return steps
		}
	}
	return span.Steps
}

// axisText is what the axis says of a time before now: how long ago in the last hour, and the time of day before that.
func axisText(span history.Span, now time.Time, ago time.Duration) string {
	switch {
	case span == history.Day:
		return clockOf(now.Add(-ago))[:5]
	case ago == time.Hour:
		return "−1 h"
	default:
		return fmt.Sprintf("−%d min", ago/time.Minute)
	}
}

// draw draws the states of a track: a low bar where it is known, one of half the height where it is mixed, one of the whole height
// where all is down, and a dotted line where nothing is known.
func (v *timeView) draw(t history.Track, label string, s size) *drawing {
	d := newDrawing(label, "row", v.Span, v.shown, t.To, s)
	var up, mixed, down, none strings.Builder
	known := -1 // where what is known begins
	for i, r := range t.Runs {
		x, end := d.column(t.From, r.From), d.column(t.From, r.To)
		if r.State != "unknown" && known < 0 {
			known = x
		}
		if known >= 0 && (i == len(t.Runs)-1 || t.Runs[i+1].State == "unknown") { // up is also below what is not
			rectangle(&up, known, end, s.height-2, s.height)
			known = -1
		}
		switch r.State {
		case "mixed":
			x, end = d.widen(x, end)
			rectangle(&mixed, x, end, s.height/2, s.height)
		case "down":
			x, end = d.widen(x, end)
			rectangle(&down, x, end, 0, s.height)
		case "unknown":
			fmt.Fprintf(&none, "M%d %dH%d", x, s.height-1, end)
		}
	}
	d.addPath("t-none", none.String())
	d.addPath("t-up", up.String())
	d.addPath("t-mixed", mixed.String())
	d.addPath("t-down", down.String())
	d.addTicks(eventsSince(v.reading.Events, t.From), t.From, false)
	return d
}

// addPath adds a path without a title, unless it is empty.
func (d *drawing) addPath(class, path string) {
	if path != "" {
		d.Shapes = append(d.Shapes, shape{Class: class, D: path})
	}
}

// column is where a time is drawn.
func (d *drawing) column(from, t time.Time) int {
	return min(max(0, int((t.Sub(from)+d.step-1)/d.step)), d.Width)
}

// widen makes something at least as wide as it has to be.
func (d *drawing) widen(x, end int) (int, int) {
	if short := d.size.least - (end - x); short > 0 {
		x = max(0, x-short/2)
		end = min(d.Width, x+d.size.least)
		x = end - d.size.least
	}
	return x, end
}

// rectangle adds a rectangle to a path.
func rectangle(to *strings.Builder, x, end, top, bottom int) {
	fmt.Fprintf(to, "M%d %dh%dv%dh%dz", x, top, end-x, bottom-top, x-end)
}

// tickPitch is how far apart events of a row are at least, in columns.
const tickPitch = 3

// addOutages adds a title to each of the latest outages, and one for all others.
func (d *drawing) addOutages(all []outage, what string, from time.Time) {
	for i := len(all) - 1; i >= max(0, len(all)-d.size.titles); i-- {
		o := &all[i]
		x, end := d.widen(d.column(from, o.from), d.column(from, o.to))
		var path strings.Builder
		rectangle(&path, x, end, 0, d.Height)
		text := o.inWords(what)
		d.Shapes = append(d.Shapes, shape{"over", path.String(), text})
		d.Told = append(d.Told, text)
	}
	if more := len(all) - d.size.titles; more > 0 {
		d.Told = append(d.Told, fmt.Sprintf("and %d times before", more))
	}
}

// addTicks adds the events: a line each, with a title if that is wanted. Without, those that would touch are one.
func (d *drawing) addTicks(events []event, from time.Time, titles bool) {
	var all strings.Builder
	last := d.Width + tickPitch
	for i := len(events) - 1; i >= 0; i-- {
		e := events[i]
		x := min(max(1, d.column(from, e.At)), d.Width-1)
		if !titles {
			if last-x < d.zoom(tickPitch) {
				continue
			}
			last = x
			fmt.Fprintf(&all, "M%d 0v%d", x, d.Height/3)
			continue
		}
		text := clockOf(e.At) + " UTC: " + e.Text
		var over strings.Builder
		rectangle(&over, max(0, x-d.zoom(2)), x+d.zoom(2), 0, d.Height)
		d.Shapes = append(d.Shapes,
			shape{"tick " + string(e.Kind), fmt.Sprintf("M%d 0v%d", x, d.Height), ""},
			shape{"over", over.String(), text})
		d.Told = append(d.Told, text)
	}
	d.addPath("tick", all.String())
}

// Whole is how many targets were down over time.
func (v *timeView) Whole() *drawing {
	w := v.reading.Whole
	if w == nil {
		return nil
	}
	steps, from := w.Steps(v.Span, v.reading.At)
	d := newDrawing("all targets", "whole", v.Span, v.shown, v.reading.At.Time(), wholeSize)
	peak, peakAt := peakOf(steps, from, v.Span.Step)
	var up, down, none strings.Builder
	for i := 0; i < len(steps); {
		c, first := steps[i], i
		for i < len(steps) && steps[i] == c {
			i++
		}
		all := c.Up + c.Down + c.Unknown
		if !c.Known || all == 0 {
			fmt.Fprintf(&none, "M%d %dH%d", first, d.Height-1, i)
			continue
		}
		rectangle(&up, first, i, d.Height-2, d.Height)
		if c.Most > 0 { // a quarter of all targets has the whole height, or the most that there were
			height := min(d.Height, max(5, int(c.Most)*d.Height/int(max(all/4, peak.Most))))
			x, end := d.widen(first, i)
			rectangle(&down, x, end, d.Height-height, d.Height)
		}
	}
	d.addPath("t-none", none.String())
	d.addPath("t-up", up.String())
	d.addPath("t-down", down.String())
	d.addWholeTitles(steps, from, v.reading.At.Time())
	d.addTicks(eventsSince(v.reading.Events, from), from, true)
	d.Text = wholeText(steps[len(steps)-1], peak, peakAt)
	return d
}

// peakOf is the first step in which most targets were down, and when it began.
func peakOf(steps []history.Counts, from time.Time, step time.Duration) (peak history.Counts, at time.Time) {
	for i, c := range steps {
		if c.Most > peak.Most {
			peak, at = c, from.Add(time.Duration(i)*step)
		}
	}
	return peak, at
}

// addWholeTitles adds what is told of the latest times in which a number of targets was down. The first is since when so many are down
// as now. Times within that are told if more were down.
func (d *drawing) addWholeTitles(steps []history.Counts, from, to time.Time) {
	left := d.size.titles
	tell := func(first, end int, text string) {
		var path strings.Builder
		rectangle(&path, first, end, 0, d.Height)
		d.Shapes = append(d.Shapes, shape{"over", path.String(), text})
		d.Told = append(d.Told, text)
		left--
	}
	begin := func(i int) string {
		if at := from.Add(time.Duration(i) * d.step); at.Before(to) {
			return clockOf(at)
		}
		return clockOf(to)
	}
	// Others may have gone down and come back since then, so the time that so many are down is not the last run of equal steps.
	now, since := steps[len(steps)-1], sinceWhen(steps)
	if since < len(steps) {
		tell(since, len(steps), fmt.Sprintf("%d of %d targets down since %s UTC", now.Down, now.Up+now.Down+now.Unknown, begin(since)))
	}
	for end := len(steps); end > 0 && left > 0; {
		c, first := steps[end-1], end-1
		for first > 0 && steps[first-1].Down == c.Down && steps[first-1].Most == c.Most {
			first--
		}
		if c.Known && c.Most > 0 && (first < since || c.Most > now.Down) {
			text := fmt.Sprintf("%d of %d targets down, %s to %s UTC", c.Most, max(c.Most, c.Up+c.Down+c.Unknown), begin(first), begin(end))
			if c.Most > c.Down { // not for all of that time
				text = "at most " + text
			}
			tell(first, end, text)
		}
		end = first
	}
}

// sinceWhen is the first step from which on at least as many targets are down as in the last one: len(steps) if none is. What went
// down and came back within a step does not matter.
func sinceWhen(steps []history.Counts) int {
	first, now := len(steps), steps[len(steps)-1]
	for now.Down > 0 && first > 0 && steps[first-1].Known && steps[first-1].Down >= now.Down {
		first--
	}
	return first
}

// wholeText is the summary of the whole in words.
func wholeText(now, peak history.Counts, peakAt time.Time) string {
	text := fmt.Sprintf("%d of %d targets down now", now.Down, now.Up+now.Down+now.Unknown)
	switch {
	case peak.Most == 0:
		return text + ", none before"
	case peak.Most > now.Down:
		text += fmt.Sprintf("; at most %d, at %s UTC", peak.Most, clockOf(peakAt)[:5])
	}
	return text
}

// Words are all that the drawing says, for those who do not see it.
func (d *drawing) Words() string {
	words := d.Label + ": " + d.Text
	for i, told := range d.Told {
		if i == 3 {
			return fmt.Sprintf("%s; and %d more", words, len(d.Told)-i)
		}
		words += "; " + told
	}
	return words
}
