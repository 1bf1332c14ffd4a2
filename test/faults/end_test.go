//go:build faults && linux

package faults

import (
	"syscall"
	"testing"
	"time"
)

// The program is killed under load, time after time. It starts again, answers at once and with every address, for it
// knows nothing yet, and the dead one leaves as it did the first time (B52, B54).
func TestKilled(t *testing.T) {
	s := newScene(t, quick, loopbacks(11, 14))
	s.block("dropped", loopback(13))
	alive := append(loopbacks(11, 12), loopback(14))
	s.start()
	s.comesTo("11 12 14")
	for range 2 {
		l := s.load(4, alive, nil)
		l.goesOn(50)
		s.signal(syscall.SIGKILL)
		s.exits()
		l.stop() // its queries are lost with the program
		s.start()
		if got := members(s.ask()); got != "11 12 13 14" {
			t.Fatalf("the first answer has %q, want all", got)
		}
		l = s.load(4, alive, nil)
		s.comesTo("11 12 14")
		l.ends()
	}
}

// A stop while three hundred probes hang in black holes, for a minute if they could, ends the process with status 0, and no
// probe outlives the second that a stop gives: these need none of it (B71). exits fails what waits for them; how long the stop
// took in all is told and not judged, for CoreDNS has its own period of grace.
func TestStopWhileProbesHang(t *testing.T) {
	holes := others(300)
	s := newScene(t, pace{time.Minute, time.Second, time.Minute}, holes)
	s.block("dropped", holes...)
	s.start()
	s.ask()
	s.eventually(func() bool { return s.metric("coredns_multivalue_probes_in_flight", "") == 300 },
		func() string { return "the probes are not under way" })
	began := time.Now()
	s.signal(syscall.SIGTERM)
	if status := s.exits(); status != 0 {
		t.Errorf("the status is %d:\n%s", status, s.output.String())
	}
	t.Logf("the stop took %s", time.Since(began))
	if s.output.count("probes still under way") > 0 {
		t.Errorf("probes outlive the stop:\n%s", s.output.String())
	}
}
