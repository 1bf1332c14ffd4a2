//go:build faults && linux

package faults

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// answersOn answers each request on the connection until the other side closes it.
func answersOn(conn *net.TCPConn) {
	for buf := make([]byte, 4096); ; {
		if _, err := conn.Read(buf); err != nil {
			return
		}
		if _, err := conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")); err != nil {
			return
		}
	}
}

// A host that disappears sends nothing, not even the end of its connections. With hold, the keep-alives of its held
// connection detect that: an alarm removes the host from the answers long before its next probe is due, and the
// others stay (B53).
func TestHeldHostVanishes(t *testing.T) {
	all := loopbacks(11, 20) // too few for isolation
	s := newScene(t, pace{time.Minute, 200 * time.Millisecond, 500 * time.Millisecond}, all)
	for _, addr := range all {
		s.turns(addr, answersOn)
	}
	s.options = " hold"
	s.edit("")
	s.start()
	s.settled(len(all), 0)
	gone, probed := s.justProbed(all)
	dropped := time.Now()
	s.block("dropped", gone)
	s.comesTo(members(slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return a == gone })))
	next := probed.Add(s.interval * 9 / 10) // the earliest time
	left := time.Now()
	t.Logf("the host left the answers %s after it disappeared, and %s before its next probe was due", left.Sub(dropped), next.Sub(left))
	if left.After(next) || s.metric("coredns_multivalue_alarms_total", "") != 1 {
		t.Errorf("the host stayed until its next probe:\n%s", s.output.String())
	}
}

// justProbed waits until one of the addresses has had its second probe, which a whole interval follows, and until its
// result is known.
func (s *scene) justProbed(all []netip.Addr) (which netip.Addr, at time.Time) {
	s.Helper()
	s.eventually(func() bool {
		page, visits := s.page(), 0
		for _, addr := range all {
			times := s.since(addr, time.Time{})
			if visits += len(times); len(times) == 2 {
				which, at = addr, times[1]
			}
		}
		return which.IsValid() && int(sample(page, "coredns_multivalue_probes_total", `result="success"`)) == visits
	}, func() string { return "no address is probed a second time" })
	return which, at
}
