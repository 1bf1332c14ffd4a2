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
	// retryLine is how long every probe gets a goroutine when the loop could not be started, such as for want of a
	// descriptor.
	retryLine = 10 * time.Second
)

// line is the pool's way to ask many targets from one goroutine. What it cannot ask gets a goroutine of its own.
type line struct {
	loop   *wire.Loop         // nil while nothing had use for it, or the system has no such thing
	idle   time.Time          // until then it is not tried to start it
	batch  []wire.Question    // not handed over yet
	heard  chan []wire.Answer // from the loop, to the pool's; close empties it when that listens no more
	rest   []wire.Answer      // of what was heard, not taken yet
	held   int                // connections that are kept
	mostly int                // are kept at the most
}

// holding is what a watch knows of the connection that is kept to its target.
type holding struct {
	conn    *wire.Held
	alarmed bool
	lives   bool          // a probe since the alarm was good
	at      clock.Instant // of the last alarm
}

// refuseHold refuses the option hold where there is no loop, which alone can keep connections.
func refuseHold(options []check.Option, supported bool) error {
	i := slices.IndexFunc(options, func(o check.Option) bool { return o.Name == "hold" })
	if i < 0 || supported {
		return nil
	}
	return &check.OptionError{Index: i, Err: errors.New("option hold works on Linux only: leave it out")}
}

// asks reports whether the line can ask for a watch.
func (l *line) asks(w *watch, now time.Time) bool { return w.check.talk != nil && l.runs(now) }

// runs reports whether there is a loop. It is started when it is first needed.
func (l *line) runs(now time.Time) bool {
	if !wire.Supported {
		return false
	}
	if l.loop != nil {
		return true
	}
	if now.Before(l.idle) {
		return false
	}
	loop, err := wire.Start(func(answers []wire.Answer) { l.heard <- answers })
	if err != nil {
		l.idle = now.Add(retryLine)
		log.Warningf("for the next %s each probe gets a goroutine, and no connection is kept: %v", retryLine, err)
		return false
	}
	l.loop = loop
	return true
}

// add puts a question into the batch.
func (l *line) add(w *watch) {
	l.batch = append(l.batch, wire.Question{
		Addr: w.entry.Target.Addr, Timeout: w.check.pace.Timeout, Talk: w.check.talk, Hold: l.holds(w), Tag: w,
	})
}

// holds reports whether the connection of the next probe is to be kept.
func (l *line) holds(w *watch) bool {
	if !w.check.hold {
		return false
	}
	if w.hold == nil {
		w.hold = &holding{at: clock.LongAgo}
	}
	room := w.hold.conn != nil || l.held < l.mostly
	if !room {
		metrics.SkippedHold.Inc()
	}
	return room
}

// keeper is a prober that can let the connection of a good probe be kept, though it is none that the line could ask itself.
type keeper interface {
	// ProbeKeeping is Probe that calls keep after a good answer, before it closes its descriptor of the connection.
	ProbeKeeping(ctx context.Context, addr netip.AddrPort, keep func(*net.TCPConn)) error
}

// keeping is such a prober for one probe, and the connection that it leaves.
type keeping struct {
	keeper
	held *wire.Held
}

// Probe is that of a prober.
func (k *keeping) Probe(ctx context.Context, addr netip.AddrPort) error {
	return k.ProbeKeeping(ctx, addr, func(conn *net.TCPConn) { k.held, _ = wire.Take(conn) }) // if there is no descriptor, it is not kept
}

// keeps is what a goroutine asks for a watch, if the connection is to be kept, else nil.
func (l *line) keeps(w *watch, now time.Time) *keeping {
	if k, ok := w.check.prober.(keeper); ok && w.check.hold && l.runs(now) && l.holds(w) {
		return &keeping{keeper: k}
	}
	return nil
}

// bring has the loop keep a connection that a goroutine's probe has left.
func (p *pool) bring(w *watch, held *wire.Held) {
	if p.line.loop == nil {
		held.Discard()
		return
	}
	p.line.loop.Keep(held, w)
	p.keep(w, held)
}

// flush hands the batch over.
func (l *line) flush() {
	if len(l.batch) > 0 {
		l.loop.Ask(l.batch)
		clear(l.batch)
		l.batch = l.batch[:0]
	}
}

