package check

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A session is one connection in a protocol that we speak by hand. It bounds what is read, and
// turns every failure into a reason.
type session struct {
	conn net.Conn
	peer netip.AddrPort
	in   *bufio.Reader  // what to read from; it reads from src
	src  *limitedReader // bounds what is read, and remembers why reading ended

	reading net.Conn // the connection that src reads, with its bound of the first byte

	over   *http2Conn   // what a protocol over HTTP/2 remembers of the connection; nil if it is not kept
	finish func() error // reads what a good answer still has to it; nil if that is nothing

	// Bounds of phases; 0 for none.
	handshakeTimeout, firstByteTimeout time.Duration
}

// A protocol is what one check says and hears over a session. ask returns nil if the answer was
// good.
type protocol interface {
	ask(ctx context.Context, x *session) error
}

// overSession makes a prober that connects, performs the TLS handshake if config is not nil, and
// lets p ask.
func (s *spec) overSession(config *tlsClient, p protocol) prober {
	s.repeats(config, func(_ context.Context, addr netip.AddrPort) (question, error) {
		return func(ctx context.Context, k *Kept) error { return s.askKept(ctx, k, addr, p) }, nil
	})
	return proberFunc(func(ctx context.Context, addr netip.AddrPort) error {
		conn, closeConn, err := s.dialer.dial(ctx, addr)
		if err != nil {
			return err
		}
		defer closeConn()
		in := readers.Get().(*bufio.Reader)
		defer readers.Put(in)
		x := &session{conn: conn, peer: addr, in: in, handshakeTimeout: s.tls.handshakeTimeout, firstByteTimeout: s.firstByteTimeout}
		defer func() { x.conn.Close() }() // sends close_notify in TLS; closeConn follows
		x.listen()
		if config != nil {
			if err := x.startTLS(ctx, config); err != nil {
				return err
			}
		}
		return p.ask(ctx, x)
	})
}

// askKept lets p ask on a connection that may serve for another probe.
func (s *spec) askKept(ctx context.Context, k *Kept, addr netip.AddrPort, p protocol) error {
	if k.http2 == nil {
		k.http2 = new(http2Conn)
	}
	x := &session{conn: k.conn, peer: addr, in: readers.Get().(*bufio.Reader), over: k.http2, firstByteTimeout: s.firstByteTimeout}
	x.listen()
	if err := p.ask(ctx, x); err != nil {
		readers.Put(x.in)
		return err
	}
	if k.http2.leaving {
		readers.Put(x.in)
		return nil
	}
	if k.http2.last == 0 {
		k.http2 = nil // it is not spoken
	}
	k.stay(x.in, x.finish)
	return nil
}

// listen starts reading from conn, with fresh bounds. It is called again when TLS has started.
func (x *session) listen() {
	x.reading = limitFirstByte(x.conn, x.firstByteTimeout)
	x.src = &limitedReader{r: x.reading, left: responseLimit}
	x.in.Reset(x.src)
}

// startTLS performs the handshake and continues in TLS. Bytes that came before are refused: they
// would count as if TLS had protected them, though anybody on the way may have inserted them.
func (x *session) startTLS(ctx context.Context, config *tlsClient) error {
	if x.in.Buffered() > 0 {
		return errors.New("tls handshake: peer sent unencrypted data first")
	}
	// From here on the bounds start again, for what is said inside TLS.
	client, err := handshake(ctx, x.conn, config.now(ctx), x.handshakeTimeout)
	if err != nil {
		return err
	}
	x.conn = client
	x.listen()
	return nil
}

// send writes a message. A failure here is rarely the first sign of trouble: a write succeeds once
// the kernel has taken the bytes.
func (x *session) send(message []byte) error {
	if _, err := x.conn.Write(message); err != nil {
		return requestFailure(err)
	}
	return nil
}

// fill reads exactly len(buf) bytes.
func (x *session) fill(buf []byte) error {
	_, err := io.ReadFull(x.in, buf)
	return x.failure(err)
}

// line reads one line, and returns it without CR and LF. A line longer than the buffer is
// malformed.
func (x *session) line() (string, error) {
	text, err := x.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", malformed(text)
	}
	// Some servers end lines with LF alone.
	return strings.TrimRight(string(text), "\r\n"), x.failure(err)
}

// failure is the reason why reading failed: a peer that said nothing, or one that stopped in the
// middle.
func (x *session) failure(err error) error {
	if err == nil {
		return nil
	}
	// Nothing has been read at all, so the peer never started to answer.
	if x.src.left == responseLimit {
		return responseFailure(err)
	}
	return errors.New("incomplete response: " + describe(err))
}

// upgradeOptions are the options of protocols that start in the clear and can change to TLS, beside
// tlsOptions.
var upgradeOptions = []string{"starttls"}

// upgradeConfig is the configuration of TLS after starttls, nil without it. Without starttls, the
// options of TLS and a host have no effect, and are refused.
func (s *spec) upgradeConfig() (*tlsClient, error) {
	if s.has("starttls") && s.host == "" && s.tls.serverName == "" && !s.tls.insecure {
		return nil, s.optionError("starttls", fmt.Errorf("no name to verify the certificate against: name a host, as in "+
			"%s://db.example.org:%d, or add server_name NAME or insecure", s.scheme.name, s.port))
	}
	if s.has("starttls") {
		return s.tlsConfig()
	}
	// An option that has no effect is most likely a forgotten starttls, and the check would go out
	// unencrypted.
	for _, o := range s.given {
		if slices.Contains(tlsOptions, o.option.name) {
			return nil, s.optionError(o.option.name, errors.New("has no effect without starttls: add starttls, or remove it"))
		}
	}
	if s.host != "" {
		return nil, fmt.Errorf("%s takes a host only with the option starttls, for the certificate: write %s",
			s.scheme.name, s.scheme.example)
	}
	return nil, nil
}

// refuseHost is for protocols that never tell the peer a host.
func (s *spec) refuseHost() error {
	if s.host != "" {
		return fmt.Errorf("%s does not use a host: write %s", s.scheme.name, s.scheme.example)
	}
	return nil
}

// refusePath is for protocols without anything to name in a path.
func (s *spec) refusePath() error {
	if s.path != "" || s.query != "" {
		return fmt.Errorf("%s takes no path and no query: write %s", s.scheme.name, s.scheme.example)
	}
	return nil
}
