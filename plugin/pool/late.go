package pool

import (
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// lagEvery is how often the lag of the lanes is measured.
	lagEvery = time.Second
	// onTimeFor is how long the probes must have been on time before that is logged.
	onTimeFor = 10 * time.Second
)

// lags are the gauges of what each lane has waiting, resolved once.
var lags = func() (all [lanes]prometheus.Gauge) {
	for l := range lanes {
		all[l] = metrics.LaneLag.WithLabelValues(l.String())
	}
	return all
}()

// lateness tells whether dead targets are noticed within the bound of their pace (verdict.Pace.Bound). They are as long as
// no probe of a calm target, or of one in doubt, waits for a place for longer than a fast interval.
type lateness struct {
	next   time.Time // when to measure again
	since  time.Time // when probes began to be late; zero while they are on time
	last   time.Time // when one was last late
	behind bool      // something is due, so that the gauges have to be set again
}

// measure sets the gauges of the lanes, and logs when the bound is not kept, and when it is again.
func (n *lateness) measure(s *schedule, now time.Time) {
	if now.Before(n.next) {
		return
	}
	n.next, n.behind = now.Add(lagEvery), false
	late := false
	for l := range lanes {
		lag := s.lag(l, now)
		lags[l].Set(lag.Seconds())
		n.behind = n.behind || lag > 0
		late = late || l <= calm && lag > 0 && lag > s.queues[l][0].check.pace.Fast
	}
	switch {
	case late && n.since.IsZero():
		n.since = now
		log.Warningf("probes are late: %d targets in doubt share %d places, so that a dead address may stay in answers for longer than it should; allow more open files, or use a longer interval or a shorter timeout",
			len(s.queues[doubt])+s.inFlight[doubt], s.bound/2)
	case !late && !n.since.IsZero() && now.Sub(n.last) >= onTimeFor:
		log.Infof("probes are on time again, after %.0f seconds", n.last.Sub(n.since).Seconds())
		n.since = time.Time{}
	}
	if late {
		n.last = now
	}
}

// rest is how long measure can wait.
func (n *lateness) rest(now time.Time) time.Duration {
	if !n.behind && n.since.IsZero() {
		return never
	}
	return max(0, n.next.Sub(now))
}

// clear sets the gauges of a schedule that has stopped.
func (n *lateness) clear() {
	for _, g := range lags {
		g.Set(0)
	}
	*n = lateness{}
}
