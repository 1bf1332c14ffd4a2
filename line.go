package multivalue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
	"github.com/coredns-multivalue/multivalue/plugin/wire"
)

const (
	// alarmPace is how soon a probe follows the one before while a lost connection has given the alarm.
	alarmPace = 100 * time.Millisecond
	// retryLoop is how long every probe gets a goroutine when the loop could not be started, such as for want of a
	// descriptor.
	retryLoop = 10 * time.Second
)

// loopProber is the pool's way to ask many targets from one goroutine. What it cannot ask gets a goroutine of its own.
type loopProber struct {
	loop    *wire.Loop         // nil while nothing had use for it, or the system has no such thing
	retryAt time.Time          // until then it is not tried to start it
	batch   []wire.Question    // not handed over yet
	results chan []wire.Answer // from the loop, to the pool's; close empties it when that listens no more
	pending []wire.Answer      // of what was heard, not taken yet
	held    int                // connections that are kept
	maxHeld int                // are kept at the most
}

// heldConn is what a watch knows of the connection that is kept to its target.
type heldConn struct {
	conn     *wire.Held
	alarmed  bool
	answered bool          // a probe since the alarm was good
	alarmAt  clock.Instant // of the last alarm
}

// refuseHold refuses the option hold where there is no loop, which alone can keep connections.
func refuseHold(options []check.Option, supported bool) error {
	i := slices.IndexFunc(options, func(o check.Option) bool { return o.Name == "hold" })
	if i < 0 || supported {
		return nil
	}
	return &check.OptionError{Index: i, Err: errors.New("option hold works on Linux only: leave it out")}
}

// canAsk reports whether the line can ask for a watch.
func (l *loopProber) canAsk(w *monitor, now time.Time) bool {
	return w.check.talk != nil && l.available(now)
}

// available reports whether there is a loop. It is started when it is first needed.
func (l *loopProber) available(now time.Time) bool {
	if !wire.Supported {
		return false
	}
	if l.loop != nil {
		return true
	}
	if now.Before(l.retryAt) {
		return false
	}
	loop, err := wire.Start(func(answers []wire.Answer) { l.results <- answers })
	if err != nil {
		l.retryAt = now.Add(retryLoop)
		log.Warningf("for the next %s each probe gets a goroutine, and no connection is kept: %v", retryLoop, err)
		return false
	}
	l.loop = loop
	return true
}

// enqueue puts a question into the batch.
func (l *loopProber) enqueue(w *monitor) {
	l.batch = append(l.batch, wire.Question{
		Addr: w.entry.Target.Addr, Timeout: w.check.pace.Timeout, Talk: w.check.talk, Hold: l.reserve(w), Tag: w,
	})
}

// reserve reports whether the connection of the next probe is to be kept.
func (l *loopProber) reserve(w *monitor) bool {
	if !w.check.hold {
		return false
	}
	if w.held == nil {
		w.held = &heldConn{alarmAt: clock.LongAgo}
	}
	room := w.held.conn != nil || l.held < l.maxHeld
	if !room {
		metrics.SkippedHold.Inc()
	}
	return room
}

// holder is a prober that can let the connection of a good probe be kept, though it is none that the line could ask itself.
type holder interface {
	// ProbeKeeping is Probe that calls keep after a good answer, before it closes its descriptor of the connection.
	ProbeKeeping(ctx context.Context, addr netip.AddrPort, keep func(*net.TCPConn)) error
}

// holdingProbe is such a prober for one probe, and the connection that it leaves.
type holdingProbe struct {
	holder
	held *wire.Held
}

// Probe is that of a prober.
func (k *holdingProbe) Probe(ctx context.Context, addr netip.AddrPort) error {
	return k.ProbeKeeping(ctx, addr, func(conn *net.TCPConn) { k.held, _ = wire.Take(conn) }) // if there is no descriptor, it is not kept
}

// holding is what a goroutine asks for a watch, if the connection is to be kept, else nil.
func (l *loopProber) holding(w *monitor, now time.Time) *holdingProbe {
	if k, ok := w.check.prober.(holder); ok && w.check.hold && l.available(now) && l.reserve(w) {
		return &holdingProbe{holder: k}
	}
	return nil
}

// adoptConn has the loop keep a connection that a goroutine's probe has left.
func (p *pool) adoptConn(w *monitor, held *wire.Held) {
	if p.prober.loop == nil {
		held.Discard()
		return
	}
	p.prober.loop.Keep(held, w)
	p.holdConn(w, held)
}

// flush hands the batch over.
func (l *loopProber) flush() {
	if len(l.batch) > 0 {
		l.loop.Ask(l.batch)
		clear(l.batch)
		l.batch = l.batch[:0]
	}
}

