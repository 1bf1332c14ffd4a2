package multivalue

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/force"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
	"github.com/coredns-multivalue/multivalue/plugin/wire"
)

const (
	// maxTargets is how many targets the pool watches in all; max_targets bounds each stanza below it.
	maxTargets = 1 << 18
	// maxPerName bounds the targets that one name brings in: more than one message can hold, so that it only binds a
	// name whose addresses keep changing.
	maxPerName = 4096
	// maxOwners is for how many names a check with host owner asks one address: below a wildcard, whoever can ask a
	// question could make it any number.
	maxOwners = 256
	// maxRequests is how many targets may wait to be learned. What finds it full is dropped: the next query repeats it.
	maxRequests = 4096
	// sweepEvery is how often the pool looks for targets that nobody asks for.
	sweepEvery = time.Minute
	// keepUnasked is how long a target is probed after it was last asked for, or three times the TTL it went out with
	// if that is longer, so that a name asked for once a TTL stays known; keepAtMost bounds that.
	keepUnasked = 15 * time.Minute
	keepAtMost  = 24 * time.Hour
	// stopWithin bounds how long a stop waits for probes to end. They end at once when their context does. With forceStop
	// before it and noticeStop behind it a stop takes two seconds at the most.
	stopWithin = time.Second
)

// Prober is a check as the pool needs it. It returns nil, the reason why the target is unfit, or an error that wraps
// check.ErrAbstain if it could not ask.
type Prober interface {
	Probe(ctx context.Context, addr netip.AddrPort) error
}

// pool owns every watched target: it schedules the probes, bounds them, steps the states, publishes the verdicts on
// its board, and forgets what nobody asks for. There is one in the process, and it outlives every Corefile.
//
// One goroutine, the loop, owns all its state while it runs; nothing but the channels and atomics is shared. A watch
// belongs to the schedule, or to the one probe it was handed to, and comes back as its result: so no field needs a
// lock, and no target is probed twice at once.
type pool struct {
	table      table.Table
	maxTargets int         // targets that are watched in all
	full       atomic.Bool // no room for more targets
	running    atomic.Bool
	clock      atomic.Uint64 // milliseconds since 1970, for queries: at most a second behind while something warms up
	awaited    atomic.Pointer[[]*census]
	requests   chan targetRequest     // targets that queries missed on the board; lossy
	logLines   chan string      // what the query path has to say to the log; lossy
	calls      chan func()      // from the life cycle
	probed     chan probeResult // never blocks a probe: it has room for all in flight
	prober     loopProber

	forced     force.Watcher
	kubernetes Kubernetes // nil where that is not linked; set before anything starts

	sightings atomic.Pointer[sightings] // names that queries asked for; nil while nobody can look
	blocks    atomic.Pointer[[]*block]  // of the confirmed generation
	viewer    *viewer

	life  sync.Mutex          // held by a start, a stop, or a change of generations; never by a query or the loop
	stop  func()              // ends the loop and waits for it; nil while it does not run
	lore  map[string]*learner // of the confirmed generation, by the keys of their blocks
	desks map[string]*desk    // where the status is shown, by address

	// The rest belongs to the loop while it runs, else to whoever holds life.
	generations []*generation
	checks      map[verdict.Identity]*checkState
	monitors    map[*table.Entry]*monitor
	memories    map[verdict.Target]memory // by the check without its pace
	names       map[string]int            // targets, by the name that they were first asked for
	owners      map[verdict.Target]int    // targets of checks with host owner, by check and address
	notices     map[clusterAt]*notices    // that are followed
	warming     bool                      // a stanza has use for the clock
	schedule    schedule
	isolation   isolation
	transitions transitionLog
	nextSweep   time.Time
	recording   bool            // somebody can look at the status
	changes     []status.Change // the latest, while somebody can
	changed     uint64          // how many there were
}

