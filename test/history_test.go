package test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// lived is what /v1/history says.
type lived struct {
	Runs []struct {
		From, To time.Time
		State    string
	}
	Whole []struct {
		Up, Down int
		Most     int `json:"most_down"`
	}
	Summary struct {
		Transitions int
		Longest     float64 `json:"longest_down_seconds"`
		Known       float64 `json:"known_for_seconds"`
	}
	Latency struct {
		Median float64 `json:"median_seconds"`
	}
	Events []struct{ Kind, Text string }
}

// downs is how many changes between up and down an address has had, and how long it was down at the longest.
func (s *scene) downs(base, address string) (changes int, longest float64) {
	s.Helper()
	var page struct {
		Changes []struct {
			At                time.Time
			Address, From, To string
		}
	}
	s.json(base+"/v1/changes", &page)
	var fell time.Time
	for _, c := range page.Changes {
		switch {
		case c.Address != address:
			continue
		case c.To == "down":
			fell = c.At
		case c.To == "up" && !fell.IsZero():
			longest = max(longest, c.At.Sub(fell).Seconds())
		}
		if c.From != "unknown" {
			changes++
		}
	}
	return changes, longest
}

// A server that dies and comes back has two transitions, and was down for as long as the changes say; a reload and a change of a
// force file are among the events, and neither loses what was recorded (B117).
func TestHistoryFollows(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	s.moveTo("forced", "")
	corefile := replace(showing, "QUICK", "QUICK\n        force DIR/forced")
	v, base := s.shown(corefile)
	v.comesTo("www.example.org A", "11 12")
	v.settled(2, 0)
	read := func(query string) (x lived) {
		t.Helper()
		s.json(base+"/v1/history?"+query, &x)
		return x
	}
	address := "address=127.0.0.12:" + s.port
	v.eventually(func() bool { return read(address).Latency.Median > 0 }, func() string { return "no probe has a latency" })
	s.kill(12)
	v.comesTo("www.example.org A", "11")
	s.start(12)
	v.comesTo("www.example.org A", "11 12")
	same := func(when string) {
		t.Helper()
		want, down := s.downs(base, "127.0.0.12:"+s.port)
		x := read(address)
		if again, _ := s.downs(base, "127.0.0.12:"+s.port); again != want {
			want, down = s.downs(base, "127.0.0.12:"+s.port) // a probe of a busy machine has failed meanwhile
			x = read(address)
		}
		if off := x.Summary.Longest - down; x.Summary.Transitions != want || want < 2 || off > 10 || off < -10 || x.Summary.Longest <= 0 {
			t.Errorf("%s: %+v, want %d transitions and %g seconds", when, x.Summary, want, down)
		}
		if x.Runs[len(x.Runs)-1].State == "down" {
			t.Errorf("%s: it is still down: %+v", when, x.Runs)
		}
	}
	same("as it happened")
	if w := read("").Whole; len(w) == 0 || w[len(w)-1].Up != 2 || w[len(w)-1].Down != 0 {
		t.Errorf("the whole: %+v", w)
	}
	port := base[strings.LastIndexByte(base, ':')+1:]
	v.mustReload(strings.ReplaceAll(replace(corefile, "status", "min_up 1\n        status"), "STATUS", port))
	same("after a reload")
	s.moveTo("forced", "down 127.0.0.11 # tried\n")
	kinds := func() string {
		var all []string
		for _, e := range read("span=day").Events {
			all = append(all, e.Kind)
		}
		return fmt.Sprint(all)
	}
	v.eventually(func() bool { return kinds() == "[began reloaded forced]" || kinds() == "[reloaded forced]" }, kinds)
	if reply := s.fetch(base, "/v1/history?"+address+"&check=tcp", nil); reply.StatusCode != http.StatusNotFound {
		t.Errorf("the history of a check that there is not: %s", reply.Status)
	}
	_, html := s.get(base + "/?span=day")
	often := "once"
	if changes, _ := s.downs(base, "127.0.0.12:"+s.port); changes > 3 {
		often = fmt.Sprint(changes/2, " times")
	}
	for _, want := range []string{"went down " + often + ", longest down ", "the Corefile was reloaded</title>", "1 down, 0 drain</title>", "connection refused</title>"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}
