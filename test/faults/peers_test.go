//go:build faults && linux

package faults

import (
	"testing"
	"time"
)

// A peer that accepts connections is not therefore up. Peers that reset, never answer or answer too late are down,
// each with its reason; a slow one is up. One peer loses every second connection: it is down and stays down, because
// its failures add up and it never answers twice in a row. Another loses every third: it does answer twice in a row,
// so it is up and stays up (B39, B51).
func TestPeersThatMisbehave(t *testing.T) {
	s := newScene(t, quick, loopbacks(11, 17))
	s.turns(loopback(12), resets)
	s.turns(loopback(13), stalls)
	s.turns(loopback(14), relay(loopback(11), quick.timeout/10, none))
	s.turns(loopback(15), relay(loopback(11), 2*quick.timeout, none))
	s.turns(loopback(16), relay(loopback(11), 0, func(n int64) bool { return n%2 == 0 }))
	s.turns(loopback(17), relay(loopback(11), 0, func(n int64) bool { return n%3 == 0 }))
	s.start()
	s.comesTo("11 14 17")
	for address, reason := range map[string]string{
		"127.0.0.12": ".*connection reset",
		"127.0.0.13": "no response: timed out",
		"127.0.0.15": "no response: timed out",
		"127.0.0.16": ".*connection reset",
	} {
		s.says(address+":8080 is down after 3 failures of http://:8080/: "+reason, 1)
	}
	s.stays("11 14 17", s.probedAgain(6, loopbacks(11, 17)...), "not all are probed on")
	for n := byte(12); n <= 17; n++ {
		s.turns(loopback(n), sound)
	}
	s.comesTo("11 12 13 14 15 16 17")
}

// A peer that becomes slower and slower is up until its answers come after the timeout, and up again when it
// recovers.
func TestPeerGrowsSlow(t *testing.T) {
	s := starts(t, quick, loopbacks(11, 12))
	s.turns(loopback(12), relay(loopback(11), quick.timeout/4, none))
	s.stays("11 12", s.probedAgain(4, loopback(12)), "the slow peer is not probed")
	s.turns(loopback(12), relay(loopback(11), quick.timeout+time.Second, none))
	s.comesTo("11")
	s.turns(loopback(12), relay(loopback(11), quick.timeout/4, none))
	s.comesTo("11 12")
}