func newPool() *pool {
	bound := min(maxInFlight, max(descriptors()/4, minInFlight))
	p := &pool{
		maxTargets: maxTargets,
		requests:   make(chan targetRequest, maxRequests),
		logLines:   make(chan string, 64),
		calls:      make(chan func()),
		probed:     make(chan probeResult, bound),
		prober:     loopProber{results: make(chan []wire.Answer, 64), maxHeld: max(descriptors()/2-bound, 0)},
		schedule:   schedule{bound: bound},
		isolation:  isolation{lastAnswer: clock.LongAgo, endedAt: clock.LongAgo},
		checks:     make(map[verdict.Identity]*checkState),
		monitors:   make(map[*table.Entry]*monitor),
		memories:   make(map[verdict.Target]memory),
		names:      make(map[string]int),
		owners:     make(map[verdict.Target]int),
		notices:    make(map[clusterAt]*notices),
		desks:      make(map[string]*desk),
	}
	p.viewer = newViewer(p)
	return p
}

// request hands a target to the pool, if there is room for it.
func (p *pool) request(t verdict.Target, c *CheckSpec, a *Group, owner string, ttl uint32) verdict.Brief {
	if a.full.Load() || p.full.Load() {
		metrics.SkippedMaxTargets.Inc()
		p.logFull(a)
		return verdict.BriefUnchecked
	}
	select {
	case p.requests <- targetRequest{t, c.identity, a, owner, ttl}:
	default: // the next query repeats it
		metrics.SkippedBusy.Inc()
	}
	return 0
}

// Warn hands a line to the log, from the query path. It never waits.
func (p *pool) Warn(format string, args ...any) {
	select {
	case p.logLines <- fmt.Sprintf(format, args...):
	default:
	}
}

// run keeps the loop going until the context ends. A panic in it loses what was believed, and everything is served
// until it is learned again: that is better than to lose the DNS server.
func (p *pool) run(ctx context.Context) {
	var resting, probes sync.WaitGroup
	resting.Go(func() { restDeep(deepFrames, ctx.Done()) }) // for the sake of queries: see stack.go
	defer resting.Wait()
	for !p.loop(ctx, &probes) {
		p.reset()
	}
	p.transitions.flush(time.Now().Add(time.Second))
	for _, w := range p.prober.stop() {
		p.schedule.done(w)
	}
	if !rescue.Wait(&probes, stopWithin) {
		log.Warningf("probes still under way %s after the stop", stopWithin)
	}
	for len(p.probed) > 0 {
		r := <-p.probed
		p.schedule.done(r.watch)
		if r.held != nil {
			r.held.Discard()
		}
	}
}