// stop ends all conversations, and returns how many probes end with them. What came of those is of no use any more.
func (l *loopProber) stop() []*monitor {
	if l.loop == nil {
		return nil
	}
	l.flush()
	last := make(chan []wire.Answer, 1)
	go func(loop *wire.Loop) { last <- loop.Close() }(l.loop)
	l.loop, l.held = nil, 0
	metrics.HeldConnections.Set(0)
	ended := monitorsOf(l.pending)
	l.pending = nil
	for {
		select {
		case answers := <-l.results:
			ended = append(ended, monitorsOf(answers)...)
		case answers := <-last:
			for len(l.results) > 0 {
				ended = append(ended, monitorsOf(<-l.results)...)
			}
			return append(ended, monitorsOf(answers)...)
		}
	}
}

// monitorsOf lists whose probes the answers are of.
func monitorsOf(answers []wire.Answer) (all []*monitor) {
	for _, a := range answers {
		if !a.Lost {
			all = append(all, a.Tag.(*monitor))
		}
	}
	return all
}

// handleAll takes what the line has to say. Each answer is taken off first: if one makes the pool panic, the others still
// give back what their probes hold, when the loop has started anew.
func (p *pool) handleAll(answers []wire.Answer, now time.Time) {
	p.prober.pending = append(p.prober.pending, answers...)
	for len(p.prober.pending) > 0 {
		a := p.prober.pending[0]
		p.prober.pending = p.prober.pending[1:]
		p.handle(a, now)
	}
	p.prober.pending = nil
}

func (p *pool) handle(a wire.Answer, now time.Time) {
	w := a.Tag.(*monitor)
	if a.Lost {
		p.peerClosed(w, a.Held, now)
		return
	}
	if a.Held != nil {
		p.holdConn(w, a.Held)
	}
	p.settle(probeResult{watch: w, err: probeError(a.Err), took: a.Took}, now)
}

// probeError is the result of a probe. What went wrong with us says nothing about the target.
func probeError(err error) error {
	if errors.Is(err, wire.ErrPanic) {
		metrics.Panics.Inc()
		return fmt.Errorf("%w: %w", check.ErrAbstain, err)
	}
	return err
}

// holdConn takes the connection of a good probe in the place of the one before. Of those that were asked for together, more may
// come than there is room for.
func (p *pool) holdConn(w *monitor, conn *wire.Held) {
	full := w.held.conn == nil && p.prober.held >= p.prober.maxHeld
	if w.removed || full {
		p.prober.loop.Release(conn)
	}
	if full {
		metrics.SkippedHold.Inc()
	}
	if w.removed || full {
		return
	}
	p.dropConn(w)
	w.held.conn = conn
	p.prober.held++
	metrics.HeldConnections.Inc()
}

// dropConn ends the connection that is kept to a target, if there is one.
func (p *pool) dropConn(w *monitor) {
	if w.held == nil || w.held.conn == nil {
		return
	}
	if p.prober.loop != nil {
		p.prober.loop.Release(w.held.conn)
		p.prober.held--
		metrics.HeldConnections.Dec()
	}
	w.held.conn = nil
}

// peerClosed is called when the peer's kernel has ended a connection that was kept: the process may be gone, so the target is
// probed at once. A peer that hangs up on the idle by habit must not make that a loop: there is one such alarm an
// interval.
func (p *pool) peerClosed(w *monitor, conn *wire.Held, now time.Time) {
	if w.held == nil || w.held.conn != conn {
		return // there is a newer one
	}
	w.held.conn = nil
	p.prober.held--
	metrics.HeldConnections.Dec()
	if w.removed || !w.machine.State().Fit() || clock.At(now).Sub(w.held.alarmAt) < w.check.pace.Interval {
		return
	}
	w.check.alarms.Inc()
	w.held.alarmed, w.held.answered, w.held.alarmAt = true, false, clock.At(now)
	if w.position >= 0 {
		p.schedule.remove(w)
		p.schedule.add(w, clock.At(now))
	}
}

// alarmWait is the wait that follows a result while there is an alarm: short, until the target is down or two probes were good.
// One is not enough: a process that ends loses its connections before the port it listens on.
func (w *monitor) alarmWait(state verdict.State, failed bool, wait time.Duration) time.Duration {
	if w.held == nil || !w.held.alarmed {
		return wait
	}
	switch {
	case w.started < w.held.alarmAt:
		return 0 // that probe was under way before the alarm
	case failed && state.Fit(), !failed && !w.held.answered:
		w.held.answered = !failed
		return min(wait, alarmPace)
	}
	w.held.alarmed = false
	return wait
}
