package multivalue

import (
	"github.com/coredns/coredns/plugin"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// subsystem stands in every metric's name, behind the namespace of CoreDNS.
const subsystem = "multivalue"

var (
	targetsGauge = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "targets",
		Help:      "The number of watched targets by state.",
	}, []string{"state"})
	probesTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "probes_total",
		Help:      "The count of probes by check and result.",
	}, []string{"check", "result"})
	probeDuration = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Namespace:                   plugin.Namespace,
		Subsystem:                   subsystem,
		Name:                        "probe_duration_seconds",
		Buckets:                     plugin.TimeBuckets,
		NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor,
		Help:                        "The time that a probe took.",
	}, []string{"check"})
	transitionsTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "transitions_total",
		Help:      "The count of changes of a target's state by check and new state.",
	}, []string{"check", "to"})
	answersTotal = promauto.NewCounterVec(prometheus.CounterOpts{
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
	probesInFlight = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "probes_in_flight",
		Help:      "The number of probes under way.",
	})
	probeLag = promauto.NewHistogram(prometheus.HistogramOpts{
		Namespace:                   plugin.Namespace,
		Subsystem:                   subsystem,
		Name:                        "probe_lag_seconds",
		Buckets:                     plugin.TimeBuckets,
		NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor,
		Help:                        "The time from when a probe was due to when it started.",
	})
	heldConnections = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "held_connections",
		Help:      "The number of connections that are kept to targets by checks with hold.",
	})
	alarmsTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "alarms_total",
		Help:      "The count of kept connections that a peer ended and that led to a probe at once, by check.",
	}, []string{"check"})
	isolatedGauge = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "isolated",
		Help:      "Whether no target answers, so that none is taken down for a while.",
	})
	forcedGauge = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "forced",
		Help:      "The number of addresses and networks that files have forced into a state.",
	}, []string{"state"})
	forceBroken = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "force_broken",
		Help:      "The number of files of forced states whose latest content was refused.",
	})
	annotationsGauge = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "annotations",
		Help:      "The number of Services whose annotation names a check, by whether it could be heeded.",
	}, []string{"state"})
	panics = promauto.NewCounter(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: subsystem,
		Name:      "panics_total",
		Help:      "The count of panics in checks and in the pool that were recovered from.",
	})
)

// Resolved once, so that neither a query nor a probe looks up a label.
var (
	skippedCap     = skippedTotal.WithLabelValues("max_targets") // an address over a cap, served unchecked
	skippedName    = skippedTotal.WithLabelValues("name")        // an address over the cap of a name, or a name over that of an address, served as unknown
	skippedBusy    = skippedTotal.WithLabelValues("busy")        // a new target found the pool's inbox full
	skippedSigned  = skippedTotal.WithLabelValues("dnssec")      // a signed set, served whole
	skippedPacked  = skippedTotal.WithLabelValues("packed")      // an answer that another plugin had packed already
	skippedOverdue = skippedTotal.WithLabelValues("overdue")     // a probe's turn, missed by more than an interval
	skippedAlone   = skippedTotal.WithLabelValues("isolated")    // a target that would have gone down while nobody answered
	skippedHold    = skippedTotal.WithLabelValues("hold")        // a connection that was not kept, for there were too many
	skippedRate    = skippedTotal.WithLabelValues("rate")        // a wait for the bound on probes a second
)
