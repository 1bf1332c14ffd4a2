// Package pool checks health: it probes targets in the background, and publishes what it believes of each.
//
// Pool is the main type. Queries ask a Group, which is one stanza's part of the pool, about an address: Group.Look takes no
// lock and does not wait. The life cycle in the root tells the pool of Corefiles that start and stop (Generation), and
// package inspect reads it for the status page (View).
//
// A target is first learned when a query asks for it, probed at the pace of its check, and forgotten when it is no longer
// asked for. The files follow that life: group, monitor, schedule, probe, hold, settle, isolation, transitions. Those about Corefiles are
// generation, reconcile, checkspec and owner; snapshot is for the status page.
package pool

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/history"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
	"github.com/coredns-multivalue/multivalue/plugin/wire"

	clog "github.com/coredns/coredns/plugin/pkg/log"
)

var log = clog.NewWithPlugin("multivalue")

const (
	// maxRequests is how many targets may wait to be learned. A request that finds the inbox full is dropped, because the
	// next query repeats it.
	maxRequests = 4096
	// sweepEvery is how often the pool looks for targets that are no longer asked for.
	sweepEvery = time.Minute
	// remembered is for how many intervals the verdict on a target is remembered after the target was forgotten.
	remembered = 2
	// stopWithin bounds how long a stop waits for probes to end. They end at once when their context does. With the waits
	// of packages force and annotation a stop takes two seconds at most.
	stopWithin = time.Second
)

// Pool owns every watched target: it schedules the probes, bounds them, steps the states, publishes the verdicts in its
// table, and forgets what is no longer asked for. There is one in the process, and it outlives every Corefile.
//
// One goroutine, the loop, owns all its state while it runs; nothing but the channels and atomics is shared. A monitor
// belongs to the schedule, or to the one probe it was handed to, and comes back as its result: so no field needs a lock,
// and no target is probed twice at once.
type Pool struct {
	// OnSweep is called once a minute, on the loop. It is set before anything joins, and must not wait.
	OnSweep func()
	// OnStop is called when the last generation has left and the loop has ended, with the state that it had then. It is set
	// before anything joins.
	OnStop func(View)

	table      table.Table
	sets       table.Sets
	restored   atomic.Pointer[restored] // nil if there is nothing, or it is too old
	maxTargets int                      // in all
	full       atomic.Bool              // no room for more targets
	running    atomic.Bool
	clock      atomic.Uint64      // milliseconds since 1970, for queries: at most a second behind while something warms up
	requests   chan targetRequest // targets that queries did not find in the table; lossy
	logLines   chan string        // from the query path; lossy
	calls      chan func()        // from the life cycle and the status page, to run on the loop
	notes      chan note          // events from elsewhere; lossy
	probed     chan probeResult   // never blocks a probe: it has room for all in flight
	prober     loopProber

	fleetEvents chan struct{} // signalled when the engine of a fleet has told something

	life sync.Mutex // held by a start, a stop, or a change of generations; never by a query or the loop
	stop func()     // ends the loop and waits for it; nil while it does not run

	// The rest belongs to the loop while it runs, else to the holder of life.
	generations []*Generation
	checks      map[verdict.Identity]*checkState
	monitors    map[*table.Entry]*monitor
	memories    map[verdict.Target]memory // by the check without its pace
	names       map[string]*nameCount     // by the name that targets were first asked for
	owners      map[verdict.Target]int    // targets of checks with host owner, by check and address
	ambiguous   map[string]bool           // texts that several checks have, with different secrets
	settled     uint64                    // results that proved something
	warming     bool                      // a stanza needs the clock
	schedule    schedule
	lateness    lateness
	isolation   isolation
	member      *member // nil unless this process is a member of a fleet
	transitions transitionLog
	nextSweep   time.Time
	nextReview  time.Time       // of the targets in a shard of the table
	reviewed    int             // the shard that is next
	recording   bool            // for the status page
	changes     []status.Change // the latest, while recording
	changed     uint64          // how many there were
	book        *history.Book   // nil unless recording
	ran         bool            // a Corefile has run since the pool began or stopped
}

// New returns a pool that does not run yet: the first generation that is confirmed starts its loop.
func New() *Pool {
	bound := min(maxInFlight, max(descriptors()/4, minInFlight))
	p := &Pool{
		maxTargets: MaxTargets,
		requests:   make(chan targetRequest, maxRequests),
		logLines:   make(chan string, 64),
		calls:      make(chan func()),
		notes:      make(chan note, maxNotes),
		probed:     make(chan probeResult, bound),
		prober:     loopProber{results: make(chan []wire.Answer, 64), maxHeld: max(descriptors()/2-bound, 0)},
		schedule:   schedule{bound: bound},
		isolation:  isolation{lastAnswer: clock.LongAgo, endedAt: clock.LongAgo},
		checks:     make(map[verdict.Identity]*checkState),
		monitors:   make(map[*table.Entry]*monitor),
		memories:   make(map[verdict.Target]memory),
		names:      make(map[string]*nameCount),
		owners:     make(map[verdict.Target]int),

		fleetEvents: make(chan struct{}, 1),
	}
	p.setClock(time.Now())
	return p
}

