package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/history"
	"github.com/coredns-multivalue/multivalue/plugin/status"
)

const (
	// maxLines is how many targets the timeline of a name is made of, and maxRowLines on a page of many names. The others are
	// left out.
	maxLines    = 1024
	maxRowLines = 64
)

// parseSpan reads the parameter span.
func parseSpan(v url.Values) (history.Span, error) {
	switch text := v.Get("span"); text {
	case "", history.Hour.Name:
		return history.Hour, nil
	case history.Day.Name:
		return history.Day, nil
	default:
		return history.Hour, fmt.Errorf("invalid span %q: use hour or day", text)
	}
}

// timeline is the answer of /v1/history.
type timeline struct {
	Span     string           `json:"span"`
	Step     float64          `json:"step_seconds"`
	From     time.Time        `json:"from"`
	To       time.Time        `json:"to"`
	Address  string           `json:"address,omitempty"`
	Check    string           `json:"check,omitempty"`
	Name     string           `json:"name,omitempty"`
	Runs     []history.Run    `json:"runs,omitempty"`         // of a target or a name
	Whole    []wholeRun       `json:"whole,omitempty"`        // of all targets
	Summary  *history.Summary `json:"summary,omitempty"`      // of a target or a name
	Latency  *history.Latency `json:"latency,omitempty"`      // of a target
	HourOnly bool             `json:"hour_only,omitempty"`    // the day of this target is not kept
	More     int              `json:"more_targets,omitempty"` // of the name, which are left out
	Events   []event          `json:"events"`
}

// wholeRun is some steps with the same number of targets in each state.
type wholeRun struct {
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Known   bool      `json:"known"`
	Up      uint32    `json:"up"`
	Down    uint32    `json:"down"`
	Unknown uint32    `json:"unknown"`
	Most    uint32    `json:"most_down"` // at a time
}

// event is something that happened to the process.
type event struct {
	At   time.Time    `json:"at"`
	Kind history.Kind `json:"kind"`
	Text string       `json:"text"`
}

// errNoTarget and errNoName say that a timeline is of nothing.
var (
	errNoTarget = errors.New("no such target: see /v1/targets for the addresses and checks there are")
	errNoName   = errors.New("no such name, or no target that it leads to: see /v1/names")
)

