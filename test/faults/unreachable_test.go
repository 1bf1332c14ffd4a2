//go:build faults && linux

package faults

import (
	"net/netip"
	"testing"
)

// Addresses whose packets a filter drops leave the answers, and come back when the filter lets them through (B1,
// B54). The others stay throughout.
func TestBlackHole(t *testing.T) {
	s := starts(t, quick, loopbacks(11, 15))
	holes := loopbacks(12, 13)
	l := s.load(1, []netip.Addr{loopback(11), loopback(14), loopback(15)}, nil)
	s.block("dropped", holes...)
	s.comesTo("11 14 15")
	s.says("127.0.0.12:8080 is down after 3 failures of http://:8080/: connect: timed out", 1)
	s.unblock("dropped", holes...)
	s.comesTo("11 12 13 14 15")
	l.ends()
}

// Addresses whose connections are rejected leave the answers, and the log has the reason for each; the reasons differ
// (B74).
func TestTurnedAway(t *testing.T) {
	s := starts(t, quick, loopbacks(11, 15))
	for set, n := range map[string]byte{"refused": 12, "noport": 13, "nohost": 14, "nonet": 15} {
		s.block(set, loopback(n))
	}
	s.comesTo("11")
	for address, reason := range map[string]string{
		"127.0.0.12": "connection refused",
		"127.0.0.13": "connection refused",
		"127.0.0.14": "connect: host unreachable",
		"127.0.0.15": "connect: network unreachable",
	} {
		s.says(address+":8080 is down after 3 failures of http://:8080/: "+reason+"$", 1)
	}
	s.resetFilter()
	s.comesTo("11 12 13 14 15")
	s.says(":8080 is up after 2 successes of http://:8080/$", 4)
}
