package pool

import (
	"container/heap"
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
	// most of what a probe cost. Soon is within gather, or within one gatherShare-th of their fast interval if that is less.
	gather      = 20 * time.Millisecond
	gatherShare = 20
	gatherMost  = 32
	// maxRate bounds the probes a second, whatever a Corefile asks for, so that no DNS server becomes the source of a flood.
	maxRate = 20_000
	// maxBurst is how much of the rate may be caught up with after a pause.
	maxBurst = 10 * time.Millisecond

	// never is a wait that an event will end.
	never = time.Hour
)

// lane is which of two queues a monitor waits in. Each lane has its own share of the probes in flight.
type lane uint8

const (
	healthy lane = iota // its last probe succeeded, or it has had none
	failing
)

// schedule holds the monitors until they are due. Each has its own deadline; there are no rounds.
type schedule struct {
	bound    int // of the probes in flight
	queues   [2]queue
	inFlight [2]int
	opens    time.Time // when the next probe may start, because of maxRate
}

// add schedules the next probe of a monitor.
func (s *schedule) add(m *monitor, due clock.Instant) {
	m.due = due
	m.lane = healthy
	if m.failing {
		m.lane = failing
	}
	heap.Push(&s.queues[m.lane], m)
}

// remove takes a monitor out, if it is in.
func (s *schedule) remove(m *monitor) {
	if m.position >= 0 {
		heap.Remove(&s.queues[m.lane], int(m.position))
		m.position = parked
	}
}

// done gives back the place of a probe that has ended.
func (s *schedule) done(m *monitor) {
	s.inFlight[m.lane]--
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
		m := heap.Pop(&s.queues[l]).(*monitor)
		m.position = probing
		s.inFlight[l]++
		metrics.ProbesInFlight.Inc()
		start(m)
	}
}

// next is the lane that has room and whose first monitor has been due for longest. The shares of the lanes keep the dead
// from delaying the living; the order keeps the living from using up the rate.
func (s *schedule) next(now time.Time, early bool) (next lane, ok bool) {
	for l := healthy; l <= failing; l++ {
		q := s.queues[l]
		if len(q) == 0 || !q[0].isDue(now, early) || !s.hasRoom(l) {
			continue
		}
		if !ok || q[0].due < s.queues[next][0].due {
			next, ok = l, true
		}
	}
	return next, ok
}

// isDue reports whether a probe may start, which it may do a little early if others start as well.
func (m *monitor) isDue(now time.Time, early bool) bool {
	ahead := m.due.Sub(clock.At(now))
	return ahead <= 0 || early && ahead <= m.check.earliness()
}

// hasRoom reports whether a probe of that lane may start. Targets that failed last time get three quarters of the places at
// most: each black hole holds its place for a whole timeout, and must not keep the living waiting. An eighth is never taken
// by the living, so that dead targets are noticed when they return.
func (s *schedule) hasRoom(l lane) bool {
	if l == failing {
		return s.inFlight[failing] < s.bound*3/4 && s.inFlight[healthy]+s.inFlight[failing] < s.bound
	}
	return s.inFlight[healthy]+max(s.inFlight[failing], s.bound/8) < s.bound
}

// wait is how long no probe can be started, unless one in flight ends before.
func (s *schedule) wait(now time.Time) time.Duration {
	wait := never
	for l := healthy; l <= failing; l++ {
		if q := s.queues[l]; len(q) > 0 && s.hasRoom(l) {
			wait = min(wait, q[0].due.Sub(clock.At(now)))
		}
	}
	return max(wait, s.opens.Sub(now), 0)
}

// queue is a heap of monitors, the first due on top. A monitor knows its position, so that it can be taken out.
type queue []*monitor

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due < q[j].due }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].position, q[j].position = int32(i), int32(j)
}

// Push is for container/heap.
func (q *queue) Push(x any) {
	m := x.(*monitor)
	m.position = int32(len(*q))
	*q = append(*q, m)
}

// Pop is for container/heap.
func (q *queue) Pop() any {
	last := len(*q) - 1
	m := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return m
}
