package pool

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Every wait is between nine tenths of its interval and the whole, and the waits differ: for targets that are up at
// the slow pace, and for probes that could not be made at the fast pace (B65).
func TestEveryWaitIsJittered(t *testing.T) {
	for name, tc := range map[string]struct {
		broken error
		pace   time.Duration
	}{
		"up":      {nil, pooltest.Pace.Interval},
		"abstain": {fmt.Errorf("%w: too many open files", check.ErrAbstain), pooltest.Pace.Fast},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
				n.Broken = tc.broken
				s := testStanza("tcp://:80", n, pooltest.Pace)
				begin(p, s)
				few := addrs(0, 10) // so few that hardly one is probed early because of another
				lookAll(s, few)
				pooltest.Elapse(50 * tc.pace)
				for _, a := range few {
					gaps := gapsOf(n.Times(a)[2:]) // the first wait of a whole interval is random
					low, high := slices.Min(gaps), slices.Max(gaps)
					if low < tc.pace*9/10 || high > tc.pace {
						t.Errorf("%s: waits from %s to %s, want from nine tenths of %s up to that", a, low, high, tc.pace)
					}
					if high-low < tc.pace/20 || len(slices.Compact(slices.Sorted(slices.Values(gaps)))) < len(gaps)/2 {
						t.Errorf("%s: waits from %s to %s are hardly jittered: %v", a, low, high, gaps)
					}
				}
			})
		})
	}
}

// gapsOf returns the times between instants.
func gapsOf(times []time.Time) (gaps []time.Duration) {
	for i := 1; i < len(times); i++ {
		gaps = append(gaps, times[i].Sub(times[i-1]))
	}
	return gaps
}

// busiest returns the highest number of instants in one tenth of a second, and the time from one instant to the last.
func busiest(from time.Time, times []time.Time) (most int, last time.Duration) {
	counts := make(map[time.Duration]int)
	for _, at := range times {
		since := at.Sub(from)
		counts[since/(100*time.Millisecond)]++
		most, last = max(most, counts[since/(100*time.Millisecond)]), max(last, since)
	}
	return most, last
}

// The first probes of a thousand targets that are added at one instant are spread over a quarter of the fast interval. After a
// reload that changes their pace, they are spread over a whole interval (B65).
func TestFirstProbesAreSpread(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		old := testStanza("tcp://:80", n, pooltest.Pace)
		g := begin(p, old)
		all := addrs(0, 1000)
		began := time.Now()
		lookAll(old, all)
		pooltest.Elapse(pooltest.Pace.Fast + time.Second)
		most, last := busiest(began, firstAfter(n, began, all))
		if most > 300 || last > pooltest.Pace.Fast/4 { // two hundred would be an even spread
			t.Errorf("%d first probes in a tenth of a second, and the last after %s", most, last)
		}
		pass(time.Minute, old, all...)
		pace := pooltest.Pace
		pace.Interval = 20 * time.Second
		fresh := testStanza("tcp://:80", n, pace)
		next := candidateOf(p, fresh)
		p.Leave(g)
		began = time.Now()
		p.Confirm(next)
		pooltest.Elapse(pace.Interval + time.Second)
		most, last = busiest(began, firstAfter(n, began, all))
		if most > 25 || last > pace.Interval { // five would be an even spread
			t.Errorf("after a reload %d first probes in a tenth of a second, and the last after %s", most, last)
		}
	})
}

// firstAfter lists when each of the addresses was first probed after an instant.
func firstAfter(n *pooltest.FakeNetwork, began time.Time, all []netip.Addr) (first []time.Time) {
	for _, a := range all {
		times := n.Times(a)
		first = append(first, times[slices.IndexFunc(times, func(at time.Time) bool { return at.After(began) })])
	}
	return first
}

// in makes a monitor that belongs in a lane.
func in(l lane) *monitor {
	m := &monitor{check: &checkState{}}
	m.check.pace = pooltest.Pace
	up := verdict.Resume(verdict.Verdict{State: verdict.Up})
	down := verdict.Resume(verdict.Verdict{State: verdict.Down, Since: clock.Steady(time.Now())})
	switch l {
	case doubt:
		m.machine = up
		m.machine.Step(m.check.pace, pooltest.ErrRefused, time.Now())
	case calm:
		m.machine = up
	case fallen:
		m.machine, m.fell = down, true
	case slow:
		m.machine = down
	case idle:
		m.machine, m.idle = down, true
	}
	return m
}