// Running reports whether the loop runs, and with it the probes.
func (p *Pool) Running() bool { return p.running.Load() }

// Clock is the time in milliseconds since 1970, for queries, which read no clock: at most a second behind while there are
// targets.
func (p *Pool) Clock() uint64 { return p.clock.Load() }

// Backlog is how many targets wait to be learned. What finds more than about a thousand should wait, too.
func (p *Pool) Backlog() int { return len(p.requests) }

// Warn logs a line from the query path, as a warning. It never waits: if the log falls behind, the line is lost.
func (p *Pool) Warn(format string, args ...any) {
	select {
	case p.logLines <- fmt.Sprintf(format, args...):
	default:
	}
}

// run keeps the loop going until the context ends, and then waits for the probes. A panic in the loop loses what was
// believed, and everything is served until it is learned again, which is better than losing the DNS server.
func (p *Pool) run(ctx context.Context) {
	var resting, probes sync.WaitGroup
	resting.Go(func() { restDeep(deepFrames, ctx.Done()) }) // for the sake of queries: see stack.go
	defer resting.Wait()
	for !p.loop(ctx, &probes) {
		p.reset()
	}
	p.transitions.flush(time.Now().Add(time.Second))
	for _, m := range p.monitors {
		p.dropKept(m)
	}
	p.prober.part(&probes)
	for _, m := range p.prober.shutDown() { // their probes were cut short, and prove nothing
		p.schedule.done(m)
	}
	if !rescue.Wait(&probes, stopWithin) {
		log.Warningf("probes are still in flight %s after the stop", stopWithin)
	}
	for len(p.probed) > 0 {
		r := <-p.probed
		p.schedule.done(r.monitor)
		if r.held != nil {
			r.held.Discard()
		}
		r.kept.Close()
	}
}

// loop handles one event after another: everything that changes the pool's state happens here. It returns true when the
// context has ended, and false after a panic.
func (p *Pool) loop(ctx context.Context, probes *sync.WaitGroup) (ended bool) {
	defer func() {
		if r := recover(); r != nil {
			metrics.Panics.Inc()
			log.Errorf("the pool panicked and restarts with every target unknown: %v", r)
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	p.handleAll(nil, time.Now()) // results that a panic has left
	for {
		select {
		case <-ctx.Done():
			return true
		case call := <-p.calls:
			call()
		case r := <-p.requests:
			p.learn(r, time.Now())
		case r := <-p.probed:
			if r.reused {
				p.adoptKept(r)
			}
			if r.held != nil {
				p.adoptConn(r.monitor, r.held)
			}
			p.settle(r, time.Now())
		case answers := <-p.prober.results:
			p.handleAll(answers, time.Now())
		case line := <-p.logLines:
			log.Warning(line)
		case n := <-p.notes:
			p.book.NoteEvent(n.kind, n.text, clock.At(time.Now()))
		case <-p.fleetEvents:
			p.hearFleet(time.Now())
		case <-timer.C:
		}
		now := time.Now()
		p.transitions.flush(now)
		if !now.Before(p.nextSweep) {
			p.sweep(now)
		}
		p.reviewSome(now)
		p.tick(now)
		p.speak(now)
		p.schedule.dispatch(now, func(m *monitor) { p.start(ctx, probes, m, now) })
		p.prober.flush()
		p.prober.part(probes)
		p.lateness.measure(&p.schedule, now)
		timer.Reset(p.pause(now))
	}
}

// pause publishes the time for queries, and returns how long the loop may rest: until a probe is due, or something else is.
func (p *Pool) pause(now time.Time) time.Duration {
	p.setClock(now)
	wait := min(p.schedule.wait(now), p.nextSweep.Sub(now), p.transitions.wait(now), p.lateness.rest(now))
	if len(p.monitors) > 0 {
		wait = min(wait, p.nextReview.Sub(now))
	}
	if p.member != nil {
		wait = min(wait, p.member.nextTick.Sub(now))
	}
	if p.warming {
		wait = min(wait, time.Second)
	}
	return wait
}

// setClock publishes the time for queries.
func (p *Pool) setClock(now time.Time) { p.clock.Store(uint64(clock.Steady(now).UnixMilli())) }
