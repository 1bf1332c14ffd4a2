package multivalue

import (
	"slices"
	"time"
)

// Ready reports whether the pool runs, and has a first verdict on the addresses of watched names, for which it waits at
// most five seconds. It never turns on the health of the backends: a CoreDNS that knows of nothing but dead ones is the
// very one whose answers are needed.
func (m Multivalue) Ready() bool { return thePool.running.Load() && !thePool.awaits(time.Now()) }

// awaits reports whether first verdicts on watched names are missing.
func (p *pool) awaits(now time.Time) bool {
	awaited := p.awaited.Load()
	return awaited != nil && slices.ContainsFunc(*awaited, func(c *census) bool { return c.holds(now) })
}
