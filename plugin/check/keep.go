package check

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// A keeping is a probe that lets a connection be kept after a good answer. It calls keep with that, and says nothing more on
// it, not even goodbye in TLS, which the peer would take for the end.
type holdingProber interface {
	probeHolding(ctx context.Context, addr netip.AddrPort, keep func(*net.TCPConn)) error
}

// unheld are options of a check that cannot hold: after those about a body or a dialogue nobody knows what is still to come on
// the connection, and the others are no question to one server alone, or mean that it fails.
var notWithHold = []string{"host", "body", "body_regex", "no_body", "no_body_regex", "send", "expect", "expect_regex", "starttls", "reset", "invert"}

// holdOptions are those of the schemes whose connection can be kept.
var holdOptions = []string{"hold"}

func setHold(s *settings, _ []string) (shown []string, hidden []byte, err error) {
	s.hold = true
	return nil, nil, nil
}

// Hold reports whether the connection of a good probe is to be kept, so that its end tells of the peer's.
func (c *Check) Hold() bool { return c.hold }

// ProbeKeeping is [Check.Probe], and calls keep with the connection of a good answer if the peer lets that stand. It is for
// a check that holds and that has no [Talk], whose loop does the same. The connection is closed when ProbeKeeping returns;
// keep takes a descriptor of its own.
func (c *Check) ProbeKeeping(ctx context.Context, addr netip.AddrPort, keep func(*net.TCPConn)) error {
	if c.holder == nil {
		return c.Probe(ctx, addr)
	}
	return c.result(ctx, c.holder.probeHolding(ctx, addr, keep))
}

// holds says whether the check can hold as it is.
func (s *spec) checkHold() error {
	for _, name := range notWithHold {
		if s.hold && s.has(name) {
			return s.optionError("hold", fmt.Errorf("cannot be used together with %s: remove one of the two", name))
		}
	}
	return nil
}
