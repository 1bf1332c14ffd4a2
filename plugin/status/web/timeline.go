package web

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/history"
	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// timeView is what a page draws of time: the timelines of the whole, and of the rows on the page.
type timeView struct {
	Span      history.Span
	Hour, Day string // URLs of the same page with that span

	shown int // how many steps of it are drawn

	reading history.Reading
	lines   map[*status.Target]*history.Line
	inRows  map[*status.Target]bool // those of rows; others are there for names
	byName  map[string][]*status.Target
	more    map[string]int             // targets of a name that are left out
	changes map[string][]status.Change // that took a target down, by address and check
	scales  map[string]float64         // of the plots, by check; see scaleChecks
	drawn   map[string]bool            // names that have their timeline: a name has a row for each type
}

// readTimes reads the timelines for a page. If they cannot be read in time the page has none: what is so now matters more.
func (s *Server) readTimes(r *http.Request, snap *status.Snapshot, names []nameRow, targets []targetRow) *timeView {
	span, _ := parseSpan(r.URL.Query())
	v := &timeView{Span: span, Hour: withSpan(r, ""), Day: withSpan(r, history.Day.Name), lines: make(map[*status.Target]*history.Line), inRows: make(map[*status.Target]bool), drawn: make(map[string]bool)}
	var wanted []*status.Target
	for _, row := range targets {
		wanted = append(wanted, row.Target)
		v.inRows[row.Target] = true
	}
	var listed []string
	for _, row := range names {
		listed = append(listed, row.Name)
	}
	v.shown = shownSteps(span, snap.Taken.Sub(snap.Summary.Started))
	v.byName, v.more = targetsOf(snap, listed, maxRowLines)
	for _, all := range v.byName {
		wanted = append(wanted, all...)
	}
	v.readLines(r.Context(), s.source, wanted)
	v.noteChanges(snap.Changes)
	v.scaleChecks(targets)
	return v
}

// readLines reads the timelines of targets, each once.
func (v *timeView) readLines(ctx context.Context, source Source, wanted []*status.Target) {
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	slices.SortFunc(wanted, (*status.Target).Compare)
	wanted = slices.Compact(wanted)
	reading, err := source.History(ctx, wanted)
	if err != nil {
		return
	}
	v.reading = reading
	for i, t := range wanted {
		v.lines[t] = reading.Lines[i]
	}
}

// withSpan is the URL of a request with another span, empty for the hour.
func withSpan(r *http.Request, span string) string {
	q := r.URL.Query() // a copy
	q.Del("span")
	q.Del("seen") // which the script remembers
	if span != "" {
		q.Set("span", span)
	}
	return (&url.URL{Path: r.URL.Path, RawQuery: q.Encode()}).String()
}

// noteChanges keeps what took targets down, by which outages get their reasons.
func (v *timeView) noteChanges(changes []status.Change) {
	v.changes = make(map[string][]status.Change)
	for _, c := range changes {
		if c.To == "down" {
			key := c.Address.String() + " " + c.Check
			v.changes[key] = append(v.changes[key], c)
		}
	}
}

// scaleChecks finds the scale of the plots of each check: what 99 of 100 successful probes took at the slowest of its targets on the
// page, and no more than the timeout. So two plots of a check can be compared.
func (v *timeView) scaleChecks(targets []targetRow) {
	v.scales = make(map[string]float64)
	for _, row := range targets {
		slowest := history.LatencyOf(v.reading.At, v.lines[row.Target]).P99
		if slowest == 0 { // nothing was recorded
			for _, p := range row.Probes.Probes() {
				if !p.Failed {
					slowest = max(slowest, p.Seconds)
				}
			}
		}
		if row.Rule != nil && row.Rule.Timeout > 0 {
			slowest = min(slowest, row.Rule.Timeout)
		}
		v.scales[row.Check] = max(v.scales[row.Check], slowest)
	}
}

// OfTarget is the timeline of a target. It is nil if there is none.
func (v *timeView) OfTarget(t *status.Target) *drawing {
	line := v.lines[t]
	if line == nil || !v.inRows[t] {
		return nil
	}
	track := history.TrackOf(line, v.Span, v.reading.At)
	d := v.draw(track, t.Address.String(), rowSize)
	d.Text = summaryText(track.Summary, v.Span)
	if v.Span == history.Day && !line.HasDay() {
		d.Text = "the day is not kept, because there are too many targets: see the last hour"
	}
	outages := outagesOf(track)
	causes := v.changes[t.Address.String()+" "+t.Check]
	for i := range outages {
		outages[i].why = reasonOf(causes, outages[i], v.Span.Step)
	}
	if n := len(outages); n > 0 && t.State == "down" && outages[n-1].to.Equal(track.To) && t.Reason != "" {
		outages[n-1].why = t.Reason
	}
	d.addOutages(outages, "down", track.From)
	return d
}

// OfName is the timeline of a name, when it is asked for first. It is nil if there is none.
func (v *timeView) OfName(name string) *drawing {
	if v.drawn[name] {
		return nil
	}
	v.drawn[name] = true
	targets := v.byName[name]
	lines, some := make([]*history.Line, len(targets)), false
	for i, t := range targets {
		lines[i] = v.lines[t]
		some = some || lines[i] != nil
	}
	if !some {
		return nil
	}
	track := history.NameTrack(byAddress(targets, lines), v.Span, v.reading.At)
	d := v.draw(track, name, rowSize)
	d.Text = nameText(&track)
	if n := v.more[name]; n > 0 {
		d.Text += fmt.Sprintf(" (of %d of %d targets)", len(targets), len(targets)+n)
	}
	d.addOutages(outagesOf(track), "some or all addresses down", track.From)
	return d
}

