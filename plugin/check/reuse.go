package check

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/report"
)

const (
	// reuseProbes is how many probes ask on one connection, the one that opened it included. A listener that takes no new
	// client is down for those, and only a new connection shows that.
	reuseProbes = 30
	// reuseTime is how long a connection is used if reuse_for does not say. Up to a tenth of it is taken off at random, so that
	// connections that were opened together are not replaced together.
	reuseTime, reuseJitter = 10 * time.Minute, 10
	// maxReuse is the longest value of reuse_for: what a new connection would show must not stay hidden for longer.
	maxReuse = 24 * time.Hour
)

// reuseOptions are the options of the schemes whose connection can be asked again.
var reuseOptions = []string{"reuse", "reuse_for"}

// setReuse parses the option reuse.
func setReuse(s *settings, _ []string) (shown []string, hidden []byte, err error) {
	s.reuse = true
	return nil, nil, nil
}

// setReuseFor parses the option reuse_for. As everywhere in a stanza, a number without a unit is in seconds.
func setReuseFor(s *settings, v []string) (shown []string, hidden []byte, err error) {
	d, err := parseDuration(v[0])
	if seconds, failed := strconv.ParseUint(v[0], 10, 32); failed == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < time.Second || d > maxReuse {
		return nil, nil, fmt.Errorf("invalid duration %s: use 1s to %s, such as 10m", quote(v[0]), maxReuse)
	}
	s.reuseFor = d
	return []string{d.String()}, nil, nil
}

// checkReuse refuses what leaves no connection to ask again.
func (s *spec) checkReuse() error {
	switch {
	case s.reuseFor > 0 && !s.reuse:
		return s.optionError("reuse_for", errors.New("needs the option reuse: add it, or remove this one"))
	case !s.reuse:
		return nil
	case s.invert:
		return s.optionError("reuse", errors.New("cannot be used together with invert, after which no connection is good: remove one of the two"))
	case !canPoll:
		return s.optionError("reuse", errors.New("works on Unix systems only: leave it out"))
	case s.http.statuses.contain(http.StatusSwitchingProtocols):
		return s.optionError("reuse", errors.New("cannot be used together with status 101, after which a connection is not for HTTP: remove one of the two"))
	case s.scheme.name == "dns" && !s.dns.tcp:
		return s.optionError("reuse", errOverUDP)
	}
	return nil
}

// A repeater asks on connections that may serve for several probes.
type repeater struct {
	spec    *spec
	tls     *tlsClient // nil in the clear
	prepare func(ctx context.Context, addr netip.AddrPort) (question, error)
}

// A question is asked on a connection. It returns nil if the answer was good, and calls stay if another question may follow.
type question func(ctx context.Context, k *Kept) error

// repeats has the check ask what prepare returns, if its connection is to be asked again. An error of prepare is a fault of ours: no
// connection is made or given up for it.
func (s *spec) repeats(tls *tlsClient, prepare func(context.Context, netip.AddrPort) (question, error)) {
	if s.reuse {
		s.repeater = &repeater{s, tls, prepare}
	}
}

// Reuses reports whether a probe is to be asked on the connection of the last good one: by ProbeReusing.
func (c *Check) Reuses() bool { return c.repeater != nil }

// ReusedFor is for how long a connection may be asked again, 0 without the option reuse.
func (c *Check) ReusedFor() time.Duration {
	if c.repeater == nil {
		return 0
	}
	return c.repeater.spec.lifetime()
}

// ProbeReusing is [Check.Probe] that asks on the connection that the last probe has left, if there is one that can be asked
// again. That it fails proves nothing, whatever the reason: then, and within the same time, a new connection is asked, which
// decides. If there is no answer after half of the time, a new one is asked beside it, and the first good answer counts. It
// returns the connection for the next probe, nil if none is to be kept, and takes over the one before.
func (c *Check) ProbeReusing(ctx context.Context, addr netip.AddrPort, last *Kept) (next *Kept, err error) {
	if c.repeater == nil { // the host of one owner cannot be asked for
		last.Close()
		return nil, c.Probe(ctx, addr)
	}
	defer func() {
		if next != last {
			last.Close()
		}
	}()
	ask, err := c.repeater.prepare(ctx, addr)
	if err != nil {
		return last, c.result(ctx, err)
	}
	t := &try{repeater: c.repeater, ask: ask, addr: addr, left: maxReuse}
	if deadline, ok := ctx.Deadline(); ok {
		t.left = time.Until(deadline)
	}
	if last != nil && sameTrust(last.trust, t.tls.trust(ctx)) && last.lasts(time.Now()) {
		good, fresh := t.askAgain(ctx, last)
		switch {
		case good && last.again:
			return last, nil
		case good:
			return nil, nil
		case fresh != nil:
			return fresh.next, c.result(ctx, fresh.err)
		}
	}
	last.Close() // it takes a descriptor, and perhaps one of few places at the peer
	next, err = t.askNew(ctx)
	return next, c.result(ctx, err)
}

// A try is one probe of a target.
type try struct {
	*repeater
	ask  question
	addr netip.AddrPort
	left time.Duration // that the probe has
}

