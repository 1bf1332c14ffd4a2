package multivalue

import (
	"errors"
	"fmt"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
	"github.com/coredns-multivalue/multivalue/plugin/wire"
)

// alarmPace is how soon a probe follows the one before while a lost connection has given the alarm.
const alarmPace = 100 * time.Millisecond

// line is the pool's way to ask many targets from one goroutine. What it cannot ask gets a goroutine of its own.
type line struct {
	loop    *wire.Loop         // nil while nothing had use for it, or the system has no such thing
	refused bool               // by the system
	batch   []wire.Question    // not handed over yet
	heard   chan []wire.Answer // from the loop, to the pool's; close empties it when that listens no more
	held    int                // connections that are kept
	mostly  int                // are kept at the most
}

// holding is what a watch knows of the connection that is kept to its target.
type holding struct {
	conn    *wire.Held
	alarmed bool
	lives   bool   // a probe since the alarm was good
	at      moment // of the last alarm
}

// asks reports whether the line can ask for a watch. It starts the loop when it is first needed.
func (l *line) asks(w *watch) bool {
	if w.check.talk == nil || l.refused {
		return false
	}
	if l.loop != nil {
		return true
	}
	loop, err := wire.Start(func(answers []wire.Answer) { l.heard <- answers })
	if err != nil {
		l.refused = true
		log.Debugf("each probe gets a goroutine: %v", err)
		return false
	}
	l.loop = loop
	return true
}

// add puts a question into the batch.
func (l *line) add(w *watch) {
	q := wire.Question{Addr: w.entry.target.Addr, Timeout: w.check.pace.Timeout, Talk: w.check.talk, Tag: w}
	if w.check.hold {
		if w.hold == nil {
			w.hold = &holding{at: longAgo}
		}
		q.Hold = w.hold.conn != nil || l.held < l.mostly
		if !q.Hold {
			skippedHold.Inc()
		}
	}
	l.batch = append(l.batch, q)
}

// flush hands the batch over.
func (l *line) flush() {
	if len(l.batch) > 0 {
		l.loop.Ask(l.batch)
		clear(l.batch)
		l.batch = l.batch[:0]
	}
}

// close ends all conversations, and returns what came of them.
func (l *line) close() []wire.Answer {
	if l.loop == nil {
		return nil
	}
	l.flush()
	rest := make(chan []wire.Answer, 1)
	go func(loop *wire.Loop) { rest <- loop.Close() }(l.loop)
	l.loop, l.held = nil, 0
	heldConnections.Set(0)
	var all []wire.Answer
	for {
		select {
		case answers := <-l.heard:
			all = append(all, answers...)
		case last := <-rest:
			for len(l.heard) > 0 {
				all = append(all, <-l.heard...)
			}
			return append(all, last...)
		}
	}
}

// hearAll takes what the line has to say.
func (p *pool) hearAll(answers []wire.Answer, now time.Time) {
	for i := range answers {
		a := &answers[i]
		w := a.Tag.(*watch)
		switch {
		case a.Lost:
			p.lost(w, a.Held, now)
			continue
		case p.line.loop == nil: // it is closed, with all its connections
		case a.Held != nil:
			p.keep(w, a.Held)
		}
		p.settle(probeResult{w, outcome(a.Err), a.Took}, now)
	}
}

// outcome is the result of a probe. What went wrong with us says nothing about the target.
func outcome(err error) error {
	if errors.Is(err, wire.ErrPanic) {
		panics.Inc()
		return fmt.Errorf("%w: %w", check.ErrAbstain, err)
	}
	if errors.Is(err, wire.ErrClosing) {
		return fmt.Errorf("%w: %w", check.ErrAbstain, err)
	}
	return err
}

// keep takes the connection of a good probe in the place of the one before.
func (p *pool) keep(w *watch, conn *wire.Held) {
	if w.removed {
		p.line.loop.Release(conn)
		return
	}
	p.release(w)
	w.hold.conn = conn
	p.line.held++
	heldConnections.Inc()
}

// release ends the connection that is kept to a target, if there is one.
func (p *pool) release(w *watch) {
	if w.hold == nil || w.hold.conn == nil {
		return
	}
	if p.line.loop != nil {
		p.line.loop.Release(w.hold.conn)
		p.line.held--
		heldConnections.Dec()
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
	heldConnections.Dec()
	if w.removed || !w.machine.State().Fit() || when(now).sub(w.hold.at) < w.check.pace.Interval {
		return
	}
	w.check.alarms.Inc()
	w.hold.alarmed, w.hold.lives, w.hold.at = true, false, when(now)
	if w.place >= 0 {
		p.schedule.remove(w)
		p.schedule.add(w, when(now))
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
