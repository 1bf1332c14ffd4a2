package verdict

import (
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/report"
)

// Machine decides the state of one target from the results of its probes. The pool owns one Machine a target and
// calls Step after each probe. A Machine is a plain value: the zero value is a target of which nothing is known yet.
//
// Rise and Fall (see Pace) are how many results change the state:
//
//	from     to     when
//	Unknown  Up     first success
//	Unknown  Down   Fall failures
//	Up       Down   Fall failures; only Rise successes in a row reset that count
//	Down     Up     Rise successes in a row; one failure resets that count
//
// Failures of an up target are summed, not counted in a row, so a target that fails every other probe does go down. The
// monitoring of gdnsd counts in the same way.
type Machine struct {
	state     State
	since     time.Time    // when the state was entered
	reason    string       // why the last failure failed; empty once the failures are reset
	failures  int32        // sum, towards Down; 0 while the state is Down
	successes int32        // in a row: towards Up while Down, towards resetting the failures while Up
	said      *report.Said // what the backend has said of itself; it outlives every state
}

// Resume returns a machine that continues from a verdict, such as one kept over a reload. Both counts start at 0.
func Resume(v Verdict) Machine {
	return Machine{state: v.State, since: v.Since, reason: v.Reason, said: v.Said}
}

// Step records the result of a probe: nil is a success, an error is a failure and its text the reason. It returns the new
// verdict, and the wait from the start of that probe to the start of the next one.
//
// Call it once for each probe that was really asked. A probe that could not be sent proves nothing and must not get here.
func (m *Machine) Step(p Pace, outcome error, now time.Time) (Verdict, time.Duration) {
	if outcome == nil {
		m.addSuccess(p, now)
	} else {
		m.reason = outcome.Error()
		m.addFailure(p, now)
	}
	wait := m.nextWait(p)
	return m.Verdict(m.holdTime(p, wait)), wait
}

// Hear records an answer in which the backend may say something of itself; otherwise it is Step with a success. A backend
// that says that it is down is down at once, and one that says that it is up, ready or draining is up at once, whatever
// Rise and Fall are: nothing about that is by chance. While it has not taken that back, other answers count for nothing.
func (m *Machine) Hear(p Pace, r report.Report, now time.Time) (Verdict, time.Duration) {
	m.said = m.said.After(r)
	switch refusal := m.said.Refusal(); {
	case refusal != "" && m.state == Down:
		m.reason, m.successes = refusal, 0
	case refusal != "":
		m.enter(Down, refusal, now)
	case m.state != Up && (r.Health != "" || r.Admin != ""):
		m.enter(Up, "", now)
	case r.SaysNothing(): // it may be no agent at all, so that it proves nothing
	default:
		m.addSuccess(p, now)
	}
	wait := m.nextWait(p)
	return m.Verdict(m.holdTime(p, wait)), wait
}

// enter begins another state. Both counts start at 0.
func (m *Machine) enter(s State, reason string, now time.Time) {
	*m = Machine{state: s, since: now, reason: reason, said: m.said}
}

// State returns the current state.
func (m *Machine) State() State { return m.state }

// Said returns what the backend has said of itself; nil for nothing.
func (m *Machine) Said() *report.Said { return m.said }

// Verdict returns the current verdict without a new result. The caller says how long it still holds.
func (m *Machine) Verdict(holds time.Duration) Verdict {
	return Verdict{State: m.state, Since: m.since, Reason: m.reason, Holds: holds, Said: m.said}
}

// Falls reports whether one more failure takes the target down. Ask before Step, to hold that failure back while the
// server itself may have lost its network.
func (m *Machine) Falls(p Pace) bool { return m.state != Down && int(m.failures)+1 >= p.Fall }

// Forgive resets the failures of a target that is not down. Call it when they turn out to say nothing about the target,
// because the server's own network was lost. A target that is down stays down: its failures were counted before.
func (m *Machine) Forgive() {
	if m.state != Down {
		m.reason = ""
		m.failures = 0
	}
}

// HoldsFromNow is the shortest time until the state can change if the next probe starts at once.
func (m *Machine) HoldsFromNow(p Pace) time.Duration { return max(0, m.holdTime(p, 0)) }

// Streak is how many results speak against the current state: successes in a row of a down target, else failures.
func (m *Machine) Streak() int {
	if m.state == Down {
		return int(m.successes)
	}
	return int(m.failures)
}

// addSuccess counts a success. A change of state resets both counts and the reason.
func (m *Machine) addSuccess(p Pace, now time.Time) {
	m.successes++
	switch {
	case m.state == Unknown, m.state == Down && int(m.successes) >= p.Rise:
		m.enter(Up, "", now)
	case m.state == Up && int(m.successes) >= p.Rise:
		m.failures, m.successes, m.reason = 0, 0, ""
	}
}

// addFailure counts a failure. Further failures of a down target only keep it down; they leave since as it is.
func (m *Machine) addFailure(p Pace, now time.Time) {
	m.successes = 0
	if m.state == Down {
		return
	}
	m.failures++
	if int(m.failures) >= p.Fall {
		m.enter(Down, m.reason, now)
	}
}

// nextWait is the fast interval while the state is undecided or may be about to change, else the normal one.
func (m *Machine) nextWait(p Pace) time.Duration {
	if m.state == Unknown || m.Streak() > 0 {
		return p.Fast
	}
	return p.Interval
}

// holdTime is the shortest time until the state can change: the next wait, and one fast wait for each further result that
// a change needs. Every wait counts as shortened by the full Jitter, and every result as immediate. The TTL of an answer
// relies on this: it must never be too long.
func (m *Machine) holdTime(p Pace, wait time.Duration) time.Duration {
	further := 0
	switch m.state {
	case Up:
		further = p.Fall - int(m.failures) - 1
	case Down:
		further = p.Rise - int(m.successes) - 1
	}
	return (wait + time.Duration(further)*p.Fast) * (100 - Jitter) / 100
}
