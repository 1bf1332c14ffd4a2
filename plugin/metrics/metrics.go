// Package metrics declares every metric of the plugin, once. The pool, the handler and the followers of files and
// clusters count in them; the *prometheus* plugin exposes them.
//
// Names and labels are part of what users build alerts on: they never change, and docs/manual.md lists them. Labels hold
// checks, states and reasons, never addresses or names of hosts: their number would have no bound.
package metrics

import (
	"strconv"
	"sync"

	"github.com/coredns/coredns/plugin"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// subsystem stands in every metric's name, behind the namespace of CoreDNS.
const subsystem = "multivalue"

// What the pool counts. The series of a check exist while a Corefile or an annotation names it.
var (
	// Targets counts watched targets by state: up, down or unknown.
	Targets = gauges("targets", "Number of watched targets by state.", "state")
	// IdleTargets is how many of the watched targets no query asks for.
	IdleTargets = gauge("idle_targets", "Number of watched targets that no query asks for, so that they are probed less often.")
	// Probes counts probes by check and result: success, failure or abstained.
	Probes = counters("probes_total", "Number of probes by check and result.", "check", "result")
	// ProbeDuration is how long probes took, in seconds.
	ProbeDuration = promauto.NewHistogramVec(histogram("probe_duration_seconds", "Duration of a probe."), []string{"check"})
	// Transitions counts changes of a target's state by check and new state.
	Transitions = counters("transitions_total", "Number of state changes of targets by check and new state.", "check", "to")
	// ReportedWeight is how much of their weight the backends of a check want, in per cent: the least of those that are up, and the sum.
	ReportedWeight = gauges("reported_weight", "Weight in per cent that backends report, of targets that are up: the least and the sum by check.", "check", "aggregate")
	// ProbesInFlight is how many probes have started and not ended.
	ProbesInFlight = gauge("probes_in_flight", "Number of probes in flight.")
	// ProbeLag is how long after it was due a probe started, in seconds.
	ProbeLag = promauto.NewHistogram(histogram("probe_lag_seconds", "Time between when a probe was due and when it started."))
	// LaneLag is how long the first probe that waits in each lane of the schedule has been due, in seconds.
	LaneLag = gauges("lane_lag_seconds", "Time since the oldest waiting probe was due, by lane: doubt, calm, fallen, undecided, slow or idle.", "lane")
	// Held is how many connections checks with hold or reuse keep open, and counts those that a peer closed, where that led to a probe at once.
	Held = struct {
		Connections prometheus.Gauge
		Alarms      *prometheus.CounterVec
		NoRoom      prometheus.Counter // a connection that was not kept for the next probe, because there were too many
	}{
		gauge("held_connections", "Number of connections that checks with hold or reuse keep open."),
		counters("alarms_total", "Number of held connections that a peer closed and that led to a probe at once, by check.", "check"),
		skipped.WithLabelValues("reuse"),
	}
	// Isolated is 1 while no target answers and none is taken down for it.
	Isolated = gauge("isolated", "1 while no target answers, so that none is taken down for a while; else 0.")
	// Panics counts panics in background work.
	Panics = promauto.NewCounter(prometheus.CounterOpts{
		Namespace: plugin.Namespace, Subsystem: subsystem, Name: "panics_total",
		Help: "Number of panics in checks and in background work that were recovered from.",
	})
)

// ReloadFailed is 1 while a Corefile runs that is older than the one which the last reload could not start.
var ReloadFailed = gauge("reload_failed", "1 while the last reload has failed, so that an older Corefile is running; else 0.")

// What the handler and the followers count.
var (
	// Answers counts answers by server, zone, view and outcome.
	Answers = counters("answers_total", "Number of answers to queries for the configured zones by outcome.", "server", "zone", "view", "outcome")
	// Forced counts networks and addresses that files of forced states have in force, by state: up, down or drain.
	Forced = gauges("forced", "Number of addresses and networks that files force into a state.", "state")
	// Force counts files of forced states whose latest content could not be read or understood, and files that cannot be checked,
	// because their file system does not answer. It counts requests to change a file, by result: changed, denied, stale, refused, invalid
	// or failed.
	Force = struct {
		Broken, Stuck prometheus.Gauge
		Requests      *prometheus.CounterVec
	}{
		gauge("force_broken", "Number of files of forced states whose latest content was refused."),
		gauge("force_stuck", "Number of files of forced states whose file system has not answered for ten seconds."),
		counters("force_requests_total", "Number of requests to change a file of forced states by result.", "result"),
	}
	// Topology counts files of sites whose latest content was refused, and files that cannot be checked, because their file
	// system does not answer.
	Topology = struct{ Broken, Stuck prometheus.Gauge }{
		gauge("topology_broken", "Number of files of sites whose latest content was refused."),
		gauge("topology_stuck", "Number of files of sites whose file system has not answered for ten seconds."),
	}
	// State is when the file that keeps verdicts over a restart was last saved, in seconds since 1970, and counts the times it could
	// not be saved.
	State = struct {
		Saved    prometheus.Gauge
		Failures prometheus.Counter
	}{
		gauge("state_saved_timestamp_seconds", "Time at which the state file was last saved, in seconds since 1970; 0 if it never was."),
		promauto.NewCounter(prometheus.CounterOpts{
			Namespace: plugin.Namespace, Subsystem: subsystem, Name: "state_failures_total",
			Help: "Number of times that the state file could not be saved.",
		}),
	}
	// Annotations counts Services whose annotation names a check for some stanza, by state: good or bad.
	Annotations = gauges("annotations", "Number of Services whose annotation names a check, by whether it is valid.", "state")
)

// Fleet counts what this process does as a member of a fleet. No label names a member: their number would have no bound.
var Fleet = struct {
	Members, Targets    *prometheus.GaugeVec   // by state: alive or silent; by role: seat, heard or alone
	Votes, Bytes, Drops *prometheus.CounterVec // by way: sent or received; drops by reason
	Gaps                prometheus.Counter
	BeatAge             prometheus.Gauge
	Thin, Contradicted  prometheus.Gauge
	// Of a fleet over etcd.
	Requests, StoreBytes *prometheus.CounterVec // by kind and outcome; by way: written or read
	Behind, Current      prometheus.Gauge
}{
	gauges("fleet_members", "Number of other members of the fleet by state: alive, or silent if their votes do not count.", "state"),
	gauges("fleet_targets", "Number of shared targets by what this member does: seat if it probes for all, heard if it believes others, alone if it hears no vote.", "role"),
	counters("fleet_votes_total", "Number of votes sent to the fleet and received from it.", "way"),
	counters("fleet_bytes_total", "Number of bytes of packets sent to the fleet and received from it.", "way"),
	counters("fleet_dropped_total", "Number of messages of the fleet that were dropped, by reason.", "reason"),
	promauto.NewCounter(prometheus.CounterOpts{
		Namespace: plugin.Namespace, Subsystem: subsystem, Name: "fleet_gaps_total",
		Help: "Number of times that messages of another member were missing and asked for again.",
	}),
	gauge("fleet_beat_age_seconds", "Time since the member that was not heard for the longest was last heard, of those that are there."),
	gauge("fleet_thin_targets", "Number of shared targets whose verdict rests on one vote."),
	gauge("fleet_contradicted_targets", "Number of targets that this member probes and on which all other votes that count say the opposite."),
	counters("fleet_store_requests_total", "Number of requests to the fleet's etcd by kind and by outcome: ok, refused or failed.", "kind", "outcome"),
	counters("fleet_store_bytes_total", "Number of bytes written to the fleet's etcd and read from it.", "way"),
	gauge("fleet_store_revisions_behind", "Number of revisions of etcd that this member knows of and has not read, which may be those of other programs."),
	gauge("fleet_store_current", "Whether what this member has read from the fleet's etcd is current: 1, or 0."),
}

var skipped = counters("skipped_total", "Number of things left undone, by reason.", "reason")

// What was left undone, by reason. The counters are resolved once, so that neither a query nor a probe looks up a label.
var (
	SkippedMaxTargets = skipped.WithLabelValues("max_targets") // an address over a cap on targets, served unchecked
	SkippedName       = skipped.WithLabelValues("name")        // an address over the cap of a name, or a name over the cap of an address; served as unknown
	SkippedLearn      = skipped.WithLabelValues("learn")       // an address beyond what a name or a stanza may add in a minute, served as unknown
	SkippedBusy       = skipped.WithLabelValues("busy")        // a new target that found the pool's inbox full; the next query repeats it
	SkippedSigned     = skipped.WithLabelValues("dnssec")      // a signed set, served whole
	SkippedPacked     = skipped.WithLabelValues("packed")      // an answer that another plugin had packed already
	SkippedOverdue    = skipped.WithLabelValues("overdue")     // a probe's turn, missed by more than an interval
	SkippedIsolated   = skipped.WithLabelValues("isolated")    // a target that would have gone down while no target answered
	SkippedHold       = skipped.WithLabelValues("hold")        // a connection that was not held, because there were too many
	SkippedRate       = skipped.WithLabelValues("rate")        // a wait for the bound on probes a second
)

// backupAnswers counts answers with backups, by the highest rank of a backup in them. A series exists from its first answer on, so that
// a server without backups has none.
var backupAnswers = counters("backup_answers_total", "Number of answers in which backups are served, by the highest rank of these.", "rank")

// backupAnswersBy are the counters by rank, which goes from 1 to 9: no query looks up a label.
var backupAnswersBy = func() (all [10]func() prometheus.Counter) {
	for rank := range all {
		all[rank] = sync.OnceValue(func() prometheus.Counter { return backupAnswers.WithLabelValues(strconv.Itoa(rank)) })
	}
	return all
}()

// CountBackups counts an answer in which backups are served, the highest of that rank.
func CountBackups(rank int) { backupAnswersBy[rank]().Inc() }

// nearestAnswers counts answers that were chosen by sites, by how near they are.
var nearestAnswers = counters("nearest_answers_total", "Number of answers chosen by sites: from the client's own site alone, from next ones too, or for a client of no site.", "site")

// nearestAnswersBy are the counters by the words of answer.Sites: no query looks up a label.
var nearestAnswersBy = map[string]func() prometheus.Counter{
	"own":  sync.OnceValue(func() prometheus.Counter { return nearestAnswers.WithLabelValues("own") }),
	"next": sync.OnceValue(func() prometheus.Counter { return nearestAnswers.WithLabelValues("next") }),
	"none": sync.OnceValue(func() prometheus.Counter { return nearestAnswers.WithLabelValues("none") }),
}

// CountNearest counts an answer that was chosen by sites. The word is own, next or none; an empty one counts nothing.
func CountNearest(word string) {
	if counter, ok := nearestAnswersBy[word]; ok {
		counter().Inc()
	}
}

// Unchecked counts answers with addresses that are served unchecked. The values of reason are those of verdict.Gap.
var Unchecked = counters("unchecked_total", "Number of answers with addresses that are served unchecked, by reason.", "reason")

func gauge(name, help string) prometheus.Gauge {
	return promauto.NewGauge(prometheus.GaugeOpts{Namespace: plugin.Namespace, Subsystem: subsystem, Name: name, Help: help})
}

func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return promauto.NewGaugeVec(prometheus.GaugeOpts{Namespace: plugin.Namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return promauto.NewCounterVec(prometheus.CounterOpts{Namespace: plugin.Namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
}

// histogram has CoreDNS's own buckets, classic and native.
func histogram(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Namespace: plugin.Namespace, Subsystem: subsystem, Name: name, Help: help,
		Buckets: plugin.TimeBuckets, NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor,
	}
}
