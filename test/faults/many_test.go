//go:build faults && linux

package faults

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
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
	s.edit("watch www.example.org") // a query may bring in a thousand at once, and no more
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

// With 1,024 descriptors there are 256 places for probes. A flood of 2,400 addresses that drop every packet fills all of them
// for good. It delays neither that a dead address leaves the answers, nor that it comes back: without places of their own,
// its probes would wait for those of the whole flood, which takes twelve seconds each time (B54, B89).
func TestFloodOfBlackHoles(t *testing.T) {
	s := newScene(t, pace{2 * time.Second, 500 * time.Millisecond, time.Second}, loopbacks(11, 20))
	flood := others(2400)
	zone, err := os.ReadFile(filepath.Join(s.dir, "zone"))
	if err != nil {
		t.Fatal(err)
	}
	names := ""
	for i, addr := range flood {
		name := fmt.Sprintf("flood%d", i/800)
		if i%800 == 0 {
			names += " " + name + ".example.org"
		}
		zone = fmt.Appendf(zone, "%s A %s\n", name, addr)
	}
	s.file("zone", string(zone))
	s.block("dropped", flood...)
	s.files = 1024
	s.edit("watch www.example.org" + names)
	s.start()
	s.eventually(func() bool {
		return s.metric("coredns_multivalue_targets", `state="up"`) == 10 && s.metric("coredns_multivalue_lane_lag_seconds", `lane="undecided"`) > 2
	}, func() string { return "the flood does not fill the places" })
	for range 3 {
		began := time.Now()
		s.block("dropped", loopback(15))
		s.comesTo("11 12 13 14 16 17 18 19 20")
		out := time.Since(began)
		s.unblock("dropped", loopback(15))
		s.comesTo("11 12 13 14 15 16 17 18 19 20")
		if out > s.soon() { // generous, and half of what it took without places of their own
			t.Errorf("out after %s, with a bound of %s", out, s.bound())
		}
		t.Logf("out after %s, back after %s; the bound is %s", out.Round(time.Millisecond), (time.Since(began) - out).Round(time.Millisecond), s.bound())
	}
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
