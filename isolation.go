package multivalue

import (
	"time"

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
	answered moment    // when a target last did
	since    time.Time // when the first step was withheld; zero while none is
	spent    bool      // the time is over, until a target answers
	regained moment    // when an answer last ended it
	doubted  int       // targets that are not down and have failed
	fallen   int       // targets that have gone down since one answered
}

// withholds takes note of a result, and reports whether it must be left without effect.
func (i *isolation) withholds(w *watch, failed bool, watched int, now time.Time) bool {
	if !failed {
		i.hear(now)
		return false
	}
	if !w.machine.State().Fit() {
		return false
	}
	switch {
	case w.started < i.regained:
		return true // it was asked while nobody could answer
	case !w.inDoubt, w.doubted < i.regained:
		w.machine.Forgive()
		w.doubted = w.started
	}
	if !w.machine.Falls(w.check.pace) || !i.alone(w, watched, now) {
		return false
	}
	skippedAlone.Inc()
	return true
}

// alone reports whether nobody answers.
func (i *isolation) alone(w *watch, watched int, now time.Time) bool {
	others := i.doubted + i.fallen
	if w.inDoubt {
		others--
	}
	silence := when(now).sub(i.answered)
	if watched < isolatedFrom || others < isolatedOthers || i.answered >= w.doubted || i.spent {
		return false
	}
	if silence < w.check.pace.Fast*(100-verdict.Jitter)/100 {
		return false // several have died together, and one failure was enough, or an alarm made the failures quick
	}
	if i.since.IsZero() {
		i.since = now
		isolatedGauge.Set(1)
		log.Warningf("none of %d targets answers: nothing is taken down for %s at the most, since our own network may be lost", watched, isolatedFor)
	}
	if now.Sub(i.since) < isolatedFor {
		return true
	}
	i.end()
	i.spent = true
	log.Warningf("still no target answers after %s: they are taken down", isolatedFor)
	return false
}

// hear is called when a target answers.
func (i *isolation) hear(now time.Time) {
	i.answered, i.spent, i.fallen = when(now), false, 0
	if !i.since.IsZero() {
		i.regained = when(now)
		log.Infof("targets answer again after %.1f seconds: what failed since is forgotten", now.Sub(i.since).Seconds())
		i.end()
	}
}

func (i *isolation) end() {
	i.since = time.Time{}
	isolatedGauge.Set(0)
}

// doubt counts the targets that are in doubt, after a result of one of them, which may have taken it down.
func (i *isolation) doubt(w *watch, before verdict.State) {
	if before.Fit() && !w.machine.State().Fit() {
		i.fallen++
	}
	doubt := w.machine.State().Fit() && w.machine.Streak() > 0
	if doubt == w.inDoubt {
		return
	}
	w.inDoubt = doubt
	if doubt {
		i.doubted++
	} else {
		i.doubted--
	}
}

// drop forgets a target.
func (i *isolation) drop(w *watch) {
	if w.inDoubt {
		w.inDoubt = false
		i.doubted--
	}
}
