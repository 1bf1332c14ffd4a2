package lookup

import (
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// readyWait is how long readiness waits for the first verdicts on watched names.
const readyWait = 5 * time.Second

// firstVerdicts follows the watched names of a block until each address of theirs has a verdict.
type firstVerdicts struct {
	over     atomic.Bool
	deadline atomic.Pointer[time.Time] // monotonic, because clocks are set when machines start; nil before BeginWait

	// The rest belongs to the resolver's loop.
	missing map[Question]bool     // not answered yet
	answers map[Question]*dns.Msg // the last to each question
}

// Watch has the answers to these questions learned when the server starts, and again as their TTL runs out. It is called
// before Start.
func (l *Resolver) Watch(questions []Question) {
	if len(questions) == 0 {
		return
	}
	l.watched = &firstVerdicts{missing: make(map[Question]bool), answers: make(map[Question]*dns.Msg)}
	for _, q := range questions {
		l.watched.missing[q] = true
		l.takeUp(q, true)
	}
}

// BeginWait lets readiness wait from now on, for five seconds at most. It reports whether there is something to wait for.
func (l *Resolver) BeginWait(now time.Time) bool {
	if l.watched == nil {
		return false
	}
	deadline := now.Add(readyWait)
	l.watched.deadline.Store(&deadline)
	return true
}

// AwaitsVerdicts reports whether readiness has to wait at this instant.
func (l *Resolver) AwaitsVerdicts(now time.Time) bool {
	return l.watched.waiting() && !l.watched.timeUp(now)
}

func (c *firstVerdicts) finish() { c.over.Store(true) }

// waiting reports whether verdicts are missing that may still be waited for.
func (c *firstVerdicts) waiting() bool { return c != nil && !c.over.Load() }

// timeUp reports whether the deadline has passed. Before the start there is none, and nothing waits.
func (c *firstVerdicts) timeUp(now time.Time) bool {
	deadline := c.deadline.Load()
	return deadline == nil || !now.Before(*deadline)
}

// noteAnswer notes the answer to a question, nil if there was none, and shows the pool the addresses in it.
func (c *firstVerdicts) noteAnswer(host Host, q Question, m *dns.Msg) {
	if m != nil {
		host.Judge(m)
		if !c.over.Load() {
			c.answers[q] = m
		}
	}
	delete(c.missing, q)
}

// update ends the wait if nothing is unknown any more, or time is up. A query may start the resolver before BeginWait: the wait
// is still to come then.
func (c *firstVerdicts) update(host Host) {
	if c.over.Load() {
		return
	}
	unknown := len(c.missing)
	for _, m := range c.answers {
		unknown += host.Judge(m)
	}
	if unknown == 0 || c.deadline.Load() != nil && c.timeUp(time.Now()) {
		c.finish()
		clear(c.answers)
	}
}