// Each lane is sure of its share of the places, whatever else is due, and what others do not use is lent, but for an eighth
// of all places: a target that is about to change its state always finds one (B89).
func TestPlacesOfTheLanes(t *testing.T) {
	const bound = 64
	for name, tc := range map[string]struct {
		first, then [lanes]int // what is due at once, and a second later
		want        [lanes]int // in flight after another second, in which no probe ends
	}{
		"only new ones":          {first: [lanes]int{undecided: 200}, want: [lanes]int{undecided: bound * 7 / 8}},
		"only long dead ones":    {first: [lanes]int{slow: 200}, want: [lanes]int{slow: bound * 7 / 8}},
		"only idle ones":         {first: [lanes]int{idle: 200}, want: [lanes]int{idle: bound * 7 / 8}},
		"only calm ones":         {first: [lanes]int{calm: 200}, want: [lanes]int{calm: bound * 7 / 8}},
		"only doubt":             {first: [lanes]int{doubt: 200}, want: [lanes]int{doubt: bound * 7 / 8}},
		"a flood, then doubt":    {first: [lanes]int{undecided: 200, slow: 200, idle: 200}, then: [lanes]int{doubt: 200}, want: [lanes]int{doubt: 8, undecided: 52, slow: 4}},
		"doubt, then everything": {first: [lanes]int{doubt: 32}, then: [lanes]int{calm: 200, fallen: 200, undecided: 200, slow: 200, idle: 200}, want: [lanes]int{doubt: 32, calm: 8, fallen: 4, undecided: 16, slow: 4}},
	} {
		s := schedule{bound: bound}
		now := time.Now()
		for i, due := range [][lanes]int{tc.first, tc.then} {
			at := now.Add(time.Duration(i) * 10 * time.Second)
			for l, n := range due {
				for range n {
					s.add(in(lane(l)), clock.At(at), at)
				}
			}
			for tick := range 10_000 {
				s.dispatch(at.Add(time.Duration(tick)*time.Millisecond), func(*monitor) {}) // their probes never end
			}
		}
		if name == "a flood, then doubt" { // what the flood borrowed in the first second differs, and what is left does not
			tc.want[undecided], tc.want[slow], tc.want[idle] = s.inFlight[undecided], s.inFlight[slow], s.inFlight[idle]
			if s.inFlight[undecided] < 16 || s.inFlight[slow] < 4 {
				t.Errorf("%s: %v in flight, want at least 16 new ones and 4 slow ones", name, s.inFlight)
			}
		}
		if s.inFlight != tc.want {
			t.Errorf("%s: %v in flight, want %v", name, s.inFlight, tc.want)
		}
		metrics.ProbesInFlight.Sub(float64(s.total))
	}
}

// Places that are lent come back one after another, not all at once: beside a flood of black holes, a target in doubt never
// waits for a whole time-out (B89).
func TestLentPlacesComeBackEvenly(t *testing.T) {
	const bound = 64
	s := schedule{bound: bound}
	began := time.Now()
	type probe struct {
		m    *monitor
		ends time.Time
	}
	var under []probe
	for range 2000 {
		s.add(in(undecided), clock.At(began), began)
	}
	var worst time.Duration
	for tick := range 20_000 {
		now := began.Add(time.Duration(tick) * time.Millisecond)
		for len(under) > 0 && !now.Before(under[0].ends) {
			s.done(under[0].m)
			s.add(under[0].m, clock.At(now), now)
			under = under[1:]
		}
		if tick >= 5000 && tick%1000 == 0 { // as many as the eighth that is never lent, and some more
			for range bound / 4 {
				s.add(in(doubt), clock.At(now), now)
			}
		}
		s.dispatch(now, func(m *monitor) {
			if m.lane == doubt {
				worst = max(worst, clock.At(now).Sub(m.due))
				m.machine = verdict.Resume(verdict.Verdict{State: verdict.Down}) // it joins the flood
			}
			under = append(under, probe{m, now.Add(pooltest.Pace.Timeout)})
		})
	}
	// Sixteen come at once. Eight places are free, and the others come back at 64 in two seconds.
	if worst > 500*time.Millisecond {
		t.Errorf("a target in doubt waited %s for a place", worst)
	}
	metrics.ProbesInFlight.Sub(float64(s.total))
}
