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

// Changes that are no longer kept are counted, also if none is left.
func TestChangesAfter(t *testing.T) {
	s := Snapshot{Changed: 8}
	if news, lost := s.ChangesAfter(6); news != nil || lost != 2 {
		t.Errorf("%v, %d lost", news, lost)
	}
}

// Members are in the order of their names, whatever order they came in.
func TestMembersAreSorted(t *testing.T) {
	s := Snapshot{Members: []FleetMember{{Name: "b"}, {Name: "c"}, {Name: "a"}}}
	s.Sort()
	if got := s.Members[0].Name + s.Members[1].Name + s.Members[2].Name; got != "abc" {
		t.Error(got)
	}
}
