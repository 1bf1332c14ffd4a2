package pool

import (
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/prometheus/client_golang/prometheus"
)

// targets are the gauges of watched targets by state, resolved once.
var targets = [...]prometheus.Gauge{
	verdict.Unknown: metrics.Targets.WithLabelValues("unknown"),
	verdict.Up:      metrics.Targets.WithLabelValues("up"),
	verdict.Down:    metrics.Targets.WithLabelValues("down"),
}

// checkMetrics are the series of one check, resolved once so that no probe looks up a label. Checks that differ in their pace
// alone share them.
type checkMetrics struct {
	good, bad, abstained prometheus.Counter
	alarms               prometheus.Counter // nil if the check holds no connections
	duration             prometheus.Observer
	transitions          [4]prometheus.Counter // by the new state
	weights              *weights              // nil if the check reports none
}

func newCheckMetrics(name string, hold bool) checkMetrics {
	m := checkMetrics{
		good:      metrics.Probes.WithLabelValues(name, "success"),
		bad:       metrics.Probes.WithLabelValues(name, "failure"),
		abstained: metrics.Probes.WithLabelValues(name, "abstained"),
		duration:  metrics.ProbeDuration.WithLabelValues(name),
	}
	for _, to := range []verdict.State{verdict.Up, verdict.Down} {
		m.transitions[to] = metrics.Transitions.WithLabelValues(name, to.String())
	}
	if hold {
		m.alarms = metrics.Held.Alarms.WithLabelValues(name)
	}
	return m
}

// count counts a probe that proved something.
func (m *checkMetrics) count(err error, took time.Duration) {
	if err == nil {
		m.good.Inc()
	} else {
		m.bad.Inc()
	}
	m.duration.Observe(took.Seconds())
}

// relabel gives each check that stays the series of its label, and deletes the series that only checks that go have had.
func (p *Pool) relabel(held map[verdict.Identity]*checkState) {
	stale := make(map[string]bool)
	for _, c := range p.checks {
		stale[c.labelled] = true
	}
	for _, c := range held {
		if label := c.label(); c.labelled != label {
			c.labelled, c.checkMetrics = label, newCheckMetrics(label, c.hold)
		}
	}
	for _, c := range held {
		delete(stale, c.labelled)
	}
	for name := range stale {
		label := prometheus.Labels{"check": name}
		metrics.Probes.DeletePartialMatch(label)
		metrics.ProbeDuration.DeletePartialMatch(label)
		metrics.Transitions.DeletePartialMatch(label)
		metrics.Held.Alarms.DeletePartialMatch(label)
		metrics.ReportedWeight.DeletePartialMatch(label)
	}
	p.recountWeights(held)
}
