package multivalue

import (
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

const (
	// isolatedFrom is how many targets must be watched: the silence of a few proves little.
	isolatedFrom = 16
	// isolatedOthers is how many other targets must be failing too.
	isolatedOthers = 4
	// isolatedFor is how long nothing is taken down at the most, for in the end all of them may be dead.
	isolatedFor = time.Minute
)

// isolation tells whether the silence of all targets is more likely our own: then the network between us and them is lost,
// and no target is taken down for it.
type isolation struct {
	lastAnswer clock.Instant // when a target last did
	since      time.Time     // when the first step was withheld; zero while none is
	exhausted  bool          // the time is over, until a target answers
	endedAt    clock.Instant // when an answer last ended it
	suspects   [3]int        // targets, by the doubt about them
	fallen     int           // targets that were up and have gone down since one answered
}

// suspicion is whether the failures of a target count that is not down.
type suspicion uint8

const (
	trusted          suspicion = iota
	neverAnswered              // no probe has decided about it yet
	stoppedAnswering           // it is up
)

// withholds takes note of a result, and reports whether it must be left without effect.
func (i *isolation) withholds(w *monitor, failed bool, watched int, now time.Time) bool {
	if !failed {
		i.answer(now)
		return false
	}
	if !w.machine.State().Fit() {
		return false
	}
	switch {
	case w.started < i.endedAt:
		return true // it was asked while nobody could answer
	case w.suspicion == trusted, w.suspectSince < i.endedAt:
		w.machine.Forgive()
		w.suspectSince = w.started
	}
	if !w.machine.Falls(w.check.pace) || !i.isolated(w, watched, now) {
		return false
	}
	metrics.SkippedIsolated.Inc()
	return true
}

// isolated reports whether nobody answers.
func (i *isolation) isolated(w *monitor, watched int, now time.Time) bool {
	others := i.failing()
	if w.suspicion == stoppedAnswering || w.suspicion == neverAnswered && i.lastAnswer == clock.LongAgo {
		others-- // for it is one of them
	}
	silence := clock.At(now).Sub(i.lastAnswer)
	if watched < isolatedFrom || others < isolatedOthers || i.lastAnswer >= w.suspectSince || i.exhausted {
		return false
	}
	if silence < w.check.pace.Fast*(100-verdict.Jitter)/100 {
		return false // several have died together, and one failure was enough, or an alarm made the failures quick
	}
	if i.since.IsZero() {
		i.since = now
		metrics.Isolated.Set(1)
		log.Warningf("none of %d targets answers: nothing is taken down for %s at the most, since our own network may be lost", watched, isolatedFor)
	}
	i.expire(now)
	return !i.exhausted
}

// expire ends it when its time is over, whether a target would go down or not.
func (i *isolation) expire(now time.Time) {
	if i.since.IsZero() || now.Sub(i.since) < isolatedFor {
		return
	}
	i.end()
	i.exhausted = true
	log.Warningf("still no target answers after %s: they are taken down", isolatedFor)
}

// failing is how many targets are failing. That those fail which have never answered proves nothing, unless none ever has.
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
		log.Infof("targets answer again after %.1f seconds: what failed since is forgotten", now.Sub(i.since).Seconds())
		i.end()
	}
}

func (i *isolation) end() {
	i.since = time.Time{}
	metrics.Isolated.Set(0)
}

// update keeps the accounts after a result of a target, which may have taken it down.
func (i *isolation) update(w *monitor, before verdict.State) {
	now := w.machine.State()
	if now == verdict.Down && (before == verdict.Up || before == verdict.Unknown && i.lastAnswer == clock.LongAgo) {
		i.fallen++
	}
	switch {
	case !now.Fit() || w.machine.Streak() == 0:
		i.mark(w, trusted)
	case now == verdict.Unknown:
		i.mark(w, neverAnswered)
	default:
		i.mark(w, stoppedAnswering)
	}
}

// mark notes the doubt about a target.
func (i *isolation) mark(w *monitor, d suspicion) {
	i.suspects[w.suspicion]--
	i.suspects[d]++
	w.suspicion = d
}

// remove forgets a target.
func (i *isolation) remove(w *monitor) { i.mark(w, trusted) }
