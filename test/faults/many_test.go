//go:build faults && linux

package faults

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// others returns n addresses above 127.1.0.0.
func others(n int) (all []netip.Addr) {
	for i := range n {
		all = append(all, netip.AddrFrom4([4]byte{127, 1, byte(i / 200), byte(1 + i%200)}))
	}
	return all
}

// places is how many probes may be under way, as the manual says, in a program that may have four times as many open
// files.
const places = 512

// Half of two thousand targets are unresponsive, and a probe of each of those takes the whole interval: twice as many
// as there are places for probes. They do not delay the healthy targets, which are probed once an interval; if the
// two shared the places, every target would wait for two intervals. The number of probes under way stays within its
// limit, and targets that start to respond are detected (B65, B66).
//
// The healthy targets are judged by the median of their waits. A machine that stops for seconds makes a few waits
// long, one for each target; unresponsive targets that cause delays make all of them long.
func TestTwoThousandTargets(t *testing.T) {
	all := others(2000)
	holes, alive := all[:1000], all[1000:]
	s := newScene(t, pace{2 * time.Second, 500 * time.Millisecond, 2 * time.Second}, all)
	s.block("dropped", holes...)
	s.files = 4 * places
	s.start()
	s.settled(len(alive), len(holes))
	s.eventually(s.probedAgain(2, alive...), func() string { return "not all are probed" }) // and spread in time
	began, most := time.Now(), 0.0
	s.eventually(func() bool {
		most = max(most, s.metric("coredns_multivalue_probes_in_flight", ""))
		return time.Since(began) > 5*s.interval
	}, func() string { return "the time did not pass" })
	if most > places {
		t.Errorf("%v probes were under way", most)
	}
	gaps := s.gaps(began, alive)
	at := func(share int) time.Duration { return gaps[(len(gaps)-1)*share/100].Round(time.Millisecond) }
	t.Logf("between probes of %d healthy targets: half up to %s, 90%% up to %s, 99%% up to %s, all up to %s; under way up to %v",
		len(alive), at(50), at(90), at(99), at(100), most)
	if at(50) > s.interval*3/2 {
		t.Errorf("half of the healthy targets wait longer than %s", at(50))
	}
	s.revive(holes)
}

// gaps returns the times from one probe of an address to the next, from a time on, sorted, and the time from the last
// probe until now.
func (s *scene) gaps(began time.Time, addrs []netip.Addr) (gaps []time.Duration) {
	until := time.Now()
	for _, addr := range addrs {
		last := began
		for _, at := range append(s.since(addr, began), until) {
			gaps = append(gaps, at.Sub(last))
			last = at
		}
	}
	slices.Sort(gaps)
	return gaps
}

// revive makes the dead peers respond, and checks that all of them come into the answers. The time is logged but not
// judged: there are too many of them for the manual's promise to hold to the second.
func (s *scene) revive(dead []netip.Addr) {
	s.Helper()
	if got := len(s.ask()); got != 2000-len(dead) {
		s.Errorf("%d addresses are in the answer while %d are down", got, len(dead))
	}
	began := time.Now()
	s.unblock("dropped", dead...)
	s.eventually(func() bool { return len(s.ask()) == 2000 }, func() string { return "not all come back" })
	s.Logf("the last of %d came back after %s; for few the manual promises %s", len(dead), time.Since(began), s.interval+2*s.timeout)
}
