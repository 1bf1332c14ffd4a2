package multivalue

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/follow"
	"github.com/coredns-multivalue/multivalue/plugin/annotation"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/force"
	"github.com/coredns-multivalue/multivalue/plugin/inspect"
	"github.com/coredns-multivalue/multivalue/plugin/lookup"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/rules"
	"github.com/coredns-multivalue/multivalue/plugin/seen"
	"github.com/coredns-multivalue/multivalue/plugin/status/web"
	"github.com/coredns-multivalue/multivalue/plugin/topology"
)

// forgetAfter is how many minutes a name is listed on the status page after the last query: as long as a target is watched.
const forgetAfter = 15

// theProcess is what outlives every Corefile, so that a reload keeps what is known. It is the one variable of the package
// that changes.
var theProcess = newProcess()

// process is the one pool of the process, with what else runs beside Corefiles: forced files, followers of clusters, the
// status page.
//
// Locks are taken in one order: that of process, then that of the pool, then the pool's loop is waited for. What the loop
// calls takes neither.
type process struct {
	pool       *pool.Pool // which outlives Corefiles, and with it every verdict
	forced     force.Watcher
	sites      topology.Watcher
	zoned      topology.Clusters
	clusters   annotation.Clusters
	kubernetes Kubernetes        // nil if it is not linked; set before anything starts
	newSpec    rules.NewSpec     // pool.NewCheckSpec, except in tests
	fleet      membership.Keeper // of this process in a fleet
	source     *inspect.Source
	state      stateFile

	saysVersion sync.Once // so that a reload does not say it again

	seen    atomic.Pointer[seen.Names]         // names that queries asked for; nil while there is no status page
	blocks  atomic.Pointer[[]*rules.Block]     // of the confirmed generation
	awaited atomic.Pointer[[]*lookup.Resolver] // whose first verdicts readiness waits for

	mu        sync.Mutex                  // held by a start, a stop, or a reload; never by a query or the loop
	resolvers map[string]*lookup.Resolver // of the confirmed generation, by the keys of their blocks
	listeners web.Listeners               // of the status page
}

func newProcess() *process {
	p := &process{pool: pool.New(), newSpec: pool.NewCheckSpec}
	p.source = inspect.New(p.pool, &p.forced, p.runningBlocks, p.seen.Load)
	p.source.Version, p.source.Sites, p.source.Ready, p.source.State, p.source.Unread = Version, &p.sites, p.ready, &p.state.failed, &p.state.unread
	p.listeners.Source, p.listeners.Forcer = p.source, func(path string) web.Forcer { return p.forced.Editor(path) }
	p.fleet.Join = p.pool.JoinFleet
	p.fleet.Host = membership.Host{Warnf: log.Warningf, Infof: log.Infof, Resolve: func(ctx context.Context, name string) ([]netip.Addr, error) {
		return rules.Resolve(ctx, p.runningBlocks(), name)
	}}
	p.pool.OnSweep = p.sweep
	p.pool.OnStop = p.lastState
	return p
}

// Kubernetes is what annotations and topology kubernetes need of a cluster.
type Kubernetes interface {
	annotation.Kubernetes
	topology.Kubernetes
}

// Link gives the properties annotations and topology their way to Kubernetes. It is called before a Corefile is read.
func Link(k Kubernetes) { theProcess.kubernetes = k }

// LinkFleet gives the property fleet its engine. It is called before a Corefile is read.
func LinkFleet(open membership.Opener) { theProcess.fleet.Open = open }

// runningBlocks are the server blocks of the running Corefile.
func (p *process) runningBlocks() []*rules.Block {
	if blocks := p.blocks.Load(); blocks != nil {
		return *blocks
	}
	return nil
}

// sweep is called by the pool once a minute.
func (p *process) sweep() {
	if names := p.seen.Load(); names != nil {
		names.Sweep()
	}
	for _, b := range p.runningBlocks() {
		b.ResetLogs()
	}
}

// ready reports whether the pool runs, and no first verdicts are waited for.
func (p *process) ready(now time.Time) bool {
	if !p.pool.Running() {
		return false
	}
	if awaited := p.awaited.Load(); awaited != nil {
		for _, l := range *awaited {
			if l.AwaitsVerdicts(now) {
				return false
			}
		}
	}
	return true
}

// generation is one Corefile, or one reload of it, with all that it has running beside its servers.
type generation struct {
	process    *process
	pool       pool.Generation
	blocks     []*rules.Block
	connected  int            // blocks that know their plugins
	identified map[string]int // how many server blocks have the same keys and view
	forced     *force.Files
	sites      *topology.Files
	zoned      *topology.Opened
	files      follow.Group // both
	followers  *annotation.Followers
	pages      corefile.Pages  // where the status is to be shown, and what people may do there
	statusAt   []web.Address   // the same, once all stanzas are known
	state      string          // the file that keeps verdicts over a restart; empty for none
	stateAt    string          // the file and line that name it
	fleets     corefile.Fleets // what the stanzas say of the fleet
	serverKeys []rules.ServerKey
}

