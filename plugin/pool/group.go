package pool

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/coredns-multivalue/multivalue/internal/hash"
	"github.com/coredns-multivalue/multivalue/internal/logonce"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/status"
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
	At       string                        // file and line of the stanza
	Zones    string                        // of the stanza; tells it from others with the same checks
	Max      int                           // targets
	DryRun   bool                          // for the status page
	Warms    bool                          // queries need the clock, to see how long an address has been up
	Allow    func(netip.Addr) bool         // which addresses may be probed
	Forced   func(netip.Addr) status.Force // what is forced for an address, for the status page; nil if the stanza has no file
	ForcedBy string                        // the path of that file, for the status page; empty for none
	Checks   Checks

	pool       *Pool
	generation *Generation
	seed       uint64 // of its sets' keys
	full       atomic.Bool
	hasIdle    atomic.Bool // there are idle targets, which can make room

	// These belong to the pool's loop.
	targets int // that it was the first to ask for
	lent    int // of these, those that another member of the fleet asked for first
	idle    idleTargets
	learned allowance
	steps   int // through idle, since the last sweep

	loggedFull, loggedNames, loggedLearn logonce.Line // lines that every sweep allows again
}

// Identify says which server block the group's stanza is in, so that sets of one name and type in different blocks, such as
// those of views, are told apart. A stanza of the same block with the same text continues its sets after a reload, whatever
// else was edited. It is called before queries come.
func (g *Group) Identify(block string) { g.seed = hash.Of(block) }

// Open notes that a query looks at a set, whatever it finds, and returns what Look needs to know of it. It takes no lock,
// does not wait and allocates nothing. Opening a set that an answer says does not exist is how the pool learns that its
// targets have left it.
func (g *Group) Open(owner string, rrtype uint16) verdict.RecordSet {
	key := hash.Mix(hash.Name(owner)^g.seed, uint64(rrtype))
	g.pool.sets.Look(key, g.pool.now())
	return verdict.RecordSet{Owner: owner, Key: key}
}

// now is the time that queries note, in seconds since 1970.
func (p *Pool) now() uint32 { return uint32(p.clock.Load() / 1000) }

// Look is what the pool believes of a target of a check of the group: what queries ask. It takes no lock, does not wait
// and allocates nothing. Looking is watching: a target that is not in the table is handed to the pool, and unknown until
// a probe has decided; one over a limit is unchecked. The port is the record's, 0 if it names none; the TTL is the one
// that the record may go out with, in seconds.
func (g *Group) Look(c *CheckSpec, at verdict.RecordSet, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	t, seed := c.target(at.Owner, addr, port)
	h := table.Hash(&t, seed)
	if e := g.pool.table.Find(&t, h); e != nil {
		if v, there := e.Load(); there {
			if e.Touch(at.Key, ttl, g.pool.now()) && !g.request(t, c, at, ttl) {
				e.Untouch(at.Key)
			}
			return v
		}
	}
	if c.hasNoPort(t) {
		return verdict.NoPort.Brief()
	}
	if g.hasNoRoom() {
		metrics.SkippedMaxTargets.Inc()
		g.logFull()
		return verdict.Full.Brief()
	}
	g.request(t, c, at, ttl)
	return g.unwatched(c, &t, h, at.Owner)
}

// hasNoRoom reports whether the group cannot have another target. Idle ones make room.
func (g *Group) hasNoRoom() bool { return (g.full.Load() || g.pool.full.Load()) && !g.hasIdle.Load() }

// Peek is what Look would return, without a trace: it is for explanations, which must not have anything watched.
func (g *Group) Peek(k Key) verdict.Brief {
	h := table.Hash(&k.Target, k.seed)
	if e := g.pool.table.Find(&k.Target, h); e != nil {
		if v, there := e.Load(); there {
			return v
		}
	}
	if k.Check.hasNoPort(k.Target) {
		return verdict.NoPort.Brief()
	}
	if g.hasNoRoom() {
		return verdict.Full.Brief()
	}
	return g.unwatched(k.Check, &k.Target, h, k.owner)
}

// Clock is the pool's clock: see Pool.Clock.
func (g *Group) Clock() uint64 { return g.pool.clock.Load() }

// request tells the pool of a target that it does not know in that set, or that was idle. It reports whether it could.
func (g *Group) request(t verdict.Target, c *CheckSpec, at verdict.RecordSet, ttl uint32) bool {
	select {
	case g.pool.requests <- targetRequest{t, c.identity, g, at, ttl}:
		return true
	default: // the next query repeats it
		metrics.SkippedBusy.Inc()
		return false
	}
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
	g.loggedLearn.Reset()
}

// covers reports whether the stanza asks a check of addresses in sets of that name, and may probe this one.
func (g *Group) covers(id verdict.Identity, addr netip.Addr, owner string) bool {
	checks := g.Checks.For
	if owner == "" { // another member of the fleet wants it, for whatever name
		checks = func(string) []CheckSpec { return g.Checks.All() }
	}
	return slices.ContainsFunc(checks(owner), func(c CheckSpec) bool { return c.identity == id }) && g.Allow(addr)
}

// Backlog is the pool's: see Pool.Backlog.
func (g *Group) Backlog() int { return g.pool.Backlog() }

// Warn hands a line to the pool's log, from the query path: see Pool.Warn.
func (g *Group) Warn(format string, args ...any) { g.pool.Warn(format, args...) }