// close ends all conversations, and returns how many probes end with them. What came of those is of no use any more.
func (l *line) close() []*watch {
	if l.loop == nil {
		return nil
	}
	l.flush()
	last := make(chan []wire.Answer, 1)
	go func(loop *wire.Loop) { last <- loop.Close() }(l.loop)
	l.loop, l.held = nil, 0
	metrics.HeldConnections.Set(0)
	ended := asked(l.rest)
	l.rest = nil
	for {
		select {
		case answers := <-l.heard:
			ended = append(ended, asked(answers)...)
		case answers := <-last:
			for len(l.heard) > 0 {
				ended = append(ended, asked(<-l.heard)...)
			}
			return append(ended, asked(answers)...)
		}
	}
}

// asked lists whose probes the answers are of.
func asked(answers []wire.Answer) (all []*watch) {
	for _, a := range answers {
		if !a.Lost {
			all = append(all, a.Tag.(*watch))
		}
	}
	return all
}

// hearAll takes what the line has to say. Each answer is taken off first: if one makes the pool panic, the others still
// give back what their probes hold, when the loop has started anew.
func (p *pool) hearAll(answers []wire.Answer, now time.Time) {
	p.line.rest = append(p.line.rest, answers...)
	for len(p.line.rest) > 0 {
		a := p.line.rest[0]
		p.line.rest = p.line.rest[1:]
		p.hear(a, now)
	}
	p.line.rest = nil
}

func (p *pool) hear(a wire.Answer, now time.Time) {
	w := a.Tag.(*watch)
	if a.Lost {
		p.lost(w, a.Held, now)
		return
	}
	if a.Held != nil {
		p.keep(w, a.Held)
	}
	p.settle(probeResult{watch: w, err: outcome(a.Err), took: a.Took}, now)
}

// outcome is the result of a probe. What went wrong with us says nothing about the target.
func outcome(err error) error {
	if errors.Is(err, wire.ErrPanic) {
		metrics.Panics.Inc()
		return fmt.Errorf("%w: %w", check.ErrAbstain, err)
	}
	return err
}

// keep takes the connection of a good probe in the place of the one before. Of those that were asked for together, more may
// come than there is room for.
func (p *pool) keep(w *watch, conn *wire.Held) {
	full := w.hold.conn == nil && p.line.held >= p.line.mostly
	if w.removed || full {
		p.line.loop.Release(conn)
	}
	if full {
		metrics.SkippedHold.Inc()
	}
	if w.removed || full {
		return
	}
	p.release(w)
	w.hold.conn = conn
	p.line.held++
	metrics.HeldConnections.Inc()
}

// release ends the connection that is kept to a target, if there is one.
func (p *pool) release(w *watch) {
	if w.hold == nil || w.hold.conn == nil {
		return
	}
	if p.line.loop != nil {
		p.line.loop.Release(w.hold.conn)
		p.line.held--
		metrics.HeldConnections.Dec()
	}
	w.hold.conn = nil
}

// lost is called when the peer's kernel has ended a connection that was kept: the process may be gone, so the target is
// probed at once. A peer that hangs up on the idle by habit must not make that a loop: there is one such alarm an
// interval.
func (p *pool) lost(w *watch, conn *wire.Held, now time.Time) {
	if w.hold == nil || w.hold.conn != conn {
		return // there is a newer one
	}
	w.hold.conn = nil
	p.line.held--
	metrics.HeldConnections.Dec()
	if w.removed || !w.machine.State().Fit() || clock.At(now).Sub(w.hold.at) < w.check.pace.Interval {
		return
	}
	w.check.alarms.Inc()
	w.hold.alarmed, w.hold.lives, w.hold.at = true, false, clock.At(now)
	if w.place >= 0 {
		p.schedule.remove(w)
		p.schedule.add(w, clock.At(now))
	}
}

// hurry is the wait that follows a result while there is an alarm: short, until the target is down or two probes were good.
// One is not enough: a process that ends loses its connections before the port it listens on.
func (w *watch) hurry(state verdict.State, failed bool, wait time.Duration) time.Duration {
	if w.hold == nil || !w.hold.alarmed {
		return wait
	}
	switch {
	case w.started < w.hold.at:
		return 0 // that probe was under way before the alarm
	case failed && state.Fit(), !failed && !w.hold.lives:
		w.hold.lives = !failed
		return min(wait, alarmPace)
	}
	w.hold.alarmed = false
	return wait
}
