package multivalue

import (
	"github.com/coredns/coredns/plugin"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// subsystem stands in every metric's name, behind the namespace of CoreDNS.
const subsystem = "multivalue"

var (
	Targets = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "targets",
		Help:      "The number of watched targets by state.",
	}, []string{"state"})
	Probes = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "probes_total",
		Help:      "The count of probes by check and result.",
	}, []string{"check", "result"})
	ProbeDuration = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Namespace:                   plugin.Namespace,
		Subsystem:                   subsystem,
		Name:                        "probe_duration_seconds",
		Buckets:                     plugin.TimeBuckets,
		NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor,
		Help:                        "The time that a probe took.",
	}, []string{"check"})
	Transitions = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "transitions_total",
		Help:      "The count of changes of a target's state by check and new state.",
	}, []string{"check", "to"})
	Answers = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "answers_total",
		Help:      "The count of answers to queries for the configured zones by what became of them.",
	}, []string{"server", "zone", "view", "outcome"})
	skippedTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "skipped_total",
		Help:      "The count of what was left undone, by reason.",
	}, []string{"reason"})
	ProbesInFlight = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "probes_in_flight",
		Help:      "The number of probes under way.",
	})
	ProbeLag = promauto.NewHistogram(prometheus.HistogramOpts{
		Namespace:                   plugin.Namespace,
		Subsystem:                   subsystem,
		Name:                        "probe_lag_seconds",
		Buckets:                     plugin.TimeBuckets,
		NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor,
		Help:                        "The time from when a probe was due to when it started.",
	})
	HeldConnections = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "held_connections",
		Help:      "The number of connections that are kept to targets by checks with hold.",
	})
	Alarms = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "alarms_total",
		Help:      "The count of kept connections that a peer ended and that led to a probe at once, by check.",
	}, []string{"check"})
	Isolated = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "isolated",
		Help:      "Whether no target answers, so that none is taken down for a while.",
	})
	Forced = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "forced",
		Help:      "The number of addresses and networks that files have forced into a state.",
	}, []string{"state"})
	ForceBroken = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "force_broken",
		Help:      "The number of files of forced states whose latest content was refused.",
	})
	Annotations = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "annotations",
		Help:      "The number of Services whose annotation names a check, by whether it could be heeded.",
	}, []string{"state"})
	Panics = promauto.NewCounter(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "panics_total",
		Help:      "The count of panics in checks and in the pool that were recovered from.",
	})
)

// Resolved once, so that neither a query nor a probe looks up a label.
var (
	SkippedMaxTargets = skippedTotal.WithLabelValues("max_targets") // an address over a cap, served unchecked
	SkippedName       = skippedTotal.WithLabelValues("name")        // an address over the cap of a name, or a name over that of an address, served as unknown
	SkippedBusy       = skippedTotal.WithLabelValues("busy")        // a new target found the pool's inbox full
	SkippedSigned     = skippedTotal.WithLabelValues("dnssec")      // a signed set, served whole
	SkippedPacked     = skippedTotal.WithLabelValues("packed")      // an answer that another plugin had packed already
	SkippedOverdue    = skippedTotal.WithLabelValues("overdue")     // a probe's turn, missed by more than an interval
	SkippedIsolated   = skippedTotal.WithLabelValues("isolated")    // a target that would have gone down while nobody answered
	SkippedHold       = skippedTotal.WithLabelValues("hold")        // a connection that was not kept, for there were too many
	SkippedRate       = skippedTotal.WithLabelValues("rate")        // a wait for the bound on probes a second
)
