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

// The first probes of a thousand targets that are added at one instant are spread over a fast interval. After a
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
		if most > 100 || last > pooltest.Pace.Fast { // fifty would be an even spread
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

// Healthy targets take all places except an eighth, however many are due. That eighth is for failing targets: one of
// them starts even if it has been due for less time. Failing targets take at most three quarters (B66).
func TestPlacesOfTheLanes(t *testing.T) {
	const bound = 64
	now := time.Unix(1e9, 0)
	fill := func(s *schedule, count int, fails bool, due time.Time) {
		for range count {
			s.add(&monitor{check: &checkState{}, failing: fails}, clock.At(due))
		}
	}
	for name, tc := range map[string]struct{ living, failing, wantLiving, wantFailing int }{
		"the living alone":              {200, 0, bound * 7 / 8, 0},
		"the living and one that fails": {200, 1, bound * 7 / 8, 1},
		"the living and many":           {200, 200, bound * 7 / 8, bound / 8},
		"the failing alone":             {0, 200, 0, bound * 3 / 4},
		"the failing and few living":    {4, 200, 4, bound * 3 / 4},
	} {
		s := schedule{bound: bound}
		fill(&s, tc.living, false, now)
		fill(&s, tc.failing, true, now.Add(time.Millisecond))
		for at := now; at.Before(now.Add(time.Second)); at = at.Add(time.Millisecond) {
			s.dispatch(at, func(*monitor) {}) // their probes never end
		}
		if want := [2]int{tc.wantLiving, tc.wantFailing}; s.inFlight != want {
			t.Errorf("%s: %v are under way, want %v", name, s.inFlight, want)
		}
		for range s.inFlight[healthy] + s.inFlight[failing] {
			metrics.ProbesInFlight.Dec()
		}
	}
}
