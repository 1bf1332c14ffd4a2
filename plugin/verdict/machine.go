package verdict

import "time"

// Machine is the rise and fall of one target. Its zero value knows nothing.
//
// An unknown target is up at its first success, and down after Fall failures. An up target adds up its failures, and
// only Rise successes in a row wipe them: one that fails every other probe does go down (as in gdnsd's monitoring). A
// down target is up after Rise successes in a row, and one failure starts that anew.
type Machine struct {
	state     State
	since     time.Time
	reason    string // of the last failure, while it still counts
	failures  int    // towards down, while not down
	successes int    // in a row, towards up while down, towards wiping the failures while up
}

// Resume gives a machine that starts where a verdict left off. Its streaks start anew.
func Resume(v Verdict) Machine { return Machine{state: v.State, since: v.Since, reason: v.Reason} }

// Step takes the outcome of a probe: nil is a success, an error a failure and its reason. It returns the verdict, and
// how long to wait, from the start of that probe, before the next.
func (m *Machine) Step(p Pace, outcome error, now time.Time) (Verdict, time.Duration) {
	if outcome == nil {
		m.addSuccess(p, now)
	} else {
		m.reason = outcome.Error()
		m.addFailure(p, now)
	}
	wait := m.nextWait(p)
	return Verdict{State: m.state, Since: m.since, Reason: m.reason, Holds: m.holdTime(p, wait)}, wait
}

// State is the state that the outcomes so far have led to.
func (m *Machine) State() State { return m.state }

// Verdict is the verdict as it stands, if it holds for holds.
func (m *Machine) Verdict(holds time.Duration) Verdict {
	return Verdict{State: m.state, Since: m.since, Reason: m.reason, Holds: holds}
}

// Falls reports whether one more failure makes the target down.
func (m *Machine) Falls(p Pace) bool { return m.state != Down && m.failures+1 >= p.Fall }

// Forgive forgets the failures of a target that is not down: they are found to say nothing about it.
func (m *Machine) Forgive() {
	if m.state != Down {
		m.failures = 0
	}
}

// Streak is how many results in a row, or in sum, speak against the state.
func (m *Machine) Streak() int {
	if m.state == Down {
		return m.successes
	}
	return m.failures
}

func (m *Machine) addSuccess(p Pace, now time.Time) {
	m.successes++
	switch {
	case m.state == Unknown, m.state == Down && m.successes >= p.Rise:
		*m = Machine{state: Up, since: now}
	case m.state == Up && m.successes >= p.Rise:
		m.failures, m.successes, m.reason = 0, 0, ""
	}
}

func (m *Machine) addFailure(p Pace, now time.Time) {
	m.successes = 0
	if m.state == Down {
		return
	}
	m.failures++
	if m.failures >= p.Fall {
		*m = Machine{state: Down, since: now, reason: m.reason}
	}
}

// nextWait is the interval while nothing speaks against the state, else the fast one.
func (m *Machine) nextWait(p Pace) time.Duration {
	if m.state == Unknown || m.Streak() > 0 {
		return p.Fast
	}
	return p.Interval
}

// holdTime is the least time before the state could change: the next wait, and a fast one for each further result that
// is needed, each as short as jitter makes it, and each result at once.
func (m *Machine) holdTime(p Pace, wait time.Duration) time.Duration {
	further := 0
	switch m.state {
	case Up:
		further = p.Fall - m.failures - 1
	case Down:
		further = p.Rise - m.successes - 1
	}
	return (wait + time.Duration(further)*p.Fast) * (100 - Jitter) / 100
}