func (p *process) newGeneration() *generation {
	g := &generation{process: p, forced: p.forced.Files(), sites: p.sites.Files(), zoned: p.zoned.Opened()}
	g.files = follow.Group{g.forced, g.sites}
	g.followers = p.clusters.Followers(func(change func() bool) { p.pool.Update(&g.pool, change) })
	g.pool.OnConfirm = func() {
		g.files.Watch()
		g.followers.Follow()
		g.zoned.Follow()
	}
	g.pool.OnLeave = func() {
		g.files.Release()
		g.followers.Unfollow()
	}
	return g
}

// join makes a generation known, before its servers listen. It fails if the status cannot be shown where it wants that, and
// then the start of the Corefile fails, with nothing of it left.
func (p *process) join(g *generation) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.openStatus(g); err != nil {
		return err
	}
	g.fleets.Config.Version = Version
	if err := p.fleet.Prepare(g.fleets.Config); err != nil {
		p.closeUnused()()
		return g.fleets.Failed(err)
	}
	p.takeState()
	p.pool.Join(&g.pool)
	return nil
}

// confirm says that the generation's servers run. A query may have told the pool before.
func (p *process) confirm(g *generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaitVerdicts(g)
	runs := p.pool.Confirm(&g.pool)
	if runs {
		if err := p.openStatus(g); err != nil { // it does nothing, unless g was taken for one that failed
			log.Error(err)
		}
	}
	p.closeUnused()()
	if runs {
		p.listeners.Use(g.statusAt)
		p.blocks.Store(&g.blocks) // by which the engine of the fleet finds names of this server
		if err := p.fleet.Confirm(g.fleets.Config); err != nil {
			log.Error(g.fleets.Failed(err))
		}
		p.keepState(g.state)
		p.startResolvers(g)
	}
}

// awaitVerdicts has readiness wait for what the generation's blocks watch and preload. It is called before the pool runs:
// readiness that is true for a moment before it waits would be taken for good. After a reload, most of that is known, and
// readiness must not flicker.
func (p *process) awaitVerdicts(g *generation) {
	reload := p.pool.Running()
	var awaited []*lookup.Resolver
	for _, b := range g.blocks {
		if reload {
			b.Resolver.SkipWait()
		} else if b.Resolver.BeginWait(time.Now()) {
			awaited = append(awaited, b.Resolver)
		}
	}
	if !reload {
		p.awaited.Store(&awaited)
	}
}

// startResolvers lets the generation's blocks learn ahead of queries.
func (p *process) startResolvers(g *generation) {
	p.resolvers = make(map[string]*lookup.Resolver)
	for _, b := range g.blocks {
		if _, twice := p.resolvers[b.Keys]; twice {
			p.resolvers[b.Keys] = nil // a view or an address tells them apart, which an edit may change
		} else {
			p.resolvers[b.Keys] = b.Resolver
		}
		if b.Resolver.HasWork() {
			b.Resolver.Start()
		}
	}
	p.seen.Load().ForgetDestinations()
	p.source.Outdate()
}

// resolver is the one that the running Corefile has for a server block with these keys, or nil.
func (p *process) resolver(keys string) *lookup.Resolver {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resolvers[keys]
}

// leave takes a generation away, when its servers stop. The last one to leave stops the pool. What ends with it is told to
// end first, and waited for afterwards, so that the waits add up to two seconds at most.
func (p *process) leave(g *generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.stopping = time.Now()
	closed := p.closeStatus(g) // beside what else ends
	last := p.pool.Leave(&g.pool)
	if last {
		p.fleet.End()
	}
	g.files.AwaitReleased()
	p.awaitState()
	if last {
		p.zoned.End()
		p.resolvers = nil
		p.blocks.Store(nil)
	}
	closed()
	p.source.Forget()
}

// end is leave with what else the generation has running. Its resolvers end beside that and beside each other: a plugin
// that keeps a question delays a stop once, however many server blocks wait for it.
func (p *process) end(g *generation) {
	var resolvers sync.WaitGroup
	for _, b := range g.blocks {
		resolvers.Go(b.Resolver.Close)
	}
	p.leave(g)
	resolvers.Wait()
	g.followers.AwaitEnd()
}

// abandon takes away the generations that were never confirmed: a start of theirs has failed.
func (p *process) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pool.Abandon()
	p.fleet.Abandon()
	p.closeUnused()()
}
