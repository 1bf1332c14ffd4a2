package pool

import (
	"context"
	"errors"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/prometheus/client_golang/prometheus"
)

// Some checks let the backend say how much it can take, or that it wants no clients. What it has said is part of the
// target's machine, and so of its verdict, wherever that goes.

// listen has a probe of a check that reports write what the backend says.
func (r *probeResult) listen(ctx context.Context) context.Context {
	if !r.monitor.check.reports {
		return ctx
	}
	r.report = new(report.Report)
	return check.Listen(ctx, r.report)
}

// failed reports whether the question was not answered, or not well. A backend that says itself that it is down has answered.
func (r *probeResult) failed() bool { return r.err != nil && (r.report == nil || !r.report.Decides) }

// step has the machine of a target take a result. Drains are logged as changes of state are, a bounded number of lines a second.
func (m *monitor) step(r probeResult, lines *transitionLog, now time.Time) (v verdict.Verdict, wait time.Duration) {
	before := m.machine.Said()
	if r.report == nil || r.failed() {
		return m.machine.Step(m.check.pace, r.err, clock.Steady(now))
	}
	v, wait = m.machine.Hear(m.check.pace, *r.report, clock.Steady(now))
	if odd := r.report.Odd; odd != "" && m.check.saysOdd[r.report.OddKind].First() {
		log.Warningf("%s has %s (each kind of mistake is logged once for %s)", m.entry.Target.Place(), odd, m.check.Name)
	}
	if drains := v.Said.Drains(); v.State.Fit() && drains != before.Drains() && lines.allow(transitionKey{m.check.Name, v.State, drainKind(drains)}, now) {
		m.logDrain(v.Said)
	}
	return v, wait
}

// drainKind is how changes of drains are summed up in the log, if there are many.
func drainKind(drains bool) string {
	if drains {
		return "drained by themselves"
	}
	return "drained no longer"
}

// logDrain logs that a backend has itself drained, or no longer.
func (m *monitor) logDrain(said *report.Said) {
	if said.Drains() {
		log.Infof("%s is drained by %s: %s", m.entry.Target.Place(), m.question(), said)
		return
	}
	log.Infof("%s is drained no longer by %s", m.entry.Target.Place(), m.question())
}

// abstain takes the result of a probe that proves nothing. An agent that cannot be asked may be gone for good, so it is asked
// no sooner than usual.
func (p *Pool) abstain(m *monitor, r probeResult, now time.Time) {
	m.check.abstained.Inc()
	if m.check.abstains.First() {
		log.Errorf("%s keeps its state: %v (logged once a minute, and counted)", m.entry.Target, r.err)
	}
	wait := m.retryWait()
	if m.shared != nil && !errors.Is(r.err, check.ErrSilent) {
		if p.decline(m, now); m.listens() {
			m.position = listening
			return
		}
	}
	if errors.Is(r.err, check.ErrSilent) {
		m.slow = r.took > m.check.pace.Timeout/quickShare
		switch {
		case m.idle:
			wait = m.check.pace.Idle()
		case m.machine.State() != verdict.Unknown || int(m.tries) >= m.check.pace.Fall:
			wait = m.check.pace.Interval
		}
	}
	p.schedule.add(m, m.started.Add(m.check.jitter(wait)), now)
}

// holdsFromNow is how long a state is sure to hold if the target is probed at once: an agent may change it with one word.
func (c *CheckSpec) holdsFromNow(m *verdict.Machine) time.Duration {
	if c.agent {
		return 0
	}
	return m.HoldsFromNow(c.pace)
}

// weights counts the targets of one check that are up by how much of their weight they want, for its gauges. Checks that
// differ in their pace alone share one. It belongs to the loop.
type weights struct {
	label      string
	by         [101]int // targets by weight in per cent, 0 for one that is drained
	count, sum int
	least, all prometheus.Gauge // nil while there are no targets
}

// add counts a target more, or less if n is -1.
func (w *weights) add(weight, n int) {
	w.by[weight] += n
	w.count += n
	w.sum += n * weight
	if w.count == 0 {
		metrics.ReportedWeight.DeletePartialMatch(prometheus.Labels{"check": w.label})
		w.least, w.all = nil, nil
		return
	}
	if w.least == nil {
		w.least, w.all = metrics.ReportedWeight.WithLabelValues(w.label, "least"), metrics.ReportedWeight.WithLabelValues(w.label, "sum")
	}
	least := 0
	for least < 100 && w.by[least] == 0 {
		least++
	}
	w.least.Set(float64(least))
	w.all.Set(float64(w.sum))
}

// countWeight counts a target with the weight that it wants now, or no longer if it is gone.
func (m *monitor) countWeight(there bool) {
	w := m.check.weights
	if w == nil {
		return
	}
	now := uint8(0) // not counted
	if there && m.machine.State() == verdict.Up {
		now = 1
		if said := m.machine.Said(); !said.Drains() {
			now += said.Weight()
		}
	}
	if now == m.counted {
		return
	}
	before := m.counted
	m.counted = now
	if now > 0 { // first, so that the series stay while there is a target
		w.add(int(now)-1, 1)
	}
	if before > 0 {
		w.add(int(before)-1, -1)
	}
}

// recountWeights gives each check that reports the weights of its label, and counts all targets again, after the labels have
// changed.
func (p *Pool) recountWeights(held map[verdict.Identity]*checkState) {
	shared := make(map[string]*weights)
	for _, c := range held {
		if !c.reports {
			continue
		}
		w := shared[c.labelled]
		if w == nil {
			w = &weights{label: c.labelled}
			shared[c.labelled] = w
		}
		c.weights = w
	}
	if len(shared) == 0 {
		return
	}
	for _, m := range p.monitors {
		m.counted = 0
		m.countWeight(true)
	}
	for label, w := range shared {
		if w.count == 0 {
			metrics.ReportedWeight.DeletePartialMatch(prometheus.Labels{"check": label})
		}
	}
}
