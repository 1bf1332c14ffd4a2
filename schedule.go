package multivalue

import (
	"container/heap"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
)

const (
	// maxInFlight bounds the probes under way, each of which takes a descriptor, for its timeout at the most. So does a
	// quarter of the descriptors that the process may have, unless that is less than minInFlight.
	maxInFlight     = 4096
	minInFlight     = 64
	manyDescriptors = 1 << 16
	// When one probe starts, up to gatherMost others start with it that are due within gather, or within a share of their
	// fast interval if that is less: it is cheaper to wake up for many.
	gather      = 20 * time.Millisecond
	gatherShare = 20
	gatherMost  = 32
	// maxRate bounds the probes a second, whatever a Corefile asks for: no DNS server becomes a flood.
	maxRate = 20_000
	// maxBurst is how far the rate may be caught up with after a pause.
	maxBurst = 10 * time.Millisecond

	// never is a wait that something else will end.
	never = time.Hour
)

// lane is which of two queues a watch waits in.
type lane uint8

const (
	healthy lane = iota // its last probe succeeded, or it has had none
	failing
)

// schedule holds the watches until they are due. Each has its own deadline; there are no rounds.
type schedule struct {
	bound    int // of the probes under way
	queues   [2]queue
	inFlight [2]int
	opens    time.Time // no probe starts before, for the sake of maxRate
}

// add plans the next probe of a watch.
func (s *schedule) add(w *monitor, due clock.Instant) {
	w.due = due
	w.lane = healthy
	if w.failing {
		w.lane = failing
	}
	heap.Push(&s.queues[w.lane], w)
}

// remove takes a watch out, if it is in.
func (s *schedule) remove(w *monitor) {
	if w.position >= 0 {
		heap.Remove(&s.queues[w.lane], int(w.position))
		w.position = parked
	}
}

// done gives back what the probe of a watch held.
func (s *schedule) done(w *monitor) {
	s.inFlight[w.lane]--
	metrics.ProbesInFlight.Dec()
	w.position = parked
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
		w := heap.Pop(&s.queues[l]).(*monitor)
		w.position = probing
		s.inFlight[l]++
		metrics.ProbesInFlight.Inc()
		start(w)
	}
}

// next is the lane that has room and whose first watch has been due for longest. The rooms keep the dead from delaying
// the living; the order keeps the living from using up the rate.
func (s *schedule) next(now time.Time, early bool) (next lane, ok bool) {
	for l := healthy; l <= failing; l++ {
		q := s.queues[l]
		if len(q) == 0 || !q[0].isDue(now, early) || !s.room(l) {
			continue
		}
		if !ok || q[0].due < s.queues[next][0].due {
			next, ok = l, true
		}
	}
	return next, ok
}

// isDue reports whether a probe may start, which it may do early where others start as well.
func (w *monitor) isDue(now time.Time, early bool) bool {
	ahead := w.due.Sub(clock.At(now))
	return ahead <= 0 || early && ahead <= w.check.earliness()
}

// room reports whether a probe of that lane may start. Three quarters of the places may be taken by targets that failed
// last time, so that black holes, each of which holds its place for a whole timeout, never keep the living waiting; an
// eighth is never taken by the living, so that the dead are noticed when they return.
func (s *schedule) room(l lane) bool {
	if l == failing {
		return s.inFlight[failing] < s.bound*3/4 && s.inFlight[healthy]+s.inFlight[failing] < s.bound
	}
	return s.inFlight[healthy]+max(s.inFlight[failing], s.bound/8) < s.bound
}

// wait is how long nothing can be started, unless a probe ends before.
func (s *schedule) wait(now time.Time) time.Duration {
	wait := never
	for l := healthy; l <= failing; l++ {
		if q := s.queues[l]; len(q) > 0 && s.room(l) {
			wait = min(wait, q[0].due.Sub(clock.At(now)))
		}
	}
	return max(wait, s.opens.Sub(now), 0)
}

// queue is a heap of watches, the first due on top.
type queue []*monitor

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due < q[j].due }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].position, q[j].position = int32(i), int32(j)
}

// Push is for container/heap.
func (q *queue) Push(x any) {
	w := x.(*monitor)
	w.position = int32(len(*q))
	*q = append(*q, w)
}

// Pop is for container/heap.
func (q *queue) Pop() any {
	last := len(*q) - 1
	w := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return w
}
