package pool

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/wire"
)

// A check with reuse asks on the connection that the last good probe has left. One of the event loop stays there. Any other
// belongs to the monitor between two probes; a probe takes it over, and its result brings it back, or the one that took its
// place.

// lend is the connection of the event loop that the next probe is to ask on, nil for a new one.
func (h *heldConn) lend(now time.Time) *wire.Held {
	if h.asked = h.conn != nil && h.lease.Lasts(now); !h.asked {
		return nil
	}
	h.lease.Use()
	return h.conn
}

const (
	// vainFor is for how many probes a target is asked as without reuse: after its peer has not kept a new connection, or after
	// futileMost that were kept gave no good answer, one after the other, though a new one did. Its peer may close what rests, or a
	// firewall between may forget it. So such a peer costs no more than without.
	vainFor    = 30
	futileMost = 2
)

// inVain reports whether the next probe is one of those that are asked as without reuse.
func (h *heldConn) inVain() bool {
	if h.vain == 0 {
		return false
	}
	h.vain--
	return true
}

// noteKept notes whether a connection that was asked again gave the answer.
func (h *heldConn) noteKept(good bool) {
	if good {
		h.futile = 0
		return
	}
	if h.futile++; h.futile >= futileMost {
		h.futile, h.vain = 0, vainFor
	}
}

// replaceConn notes what an answer of the event loop means for the connection that it may have been asked on, and returns the
// one to hold from now on, if there is one.
func (p *Pool) replaceConn(m *monitor, a wire.Answer) *wire.Held {
	if !m.check.reuse {
		return a.Held
	}
	old, asked, given := m.held.conn, m.held.asked, m.held.given
	m.held.asked, m.held.given = false, nil
	if given != nil && given == a.Held {
		return nil
	}
	slow := a.Took > m.check.pace.Timeout/2 // so a new connection would be asked beside it each time
	if asked && a.Err == nil {
		m.held.noteKept(old != nil && old == a.Held)
	}
	if old != nil && old == a.Held {
		if m.removed || m.idle || m.listens() || slow && !m.check.hold {
			p.releaseConn(m)
		} else if slow {
			m.held.lease = check.Lease{}
		}
		return nil // it is held already
	}
	if old != nil && (asked || a.Err == nil) { // it has ended, or another one takes its place
		p.releaseConn(m)
	}
	if a.Held == nil {
		return nil
	}
	if m.held.vain > 0 && !m.check.hold {
		p.prober.loop.Release(a.Held)
		return nil
	}
	m.held.lease = m.check.newLease()
	if slow {
		m.held.lease = check.Lease{}
		if !m.check.hold {
			p.prober.loop.Release(a.Held)
			return nil
		}
	}
	return a.Held
}

// reuser is a prober that can ask on a connection that was left: see check.Check.
type reuser interface {
	ProbeReusing(ctx context.Context, addr netip.AddrPort, last *check.Kept) (next *check.Kept, err error)
}

// reusingProbe is a reuser for one probe.
type reusingProbe struct {
	reuser
	kept *check.Kept // first the connection to ask on, and then the one that the probe leaves; nil for none
	had  bool        // there was one to ask on
	hold bool        // the event loop is to hold a new one as well
	lack bool        // it holds none yet
	conn *wire.Held  // for that; nil if there was no descriptor for it

	asked, good bool // one was asked again, and gave the answer
}

// Probe implements Prober.
func (k *reusingProbe) Probe(ctx context.Context, addr netip.AddrPort) (err error) {
	last := k.kept
	k.kept = nil
	k.kept, err = k.ProbeReusing(ctx, addr, last)
	if err == nil {
		k.good, k.asked = k.kept == last, last.Failed() || last != nil && k.kept == last
	}
	if k.hold && k.kept != nil && (k.lack || k.kept != last) {
		k.conn, _ = wire.Take(k.kept.TCP())
	}
	return err
}

// ProbeReusing implements reuser.
func (a ownerProber) ProbeReusing(ctx context.Context, addr netip.AddrPort, last *check.Kept) (*check.Kept, error) {
	if r, ok := a.forOwner(a.owner).(reuser); ok {
		return r.ProbeReusing(ctx, addr, last)
	}
	last.Close()
	return nil, a.Probe(ctx, addr)
}

// reusing is what a goroutine asks for a monitor whose connection is to be used again, or nil. It hands over the connection.
func (l *loopProber) reusing(m *monitor, now time.Time) *reusingProbe {
	if !m.check.reuse || m.idle {
		return nil
	}
	r, ok := m.prober().(reuser)
	if !ok {
		return nil
	}
	if m.held == nil {
		m.held = &heldConn{alarmAt: clock.LongAgo}
	}
	if m.held.inVain() {
		return nil
	}
	if m.held.kept == nil && l.held >= l.maxHeld {
		metrics.Held.NoRoom.Inc()
		return nil
	}
	k := &reusingProbe{reuser: r, kept: m.held.kept, hold: m.check.hold && l.available(now), lack: m.held.conn == nil}
	k.had = k.kept != nil
	m.held.kept, m.held.lent = nil, k.had
	return k
}

// adoptKept keeps the connection that a probe has left. More may come than there is room for, and the target may have become
// idle meanwhile.
func (p *Pool) adoptKept(r probeResult) {
	m, kept, failed := r.monitor, r.kept, r.failed()
	hadOne := m.held.lent
	switch {
	case kept == nil && !failed && hadOne:
		p.releaseConn(m) // which is held is the same, and the end of it was announced
	case kept == nil && !failed && r.took <= m.check.pace.Timeout/2: // or it may only have been too slow this time
		m.held.vain = vainFor
	}
	if r.askedAgain {
		m.held.noteKept(r.again)
	}
	full := kept != nil && !hadOne && p.prober.held >= p.prober.maxHeld
	if full {
		metrics.Held.NoRoom.Inc()
	}
	p.dropKept(m)
	if kept == nil {
		return
	}
	dropped := r.had && !hadOne
	if full || dropped || m.removed || m.idle || m.listens() || m.held.vain > 0 {
		p.prober.parting = append(p.prober.parting, kept)
		return
	}
	m.held.kept = kept
	p.prober.held++
	if !m.check.hold { // or it is counted already
		metrics.Held.Connections.Inc()
	}
}

// dropKept closes the connection that is kept for a target, if there is one. If a probe has it, it is not kept after that.
func (p *Pool) dropKept(m *monitor) {
	if m.held == nil || m.held.kept == nil && !m.held.lent {
		return
	}
	if m.held.kept != nil {
		p.prober.parting = append(p.prober.parting, m.held.kept)
	}
	m.held.kept, m.held.lent = nil, false
	p.prober.held--
	if !m.check.hold {
		metrics.Held.Connections.Dec()
	}
}

// part closes connections that are not kept any more. It takes a goroutine, because the end of one over TLS is a message to
// the peer, and there may be thousands.
func (l *loopProber) part(probes *sync.WaitGroup) {
	if len(l.parting) == 0 {
		return
	}
	all := l.parting
	l.parting = nil
	probes.Go(func() {
		defer rescue.Log("connections that end")
		for _, kept := range all {
			kept.Close()
		}
	})
}
