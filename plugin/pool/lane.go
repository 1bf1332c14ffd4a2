package pool

import (
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// lane is which queue a monitor waits in. Each lane has a share of the places for probes in flight, and of the probes a
// second. So what is slow, dead or new, however much of it there is, does not delay what the answers depend on: a target
// that is about to change its state.
type lane uint8

const (
	doubt     lane = iota // decided, and the last results or the end of a held connection speak against it
	calm                  // up, and its probes are quick
	fallen                // it went down a short while ago, and is expected back
	undecided             // no state yet
	slow                  // up and slow to answer, or down for long, or down without ever having been up
	idle                  // no query asks for it, whatever its state
	lanes                 // how many there are
)

// String returns the lane as the metrics name it.
func (l lane) String() string {
	return [...]string{"doubt", "calm", "fallen", "undecided", "slow", "idle"}[l]
}

const (
	// quickShare: a probe is quick if it took no more than one quickShare-th of its timeout.
	quickShare = 4
	// fallenFor is how long a target that was up counts as fallen. After that it is one of the long dead.
	fallenFor = 10 * time.Minute
	// places are sixteenths of the bound of probes in flight.
	sixteenths = 16
)

var (
	// places are the shares of the places that the lanes are sure of, in sixteenths of the bound. What a lane does not use is
	// lent to others, except for the last eighth, which is never lent. Idle targets have what is lent.
	places = [lanes]int{doubt: 8, calm: 2, fallen: 1, undecided: 4, slow: 1, idle: 0}
	// strides are inverse to the shares of the rate, where more is due than maxRate allows: the lane that starts a probe
	// advances by its stride, and the one that has advanced least is next. A place of a lane's own comes before one that is
	// lent, so idle targets, which have none, come last.
	strides = [lanes]uint64{doubt: 1, calm: 1, fallen: 4, undecided: 2, slow: 4, idle: 8}
)

// laneOf is the lane that a monitor belongs in now. An idle one stays in its own, also in doubt: otherwise a flood of names
// whose targets go down together would take the places of those that are asked for.
func (m *monitor) laneOf(now time.Time) lane {
	state := m.machine.State()
	switch {
	case m.idle:
		return idle
	case state == verdict.Unknown:
		return undecided
	case m.machine.Streak() > 0, m.held != nil && m.held.alarmed:
		return doubt
	case state == verdict.Down && m.fell && clock.Steady(now).Sub(m.machine.Verdict(0).Since) < fallenFor:
		return fallen
	case state == verdict.Down || m.slow:
		return slow
	}
	return calm
}

// mayStart reports whether there is a place for a probe of that lane.
func (s *schedule) mayStart(l lane, now time.Time) bool {
	switch {
	case s.total >= s.bound:
		return false
	case s.hasShare(l):
		return true
	case s.total >= s.bound-s.bound/8:
		return false
	}
	return l <= calm || !now.Before(s.lends)
}

// hasShare reports whether a lane has a place left of its own.
func (s *schedule) hasShare(l lane) bool { return s.inFlight[l] < s.bound*places[l]/sixteenths }

// lend notes that a lane took a place beyond its share. Places are lent one by one, as far apart as they would come back if
// every probe took all of its timeout: so the lane they belong to waits for the next one that comes back, not for a whole
// timeout. What is quick, or promised, need not wait for that.
func (s *schedule) lend(m *monitor, now time.Time) {
	if m.lane <= calm || s.inFlight[m.lane] <= s.bound*places[m.lane]/sixteenths {
		return
	}
	if ago := now.Add(-gather); s.lends.Before(ago) {
		s.lends = ago
	}
	s.lends = s.lends.Add(m.check.pace.Timeout / time.Duration(s.bound))
}

// lag is how long the first monitor of a lane has been due.
func (s *schedule) lag(l lane, now time.Time) time.Duration {
	if len(s.queues[l]) == 0 {
		return 0
	}
	return max(0, clock.At(now).Sub(s.queues[l][0].due))
}
