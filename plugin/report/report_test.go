package report

import "testing"

// A backend that says nothing, or that it is well, costs no memory, and one that repeats itself costs no more.
func TestSaidIsShared(t *testing.T) {
	var s *Said
	if s = s.After(Report{Health: "up", Admin: "ready", HasWeight: true, Weight: 100, Reason: "fine"}); s != nil {
		t.Errorf("that all is well is kept: %+v", s)
	}
	busy := Report{HasWeight: true, Weight: 20}
	s = s.After(busy)
	if again := s.After(busy); again != s || s.Weight() != 20 || s.String() != "backend says 20%" {
		t.Errorf("%p %s, then %p", s, s, again)
	}
	if (*Said)(nil).String() != "" || (*Said)(nil).Weight() != 100 || (*Said)(nil).Drains() {
		t.Error("a backend that has said nothing wants something")
	}
}
