package main

import (
	"fmt"
	"slices"
	"strings"
)

// The chart has a bar for each row. Its colours are set by classes, so that a reader who prefers a dark page gets one: an image
// in a page knows that preference by itself.
const (
	chartWidth = 720
	labelWidth = 250
	barHeight  = 18
	barGap     = 8
	chartTop   = 56
	chartStyle = `<style>
 text { font: 13px system-ui, sans-serif; fill: #1f2328; }
 .title { font-weight: 600; }
 .note { fill: #59636e; font-size: 12px; }
 .multivalue { fill: #0969da; }
 .gdnsd { fill: #818b98; }
 .haproxy { fill: #bf8700; }
 @media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .note { fill: #9198a1; }
  .multivalue { fill: #4493f8; }
  .gdnsd { fill: #656c76; }
  .haproxy { fill: #d29922; }
 }
</style>
`
)

// drawChart returns an SVG image of figures: bars whose length is the processor time of a probe as a ratio to gdnsd's http
// probe. Those of the comparison tcp are converted with the cost of gdnsd's http probe in the other comparisons.
func drawChart(all []figure) string {
	bars := chartBars(all)
	if len(bars) == 0 {
		return ""
	}
	most := bars[len(bars)-1].ratio
	height := chartTop + len(bars)*(barHeight+barGap) + 30
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n", chartWidth, height, chartWidth, height)
	b.WriteString("<title>Processor time of a probe, as a ratio to an http probe by gdnsd</title>\n" + chartStyle)
	fmt.Fprintf(&b, `<text class="title" x="0" y="18">Processor time of a probe, to that of an http probe by gdnsd</text>`+"\n")
	fmt.Fprintf(&b, `<text class="note" x="0" y="38">shorter is cheaper</text>`+"\n")
	for i, f := range bars {
		y := chartTop + i*(barHeight+barGap)
		width := f.ratio / most * (chartWidth - labelWidth - 60)
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, labelWidth-10, y+14, f.label())
		fmt.Fprintf(&b, `<rect class="%s" x="%d" y="%d" width="%.0f" height="%d" rx="2"/>`, f.server, labelWidth, y, width, barHeight)
		fmt.Fprintf(&b, `<text x="%.0f" y="%d">%.2f</text>`+"\n", labelWidth+width+6, y+14, f.ratio)
	}
	fmt.Fprintf(&b, `<text class="note" x="0" y="%d">go run ./bench/probe -only tcp,http -svg docs/probes.svg; two shared cores</text>`+"\n</svg>\n", height-8)
	return b.String()
}

// chartBars returns the figures to draw, with ratios to one base, the cheapest first. Each row is drawn once, although gdnsd is
// in several comparisons. Without gdnsd there is no base, and nothing is drawn.
func chartBars(all []figure) (bars []figure) {
	base := -1.0
	for _, f := range all {
		if f.base() && f.check == "http" {
			base = f.us
			break
		}
	}
	if base < 0 {
		return nil
	}
	drawn := make(map[row]bool)
	for _, f := range all {
		if drawn[f.row] {
			continue
		}
		drawn[f.row] = true
		if f.check == "tcp" {
			f.ratio = f.us / base
		}
		bars = append(bars, f)
	}
	slices.SortStableFunc(bars, func(a, b figure) int {
		switch {
		case a.ratio < b.ratio:
			return -1
		case a.ratio > b.ratio:
			return 1
		}
		return 0
	})
	return bars
}

// label names a bar for readers, who know options of the check but none of the command line.
func (f figure) label() string {
	text := f.String()
	if f.server == haproxy && f.check == "https" && f.options == "" {
		text += " (resumed)"
	}
	return strings.NewReplacer(" insecure", "", " no-ssl-reuse", "").Replace(text)
}