// serveHistory answers /v1/history: the timeline of one target (address, and check if there are several), of one name, or of the whole.
func (s *Server) serveHistory(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	span, err := parseSpan(q)
	if err == nil && q.Get("name") != "" && q.Get("address")+q.Get("check") != "" {
		err = errors.New("both a name and a target: use name, or address and check")
	}
	if err == nil && q.Get("check") != "" && q.Get("address") == "" {
		err = errors.New("a check without an address: add address=")
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	snap := s.loadSnapshot(w, r)
	if snap == nil {
		return
	}
	var t *timeline
	switch {
	case q.Get("name") != "":
		t, err = s.nameTimeline(r.Context(), snap, q.Get("name"), span)
	case q.Get("address") != "":
		t, err = s.targetTimeline(r.Context(), snap, q.Get("address"), q.Get("check"), span)
	default:
		t, err = s.wholeTimeline(r.Context(), span)
	}
	switch {
	case errors.Is(err, errNoTarget) || errors.Is(err, errNoName):
		writeError(w, http.StatusNotFound, err.Error())
	case errors.As(err, new(ambiguousError)):
		writeError(w, http.StatusBadRequest, err.Error())
	case err != nil:
		w.Header().Set("Retry-After", "1")
		writeError(w, http.StatusServiceUnavailable, err.Error())
	default:
		writeJSON(w, r, t)
	}
}

// newTimeline is the timeline of a track.
func newTimeline(track history.Track, r history.Reading) *timeline {
	return &timeline{
		Span: track.Span.Name, Step: track.Span.Step.Seconds(), From: track.From, To: track.To,
		Runs: track.Runs, Summary: &track.Summary, Events: eventsSince(r.Events, track.From),
	}
}

// eventsSince are the events from some time on.
func eventsSince(all []history.Event, from time.Time) []event {
	some := []event{}
	for _, e := range all {
		if at := e.At.Time(); !at.Before(from) {
			some = append(some, event{at, e.Kind, e.Text})
		}
	}
	return some
}

// ambiguousError says that several targets match.
type ambiguousError struct{ checks []string }

// Error tells what to add.
func (e ambiguousError) Error() string {
	return fmt.Sprintf("several targets have this address and check: add check= with one of %q, and the port to the address", e.checks)
}

// targetTimeline is the timeline of the target with an address, with its port or without, and a check, if there are several.
func (s *Server) targetTimeline(ctx context.Context, snap *status.Snapshot, address, check string, span history.Span) (*timeline, error) {
	var found []*status.Target
	for i := range snap.Targets {
		t := &snap.Targets[i]
		if (t.Address.String() == address || t.Address.Addr().String() == address) && (check == "" || t.Check == check) {
			found = append(found, t)
		}
	}
	if len(found) == 0 {
		return nil, errNoTarget
	}
	if len(found) > 1 {
		var checks []string
		for _, t := range found {
			checks = append(checks, t.Check)
		}
		slices.Sort(checks)
		if checks = slices.Compact(checks); len(checks) > 1 {
			return nil, ambiguousError{checks}
		}
	}
	r, err := s.source.History(ctx, found[:1])
	if err != nil {
		return nil, err
	}
	t := newTimeline(history.TrackOf(r.Lines[0], span, r.At), r)
	t.Address, t.Check = found[0].Address.String(), found[0].Check
	t.HourOnly = r.Lines[0] != nil && !r.Lines[0].HasDay()
	latency := history.LatencyOf(r.At, r.Lines[0])
	t.Latency = &latency
	return t, nil
}

// nameTimeline is the timeline of a name, made of the targets that it leads to.
func (s *Server) nameTimeline(ctx context.Context, snap *status.Snapshot, name string, span history.Span) (*timeline, error) {
	name = strings.ToLower(strings.TrimSuffix(name, ".")) + "."
	all, more := targetsOf(snap, []string{name}, maxLines)
	if len(all[name]) == 0 {
		return nil, errNoName
	}
	r, err := s.source.History(ctx, all[name])
	if err != nil {
		return nil, err
	}
	t := newTimeline(history.NameTrack(byAddress(all[name], r.Lines), span, r.At), r)
	t.Name, t.More = name, more[name]
	return t, nil
}

// wholeTimeline is how many targets were up and down.
func (s *Server) wholeTimeline(ctx context.Context, span history.Span) (*timeline, error) {
	r, err := s.source.History(ctx, nil)
	if err != nil {
		return nil, err
	}
	steps, from := r.Whole.Steps(span, r.At)
	t := &timeline{Span: span.Name, Step: span.Step.Seconds(), From: from, To: r.At.Time(), Events: eventsSince(r.Events, from)}
	for i, c := range steps {
		begin, end := from.Add(time.Duration(i)*span.Step), from.Add(time.Duration(i+1)*span.Step)
		if end.After(t.To) {
			end = t.To
		}
		next := wholeRun{begin, end, c.Known, c.Up, c.Down, c.Unknown, c.Most}
		if last := len(t.Whole) - 1; last >= 0 && t.Whole[last].same(next) {
			t.Whole[last].To = end
		} else {
			t.Whole = append(t.Whole, next)
		}
	}
	return t, nil
}

// same reports whether two runs differ in their times alone.
func (a wholeRun) same(b wholeRun) bool {
	a.From, a.To = b.From, b.To
	return a == b
}

// targetsOf finds the targets that names lead to, at most so many for each, and counts those left out. It goes through all targets once.
func targetsOf(snap *status.Snapshot, names []string, most int) (found map[string][]*status.Target, more map[string]int) {
	found, more = make(map[string][]*status.Target, len(names)), make(map[string]int)
	for _, name := range names {
		found[name] = nil
	}
	for i := range snap.Targets {
		t := &snap.Targets[i]
		for _, name := range t.Names {
			all, wanted := found[name]
			switch {
			case !wanted:
			case len(all) == most:
				more[name]++
			default:
				found[name] = append(all, t)
			}
		}
	}
	return found, more
}

// byAddress groups the lines of targets, which are in their order, by address. Targets without a line are left out.
func byAddress(targets []*status.Target, lines []*history.Line) [][]*history.Line {
	groups := make(map[netip.Addr][]*history.Line)
	for i, t := range targets {
		if lines[i] != nil {
			groups[t.Address.Addr()] = append(groups[t.Address.Addr()], lines[i])
		}
	}
	all := make([][]*history.Line, 0, len(groups))
	for _, group := range groups {
		all = append(all, group)
	}
	return all
}
