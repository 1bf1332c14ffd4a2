package web

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// bar is a probe in a plot. One that failed is as high as the plot, and hollow.
type bar struct {
	X, Y, Height int
	Failed       bool
}

// plotData is a plot of the last probes, in units of an SVG.
type plotData struct {
	Width, Height int
	Bars          []bar
	Text          string // what it shows
}

const (
	barPitch   = 4
	plotHeight = 18
)

// newPlot draws how long the last probes took, the slowest that was good for the scale.
func newPlot(h status.History) plotData {
	probes := h.Probes()
	d := plotData{Width: status.HistoryLength * barPitch, Height: plotHeight}
	var good []float64
	for _, p := range probes {
		if !p.Failed {
			good = append(good, p.Seconds)
		}
	}
	slices.Sort(good)
	slowest := 0.001 // so that what is quick looks quick
	if len(good) > 0 {
		slowest = max(slowest, good[len(good)-1])
	}
	for i, p := range probes {
		b := bar{X: (status.HistoryLength - len(probes) + i) * barPitch, Height: plotHeight - 1, Failed: p.Failed}
		if !p.Failed {
			b.Height = max(1, int(p.Seconds/slowest*(plotHeight-1)+0.5))
		}
		b.Y = plotHeight - b.Height
		if b.Failed {
			b.Y, b.Height = 1, plotHeight-2
		}
		d.Bars = append(d.Bars, b)
	}
	d.Text = plotCaption(len(probes), good)
	return d
}

func plotCaption(probes int, good []float64) string {
	switch {
	case probes == 0:
		return "no probe yet"
	case len(good) == 0:
		return fmt.Sprintf("last %d probes: all failed", probes)
	}
	return fmt.Sprintf("last %d probes: %d failed, median %s, slowest %s", probes, probes-len(good), milliseconds(good[len(good)/2]), milliseconds(good[len(good)-1]))
}

// milliseconds is how long something took.
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

// formatAge is how long before now something was, in the two largest units; or how long after it.
func formatAge(now, t time.Time) string {
	d := now.Sub(t)
	if d < 0 {
		d = -d
	}
	s := int(d.Seconds())
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

// formatClock is an instant for people.
func formatClock(t time.Time) string {
	return strings.NewReplacer("T", " ", "Z", " UTC").Replace(stamp(t))
}

// stateGlyph is a sign for a state, for those who do not see colours.
func stateGlyph(state string) string {
	if sign, ok := stateGlyphs[state]; ok {
		return sign
	}
	return "·"
}

var stateGlyphs = map[string]string{"up": "●", "down": "✕", "unknown": "○", "unchecked": "–", "drain": "◐", "drained": "◐"}

// tierNote is what is worth saying of a tier: nothing of the first.
func tierNote(tier string) string {
	if tier == "primary" || tier == "unfit" {
		return ""
	}
	return tier
}

// probeSummary is how many of the last probes failed, if any did, and what the latest one took.
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
	case failed == len(all):
		return fmt.Sprintf("%d of %d failed", failed, len(all))
	case p.Failed:
		text = "the last too"
	}
	return fmt.Sprintf("%d of %d failed, %s", failed, len(all), text)
}
