package multivalue

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/logonce"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/force"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
	"github.com/coredns-multivalue/multivalue/plugin/wire"
)

// generation is what one Corefile, or one reload of it, asks of the pool. The new one joins before the old one leaves,
// so that the pool never forgets what both of them check.
type generation struct {
	groups   []*Group
	learners []*learner   // of its blocks
	sites    []site       // of all server blocks
	files    *force.Files // of forced states; nil if it names none
	notices  map[clusterAt]*notices
	shows    []showAt // where the status is to be shown
	stage    stage
}

type stage uint8

const (
	candidate stage = iota // its start may still fail, of which nobody would tell it
	confirmed              // its servers run
	left                   // for good
)

// Group is what one stanza has in the pool.
type Group struct {
	generation *generation
	At         string // file and line of the stanza
	Zones      string // of the stanza; tells it from others with the same checks
	within     network.List
	checks     []CheckSpec
	annotated  *annotated  // nil if the stanza heeds no annotations
	forced     *force.File // nil if the stanza names none
	DryRun     bool
	Warms      bool
	Max        int // of targets
	targets    int // that it was the first to ask for; the loop's
	full       atomic.Bool

	loggedOpen, loggedFull, loggedNames logonce.Line // log lines that every sweep allows again
	loggedSigned                        logonce.Line // one that is written once
}

// add gives a stanza its account.
func (g *generation) add(s *parsedStanza, p *pool) {
	s.pool = p
	s.account.generation = g
	g.groups = append(g.groups, s.account)
	if s.show != nil {
		g.shows = append(g.shows, *s.show)
	}
}

// CheckSpec is one check line of a stanza, with the stanza's pace.
type CheckSpec struct {
	identity    verdict.Identity
	withoutPace verdict.Identity // without the pace
	prober      Prober
	forOwner    func(owner string) Prober // nil unless each owner is asked for
	talk        wire.Talk                 // nil where only the prober can ask
	hold        bool                      // keep the connection of a good probe
	pace        verdict.Pace
	Name        string // for logs and metrics
	secret      uint64 // stands for what the name does not show
	seed        uint64 // for the board
	port        uint16 // to dial, where neither the check nor the record names another; 0 for none

	portNamed bool // the port of a record does not matter: the check names one, or there are none
	annotated bool // an annotation says it, and no Corefile
}

// NewCheckSpec is a check as the pool has it, without its pace.
func NewCheckSpec(c *check.Check) CheckSpec {
	spec := CheckSpec{prober: c, Name: c.String(), secret: c.Secret(), port: c.Port(), portNamed: c.PortNamed(), hold: c.Hold()}
	if talk := c.Talk(); talk != nil {
		spec.talk = talk
	}
	if c.AsksOwner() {
		spec.forOwner = func(owner string) Prober { return c.For(owner) }
	}
	spec.withoutPace = verdict.Identify(spec.Name, spec.secret)
	return spec
}

// SetPace completes a check line once the whole stanza has been read.
func (c *CheckSpec) SetPace(pace verdict.Pace) {
	c.pace = pace
	c.identity = verdict.Identify(c.Name+" "+pace.String(), c.secret)
	c.seed = table.Seed(c.identity)
}

// label is the check in metrics. All that annotations say have one, so that the owners of Services make no series.
func (c *CheckSpec) label() string {
	if c.annotated {
		return "annotation"
	}
	return c.Name
}

// checkState is a check line as the pool runs it.
type checkState struct {
	CheckSpec
	checkMetrics
	labelled string       // of its series; empty before it has any
	live     bool         // a confirmed generation has it
	abstains logonce.Line // a log line says so; every sweep allows it again
}

// do runs f where nothing else touches the pool's state: on the loop, or here if it does not run. It needs life held.
func (p *pool) do(f func()) {
	if p.stop == nil {
		f()
		return
	}
	done := make(chan struct{})
	p.calls <- func() { defer close(done); f() }
	<-done
}

// join makes a generation known, before its servers listen. What it checks at another pace takes over the verdicts, but
// nothing new is probed before it is confirmed. It fails if the status cannot be shown where the generation wants that.
func (p *pool) join(g *generation) error {
	p.life.Lock()
	defer p.life.Unlock()
	if err := p.open(g); err != nil {
		return err
	}
	p.do(func() {
		if len(p.generations) == 0 {
			p.reset() // what a stopped pool believed is of no use any more
		}
		p.generations = append(p.generations, g)
		p.reconcile(time.Now())
	})
	return nil
}

// confirm says that the generation's servers run. It starts the loop if need be.
func (p *pool) confirm(g *generation) {
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() { p.confirmed(g, time.Now()) })
	if g.stage == confirmed {
		if err := p.open(g); err != nil { // it does nothing, unless g was taken for one that failed
			log.Error(err)
		}
	}
	p.tidy()()
	p.wake(g)
	if g.stage != confirmed || p.stop != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	p.stop = func() { cancel(); <-ended }
	p.running.Store(true)
	go func() {
		defer close(ended)
		defer p.running.Store(false)
		p.run(ctx)
	}()
}

