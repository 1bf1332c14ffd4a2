package multivalue

import (
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/prometheus/client_golang/prometheus"
)

// answerMetrics are the counters of one zone's answers on one server and view, by outcome.
type answerMetrics [answer.Outcomes]prometheus.Counter

func newAnswerMetrics(server, zone, view string) *answerMetrics {
	m := new(answerMetrics)
	for o := range m {
		m[o] = metrics.Answers.WithLabelValues(server, zone, view, answer.Outcome(o).String())
	}
	return m
}
