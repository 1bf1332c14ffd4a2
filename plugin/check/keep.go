package check

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// A keeping is a probe that lets a connection be kept after a good answer. It calls keep with that, and says nothing more on
// it, not even goodbye in TLS, which the peer would take for the end.
type keeping func(ctx context.Context, addr netip.AddrPort, keep func(*net.TCPConn)) error

var errHold = errors.New("goes with a check of the connection or of the head of a response alone: leave out hold, or the other options")

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
	if c.keep == nil {
		return c.Probe(ctx, addr)
	}
	return c.result(ctx, c.keep(ctx, addr, keep))
}

// holds says whether the check can hold as it is.
func (s *spec) holds() error {
	if s.hold && (s.talk == nil && s.keep == nil || s.invert || s.owner) {
		return s.wrong("hold", errHold)
	}
	return nil
}