// askAgain asks on a connection that was left. It reports whether the answer was good. If that takes more than half of the time, it
// also asks a new connection, and returns what came of that unless the other was good. So a dead peer is noticed in time, and one
// that has become slow is not taken for dead.
func (t *try) askAgain(ctx context.Context, k *Kept) (good bool, fresh *second) {
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	fresh = &second{ended: make(chan struct{})}
	half := time.AfterFunc(t.left/2, func() {
		defer cancel() // it has decided
		fresh.ask(both, t)
	})
	err := k.converse(both, func() error {
		if !k.rests() {
			return errNotAtRest
		}
		k.lease.Use()
		return t.askInTime(both, k)
	})
	k.failed = err != nil
	if half.Stop() { // it has not begun
		return err == nil, nil
	}
	if err == nil {
		cancel()
	}
	<-fresh.ended
	switch to := Reported(ctx); {
	case fresh.panicked != nil:
		panic(fresh.panicked)
	case err == nil:
		fresh.next.Close()
		return true, nil
	case to != nil:
		*to = fresh.said
	}
	return false, fresh
}

// A second is a new connection that is asked beside the one that was kept.
type second struct {
	next     *Kept
	err      error
	said     report.Report // of the backend
	panicked any           // for the goroutine of the probe, which can bear it
	ended    chan struct{}
}

// ask asks a new connection, in a goroutine of its own.
func (s *second) ask(ctx context.Context, t *try) {
	defer close(s.ended)
	defer func() { s.panicked = recover() }()
	own := *t
	if own.ask, s.err = t.prepare(Listen(ctx, &s.said), t.addr); s.err == nil {
		s.next, s.err = own.askNew(ctx)
	}
}

// errNotAtRest is why a connection cannot be asked again. It is never shown.
var errNotAtRest = errors.New("not at rest")

// askInTime asks. A connection whose answer takes more than half of the time is not asked again, or the peer would be asked twice in each
// probe; with hold it is held all the same. A smaller part would be wrong: where this host is too busy, it would have more handshakes to
// make, and stay so.
func (t *try) askInTime(ctx context.Context, k *Kept) error {
	began := time.Now()
	err := t.ask(ctx, k)
	switch {
	case time.Since(began) <= t.left/2:
	case t.spec.hold:
		k.lease = Lease{}
	default:
		k.again = false
	}
	return err
}

// askNew asks on a new connection, and returns it if it can be asked again.
func (t *try) askNew(ctx context.Context) (*Kept, error) {
	conn, err := t.spec.dialer.connect(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	k := newKept(conn, t.spec)
	defer func() { // also after a panic
		if !k.again {
			k.Close()
		}
	}()
	err = k.converse(ctx, func() error {
		if err := t.open(ctx, k); err != nil {
			return err
		}
		return t.askInTime(ctx, k)
	})
	if !k.again {
		return nil, err
	}
	return k, err
}

// open does what comes before the first question on a connection.
func (r *repeater) open(ctx context.Context, k *Kept) error {
	if err := r.spec.dialer.announce(k.tcp); err != nil {
		return err
	}
	if r.tls == nil {
		return nil
	}
	k.trust = r.tls.trust(ctx)
	client, err := handshake(ctx, k.tcp, r.tls.with(k.trust), r.spec.tls.handshakeTimeout)
	if err != nil {
		return err
	}
	k.conn = client
	k.refused = r.spec.tls.refusedFrom(client.ConnectionState())
	return nil
}

// refusedFrom is when a handshake with the same certificates would fail, zero if it never would: when the first of them ends,
// or expires says that it ends too soon. So an end is noticed on a connection that is kept, too.
func (s *tlsSettings) refusedFrom(state tls.ConnectionState) time.Time {
	first := firstToExpire(state)
	switch {
	case first == nil && s.expires == 0:
		return time.Time{} // insecure
	case first == nil:
		first = state.PeerCertificates[0]
	}
	return first.NotAfter.Add(-s.expires)
}

// newKept prepares a connection for its first question.
func newKept(conn net.Conn, s *spec) *Kept {
	k := &Kept{tcp: newPollConn(conn), quiet: s.hold}
	k.conn, k.lease = k.tcp, s.newLease()
	return k
}

// A Lease says for how long a connection may be asked.
type Lease struct {
	until time.Time // when another one is to take its place
	left  int       // how many more probes may ask on it
}

// newLease is the lease of a new connection, on which the first probe asks now.
func (s *settings) newLease() Lease {
	life := s.lifetime()
	return Lease{time.Now().Add(life - rand.N(life/reuseJitter)), reuseProbes - 1}
}

// lifetime is how long a connection is used at most.
func (s *settings) lifetime() time.Duration { return cmp.Or(s.reuseFor, reuseTime) }

// NewLease is the lease of a new connection of a check with reuse, for a caller that asks by its [Talk].
func (c *Check) NewLease() Lease { return c.repeater.spec.newLease() }

// Lasts reports whether the connection may be asked once more.
func (l *Lease) Lasts(now time.Time) bool { return l.left > 0 && now.Before(l.until) }

// Use notes that it is asked once more.
func (l *Lease) Use() { l.left-- }
