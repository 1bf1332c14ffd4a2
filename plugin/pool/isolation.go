package pool

import (
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

const (
	// isolatedFrom is how many targets must be watched, because the silence of a few proves little.
	isolatedFrom = 16
	// isolatedOthers is how many other targets must be failing too.
	isolatedOthers = 4
	// isolatedFor is how long no target is taken down at most, because all of them may really be dead.
	isolatedFor = time.Minute
)

// isolation decides whether the silence of all targets is more likely our own fault: that the network between this process
// and all of them is lost. Then no target is taken down for a minute at most, and the failures of that time are forgotten
// when one answers again.
type isolation struct {
	lastAnswer clock.Instant // when a target last answered
	since      time.Time     // when the first result was withheld; zero while none is
	exhausted  bool          // its time is over, until a target answers
	endedAt    clock.Instant // when an answer last ended it
	suspects   [3]int        // targets by suspicion
	fallen     int           // targets that were up and have gone down since the last answer

	confirmed map[*monitor]bool // that other members find down, too, while this lasts
}

// suspicion is whether a target that is not down has failures that count.
type suspicion uint8

const (
	trusted          suspicion = iota
	neverAnswered              // no probe has succeeded yet
	stoppedAnswering           // it is up, and its last probes failed
)

// withholds notes the result of a probe, and reports whether it must have no effect.
func (i *isolation) withholds(m *monitor, failed bool, watched int, now time.Time) bool {
	if !failed {
		i.answer(now)
		return false
	}
	if !m.machine.State().Fit() {
		return false
	}
	switch {
	case m.started < i.endedAt:
		return true // it was asked while no target could answer
	case m.suspicion == trusted, m.suspectSince < i.endedAt:
		m.machine.Forgive()
		m.suspectSince = m.started
	}
	if !m.machine.Falls(m.check.pace) || !i.isolated(m, watched, now) {
		return false
	}
	metrics.SkippedIsolated.Inc()
	return true
}

// isolated reports whether no target answers: enough of them are watched, enough others are failing, none has answered since
// this one began to fail, and that is not the work of a moment.
func (i *isolation) isolated(m *monitor, watched int, now time.Time) bool {
	others := i.failing()
	if m.suspicion == stoppedAnswering || m.suspicion == neverAnswered && i.lastAnswer == clock.LongAgo {
		others-- // it is one of them
	}
	silence := clock.At(now).Sub(i.lastAnswer)
	if watched < isolatedFrom || others < isolatedOthers || i.lastAnswer >= m.suspectSince || i.exhausted {
		return false
	}
	if silence < m.check.pace.Fast*(100-verdict.Jitter)/100 {
		return false // several died together, where one failure is enough, or an alarm made the failures quick
	}
	if i.since.IsZero() {
		i.since = now
		metrics.Isolated.Set(1)
		log.Warningf("none of %d targets answers: no target is taken down for up to %s, because our own network may be lost", watched, isolatedFor)
	}
	i.expire(now)
	return !i.exhausted
}

// expire ends it when its time is over.
func (i *isolation) expire(now time.Time) {
	if i.since.IsZero() || now.Sub(i.since) < isolatedFor {
		return
	}
	i.lift()
	i.exhausted = true
	log.Warningf("still no target answers after %s: targets are taken down from now on", isolatedFor)
}

// failing is how many targets are failing. Failures of targets that have never answered prove nothing, unless no target ever
// has.
func (i *isolation) failing() int {
	if i.lastAnswer == clock.LongAgo {
		return i.suspects[neverAnswered] + i.suspects[stoppedAnswering] + i.fallen
	}
	return i.suspects[stoppedAnswering] + i.fallen
}

// answer is called when a target answers.
func (i *isolation) answer(now time.Time) {
	i.lastAnswer, i.exhausted, i.fallen = clock.At(now), false, 0
	if !i.since.IsZero() {
		i.endedAt = clock.At(now)
		log.Infof("targets answer again after %.1f seconds: the failures since then are forgotten", now.Sub(i.since).Seconds())
		i.lift()
	}
}

// confirm notes that others find a target down as well. If they do of several, it is not our network: what fails here counts from then
// on, until a target answers.
func (i *isolation) confirm(m *monitor) {
	if i.since.IsZero() {
		return
	}
	if i.confirmed == nil {
		i.confirmed = make(map[*monitor]bool)
	}
	if i.confirmed[m] = true; len(i.confirmed) >= isolatedOthers {
		log.Infof("other members of the fleet find %d of the same targets down: it is not our own network", len(i.confirmed))
		i.lift()
		i.exhausted = true
	}
}

// lift lets results have their effect again.
func (i *isolation) lift() {
	i.since, i.confirmed = time.Time{}, nil
	metrics.Isolated.Set(0)
}

// update keeps the counts after a result of a target, which may have taken it down.
func (i *isolation) update(m *monitor, before verdict.State) {
	now := m.machine.State()
	if now == verdict.Down && (before == verdict.Up || before == verdict.Unknown && i.lastAnswer == clock.LongAgo) {
		i.fallen++
	}
	switch {
	case !now.Fit() || m.machine.Streak() == 0:
		i.mark(m, trusted)
	case now == verdict.Unknown:
		i.mark(m, neverAnswered)
	default:
		i.mark(m, stoppedAnswering)
	}
}

// mark sets the suspicion of a target.
func (i *isolation) mark(m *monitor, d suspicion) {
	i.suspects[m.suspicion]--
	i.suspects[d]++
	m.suspicion = d
}

// remove takes a target off the counts.
func (i *isolation) remove(m *monitor) { i.mark(m, trusted) }
