package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/history"
	"github.com/coredns-multivalue/multivalue/plugin/status"
)

func (f *testSource) History(_ context.Context, targets []*status.Target) (history.Reading, error) {
	if f.read == nil {
		return history.Reading{Lines: make([]*history.Line, len(targets))}, f.err
	}
	return f.read(targets), f.err
}

// troubled is a source in which every fourth target has been down again and again, and the others twice, for up to a day.
func troubled(n int) *testSource {
	f := newTestSource(n)
	now := clock.Instant(26 * time.Hour)
	book := history.NewBook(0)
	lines := make(map[*status.Target]*history.Line)
	for i := range f.snap.Targets {
		t := &f.snap.Targets[i]
		l := book.Open(history.Up, clock.Instant(time.Hour))
		times := 2
		if i%4 == 0 {
			times = 100
		}
		for j := range times {
			at := clock.Instant(25 * time.Hour).Add(time.Duration(j) * time.Hour / time.Duration(times)).Add(time.Duration(i) * time.Second)
			book.Enter(l, history.Down, at)
			book.Enter(l, history.Up, at.Add(15*time.Second))
		}
		for j := range 100 {
			l.Took(time.Duration(1+j/50)*time.Millisecond, now.Add(-time.Minute))
		}
		lines[t] = l
	}
	for i := range 200 {
		book.NoteEvent(history.Reloaded, fmt.Sprint("the Corefile was reloaded <", i, ">"), now.Add(-time.Hour+time.Duration(i)*10*time.Second))
	}
	f.read = func(targets []*status.Target) history.Reading {
		var r history.Reading
		for _, t := range targets {
			r.Lines = append(r.Lines, lines[t].Copy())
		}
		book.Read(&r, now)
		return r
	}
	return f
}

// A page of 50 targets and 20 names with much trouble stays small, and draws one path for each state (B117).
func TestTimelinesAreSmall(t *testing.T) {
	f := troubled(200)
	for i := range f.snap.Names { // a name has one timeline, however many rows
		n := &f.snap.Names[i]
		n.Answers = append(n.Answers, status.Last{Type: "AAAA", Outcome: "thin"})
	}
	for _, span := range []string{"", "?span=day"} {
		page := body(t, ask(t, f, "GET", "/"+span))
		svgs := strings.Count(page, "<svg role=\"img\" tabindex=\"0\"")
		t.Logf("%q: %d timelines, %d bytes", span, svgs, len(page))
		if len(page) > 300_000 || svgs != 71 {
			t.Errorf("%q: %d bytes and %d timelines", span, len(page), svgs)
		}
		for _, svg := range regexp.MustCompile(`(?s)<svg role="img" tabindex.*?</svg>`).FindAllString(page, -1) {
			for _, class := range []string{"t-up", "t-down", "t-mixed", "t-none", "grid"} {
				if n := strings.Count(svg, `class="`+class+`"`); n > 1 {
					t.Fatalf("%d paths for %s", n, class)
				}
			}
		}
		if n := strings.Count(page, `class="t-down"`) + strings.Count(page, `class="t-mixed"`); n < 71 {
			t.Errorf("%d paths of outages", n)
		}
		if strings.Contains(page, "<0>") || strings.Contains(page, "style=") {
			t.Error("the text of an event is not escaped, or there is a style attribute")
		}
	}
}