// wake lets the generation's blocks learn ahead of queries. Readiness waits for what they ask first.
func (p *pool) wake(g *generation) {
	if g.stage != confirmed {
		return
	}
	var awaited []*census
	p.lore = make(map[string]*learner)
	var blocks []*block
	for _, l := range g.learners {
		blocks = append(blocks, l.block)
		if _, twice := p.lore[l.keys]; twice {
			p.lore[l.keys] = nil // a view or an address tells them apart, and after an edit nobody knows which is which
		} else {
			p.lore[l.keys] = l
		}
		if l.census != nil {
			l.census.begin(time.Now())
			awaited = append(awaited, l.census)
		}
		if l.census != nil || len(l.lists) > 0 || l.known.Load() != nil {
			l.start(nil)
		}
	}
	p.blocks.Store(&blocks)
	p.sightings.Load().relead()
	p.viewer.spoilt.Store(true)
	if p.stop == nil { // after a reload, what is watched is mostly known, and readiness must not flicker
		p.awaited.Store(&awaited)
	}
}

// before is the learner that a running server has for a block with these keys, or nil.
func (p *pool) before(keys string) *learner {
	p.life.Lock()
	defer p.life.Unlock()
	return p.lore[keys]
}

// leave takes a generation away. Checks that no other has end at once. The last one to leave stops the pool and waits
// until its probes have ended; what the board shows stays, for the queries that are still answered.
func (p *pool) leave(g *generation) {
	p.life.Lock()
	defer p.life.Unlock()
	last := false
	p.do(func() {
		g.stage = left
		if g.files != nil {
			g.files.Release()
		}
		p.unnotice(g)
		p.generations = slices.DeleteFunc(p.generations, func(x *generation) bool { return x == g })
		if last = len(p.generations) == 0; !last {
			p.reconcile(time.Now())
		}
	})
	closed := p.tidy() // beside what else ends
	if g.files != nil {
		g.files.AwaitReleased()
	}
	if last && p.stop != nil {
		p.stop()
		p.stop = nil
		p.lore = nil
		p.blocks.Store(nil)
		p.clearMetrics()
	}
	closed()
	p.viewer.forget() // blocks that are gone, among it
}

// end is leave with what else the generation has going. Its learners end beside that and beside each other: a plugin that keeps
// a question delays a stop once, however many server blocks wait for it.
func (g *generation) end(p *pool) {
	var learners sync.WaitGroup
	for _, l := range g.learners {
		learners.Go(l.close)
	}
	p.leave(g)
	learners.Wait()
	g.awaitUnnoticed()
}

// clearMetrics drops every series of a pool that has stopped, and what it watched, but for the board.
func (p *pool) clearMetrics() {
	for _, w := range p.monitors {
		w.removed = true // a result of its last probe may be read by the next start
		targets[w.machine.State()].Dec()
	}
	p.monitors = make(map[*table.Entry]*monitor)
	clear(p.names)
	p.isolation.end()
	p.relabel(nil)
	p.checks = make(map[verdict.Identity]*checkState)
}

// abandon takes away the generations that were never confirmed: a start of theirs has failed.
func (p *pool) abandon() {
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() {
		p.generations = slices.DeleteFunc(p.generations, func(g *generation) bool { return g.stage == candidate })
		p.reconcile(time.Now())
	})
	p.tidy()()
}

// confirmed is confirm on the loop. The generation now stands for the targets that it shares with earlier ones.
func (p *pool) confirmed(g *generation, now time.Time) {
	if g.stage != candidate {
		return
	}
	g.stage = confirmed
	// Other candidates are of starts that failed: one start follows the other. Without multivalue in the Corefile
	// before them, nobody was left to abandon them. And g itself may have been taken for one of those.
	p.generations = slices.DeleteFunc(p.generations, func(x *generation) bool { return x == g || x.stage == candidate })
	p.generations = append(p.generations, g)
	p.reconcile(now)
	if g.files != nil {
		g.files.Watch()
	}
	p.notice(g)
	for _, w := range p.monitors {
		if a := g.groupOf(w); a != nil {
			w.group.targets--
			w.group = a
			a.targets++
		}
	}
}

// groupOf is the account that stands for a watch: of the stanza with the same zones as the one that asked for it, else of
// the first that may probe it.
func (g *generation) groupOf(w *monitor) *Group {
	var first *Group
	for _, a := range g.groups {
		if !a.covers(w.check.identity, w.entry.Target.Addr.Addr(), w.owner) {
			continue
		}
		if a.Zones == w.group.Zones {
			return a
		}
		if first == nil {
			first = a
		}
	}
	return first
}

// covers reports whether the stanza asks a check of addresses in sets of that name, and may probe this one.
func (a *Group) covers(id verdict.Identity, addr netip.Addr, owner string) bool {
	checks := a.checks
	if other := a.annotated.of(owner); other != nil {
		checks = other.checks
	}
	return slices.ContainsFunc(checks, func(c CheckSpec) bool { return c.identity == id }) && a.within.Allows(addr)
}

// allChecks lists the checks of a stanza, with those of annotations.
func (a *Group) allChecks() []CheckSpec {
	if a.annotated == nil {
		return a.checks
	}
	return slices.Concat(a.checks, a.annotated.checks)
}

// wanted reports whether any stanza of any generation covers the target of a watch.
func (p *pool) wanted(w *monitor) bool {
	return slices.ContainsFunc(p.generations, func(g *generation) bool {
		return slices.ContainsFunc(g.groups, func(a *Group) bool { return a.covers(w.check.identity, w.entry.Target.Addr.Addr(), w.owner) })
	})
}
