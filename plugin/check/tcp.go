package check

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
)

// newTCP builds the check that connects, and runs a dialogue if there are steps (B33). Options that
// have no effect without a step are refused, because the check would not do what it seems to do.
func newTCP(s *spec) (prober, error) {
	if s.path != "" || s.query != "" {
		return nil, errors.New("tcp takes no path and no query: write " + s.scheme.example)
	}
	if s.has("starttls") {
		return newStartTLS(s)
	}
	if s.host != "" {
		return nil, errors.New("tcp does not use a host: write " + s.scheme.example)
	}
	for _, name := range tlsOptions {
		if s.has(name) {
			return nil, s.optionError(name, errors.New("needs the step starttls: add it, or remove the option"))
		}
	}
	if s.firstByteTimeout > 0 && len(s.steps) == 0 {
		return nil, s.optionError("first_byte_timeout", errors.New("needs a step such as expect TEXT: without one no answer is awaited"))
	}
	c := &tcpCheck{spec: s}
	// Only a bare connection can be asked by the event loop and held afterwards.
	if len(s.steps) == 0 && !s.reset {
		s.talk, s.holder = newTalk(nil), c
	}
	return c, nil
}

// newStartTLS builds a dialogue with the step starttls.
func newStartTLS(s *spec) (prober, error) {
	config, err := s.tlsConfig()
	if err != nil {
		return nil, err
	}
	c := &tcpCheck{spec: s, tls: config}
	return c, nil
}

// A tcpCheck connects, and runs the steps of its spec on the connection.
type tcpCheck struct {
	spec *spec
	tls  *tlsClient // nil without the step starttls
}

// probe connects and runs the steps. Unless a reset is wanted, it ends with a FIN, so that a server
// that accepts and reads sees an orderly end and has no error to log.
func (c *tcpCheck) probe(ctx context.Context, addr netip.AddrPort) error {
	conn, closeConn, err := c.spec.dialer.dial(ctx, addr)
	if err != nil {
		return err
	}
	defer closeConn()
	if len(c.spec.steps) > 0 {
		err = c.runDialogue(ctx, conn)
	}
	endConnection(conn, c.spec.reset)
	return err
}

// probeHolding connects and leaves the connection to keep. It is only used for a check without
// steps.
func (c *tcpCheck) probeHolding(ctx context.Context, addr netip.AddrPort, keep func(*net.TCPConn)) error {
	conn, closeConn, err := c.spec.dialer.dial(ctx, addr)
	if err != nil {
		return err
	}
	defer closeConn()
	keep(conn.(*net.TCPConn))
	return nil
}

// runDialogue runs the steps. Once TLS has started, the dialogue ends with close_notify, unless a
// reset is wanted.
func (c *tcpCheck) runDialogue(ctx context.Context, conn net.Conn) error {
	d := &dialogue{conn: limitFirstByte(conn, c.spec.firstByteTimeout), tls: c.tls, handshakeTimeout: c.spec.tls.handshakeTimeout, firstByteTimeout: c.spec.firstByteTimeout, left: responseLimit}
	err := d.runSteps(ctx, c.spec.steps)
	if d.inTLS != nil && !c.spec.reset {
		_ = d.inTLS.CloseWrite() // sends close_notify
	}
	return err
}

// endConnection ends our side of the connection. The result of the probe is decided by then, so
// errors are ignored.
func endConnection(conn net.Conn, reset bool) {
	tcp, ok := conn.(*net.TCPConn)
	// With SO_LINGER of 0, close sends an RST (socket(7)).
	switch {
	case !ok:
	case reset:
		_ = tcp.SetLinger(0)
	default:
		_ = tcp.CloseWrite()
	}
}

// tcpOptions are the options of tcp.
var tcpOptions = slices.Concat(stepOptions, []string{"reset"}, tlsOptions, holdOptions, answerOptions, proxyOptions, socketOptions)
