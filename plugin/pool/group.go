package pool

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/coredns-multivalue/multivalue/internal/logonce"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Checks tells which checks apply to the record sets of a stanza. It is called on the loop, and must not wait.
type Checks interface {
	// For returns the checks for sets of this owner name.
	For(owner string) []CheckSpec
	// All returns every check of the stanza, each once.
	All() []CheckSpec
}

// Group is what one stanza has in the pool: its targets, and the limits on them. The exported fields are set before it is
// added to a generation, and do not change.
type Group struct {
	At     string                  // file and line of the stanza
	Zones  string                  // of the stanza; tells it from others with the same checks
	Max    int                     // targets
	DryRun bool                    // for the status page
	Warms  bool                    // queries need the clock, to see how long an address has been up
	Allow  func(netip.Addr) bool   // which addresses may be probed
	Forced func(netip.Addr) string // the forced state of an address, for the status page; nil if the stanza has none
	Checks Checks

	pool       *Pool
	generation *Generation
	targets    int // that it was the first to ask for; the loop's
	full       atomic.Bool

	loggedFull, loggedNames logonce.Line // lines that every sweep allows again
}

// Look is what the pool believes of a target of a check of the group: what queries ask. It takes no lock, does not wait
// and allocates nothing. Looking is watching: a target that is not in the table is handed to the pool, and unknown until
// a probe has decided; one over a limit is unchecked. The port is the record's, 0 if it names none; the TTL is the one
// that the record may go out with, in seconds.
func (g *Group) Look(c *CheckSpec, owner string, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	t, seed := c.target(owner, addr, port)
	if e := g.pool.table.Find(&t, table.Hash(&t, seed)); e != nil {
		if v, there := e.Load(ttl); there {
			return v
		}
	}
	if c.hasNoPort(t) {
		return verdict.BriefUnchecked
	}
	return g.request(t, c, owner, ttl)
}

// Peek is what Look would return, without a trace: it is for explanations, which must not have anything watched.
func (g *Group) Peek(k Key) verdict.Brief {
	if e := g.pool.table.Find(&k.Target, table.Hash(&k.Target, k.seed)); e != nil {
		if v, there := e.Peek(); there {
			return v
		}
	}
	if k.Check.hasNoPort(k.Target) || g.full.Load() || g.pool.full.Load() {
		return verdict.BriefUnchecked
	}
	return 0
}

// Clock is the pool's clock: see Pool.Clock.
func (g *Group) Clock() uint64 { return g.pool.clock.Load() }

// request hands a target to the pool, if there is room for it.
func (g *Group) request(t verdict.Target, c *CheckSpec, owner string, ttl uint32) verdict.Brief {
	if g.full.Load() || g.pool.full.Load() {
		metrics.SkippedMaxTargets.Inc()
		g.logFull()
		return verdict.BriefUnchecked
	}
	select {
	case g.pool.requests <- targetRequest{t, c.identity, g, owner, ttl}:
	default: // the next query repeats it
		metrics.SkippedBusy.Inc()
	}
	return 0
}

// logFull logs that a limit leaves addresses of a stanza unchecked, once until the next sweep. It is for the query path.
func (g *Group) logFull() {
	if !g.loggedFull.First() {
		return
	}
	if g.pool.full.Load() {
		g.pool.Warn("the limit of %d targets in all is reached: further addresses are served unchecked (stanza at %s)", g.pool.maxTargets, g.At)
		return
	}
	g.pool.Warn("max_targets %d is reached: further addresses are served unchecked (stanza at %s)", g.Max, g.At)
}

// resetLogs lets the log be told again of what is still so.
func (g *Group) resetLogs() {
	g.loggedFull.Reset()
	g.loggedNames.Reset()
}

// covers reports whether the stanza asks a check of addresses in sets of that name, and may probe this one.
func (g *Group) covers(id verdict.Identity, addr netip.Addr, owner string) bool {
	return slices.ContainsFunc(g.Checks.For(owner), func(c CheckSpec) bool { return c.identity == id }) && g.Allow(addr)
}

// Backlog is the pool's: see Pool.Backlog.
func (g *Group) Backlog() int { return g.pool.Backlog() }

// Warn hands a line to the pool's log, from the query path: see Pool.Warn.
func (g *Group) Warn(format string, args ...any) { g.pool.Warn(format, args...) }
