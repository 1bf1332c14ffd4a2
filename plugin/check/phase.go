package check

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"
)

// The time-out of a probe bounds it as a whole. These bound a part of it, and so tell apart a peer that is far away from one
// that is slow.
var (
	connectOptions = []string{"connect_timeout"} // and tlsOptions has that of the handshake
	answerOptions  = []string{"connect_timeout", "first_byte_timeout"}
)

func setConnectTimeout(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return setPhase(&s.dialer.connectTimeout, v[0])
}

func setTLSTimeout(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return setPhase(&s.tls.handshakeTimeout, v[0])
}

func setFirstByteTimeout(s *settings, v []string) (shown []string, hidden []byte, err error) {
	return setPhase(&s.firstByteTimeout, v[0])
}

// phaseMost is no shorter than any time-out of a probe.
const maxPhase = 24 * time.Hour

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

// phased reports whether a part of the probe has a bound of its own.
func (s *settings) hasPhaseTimeout() bool {
	return slices.ContainsFunc([]time.Duration{s.dialer.connectTimeout, s.tls.handshakeTimeout, s.firstByteTimeout}, func(d time.Duration) bool { return d > 0 })
}

// hasten bounds how long the peer of a connection may take to say something, unless limit is 0.
func limitFirstByte(conn net.Conn, limit time.Duration) net.Conn {
	if limit == 0 {
		return conn
	}
	return &firstByteConn{Conn: conn, limit: limit}
}

// A hastened is a connection whose peer has to begin in time, from when it is listened to: with the first byte, or with what
// its owner takes for the beginning, where a protocol has the peer say something of its own first.
type firstByteConn struct {
	net.Conn
	limit  time.Duration
	manual bool // the owner says when the answer has begun
	armed  bool
	over   bool
}

// hastenedBy is a connection that hasten bounds, for its owner to say when the answer has begun; nil if it is not bounded.
func manualFirstByte(conn io.ReadWriter) *firstByteConn {
	h, _ := conn.(*firstByteConn)
	if h != nil {
		h.manual = true
	}
	return h
}

// begun ends the bound.
func (h *firstByteConn) answerBegan() {
	if h != nil && !h.over {
		h.over = true
		_ = h.SetReadDeadline(time.Time{})
	}
}

// Read is that of a [net.Conn].
func (h *firstByteConn) Read(p []byte) (n int, err error) {
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
