//go:build faults && linux

package faults

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// others are n addresses beyond 127.1.0.0.
func others(n int) (all []netip.Addr) {
	for i := range n {
		all = append(all, netip.AddrFrom4([4]byte{127, 1, byte(i / 200), byte(1 + i%200)}))
	}
	return all
}

// places is how many probes may be under way, by the manual, in a program that may have four times as many files open.
const places = 512

// Of two thousand targets, six hundred are black holes, each of which holds a probe for the whole interval: more than there
// are places for probes at all. They do not delay the living, which are probed once an interval; what is under way stays
// under the bound; and those that come to life are found (B65, B66).
func TestTwoThousandTargets(t *testing.T) {
	all := others(2000)
	holes, alive := all[:600], all[600:]
	s := newScene(t, pace{2 * time.Second, 500 * time.Millisecond, 2 * time.Second}, all)
	s.block("dropped", holes...)
	s.files = 4 * places
	s.start()
	s.settled(len(alive), len(holes))
	s.eventually(s.probedAgain(2, alive...), func() string { return "not all are probed" }) // and spread by that
	began, most := time.Now(), 0.0
	s.eventually(func() bool {
		most = max(most, s.metric("coredns_multivalue_probes_in_flight", ""))
		return time.Since(began) > 5*s.interval
	}, func() string { return "time stands still" })
	if most > places {
		t.Errorf("%v probes were under way", most)
	}
	gaps := s.gaps(began, alive)
	at := func(share int) time.Duration { return gaps[(len(gaps)-1)*share/100].Round(time.Millisecond) }
	t.Logf("between probes of %d living targets: half up to %s, 90%% up to %s, 99%% up to %s, all up to %s; under way up to %v",
		len(alive), at(50), at(90), at(99), at(100), most)
	if at(90) > s.interval*3/2 || at(100) > 2*s.interval {
		t.Errorf("living targets have to wait: for %s, and one for %s", at(90), at(100))
	}
	s.revive(holes)
}

// gaps are the times from one probe of an address to the next since then, in order, and from the last until now.
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

// revive lets the dead live, and wants all of them in the answers within three times the bound: there are too many of them
// for the manual's promise to hold to the second.
func (s *scene) revive(dead []netip.Addr) {
	s.Helper()
	began := time.Now()
	s.unblock("dropped", dead...)
	s.eventually(func() bool { return len(s.ask()) == 2000 }, func() string { return "not all come back" })
	took := time.Since(began)
	s.Logf("the last of %d came back after %s; for few the manual promises %s", len(dead), took, s.interval+2*s.timeout)
	if took > 3*s.bound() {
		s.Errorf("the last came back after %s", took)
	}
}
