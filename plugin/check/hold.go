package check

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// A holdingProber is a prober that can leave its connection open. After a good answer it passes the
// connection to keep, and sends nothing more on it, not even close_notify in TLS: the peer would
// take that for the end.
type holdingProber interface {
	probeHolding(ctx context.Context, addr netip.AddrPort, keep func(*net.TCPConn)) error
}

// notWithHold are the options that exclude hold. After a body or a dialogue, unread data may follow
// on the connection; the others ask no single server, or demand a failure.
var notWithHold = []string{"host", "body", "body_regex", "no_body", "no_body_regex", "send", "expect", "expect_regex", "starttls", "reset", "invert"}

// holdOptions are the options of the schemes that can hold a connection.
var holdOptions = []string{"hold"}

// setHold parses the option hold.
func setHold(s *settings, _ []string) (shown []string, hidden []byte, err error) {
	s.hold = true
	return nil, nil, nil
}

// Hold reports whether the connection of a good probe shall be kept open. Its end then tells that
// the peer has died, before the next probe would.
func (c *Check) Hold() bool { return c.hold }

// ProbeKeeping is [Check.Probe], and calls keep with the connection of a good answer if the peer
// keeps that open. Call it for a check that holds and has no [Check.Talk]; the event loop does the
// same for those that have one. The connection is closed when ProbeKeeping returns, so keep must
// duplicate the descriptor.
func (c *Check) ProbeKeeping(ctx context.Context, addr netip.AddrPort, keep func(*net.TCPConn)) error {
	if c.holder == nil {
		return c.Probe(ctx, addr)
	}
	return c.result(ctx, c.holder.probeHolding(ctx, addr, keep))
}

// checkHold refuses hold together with an option that excludes it.
func (s *spec) checkHold() error {
	for _, name := range notWithHold {
		if s.hold && s.has(name) {
			return s.optionError("hold", fmt.Errorf("cannot be used together with %s: remove one of the two", name))
		}
	}
	return nil
}