// What a timeline shows is also said in words: how much, how often, how long, when and why, and what happened to the process (B117).
func TestTimelineInWords(t *testing.T) {
	f := newTestSource(4)
	now := clock.Instant(2 * time.Hour)
	book := history.NewBook(0)
	l := book.Open(history.Up, 0)
	down := clock.Instant(90 * time.Minute)
	book.Enter(l, history.Down, down)
	book.Enter(l, history.Up, down.Add(4*time.Minute))
	book.NoteEvent(history.Forced, "/etc/forced has 1 down", down.Add(-time.Minute))
	l.Took(time.Second, now)
	f.snap.Checks = []status.Check{{Check: "http://:80/", Pace: "every 10s", Timeout: .005}}
	f.snap.Changes = []status.Change{
		{Number: 1, At: down.Time(), Address: f.snap.Targets[1].Address, Check: f.snap.Targets[1].Check, From: "up", To: "down", Reason: "no route <to> host"},
	}
	f.read = func(targets []*status.Target) (r history.Reading) {
		for _, x := range targets {
			if x == &f.snap.Targets[1] {
				r.Lines = append(r.Lines, l.Copy())
			} else {
				r.Lines = append(r.Lines, nil)
			}
		}
		book.Read(&r, now)
		return r
	}
	page := body(t, ask(t, f, "GET", "/"))
	clocks := clockOf(down.Time()) + " to "
	for _, want := range []string{
		"93.3 % up in 1 h, went down once, longest down 4 min</span>", "<title>down for 4 min, ", clocks, "UTC: no route &lt;to&gt; host</title>",
		`aria-label="10.0.0.1:80: 93.3 % up in 1 h`, "all down for 4 min of the last hour, an address went down once</span>", "0 of 1 targets down now; at most 1, at ", "/etc/forced has 1 down</title>",
		"<span>−1 h</span>", "<span>−15 min</span>", "<b>last hour</b> <a href=\"/?span=day\">",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n := strings.Count(page, "last 1 probes: 0 failed, median 2.0 ms, slowest 2.0 ms; the height of the plot is 5.0 ms"); n != 2*len(f.snap.Targets) {
		t.Errorf("%d texts of plots with one scale", n)
	}
	day := body(t, ask(t, f, "GET", "/?span=day&state=up"))
	for _, want := range []string{"went down once, longest down 4 min", `<a href="/?state=up">last hour</a>`, `name="span" value="day"`, "<span>" + clockOf(now.Time().Add(-6 * time.Hour))[:5] + "</span>"} {
		if !strings.Contains(day, want) {
			t.Errorf("the page of a day lacks %q", want)
		}
	}
	if again := body(t, ask(t, newTestSource(4), "GET", "/")); !strings.Contains(again, "Nothing has been recorded yet") || strings.Contains(again, "tabindex=\"0\" aria-label") {
		t.Error("there are timelines of nothing")
	}
}

// The whole says since when so many are down as now, whatever others did since, and of a blip from when to when it was (B117).
func TestWholeSinceWhen(t *testing.T) {
	minute := clock.Instant(time.Minute)
	now := 60*minute + clock.Instant(7*time.Second)
	told := func(changes ...clock.Instant) []string { // of the one and the other, in turns
		book := history.NewBook(0)
		lines := []*history.Line{book.Open(history.Up, 0), book.Open(history.Up, 0)}
		states := []history.State{history.Up, history.Up}
		for _, at := range changes {
			i := 1
			if at < 0 {
				i, at = 0, -at
			}
			states[i] = history.Up + history.Down - states[i]
			book.Enter(lines[i], states[i], at)
		}
		var r history.Reading
		book.Read(&r, now)
		v := &timeView{Span: history.Hour, shown: history.Hour.Steps, reading: r}
		return v.Whole().Told
	}
	clocks := func(at clock.Instant) string { return clockOf(at.Time()) }
	blip := now - clock.Instant(2*time.Second)
	most := fmt.Sprintf("of 2 targets down, %s to %s UTC", clocks(60*minute), clocks(now))
	for name, tc := range map[string]struct {
		changes []clock.Instant
		want    []string
	}{
		"one is down, the other blips": {[]clock.Instant{-40 * minute, blip, blip + 1}, []string{"1 of 2 targets down since " + clocks(40*minute) + " UTC", "at most 2 " + most}},
		"both recovered":               {[]clock.Instant{-40 * minute, blip, blip + 1, -(blip + 2)}, []string{"at most 2 " + most, fmt.Sprintf("1 of 2 targets down, %s to %s UTC", clocks(40*minute), clocks(60*minute))}},
		"one after the other":          {[]clock.Instant{-40 * minute, 50 * minute}, []string{"2 of 2 targets down since " + clocks(50*minute) + " UTC", fmt.Sprintf("1 of 2 targets down, %s to %s UTC", clocks(40*minute), clocks(50*minute))}},
	} {
		if got := told(tc.changes...); !slices.Equal(got[:min(len(got), len(tc.want))], tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// A name says since when it is down, how long it was of what is known, and how often its addresses went down. Times are right to a step
// (B117).
func TestNameInWords(t *testing.T) {
	minute := clock.Instant(time.Minute)
	book := history.NewBook(0)
	a, b := book.Open(history.Up, 20*minute), book.Open(history.Up, 20*minute)
	text := func(now clock.Instant) string {
		track := history.NameTrack([][]*history.Line{{a.Copy()}, {b.Copy()}}, history.Hour, now)
		return nameText(&track)
	}
	for i := range clock.Instant(3) { // never both
		book.Enter(a, history.Down, (21+2*i)*minute)
		book.Enter(a, history.Up, (22+2*i)*minute)
	}
	book.Enter(b, history.Down, 28*minute)
	clocks := func(at clock.Instant) string { return clockOf(at.Time()) }
	if got, want := text(30*minute), "some down now, since "+clocks(28*minute)+" UTC; some down for 5 min 30 s of the last 10 min, an address went down 4 times"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	book.Enter(a, history.Down, 30*minute)
	for now, since := range map[clock.Instant]clock.Instant{30*minute + minute/60: 30 * minute, 32 * minute: 30*minute + minute/6} {
		if got, want := text(now), "all down now, since "+clocks(since)+" UTC; "; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, ", an address went down 5 times") {
			t.Errorf("%q, want %q", got, want)
		}
	}
	book.Enter(a, history.Up, 33*minute)
	book.Enter(b, history.Up, 33*minute)
	if got := text(40 * minute); !strings.HasPrefix(got, "all down for 2 min 50 s, some down for ") || !strings.HasSuffix(got, " of the last 20 min, an address went down 5 times") {
		t.Errorf("%q", got)
	}
	fresh := history.NewBook(0)
	one := fresh.Open(history.Down, 40*minute)
	track := history.NameTrack([][]*history.Line{{one}}, history.Day, 40*minute+51*clock.Instant(time.Second))
	if got, want := nameText(&track), "all down now, since "+clocks(40*minute)+" UTC; all down for 51 s of the last 51 s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Durations and shares in words.
func TestSpell(t *testing.T) {
	for seconds, want := range map[float64]string{0: "0 s", 59.6: "1 min", 61: "1 min", 66: "1 min 10 s", 538: "9 min", 240: "4 min", 3600: "1 h", 5400: "1 h 30 min", 86399: "24 h"} {
		if got := spell(seconds); got != want {
			t.Errorf("%g: %q, want %q", seconds, got, want)
		}
	}
	for share, want := range map[float64]string{1: "100 %", 0: "0 %", .99999: "99.99 %", .992: "99.2 %", .9999: "99.99 %", .5: "50.0 %"} {
		if got := upPercent(share); got != want {
			t.Errorf("%g: %q, want %q", share, got, want)
		}
	}
}

// /v1/history has the timeline of a target, of a name and of the whole, and says what is wrong with a request (B117).
func TestHistoryJSON(t *testing.T) {
	f := troubled(8)
	get := func(url string, want int) (x struct {
		Span, Address, Check, Name, Error string
		Runs                              []history.Run
		Whole                             []wholeRun
		Summary                           *history.Summary
		Latency                           *history.Latency
		Events                            []event
	}) {
		t.Helper()
		r := ask(t, f, "GET", url)
		if r.StatusCode != want {
			t.Fatalf("%s: %s", url, r.Status)
		}
		if err := json.NewDecoder(r.Body).Decode(&x); err != nil {
			t.Fatal(err)
		}
		return x
	}
	target := get("/v1/history?address=10.0.0.1:80&check=http://:80/&span=day", http.StatusOK)
	if target.Span != "day" || target.Address != "10.0.0.1:80" || target.Summary.Transitions != 4 || target.Latency.Median < .0005 || len(target.Events) == 0 {
		t.Errorf("%+v", target)
	}
	for i, r := range target.Runs[1:] {
		if before := target.Runs[i]; !before.To.Equal(r.From) || before.State == r.State {
			t.Errorf("%+v is followed by %+v", before, r)
		}
	}
	if name := get("/v1/history?name=N0.example.org", http.StatusOK); name.Name != "n0.example.org." || name.Summary.Some == 0 || name.Summary.Falls < 90 || name.Summary.Transitions > 90 || name.Latency != nil {
		t.Errorf("%+v", name)
	}
	if whole := get("/v1/history", http.StatusOK); len(whole.Whole) < 10 || whole.Whole[len(whole.Whole)-1].Up != 8 || whole.Summary != nil {
		t.Errorf("%+v", whole)
	}
	for url, want := range map[string]int{"?span=week": 400, "?name=a&address=b": 400, "?check=tcp": 400, "?address=192.0.2.1": 404, "?name=nobody.example.org": 404} {
		if x := get("/v1/history"+url, want); x.Error == "" {
			t.Errorf("%s has no error", url)
		}
	}
	other := f.snap.Targets[1]
	other.Check = "tcp://:80"
	f.snap.Targets = append(f.snap.Targets, other)
	f.snap.Sort()
	if x := get("/v1/history?address=10.0.0.1:80", http.StatusBadRequest); !strings.Contains(x.Error, "add check=") || !strings.Contains(x.Error, "tcp://:80") {
		t.Errorf("%q", x.Error)
	}
}

// Plots of one check have one scale, and say what 99 of 100 probes took (B117).
func TestPlotScale(t *testing.T) {
	var h status.History
	h.Add(5*time.Millisecond, false)
	d := newPlot(h, .010, history.Latency{Median: .002, P99: .009})
	if d.Bars[0].Height != 9 || !strings.Contains(d.Text, "the height of the plot is 10 ms; in the last hour median 2.0 ms, 99 % within 9.0 ms") {
		t.Errorf("%+v", d)
	}
	h.Add(50*time.Millisecond, false)
	if d = newPlot(h, .010, history.Latency{}); d.Bars[1].Height != plotHeight-1 || d.Bars[1].Y != 1 {
		t.Errorf("a slow probe is not cut off: %+v", d)
	}
}

// What is left out is said: the day of a target that has the hour alone, and targets of a name that has very many (B117).
func TestTimelineSaysWhatIsLeftOut(t *testing.T) {
	f := newTestSource(100)
	book := history.NewBook(0)
	for range history.MaxBytes / 600 { // until there is no room for the day
		book.Open(history.Up, 0)
	}
	l := book.Open(history.Up, 0)
	if l.HasDay() {
		t.Fatal("there is room for the day")
	}
	f.read = func(targets []*status.Target) (r history.Reading) {
		for range targets {
			r.Lines = append(r.Lines, l.Copy())
		}
		book.Read(&r, clock.Instant(time.Hour))
		return r
	}
	for i := range f.snap.Targets {
		f.snap.Targets[i].Names = []string{"n0.example.org."}
	}
	if page := body(t, ask(t, f, "GET", "/")); !strings.Contains(page, "all up in 1 h (of 64 of 100 targets)") || !strings.Contains(page, "100 % up in 1 h") {
		t.Error("the hour is not there, or targets are left out silently")
	}
	if page := body(t, ask(t, f, "GET", "/?span=day")); !strings.Contains(page, "the day is not kept") {
		t.Error("the day is not there, and nothing says why")
	}
	if text := body(t, ask(t, f, "GET", "/v1/history?span=day&address=10.0.0.1")); !strings.Contains(text, `"hour_only": true`) || strings.Contains(text, `"share"`) {
		t.Errorf("%s", text)
	}
}

// BenchmarkPageWithTimelines renders the first page of many targets with timelines, a quarter of which have 100 outages.
func BenchmarkPageWithTimelines(b *testing.B) {
	for name, source := range map[string]*testSource{"without": newTestSource(10_000), "with": troubled(10_000)} {
		b.Run(name, func(b *testing.B) {
			s := newServer("localhost:9253", source)
			r := httptest.NewRequest("GET", "/", nil)
			r.Host = "localhost"
			for b.Loop() {
				s.http.Handler.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}

// The axis of a process that is young begins when it began, or a little before (B117).
func TestAxisOfAYoungProcess(t *testing.T) {
	ago := func(minutes ...int) string { // of a day, whose axis has times of day
		var texts []string
		for _, m := range minutes {
			texts = append(texts, clock.Instant(26*time.Hour).Time().Add(-time.Duration(m)*time.Minute).UTC().Format("15:04"))
		}
		return strings.Join(texts, " ")
	}
	for _, tt := range []struct {
		query string
		age   time.Duration
		view  string
		axis  string
	}{
		{"", 10 * time.Second, "336 0 24 36", "−4 min −3 min −2 min −1 min"},
		{"", 230 * time.Second, "336 0 24 36", "−4 min −3 min −2 min −1 min"},
		{"", 240 * time.Second, "312 0 48 36", "−8 min −6 min −4 min −2 min"}, // the step under way began less than ten seconds ago
		{"", 19 * time.Minute, "240 0 120 36", "−20 min −15 min −10 min −5 min"},
		{"", 25 * time.Minute, "120 0 240 36", "−40 min −30 min −20 min −10 min"},
		{"", 40 * time.Minute, "0 0 360 36", "−1 h −45 min −30 min −15 min"},
		{"?span=day", 10 * time.Minute, "276 0 12 36", ago(60, 45, 30, 15)},
		{"?span=day", 2 * time.Hour, "240 0 48 36", ago(240, 180, 120, 60)},
		{"?span=day", 11 * time.Hour, "144 0 144 36", ago(720, 540, 360, 180)},
		{"?span=day", 13 * time.Hour, "0 0 288 36", ago(1440, 1080, 720, 360)},
	} {
		f := troubled(1)
		f.snap.Summary.Started = f.snap.Taken.Add(-tt.age)
		page := body(t, ask(t, f, "GET", "/"+tt.query))
		whole := page[strings.Index(page, `id="t-whole"`):]
		view := regexp.MustCompile(`viewBox="([^"]*)"`).FindStringSubmatch(whole)[1]
		axis := regexp.MustCompile(`<span>([^<]*)</span>`).FindAllStringSubmatch(regexp.MustCompile(`(?s)class="axis".*?<span>now`).FindString(whole), 4)
		var texts []string
		for _, a := range axis {
			texts = append(texts, a[1])
		}
		if got := strings.Join(texts, " "); view != tt.view || got != tt.axis {
			t.Errorf("%s after %s: %q and %q, want %q and %q", tt.query, tt.age, view, got, tt.view, tt.axis)
		}
	}
}
