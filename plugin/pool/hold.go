package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
	"github.com/coredns-multivalue/multivalue/plugin/wire"
)

const (
	// alarmPace is how soon a probe follows the one before while there is an alarm, after a held connection was closed.
	alarmPace = 100 * time.Millisecond
	// retryLoop is how long every probe gets a goroutine after the event loop could not be started, for example because the
	// process has too few descriptors.
	retryLoop = 10 * time.Second
)

// loopProber asks many targets from one goroutine, the event loop of package wire, and holds connections in it. A check that
// it cannot ask gets a goroutine for each probe. It belongs to the pool's loop.
type loopProber struct {
	loop    *wire.Loop         // nil until it is needed, and on systems without epoll
	retryAt time.Time          // when to try again to start it
	batch   []wire.Question    // questions that flush will hand over
	results chan []wire.Answer // from the event loop; stop drains it
	pending []wire.Answer      // results that were received and not handled yet
	held    int                // descriptors of connections that are held or kept
	maxHeld int                // how many there may be
	parting []*check.Kept      // connections that part will close
}

// heldConn is the connection that is held to a target, the alarm that its end gave, and the connection that the next probe
// asks on.
type heldConn struct {
	conn     *wire.Held
	kept     *check.Kept // with reuse; nil if there is none, or a probe has it
	lent     bool        // a probe has it
	lease    check.Lease // of conn, with reuse
	asked    bool        // the probe that is under way asks on conn
	given    *wire.Held  // what was conn when it was given up while a probe asked on it; its answer may bring it once more
	vain     uint8       // for how many probes none is kept: see vainFor
	futile   uint8       // kept ones in a row that gave no good answer
	alarmed  bool
	answered bool          // a probe has succeeded since the alarm
	alarmAt  clock.Instant // of the last alarm
}

// canAsk reports whether the event loop can ask the check of a monitor.
func (l *loopProber) canAsk(m *monitor, now time.Time) bool {
	return m.check.talk != nil && l.available(now)
}

// available reports whether there is an event loop. It is started when it is first needed.
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
		log.Warningf("cannot start the event loop, so each probe gets a goroutine and no connection is held for the next %s: %v", retryLoop, err)
		return false
	}
	l.loop = loop
	return true
}

// enqueue adds a probe to the batch.
func (l *loopProber) enqueue(m *monitor) {
	room := l.reserve(m)
	q := wire.Question{
		Addr: m.entry.Target.Addr, Timeout: m.check.pace.Timeout, Talk: m.check.talk, Hold: room && m.check.hold, Reuse: room && m.check.reuse && !m.held.inVain(), Tag: m,
	}
	if q.Reuse {
		q.On = m.held.lend(time.Now())
	}
	l.batch = append(l.batch, q)
}

// reserve reports whether the connection of the next probe is to be held: the check asks for it, and there is room.
func (l *loopProber) reserve(m *monitor) bool {
	if !m.check.hold && !m.check.reuse || m.idle {
		return false
	}
	if m.held == nil {
		m.held = &heldConn{alarmAt: clock.LongAgo}
	}
	room := m.held.conn != nil || l.held < l.maxHeld
	if !room {
		m.check.countNoRoom()
	}
	return room
}

// countNoRoom counts a connection that is not held or kept, because there are too many.
func (c *CheckSpec) countNoRoom() {
	if c.hold {
		metrics.SkippedHold.Inc()
		return
	}
	metrics.Held.NoRoom.Inc()
}

// holder is a prober that can hand over the connection of a successful probe, although the event loop cannot ask it: a check
// over TLS, for example.
type holder interface {
	// ProbeKeeping is Probe that calls keep after a success, before it closes its own descriptor of the connection.
	ProbeKeeping(ctx context.Context, addr netip.AddrPort, keep func(*net.TCPConn)) error
}

// holdingProbe is a holder for one probe, and the connection that it leaves behind.
type holdingProbe struct {
	holder
	conn *wire.Held // nil if there was no descriptor for it
}

// Probe implements Prober.
func (k *holdingProbe) Probe(ctx context.Context, addr netip.AddrPort) error {
	return k.ProbeKeeping(ctx, addr, func(conn *net.TCPConn) { k.conn, _ = wire.Take(conn) })
}

// holding is what a goroutine asks for a monitor whose connection is to be held, or nil.
func (l *loopProber) holding(m *monitor, now time.Time) *holdingProbe {
	if k, ok := m.check.prober.(holder); ok && m.check.hold && l.available(now) && l.reserve(m) {
		return &holdingProbe{holder: k}
	}
	return nil
}

// adoptConn has the event loop hold a connection that the probe of a goroutine has left.
func (p *Pool) adoptConn(m *monitor, held *wire.Held) {
	if p.prober.loop == nil {
		held.Discard()
		return
	}
	p.prober.loop.Keep(held, m)
	p.holdConn(m, held)
}

