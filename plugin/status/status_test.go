package status

import (
	"testing"
	"time"
)

func TestHistory(t *testing.T) {
	var h History
	if _, ok := h.Last(); ok || len(h.Probes()) != 0 {
		t.Error("an empty history has a probe")
	}
	for i := range HistoryLength + 5 {
		h.Add(time.Duration(i)*time.Millisecond, i%2 == 0)
	}
	all := h.Probes()
	if len(all) != HistoryLength || all[0] != (Probe{0.005, false}) || all[HistoryLength-1] != (Probe{0.036, true}) {
		t.Errorf("%v", all)
	}
	h.Add(-time.Second, false)
	h.Add(24*time.Hour, true)
	if last, _ := h.Last(); !last.Failed || last.Seconds < 2000 {
		t.Errorf("%v", last)
	}
}

func TestWords(t *testing.T) {
	c := Check{Interval: 10, Fast: 0.5, Rise: 2, Fall: 1}
	if got := c.Thresholds(); got != "comes back after 2 good probes in a row, one every 0.5 s while it is in doubt, 10 s else; goes down after 1 failure" {
		t.Error(got)
	}
	for want, target := range map[string]Target{
		"": {State: "up", Needed: 3}, "2 of 3 failures": {State: "up", Streak: 2, Needed: 3}, "1 of 2 good probes": {State: "down", Streak: 1, Needed: 2},
	} {
		if got := target.Progress(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Changes that are kept no longer are counted, also where none is left.
func TestChangesAfter(t *testing.T) {
	s := Snapshot{Changed: 8}
	if news, lost := s.ChangesAfter(6); news != nil || lost != 2 {
		t.Errorf("%v, %d lost", news, lost)
	}
}
