package check

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"
)

// A probe has one time-out, that of its context. These options bound one phase of it, and so tell a
// peer that is far away from one that is slow. The bound of the TLS handshake is among tlsOptions.
var (
	connectOptions = []string{"connect_timeout"} // and tlsOptions has that of the handshake
	answerOptions  = []string{"connect_timeout", "first_byte_timeout"}
)

// setConnectTimeout parses the option connect_timeout.
func setConnectTimeout(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return setPhase(&s.dialer.connectTimeout, v[0])
}

// setTLSTimeout parses the option tls_timeout.
func setTLSTimeout(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return setPhase(&s.tls.handshakeTimeout, v[0])
}

// setFirstByteTimeout parses the option first_byte_timeout.
func setFirstByteTimeout(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return setPhase(&s.firstByteTimeout, v[0])
}

// maxPhase is the longest bound of a phase. No probe has a longer time-out.
const maxPhase = 24 * time.Hour

// setPhase parses a duration into to. As everywhere in a stanza, a number without a unit is in
// seconds.
func setPhase(to *time.Duration, text string) (shown []string, hidden []byte, err error) {
	d, err := time.ParseDuration(text)
	if seconds, failed := strconv.ParseUint(text, 10, 32); failed == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < time.Millisecond || d > maxPhase {
		return nil, nil, fmt.Errorf("invalid duration %s: use 1ms to %s, such as 500ms", quote(text), maxPhase)
	}
	*to = d
	return []string{d.String()}, nil, nil
}

// hasPhaseTimeout reports whether a phase has a bound. The event loop knows only one time-out for
// each question.
func (s *settings) hasPhaseTimeout() bool {
	return slices.ContainsFunc([]time.Duration{s.dialer.connectTimeout, s.tls.handshakeTimeout, s.firstByteTimeout}, func(d time.Duration) bool { return d > 0 })
}

// limitFirstByte bounds how long the peer may take to start its answer. With limit 0 it returns
// conn as it is.
func limitFirstByte(conn net.Conn, limit time.Duration) net.Conn {
	if limit == 0 {
		return conn
	}
	return &firstByteConn{Conn: conn, limit: limit}
}

// A firstByteConn is a connection on which the answer must start in time, counted from the first
// read. The start is the first byte, or the call of answerBegan after manualFirstByte.
type firstByteConn struct {
	net.Conn
	limit  time.Duration
	manual bool // the start is told by answerBegan
	armed  bool // the deadline was set, by the first read
	over   bool // the answer has started, and the deadline is gone
}

// manualFirstByte takes over the decision when the answer on conn starts, for protocols in which
// the peer speaks first. It returns nil if conn is not bounded; answerBegan may be called on that.
func manualFirstByte(conn io.ReadWriter) *firstByteConn {
	h, _ := conn.(*firstByteConn)
	if h != nil {
		h.manual = true
	}
	return h
}

// answerBegan removes the deadline. It may be called more than once.
func (h *firstByteConn) answerBegan() {
	if h != nil && !h.over {
		h.over = true
		_ = h.SetReadDeadline(time.Time{})
	}
}

// Read sets the deadline at the first call.
func (h *firstByteConn) Read(p []byte) (n int, err error) {
	// The clock starts when we listen, not when the connection was made: the request is sent in
	// between.
	if !h.armed {
		h.armed = true
		if err := h.SetReadDeadline(time.Now().Add(h.limit)); err != nil {
			return 0, err
		}
	}
	if n, err = h.Conn.Read(p); n > 0 && !h.manual {
		h.answerBegan()
	}
	return n, err
}
