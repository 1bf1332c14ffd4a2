package check

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A session is a conversation over one connection, in a protocol of our own hand: bounded, and with a failure in
// words for whatever ends it.
type session struct {
	conn net.Conn
	peer netip.AddrPort
	in   *bufio.Reader
	src  *limitedReader

	reading net.Conn // which src reads

	handshakeTimeout, firstByteTimeout time.Duration // may take no longer than this, 0 for no bound of its own
}

// A protocol is what is said over a session.
type protocol interface {
	ask(ctx context.Context, x *session) error
}

// overSession makes a probe of what is said over a connection, in TLS from the start if config is not nil.
func (s *spec) overSession(config *tls.Config, p protocol) prober {
	return proberFunc(func(ctx context.Context, addr netip.AddrPort) error {
		conn, hangUp, err := s.dialer.dial(ctx, addr)
		if err != nil {
			return err
		}
		defer hangUp()
		in := readers.Get().(*bufio.Reader)
		defer readers.Put(in)
		x := &session{conn: conn, peer: addr, in: in, handshakeTimeout: s.tls.handshakeTimeout, firstByteTimeout: s.firstByteTimeout}
		defer func() { x.conn.Close() }() // says goodbye in TLS; hangUp follows
		x.listen()
		if config != nil {
			if err := x.startTLS(ctx, config); err != nil {
				return err
			}
		}
		return p.ask(ctx, x)
	})
}

func (x *session) listen() {
	x.reading = limitFirstByte(x.conn, x.firstByteTimeout)
	x.src = &limitedReader{r: x.reading, left: responseLimit}
	x.in.Reset(x.src)
}

// secure goes on in TLS. Bytes that came before would otherwise count as if they had been protected.
func (x *session) startTLS(ctx context.Context, config *tls.Config) error {
	if x.in.Buffered() > 0 {
		return errors.New("tls handshake: peer sent unencrypted data first")
	}
	client, err := handshake(ctx, x.conn, config, x.handshakeTimeout)
	if err != nil {
		return err
	}
	x.conn = client
	x.listen()
	return nil
}

func (x *session) send(message []byte) error {
	if _, err := x.conn.Write(message); err != nil {
		return requestFailure(err)
	}
	return nil
}

// fill reads as many bytes as buf has.
func (x *session) fill(buf []byte) error {
	_, err := io.ReadFull(x.in, buf)
	return x.failure(err)
}

// line reads up to the end of a line, and returns it without that.
func (x *session) line() (string, error) {
	text, err := x.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", malformed(text)
	}
	return strings.TrimRight(string(text), "\r\n"), x.failure(err)
}

// failure tells a peer that said nothing from one that broke off.
func (x *session) failure(err error) error {
	if err == nil {
		return nil
	}
	if x.src.left == responseLimit {
		return responseFailure(err)
	}
	return errors.New("incomplete response: " + describe(err))
}

// upgradeOptions are those of protocols that begin in the clear and go on in TLS if they are asked to, beside tlsOptions.
var upgradeOptions = []string{"starttls"}

// upgrade is the TLS to go on in, nil for none. Options about it, and a host, mean nothing without.
func (s *spec) upgradeConfig() (*tls.Config, error) {
	if s.has("starttls") && s.host == "" && s.tls.serverName == "" && !s.tls.insecure {
		return nil, s.optionError("starttls", fmt.Errorf("no name to verify the certificate against: name a host, as in "+
			"%s://db.example.org:%d, or add server_name NAME or insecure", s.scheme.name, s.port))
	}
	if s.has("starttls") {
		return s.tlsConfig()
	}
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

// refuseHost is for protocols in which a host tells the peer nothing.
func (s *spec) refuseHost() error {
	if s.host != "" {
		return fmt.Errorf("%s does not use a host: write %s", s.scheme.name, s.scheme.example)
	}
	return nil
}

// refusePath is for protocols that ask for nothing in particular.
func (s *spec) refusePath() error {
	if s.path != "" || s.query != "" {
		return fmt.Errorf("%s takes no path and no query: write %s", s.scheme.name, s.scheme.example)
	}
	return nil
}