// loop returns true when the context has ended.
func (p *pool) loop(ctx context.Context, probes *sync.WaitGroup) (ended bool) {
	defer func() {
		if r := recover(); r != nil {
			metrics.Panics.Inc()
			log.Errorf("the pool panicked, and starts anew with every target unknown: %v", r)
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	p.handleAll(nil, time.Now()) // what a panic has left
	for {
		select {
		case <-ctx.Done():
			return true
		case order := <-p.calls:
			order()
		case w := <-p.requests:
			p.learn(w, time.Now())
		case r := <-p.probed:
			if r.held != nil {
				p.adoptConn(r.watch, r.held)
			}
			p.settle(r, time.Now())
		case answers := <-p.prober.results:
			p.handleAll(answers, time.Now())
		case note := <-p.logLines:
			log.Warning(note)
		case <-timer.C:
		}
		now := time.Now()
		p.transitions.flush(now)
		if !now.Before(p.nextSweep) {
			p.sweep(now)
		}
		p.schedule.dispatch(now, func(w *monitor) { p.start(ctx, probes, w, now) })
		p.prober.flush()
		timer.Reset(p.pause(now))
	}
}

// pause is how long the loop may rest. It tells queries the time before.
func (p *pool) pause(now time.Time) time.Duration {
	p.clock.Store(uint64(clock.Steady(now).UnixMilli()))
	wait := min(p.schedule.wait(now), p.nextSweep.Sub(now), p.transitions.wait(now))
	if p.warming {
		wait = min(wait, time.Second)
	}
	return wait
}

// start hands a watch to a probe: to the line if it can ask that, else to a goroutine.
func (p *pool) start(ctx context.Context, probes *sync.WaitGroup, w *monitor, now time.Time) {
	late := clock.At(now).Sub(w.due)
	if late > w.check.pace.Interval {
		metrics.SkippedOverdue.Inc() // it missed a whole turn, which is not made up for
	}
	metrics.ProbeLag.Observe(max(0, late.Seconds()))
	w.started = clock.At(now)
	if p.prober.canAsk(w, now) {
		p.prober.enqueue(w)
		return
	}
	question, timeout, addr := w.probeFor(), w.check.pace.Timeout, w.entry.Target.Addr
	kept := p.prober.holding(w, now)
	if kept != nil {
		question = kept
	}
	probes.Go(func() {
		began := time.Now()
		r := probeResult{watch: w, err: ask(ctx, question, timeout, addr)}
		if r.took = time.Since(began); kept != nil {
			r.held = kept.held
		}
		p.probed <- r
	})
}

// ask probes once. A panic in a check proves nothing about the target.
func ask(ctx context.Context, question Prober, timeout time.Duration, addr netip.AddrPort) (err error) {
	defer func() {
		if r := recover(); r != nil {
			metrics.Panics.Inc()
			err = fmt.Errorf("%w: the check panicked: %v", check.ErrAbstain, r)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return question.Probe(ctx, addr)
}

// settle takes the result of a probe and plans the next.
func (p *pool) settle(r probeResult, now time.Time) {
	w := r.watch
	p.schedule.done(w)
	if w.removed {
		return // whoever has the address now starts with a clean slate
	}
	if errors.Is(r.err, check.ErrAbstain) {
		w.check.abstained.Inc()
		if w.check.abstains.First() {
			log.Errorf("%s keeps its state: %v (further such probes are only counted for a minute)", w.entry.Target, r.err)
		}
		p.schedule.add(w, w.started.Add(w.check.jitter(w.check.pace.Fast)))
		return
	}
	w.check.count(r.err, r.took)
	w.record(p.recording, r)
	w.failing = r.err != nil
	if p.isolation.withholds(w, r.err != nil, len(p.monitors), now) {
		p.schedule.add(w, w.started.Add(w.check.jitter(w.check.pace.Fast)))
		return
	}
	before := w.machine.State()
	v, wait := w.machine.Step(w.check.pace, r.err, clock.Steady(now))
	if v.State != before {
		p.transition(w, before, v, now)
	}
	if !v.State.Fit() {
		p.dropConn(w)
	}
	if w.check.hold {
		v.Holds = min(v.Holds, time.Duration(w.check.pace.Fall-1)*alarmPace)
	}
	wait = w.check.jitter(w.alarmWait(v.State, r.err != nil, wait))
	if !w.settled && wait > w.check.pace.Fast {
		w.settled = true
		wait = randomWait(0, wait)
		v.Holds = min(v.Holds, wait)
	}
	w.entry.Store(v)
	p.isolation.update(w, before)
	p.schedule.add(w, w.started.Add(wait))
}

// transition counts a change of state, and logs it: nothing else about probes enters the log. That a new target answers
// is no news.
func (p *pool) transition(w *monitor, before verdict.State, v verdict.Verdict, now time.Time) {
	targets[before].Dec()
	targets[v.State].Inc()
	w.check.transitions[v.State].Inc()
	if before == verdict.Unknown && v.State == verdict.Up {
		log.Debugf("%s is up, says its first %s", w.entry.Target.Place(), w.question())
		return
	}
	p.recordChange(w, before, v, now)
	if !p.transitions.allow(transitionKey{w.check.Name, v.State, v.Reason}, now) {
		return
	}
	if v.State == verdict.Down {
		log.Warningf("%s is down after %s of %s: %s", w.entry.Target.Place(), text.Count(w.check.pace.Fall, "failure"), w.question(), v.Reason)
		return
	}
	log.Infof("%s is up after %s of %s", w.entry.Target.Place(), text.Count(w.check.pace.Rise, "success"), w.question())
}
