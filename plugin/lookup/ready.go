package lookup

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// readyTick is how often verdicts are looked for while readiness waits.
	readyTick = 100 * time.Millisecond
	// readyStep is how many addresses are looked at in such a tick, so that a large zone does not keep a processor busy.
	readyStep = 4096
	// maxLate is how many names the log lists that had no verdicts in time.
	maxLate = 10
)

// firstVerdicts follows the watched names and preloaded zones of a block until each address of theirs has a verdict. An
// address that is over a limit is unchecked, which is not unknown, so nothing waits for it.
type firstVerdicts struct {
	over     atomic.Bool
	limit    time.Duration             // the longest wait; set before Start
	deadline atomic.Pointer[time.Time] // monotonic, because clocks are set when machines start; nil before BeginWait

	// The rest belongs to the resolver's loop.
	missing map[Question]bool     // watched, and not answered yet
	zones   map[string]bool       // to preload, and not read yet
	unknown map[Question]*dns.Msg // sets with an address that had no verdict when they were last looked at
}

// awaitFirst adds what readiness waits for, for limit at least. It is called before Start.
func (l *Resolver) awaitFirst(limit time.Duration) *firstVerdicts {
	if l.first == nil {
		l.first = &firstVerdicts{missing: make(map[Question]bool), zones: make(map[string]bool), unknown: make(map[Question]*dns.Msg)}
	}
	l.first.limit = max(l.first.limit, limit)
	return l.first
}

// Watch has the answers to these questions learned when the server starts, and again as their TTL runs out. Readiness may
// wait for their first verdicts for as long as limit. It is called before Start.
func (l *Resolver) Watch(questions []Question, limit time.Duration) {
	for _, q := range questions {
		l.awaitFirst(limit).missing[q] = true
		l.takeUp(q, true)
		l.entries()[q].awaited = true
	}
}

// BeginWait lets readiness wait from now on, for the longest limit of Watch and Preload at most. It reports whether there is
// something to wait for.
func (l *Resolver) BeginWait(now time.Time) bool {
	if l.first == nil {
		return false
	}
	deadline := now.Add(l.first.limit)
	l.first.deadline.Store(&deadline)
	return true
}

// SkipWait lets readiness not wait: after a reload, the server is ready already.
func (l *Resolver) SkipWait() {
	if l.first != nil {
		l.first.finish()
	}
}

// AwaitsVerdicts reports whether readiness has to wait at this instant.
func (l *Resolver) AwaitsVerdicts(now time.Time) bool {
	return l.first.waiting() && !l.first.timeUp(now)
}

func (c *firstVerdicts) finish() { c.over.Store(true) }

// waiting reports whether verdicts are missing that may still be waited for.
func (c *firstVerdicts) waiting() bool { return c != nil && !c.over.Load() }

// timeUp reports whether the deadline has passed. Before the start there is none, and nothing waits.
func (c *firstVerdicts) timeUp(now time.Time) bool {
	deadline := c.deadline.Load()
	return deadline == nil || !now.Before(*deadline)
}

// noteAnswer notes the answer to a question, nil if it failed, and shows the pool the addresses in it.
func (c *firstVerdicts) noteAnswer(host Host, q Question, m *dns.Msg) {
	if m == nil {
		return // it is asked again, and until then nothing more is known
	}
	delete(c.missing, q)
	delete(c.unknown, q)
	if host.Judge(m) > 0 && c.waiting() {
		c.unknown[q] = m
	}
}

// noteZone notes that a zone was read, and which of its sets had an address without a verdict then.
func (c *firstVerdicts) noteZone(z zoneRead) {
	if !c.waiting() {
		return
	}
	delete(c.zones, z.zone)
	for _, m := range z.unknown {
		c.unknown[questionOf(m)] = m
	}
}

// update ends the wait if nothing is unknown any more, or time is up. A query may start the resolver before BeginWait: the wait
// is still to come then.
func (c *firstVerdicts) update(host Host, now time.Time) {
	if !c.waiting() {
		c.missing, c.zones, c.unknown = nil, nil, nil
		return
	}
	c.look(host)
	switch {
	case len(c.missing)+len(c.zones)+len(c.unknown) == 0:
		c.finish()
	case c.deadline.Load() != nil && c.timeUp(now):
		log.Warningf("readiness stopped waiting after %s: no first verdicts yet for %s", c.limit, listLate(c.late()))
		c.finish()
	}
}

// look drops sets that have their verdicts. It looks at a part of the rest in each tick: Go begins somewhere else in the
// map each time. While the pool falls behind, it would only hand over the same targets again.
func (c *firstVerdicts) look(host Host) {
	if host.Backlog() >= preloadStep {
		return
	}
	room := readyStep
	for q, m := range c.unknown {
		if host.Judge(m) == 0 {
			delete(c.unknown, q)
		}
		if room -= len(m.Answer); room <= 0 {
			return
		}
	}
}

// late returns the names and zones that are still waited for, sorted.
func (c *firstVerdicts) late() []string {
	names := make(map[string]bool)
	for zone := range c.zones {
		names["the zone "+zone] = true
	}
	for q := range c.missing {
		names[q.Name] = true
	}
	for q := range c.unknown {
		names[q.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// listLate lists the first of some names, and says how many more there are.
func listLate(names []string) string {
	if len(names) <= maxLate {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxLate], ", "), len(names)-maxLate)
}
