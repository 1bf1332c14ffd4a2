package check

import (
	"context"
	"errors"
	"net/netip"
)

// newTCP builds the check that only connects (B33).
func newTCP(s *spec) (probe, error) {
	if s.host != "" {
		return nil, errors.New("tcp takes no host, for it tells the peer nothing: write " + s.scheme.example)
	}
	if s.path != "" || s.query != "" {
		return nil, errors.New("tcp takes no path and no query: write " + s.scheme.example)
	}
	s.talk = newTalk(nil)
	return s.probeTCP, nil
}

// holdOptions are those of the schemes whose connection can be kept.
var holdOptions = []string{"hold"}

var errHold = errors.New("goes with a check of the connection or of the status alone: leave out hold, or the other options")

func setHold(s *settings, _ []string) (shown []string, hidden []byte, err error) {
	s.hold = true
	return nil, nil, nil
}

// probeTCP is content with a connection. It takes leave with a FIN, so that a server that accepts and reads sees an
// orderly end and not an error to log.
func (s *spec) probeTCP(ctx context.Context, addr netip.AddrPort) error {
	conn, hangUp, err := s.dialer.dial(ctx, addr)
	if err != nil {
		return err
	}
	defer hangUp()
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the peer has shown that it accepts, which is all that was asked
	}
	return nil
}
