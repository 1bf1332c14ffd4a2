package pool

import (
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
)

const (
	// maxInFlight bounds the probes in flight, each of which takes a descriptor, for up to its timeout. A quarter of the
	// descriptors that the process may have bounds them too, unless that is less than minInFlight.
	maxInFlight     = 4096
	minInFlight     = 64
	manyDescriptors = 1 << 16
	// When one probe starts, up to gatherMost others that are due soon start with it, because waking up for one at a time was
	// most of what a probe cost. Soon is within gather, or within the jitter of the shortest wait of their pace if that is less.
	gather     = 20 * time.Millisecond
	gatherMost = 32
	// maxRate bounds the probes a second, whatever a Corefile asks for, so that no DNS server becomes the source of a flood. It
	// is what MaxTargets need at the default interval.
	maxRate = 30_000
	// maxBurst is how much of the rate may be caught up with after a pause.
	maxBurst = 10 * time.Millisecond

	// never is a wait that an event will end.
	never = time.Hour
)

// schedule holds the monitors until they are due. Each has its own deadline; there are no rounds.
type schedule struct {
	bound    int // of the probes in flight
	total    int // probes in flight
	queues   [lanes]queue
	inFlight [lanes]int
	opens    time.Time     // when the next probe may start, because of maxRate
	lends    time.Time     // when the next place may be lent
	pass     [lanes]uint64 // how far each lane has advanced
	turn     uint64        // how far the lane had advanced that started the last probe
}

// add schedules the next probe of a monitor.
func (s *schedule) add(m *monitor, due clock.Instant, now time.Time) {
	m.due = due
	m.lane = m.laneOf(now)
	s.queues[m.lane].push(m, due)
}

// remove takes a monitor out, if it is in.
func (s *schedule) remove(m *monitor) {
	if m.position >= 0 {
		s.queues[m.lane].remove(int(m.position))
		m.position = parked
	}
}

// done gives back the place of a probe that has ended.
func (s *schedule) done(m *monitor) {
	s.inFlight[m.lane]--
	s.total--
	metrics.ProbesInFlight.Dec()
	m.position = parked
}

// dispatch starts what is due, as far as the bounds allow.
func (s *schedule) dispatch(now time.Time, start func(*monitor)) {
	for started := 0; ; started++ {
		l, ok := s.next(now, started > 0 && started < gatherMost)
		if !ok {
			return
		}
		if now.Before(s.opens) {
			metrics.SkippedRate.Inc()
			return
		}
		if idle := now.Add(-maxBurst); s.opens.Before(idle) {
			s.opens = idle
		}
		s.opens = s.opens.Add(time.Second / maxRate)
		s.turn = max(s.pass[l], s.turn)
		s.pass[l] = s.turn + strides[l]
		m := s.queues[l].pop()
		m.position = probing
		s.inFlight[l]++
		s.total++
		s.lend(m, now)
		metrics.ProbesInFlight.Inc()
		start(m)
	}
}

// next is the lane that starts the next probe: one that has something due, and a place for it. A place of its own comes before
// one that is lent, and then the lane that has had the smallest part of its share of the rate.
func (s *schedule) next(now time.Time, early bool) (next lane, ok bool) {
	own := false
	for l := range lanes {
		q := s.queues[l]
		if len(q) == 0 || !q[0].isDue(now, early) || !s.mayStart(l, now) {
			continue
		}
		better := max(s.pass[l], s.turn) < max(s.pass[next], s.turn)
		if o := s.hasShare(l); !ok || o && !own || o == own && better {
			next, ok, own = l, true, o
		}
	}
	return next, ok
}

// isDue reports whether a probe may start, which it may do a little early if others start as well.
func (x slot) isDue(now time.Time, early bool) bool {
	ahead := x.due.Sub(clock.At(now))
	return ahead <= 0 || early && ahead <= x.check.earliness()
}

// wait is how long no probe can be started, unless one in flight ends before. Places are lent for a moment's worth at a time,
// because waking up for each would cost more than the probes.
func (s *schedule) wait(now time.Time) time.Duration {
	wait := never
	for l := range lanes {
		q := s.queues[l]
		if len(q) == 0 {
			continue
		}
		due := q[0].due.Sub(clock.At(now))
		switch {
		case s.mayStart(l, now):
			wait = min(wait, due)
		case s.mayStart(l, s.lends):
			wait = min(wait, max(due, s.lends.Sub(now)+gather/2))
		}
	}
	return max(wait, s.opens.Sub(now), 0)
}