// flush hands the batch over to the event loop.
func (l *loopProber) flush() {
	if len(l.batch) > 0 {
		l.loop.Ask(l.batch)
		clear(l.batch)
		l.batch = l.batch[:0]
	}
}

// shutDown ends the event loop, and returns the monitors whose probes end with it. Their results are of no use any more.
func (l *loopProber) shutDown() []*monitor {
	l.held = 0
	metrics.Held.Connections.Set(0)
	if l.loop == nil {
		return nil
	}
	l.flush()
	last := make(chan []wire.Answer, 1)
	go func(loop *wire.Loop) { last <- loop.Close() }(l.loop)
	l.loop = nil
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

// monitorsOf lists the monitors whose probes the answers belong to.
func monitorsOf(answers []wire.Answer) (all []*monitor) {
	for _, a := range answers {
		if !a.Lost {
			all = append(all, a.Tag.(*monitor))
		}
	}
	return all
}

// handleAll handles results of the event loop. Each is taken off first: if one makes the pool panic, the others are handled
// when the loop has restarted, and give back the places of their probes.
func (p *Pool) handleAll(answers []wire.Answer, now time.Time) {
	p.prober.pending = append(p.prober.pending, answers...)
	for len(p.prober.pending) > 0 {
		a := p.prober.pending[0]
		p.prober.pending = p.prober.pending[1:]
		p.handle(a, now)
	}
	p.prober.pending = nil
}

func (p *Pool) handle(a wire.Answer, now time.Time) {
	m := a.Tag.(*monitor)
	if a.Lost {
		p.peerClosed(m, a.Held, now)
		return
	}
	if m.held != nil {
		a.Held = p.replaceConn(m, a)
	}
	if a.Held != nil {
		p.holdConn(m, a.Held)
	}
	p.settle(probeResult{monitor: m, err: probeError(a.Err), took: a.Took}, now)
}

// probeError is the error of a probe by the event loop. A fault of our own says nothing about the target.
func probeError(err error) error {
	if errors.Is(err, wire.ErrPanic) {
		metrics.Panics.Inc()
		return fmt.Errorf("%w: %w", check.ErrAbstain, err)
	}
	return err
}

// holdConn holds the connection of a successful probe in place of the one before. Of those that were asked for together, more
// may come than there is room for; and the target may have become idle meanwhile.
func (p *Pool) holdConn(m *monitor, conn *wire.Held) {
	full := m.held.conn == nil && p.prober.held >= p.prober.maxHeld
	if full {
		m.check.countNoRoom()
	}
	if m.removed || m.idle || full || m.listens() {
		p.prober.loop.Release(conn)
		return
	}
	p.releaseConn(m)
	m.held.conn = conn
	p.prober.held++
	metrics.Held.Connections.Inc()
}

// dropConn closes the connections that are held or kept to a target, if there are any.
func (p *Pool) dropConn(m *monitor) {
	p.dropKept(m)
	p.releaseConn(m)
}

// releaseConn closes the connection that is held to a target, if there is one.
func (p *Pool) releaseConn(m *monitor) {
	if m.held == nil || m.held.conn == nil {
		return
	}
	if p.prober.loop != nil {
		p.prober.loop.Release(m.held.conn)
		p.prober.held--
		metrics.Held.Connections.Dec()
	}
	if m.held.asked {
		m.held.asked, m.held.given = false, m.held.conn
	}
	m.held.conn = nil
}

// peerClosed is called when the peer has closed a held connection: its process may be gone, so the target is probed at once.
// A peer that closes idle connections by habit must not turn that into a flood, so there is one such alarm an interval.
func (p *Pool) peerClosed(m *monitor, conn *wire.Held, now time.Time) {
	if m.held == nil || m.held.conn != conn {
		return // a newer connection has replaced it
	}
	m.held.conn = nil
	p.prober.held--
	metrics.Held.Connections.Dec()
	if !m.check.hold || m.removed || m.listens() || !m.machine.State().Fit() || clock.At(now).Sub(m.held.alarmAt) < m.check.pace.Interval {
		return
	}
	m.check.alarms.Inc()
	m.held.alarmed, m.held.answered, m.held.alarmAt = true, false, clock.At(now)
	if m.position >= 0 {
		p.schedule.remove(m)
		p.schedule.add(m, clock.At(now), now)
	}
}

// alarmWait is the wait after a result while there is an alarm: short, until the target is down or two probes have succeeded.
// One is not enough, because a process that is killed loses its connections before its listening port.
func (m *monitor) alarmWait(state verdict.State, failed bool, wait time.Duration) time.Duration {
	if m.held == nil || !m.held.alarmed {
		return wait
	}
	switch {
	case m.started < m.held.alarmAt:
		return 0 // that probe was in flight before the alarm
	case failed && state.Fit(), !failed && !m.held.answered:
		m.held.answered = !failed
		return min(wait, alarmPace)
	}
	m.held.alarmed = false
	return wait
}
