package rules

import (
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/prometheus/client_golang/prometheus"
)

// Counters are those of one zone's answers on one server and view, by outcome.
type Counters [answer.Outcomes]prometheus.Counter

func newCounters(server, zone, view string) *Counters {
	m := new(Counters)
	for o := range m {
		m[o] = metrics.Answers.WithLabelValues(server, zone, view, answer.Outcome(o).String())
	}
	return m
}
