package pool

import (
	"errors"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// logFault says when the files of a check are not used as they are now, and when they are again: one line a minute at most.
func (c *checkState) logFault() {
	if c.fault == nil {
		return
	}
	now := c.fault()
	if now == c.faulty || !c.saysFile.First() {
		return
	}
	if c.faulty = now; now == "" {
		log.Infof("%s: its ca, cert and key files are used as they are now", c.Name)
		return
	}
	log.Warningf("%s: its ca, cert and key files cannot be used as they are now, so the ones before stay in use: %s", c.Name, now)
}

// settle takes the result of a probe: it steps the target's state, publishes the verdict, and schedules the next probe. The
// order matters: isolation decides whether the result counts before the state machine sees it.
func (p *Pool) settle(r probeResult, now time.Time) {
	m := r.monitor
	p.schedule.done(m)
	m.outdated = false
	if m.removed {
		return // the target may have been learned again meanwhile, with a monitor of its own
	}
	if m.listens() { // it has been left to others meanwhile
		p.dropConn(m)
		m.position = listening
		return
	}
	if m.machine.State() == verdict.Unknown {
		m.tries++
	}
	m.check.logFault()
	if errors.Is(r.err, check.ErrAbstain) {
		p.abstain(m, r, now)
		return
	}
	m.check.count(r.err, r.took)
	m.record(p.recording, r, now)
	m.slow = r.took > m.check.pace.Timeout/quickShare
	if r.failed() && p.othersFindDown(m) {
		p.isolation.confirm(m)
	} else if p.isolation.withholds(m, r.failed(), p.probedHere(), now) {
		p.schedule.add(m, m.started.Add(m.check.jitter(m.retryWait())), now)
		return
	}
	m.heard = clock.At(now)
	p.settled++
	before := m.machine.State()
	v, wait := m.step(r, &p.transitions, now)
	if !v.State.Fit() {
		p.dropConn(m)
	}
	v.Holds, wait = m.adjust(v, wait)
	wait = m.check.jitter(m.alarmWait(v.State, r.failed(), wait))
	if !m.settled && wait > m.check.pace.Fast {
		m.settled = true // the first whole interval is drawn at random, to spread targets that were learned together
		wait = randomWait(0, wait)
		v.Holds = min(v.Holds, wait)
	}
	if v.State != before {
		m.fell = before == verdict.Up
	}
	if m.shared != nil {
		m.shared.prove(r.failed(), before, v.State, m.check.pace.Fall)
	}
	p.publish(m, before, v, now)
	p.isolation.update(m, before)
	if m.listens() { // there are others now
		m.position = listening
		return
	}
	p.schedule.add(m, m.started.Add(wait), now)
}

// publish has queries see what the probes of this process have found out: as it is, or as one vote of several.
func (p *Pool) publish(m *monitor, before verdict.State, v verdict.Verdict, now time.Time) {
	if m.shared != nil {
		p.publishVote(m, v, now)
		p.refoldWith(m, v, now)
		return
	}
	m.entry.Store(v)
	if v.State != before { // metrics and the log follow what queries see, never the other way round
		p.transition(m, before, v, now)
	}
	m.countWeight(true)
}

// adjust says how long a verdict holds and when to probe next, where that is not the machine's to say: a target without a state
// is probed quickly, an idle one seldom, and one whose connection is held may go down at any time.
func (m *monitor) adjust(v verdict.Verdict, wait time.Duration) (holds, next time.Duration) {
	holds, next = v.Holds, wait
	if v.State == verdict.Unknown {
		next = m.retryWait()
		holds = min(holds, next*(100-verdict.Jitter)/100)
	}
	if m.idle {
		holds = min(holds, m.check.holdsFromNow(&m.machine))
		if m.calm() {
			next = m.check.pace.Idle()
		}
	}
	if m.check.agent { // its next word may take the target down
		holds = min(holds, next*(100-verdict.Jitter)/100)
	}
	if m.check.hold { // an alarm may take the target down sooner
		holds = min(holds, time.Duration(m.check.pace.Fall-1)*alarmPace)
	}
	return holds, next
}

// countTransition counts a change of state.
func (m *monitor) countTransition(before, after verdict.State) {
	targets[before].Dec()
	targets[after].Inc()
	if after != verdict.Unknown { // which a target becomes by no probe
		m.check.transitions[after].Inc()
	}
}

// transition counts a change of state, and logs it. Nothing else about probes enters the log, and a new target that answers
// only its debug lines.
func (p *Pool) transition(m *monitor, before verdict.State, v verdict.Verdict, now time.Time) {
	m.countTransition(before, v.State)
	p.recordState(m, now)
	if before == verdict.Unknown && v.State == verdict.Up {
		log.Debugf("%s is up after its first probe, %s", m.entry.Target.Place(), m.question())
		return
	}
	p.recordChange(m, before, v, now)
	if !p.transitions.allow(transitionKey{m.check.Name, v.State, v.Reason}, now) {
		return
	}
	if v.State == verdict.Down && v.Said.Refusal() != "" && v.Reason == v.Said.Refusal() {
		log.Warningf("%s is down by %s: %s", m.entry.Target.Place(), m.question(), v.Reason)
		return
	}
	if v.State == verdict.Up && m.check.agent {
		log.Infof("%s is up by %s", m.entry.Target.Place(), m.question())
		return
	}
	if v.State == verdict.Down {
		log.Warningf("%s is down after %s of %s: %s", m.entry.Target.Place(), text.Count(m.check.pace.Fall, "failure"), m.question(), v.Reason)
		return
	}
	log.Infof("%s is up after %s of %s", m.entry.Target.Place(), text.Count(m.check.pace.Rise, "success"), m.question())
}
