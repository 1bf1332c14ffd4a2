//go:build faults && linux

package faults

import (
	"syscall"
	"testing"
	"time"
)

// The program is killed under load, several times. Each time it starts again and answers at once with every address,
// because it has no verdicts yet, and the dead address leaves as it did the first time (B52, B54).
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
		l.stop() // its queries are lost when the program is killed
		s.start()
		if got := members(s.ask()); got != "11 12 13 14" {
			t.Fatalf("the first answer has %q, want all", got)
		}
		l = s.load(4, alive, nil)
		s.comesTo("11 12 14")
		l.ends()
	}
}

// A stop while three hundred probes hang in unresponsive addresses, for up to a minute, ends the process with status
// 0, and no probe outlives the second that a stop allows: these need none of it (B71). exits fails the test if the
// stop waits for the probes. The total time of the stop is logged but not judged, because CoreDNS has its own grace
// period.
func TestStopWhileProbesHang(t *testing.T) {
	holes := others(300)
	s := newScene(t, pace{time.Minute, time.Second, time.Minute}, holes)
	s.block("dropped", holes...)
	s.start()
	s.ask()
	s.eventually(func() bool { return s.metric("coredns_multivalue_probes_in_flight", "") == 300 },
		func() string { return "there are not 300 probes under way" })
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
