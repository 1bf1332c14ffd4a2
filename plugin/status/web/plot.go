package web

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/history"
	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// bar is one probe in a plot. A failed probe is a hollow bar of full height, so it is told apart without colour.
type bar struct {
	X, Y, Height int  // Y counts from the top, as in SVG
	Failed       bool // hollow
}

// plotData is a plot of the last probes, in user units of an SVG.
type plotData struct {
	Width, Height int
	Bars          []bar
	Text          string // the same in words, for screen readers
}

// The size of a plot: barPitch is the distance from one bar to the next. Rows of the table are about as high as plotHeight, so
// a plot makes none higher.
const (
	barPitch   = 4
	plotHeight = 18
)

// plainPlot is newPlot where nothing else is known.
func plainPlot(h status.History) plotData { return newPlot(h, 0, history.Latency{}) }

// newPlot draws how long the last probes took. The whole height is scale, in seconds, which is the same for all targets of a check;
// slower probes are as high. If it is 0, the slowest successful probe sets it; failed ones, which mostly took the whole timeout,
// would hide the others. The latency is that of the last hour, if it is known.
func newPlot(h status.History, scale float64, l history.Latency) plotData {
	probes := h.Probes()
	d := plotData{Width: status.HistoryLength * barPitch, Height: plotHeight}
	var good []float64
	for _, p := range probes {
		if !p.Failed {
			good = append(good, p.Seconds)
		}
	}
	slices.Sort(good) // for the slowest and the median
	slowest := 0.001  // at least 1 ms, so that fast probes look fast
	if len(good) > 0 {
		slowest = max(slowest, good[len(good)-1])
	}
	if scale > 0 {
		slowest = scale
	}
	for i, p := range probes {
		// The latest probe is always at the right edge, so that rows can be compared.
		b := bar{X: (status.HistoryLength - len(probes) + i) * barPitch, Height: plotHeight - 1, Failed: p.Failed}
		if !p.Failed {
			b.Height = max(1, int(min(1, p.Seconds/slowest)*(plotHeight-1)+0.5))
		}
		b.Y = plotHeight - b.Height
		if b.Failed { // a hollow bar has a line around it, half of which lies outside
			b.Y, b.Height = 1, plotHeight-2
		}
		d.Bars = append(d.Bars, b)
	}
	d.Text = plotCaption(len(probes), good)
	if scale > 0 {
		d.Text += "; the height of the plot is " + milliseconds(scale)
	}
	if l.Median > 0 {
		d.Text += fmt.Sprintf("; in the last hour median %s, 99 %% within %s", milliseconds(l.Median), milliseconds(l.P99))
	}
	return d
}

// plotCaption says in words what a plot shows.
func plotCaption(probes int, good []float64) string {
	switch {
	case probes == 0:
		return "no probe yet"
	case len(good) == 0: // there is no latency to show
		return fmt.Sprintf("last %d probes: all failed", probes)
	}
	return fmt.Sprintf("last %d probes: %d failed, median %s, slowest %s", probes, probes-len(good), milliseconds(good[len(good)/2]), milliseconds(good[len(good)-1]))
}

// milliseconds formats a duration with two to three digits.
func milliseconds(seconds float64) string {
	switch ms := seconds * 1000; {
	case ms < 1:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	default:
		return fmt.Sprintf("%.0f ms", ms)
	}
}

// formatAge formats the time between now and t in its two largest units, whichever is earlier.
func formatAge(now, t time.Time) string {
	d := now.Sub(t)
	if d < 0 { // t is in the future, as the next probe is
		d = -d
	}
	s := int(d.Seconds()) // rounded down: "59 s" until a full minute has passed
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d m %02d s", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%d h %02d m", s/3600, s/60%60)
	}
	return fmt.Sprintf("%d d %02d h", s/86400, s/3600%24)
}

// formatClock formats a time for people. It is always UTC: servers and browsers are in different zones.
func formatClock(t time.Time) string {
	return strings.NewReplacer("T", " ", "Z", " UTC").Replace(stamp(t))
}

// stateGlyph returns a sign for a state, for people who cannot tell the colours apart.
func stateGlyph(state string) string {
	if sign, ok := stateGlyphs[state]; ok {
		return sign
	}
	return "·"
}

// stateGlyphs has the states of an address, and the forced state drain.
var stateGlyphs = map[string]string{"up": "●", "down": "✕", "unknown": "○", "unchecked": "–", "drain": "◐", "drained": "◐"}

// tierNote returns the tier if it says more than the state: backup or drained.
func tierNote(tier string) string {
	if tier == "primary" || tier == "unfit" {
		return ""
	}
	return tier
}

// probeSummary says in words how many of the last probes failed, and how long the latest one took.
func probeSummary(h status.History) string {
	p, ok := h.Last()
	failed, all := 0, h.Probes()
	for _, p := range all {
		if p.Failed {
			failed++
		}
	}
	text := "last " + milliseconds(p.Seconds)
	switch {
	case !ok:
		return ""
	case failed == 0:
		return text
	case failed == len(all): // then no time is worth showing
		return fmt.Sprintf("%d of %d failed", failed, len(all))
	case p.Failed:
		text = "including the last"
	}
	return fmt.Sprintf("%d of %d failed, %s", failed, len(all), text)
}
