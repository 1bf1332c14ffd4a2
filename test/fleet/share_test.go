//go:build linux

package fleet

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Five servers probe each target three times an interval, not five times. One that dies is out of all answers, with a line that says
// who found it so, and it comes back. A newcomer believes what the others know, and probes nothing (B104, B105, B106).
func TestFiveProbeLikeThree(t *testing.T) {
	t.Parallel()
	s := fleetOf(t, 5, []int{11, 12, 13, 14, 15, 16, 17, 18})
	l := s.load()
	s.undisturbed(func() string { return s.probeThrice(8 * interval) })
	s.undisturbed(func() string { return s.diesAndReturns(l, 14, 11, 12, 13, 15, 16, 17, 18) })

	s.backends[14].turn(stalls) // alone, a server takes three timeouts to find that
	s.serves(bound+slack, 11, 12, 13, 15, 16, 17, 18)
	// A newcomer begins to probe after three seconds without an answer, which a busy machine may take. None of three would be no chance.
	knew := false
	for n := 6; n <= 8 && !knew; n++ {
		knew = s.newcomerKnows(n, []int{11, 12, 13, 15, 16, 17, 18})
	}
	if !knew {
		t.Error("no newcomer has answered by what the others know")
	}
}

// probeThrice waits, and returns what is wrong if each target is not probed three times an interval meanwhile.
func (s *scene) probeThrice(window time.Duration) (complaint string) {
	s.Helper()
	from := time.Now()
	s.passes(window)
	r := s.rates(from, time.Now())
	s.Log(r)
	if r.perInterval < 2.4 || r.perInterval > 3.7 {
		complaint = fmt.Sprintf("%s, want 3 probes", r)
	}
	return complaint
}

// diesAndReturns has a backend refuse until it is out of all answers, and then back. It returns what the logs lack.
func (s *scene) diesAndReturns(l *load, n int, others ...int) (complaint string) {
	s.Helper()
	lines := []string{fmt.Sprintf("127.9.0.%d:%d is down: 3 of 3 vantage points of http://:%d/ ", n, s.backendPort, s.backendPort), "connection refused"}
	before := make(map[int]int)
	for _, p := range s.live() {
		before[p.n] = p.output.Count(lines[0])
	}
	l.expects(others, nil)
	s.backends[n].turn(refuses)
	s.Logf("a dead target is out of all answers within %s", s.serves(bound+slack, others...))
	l.expects(others, []int{n})
	s.passes(tick) // until the lines are there
	for _, p := range s.live() {
		if p.output.Count(lines[0]) == before[p.n] || p.output.Count(lines[1]) == 0 {
			complaint = fmt.Sprintf("server %d does not say %q:\n%s", p.n, lines, p.output.String())
		}
	}
	l.expects(others, nil)
	s.backends[n].turn(sound)
	back := append(slices.Clone(others), n)
	slices.Sort(back)
	s.serves(bound+slack, back...)
	return complaint
}

// newcomerKnows starts a server, and reports whether it has answered only with the living targets without a probe of its own.
func (s *scene) newcomerKnows(n int, living []int, edits ...string) bool {
	p := s.launch(n, edits...)
	p.hears(patience, n-1)
	s.passes(tick) // then it knows who has the seats
	_, _ = p.ask()
	asked := time.Now()
	s.eventually(patience, func() bool { return p.has(living...) }, func() string { return "the newcomer serves a dead target" })
	probes := s.probesOf(n)
	s.Logf("the newcomer answers right %s after its first query, and %d probes of its own", time.Since(asked).Round(time.Millisecond), probes)
	return probes == 0
}

// probesOf is how often a server has probed.
func (s *scene) probesOf(n int) (count int) {
	for _, b := range s.backends {
		for _, v := range b.visits(time.Time{}, time.Time{}) {
			if v.by == n {
				count++
			}
		}
	}
	return count
}

// When members are killed, others probe in their place, and what is believed stays. The last one probes for itself (B104, B107).
func TestMembersDie(t *testing.T) {
	t.Parallel()
	s := fleetOf(t, 5, []int{11, 12, 13, 14, 15, 16, 17, 18})
	s.backends[14].turn(stalls)
	s.serves(bound+slack, 11, 12, 13, 15, 16, 17, 18)
	l := s.load()
	l.expects([]int{11, 12, 13, 15, 16, 17, 18}, []int{14})
	s.kill(s.servingMost())
	t.Logf("a death is made up for within %s", s.shared(reseated+slack, 3))
	last, died := s.servingLeast(), time.Now()
	for _, p := range s.live() {
		if p.n != last {
			s.kill(p.n)
		}
	}
	l.expects([]int{11, 12, 15, 16, 17, 18}, []int{14})
	s.backends[13].turn(refuses)
	if took := s.serves(bound+lapse+slack, 11, 12, 15, 16, 17, 18); took > bound+lapse+slack/2 {
		t.Errorf("what dies with four of five members is out after %s, and %s is promised", took, bound+lapse)
	}
	t.Logf("the last one probes within %s", s.shared(lapse+slack, 1))
	from := time.Now()
	s.passes(5 * interval)
	if r := s.rates(from, time.Now()); s.halts.stalled(from, time.Now()) < time.Second && (r.perInterval < 0.7 || r.perInterval > 1.4) {
		t.Errorf("%s, want 1", r)
	}
	// It does not wait until the others are known to be dead.
	r := s.rates(died, time.Now())
	t.Log(r)
	if r.longest > lapse+slack/2 {
		t.Errorf("%s, want some as soon as no vote counts", r)
	}
}