// Plot is the plot of the last probes of a target, with the scale of its check, and its latency in words.
func (v *timeView) Plot(t *status.Target) plotData {
	return newPlot(t.Probes, v.scales[t.Check], history.LatencyOf(v.reading.At, v.lines[t]))
}

// reasonOf is the reason of the change that began an outage; empty if it is not known.
func reasonOf(causes []status.Change, o outage, step time.Duration) string {
	for _, c := range slices.Backward(causes) {
		if !c.At.Before(o.from.Add(-step)) && !c.At.After(o.to.Add(step)) {
			return c.Reason
		}
	}
	return ""
}

// outage is some runs that follow each other in which not all was up.
type outage struct {
	from, to    time.Time
	down        float64 // seconds
	transitions int
	why         string
}

// outagesOf are the outages of a track, in order.
func outagesOf(t history.Track) (all []outage) {
	for _, r := range t.Runs {
		if r.State != "down" && r.State != "mixed" {
			continue
		}
		if n := len(all); n > 0 && all[n-1].to.Equal(r.From) {
			o := &all[n-1]
			o.to, o.down, o.transitions = r.To, o.down+r.Down, o.transitions+r.Transitions
			continue
		}
		all = append(all, outage{r.From, r.To, r.Down, r.Transitions, ""})
	}
	return all
}

// inWords says what an outage was, when and why.
func (o *outage) inWords(what string) string {
	text := what
	if o.down > 0 && o.to.Sub(o.from).Seconds()-o.down > 1 {
		text += " for " + spell(o.down)
	} else {
		text += " for " + spell(o.to.Sub(o.from).Seconds())
	}
	text += fmt.Sprintf(", %s to %s UTC", clockOf(o.from), clockOf(o.to))
	if o.transitions > 2 {
		text += fmt.Sprintf(", %d transitions", o.transitions)
	}
	if o.why != "" {
		text += ": " + o.why
	}
	return text
}

// clockOf is the time of day, always UTC.
func clockOf(t time.Time) string { return stamp(t)[len("2006-01-02T") : len("2006-01-02T")+8] }

// spell spells seconds with the two largest units. From a minute on they are rounded to ten seconds: a timeline is right to a step.
func spell(seconds float64) string {
	s := int(seconds + .5)
	if s >= 60 {
		s = (s + 5) / 10 * 10
	}
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600 && s%60 == 0:
		return fmt.Sprintf("%d min", s/60)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s%3600 < 60:
		return fmt.Sprintf("%d h", s/3600)
	default:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
}

// upPercent spells a share, and rounds down: what was down for a moment is not 100 %.
func upPercent(share float64) string {
	digits := 0
	if share < 1 && share > 0 {
		digits = 1
		if share > .999 {
			digits = 2
		}
	}
	unit := math.Pow10(digits)
	return fmt.Sprintf("%.*f %%", digits, math.Floor(share*100*unit+1e-9)/unit)
}

// spanText is how long something is known of a span: what the numbers are about.
func spanText(s history.Summary, span history.Span) string {
	whole := (time.Duration(span.Steps-1) * span.Step).Seconds()
	if s.Known >= whole {
		return map[string]string{"hour": "1 h", "day": "24 h"}[span.Name]
	}
	return spell(s.Known)
}

// summaryText is the summary of a target in words, such as "99.2 % up in 24 h, went down 3 times, longest down 4 min".
func summaryText(s history.Summary, span history.Span) string {
	if s.Share == nil {
		return "nothing is known yet"
	}
	words := upPercent(*s.Share) + " up in " + spanText(s, span)
	switch {
	case s.More: // how many of them were to down is not known exactly
		words += ", at least " + transitionsText(s.Transitions)
	case s.Falls > 0:
		words += ", went down " + timesText(s.Falls)
	case s.Transitions > 0: // it came up, and was down when it was known first
		words += ", " + transitionsText(s.Transitions)
	}
	if s.Longest > 0 {
		words += ", longest down " + spell(s.Longest)
	}
	return words
}

// transitionsText counts transitions.
func transitionsText(n int) string {
	if n == 1 {
		return "1 transition"
	}
	return fmt.Sprintf("%d transitions", n)
}

// timesText says how often something was.
func timesText(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// nameText is the summary of a name in words, such as "all down now, since 17:56:16 UTC; all down for 51 s of the last 2 min, an address
// went down 8 times".
func nameText(t *history.Track) string {
	s, of := &t.Summary, spanText(t.Summary, t.Span)
	last := of
	if of == "1 h" {
		last = "hour"
	}
	if s.Share == nil {
		return "nothing is known yet"
	}
	// What is so now comes first. The sums alone do not say whether it goes on: a name that has been down all the time that is known
	// has the same ones as one that was down before and is up.
	var now string
	if all := map[string]string{"down": "all", "mixed": "some"}[t.State]; all != "" {
		now = fmt.Sprintf("%s down now, since %s UTC; ", all, clockOf(t.Since()))
	}
	var parts []string
	if s.Down > 0 {
		parts = append(parts, "all down for "+spell(s.Down))
	}
	if s.Some > 0 {
		parts = append(parts, "some down for "+spell(s.Some))
	}
	if len(parts) == 0 {
		return now + "all up in " + of
	}
	words := now + strings.Join(parts, ", ") + " of the last " + last
	switch {
	case s.Falls == 0:
	case s.More:
		words += ", an address went down at least " + timesText(s.Falls)
	default:
		words += ", an address went down " + timesText(s.Falls)
	}
	return words
}
