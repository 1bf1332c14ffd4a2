package check

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// readSize is how much room there is at least for what a peer sends.
	readSize = 512
	// codeLength is how many digits a code has that a line begins with in SMTP, FTP and their like (RFC 5321, 4.2).
	codeLength = 3
)

// A dialogue is what is said on one connection, and heard, at most [responseLimit] bytes. What it comes to does not turn
// on how the peer's words are spread over packets.
type dialogue struct {
	conn             io.ReadWriter
	tls              *tls.Config   // nil if no step begins TLS
	handshakeTimeout time.Duration // of its handshake
	firstByteTimeout time.Duration // how long the peer may take to begin, in the clear and then in TLS
	inTLS            *tls.Conn     // nil before
	sent             [][]byte
	received         []byte // and not taken by a step yet
	left             int    // that may be heard
	midLine          bool   // what was taken last ends within a line
}

// hold goes through the steps.
func (d *dialogue) runSteps(ctx context.Context, steps []step) error {
	for i, s := range steps {
		if err := s.run(ctx, d); err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, s.what, err)
		}
	}
	return nil
}

func (d *dialogue) send(text []byte) error {
	d.sent = append(d.sent, text)
	if _, err := d.conn.Write(text); err != nil {
		return errors.New(describe(err))
	}
	return nil
}

// expect takes what is heard up to the end of the text, whatever comes before it.
func (d *dialogue) expect(text []byte) error {
	for searched := 0; ; {
		if i := bytes.Index(d.received[searched:], text); i >= 0 {
			d.consume(searched + i + len(text))
			return nil
		}
		searched = max(0, len(d.received)-len(text)+1)
		if err := d.readMore(); err != nil {
			return d.missing(err)
		}
	}
}

// expectLine takes lines, until one matches. It waits for the end of each, since half a line may match what the whole
// does not. The last may end with the connection.
func (d *dialogue) expectLine(regex *regexp.Regexp) error {
	for begin, searched := 0, 0; ; {
		if i := bytes.IndexByte(d.received[searched:], '\n'); i >= 0 {
			line := d.received[begin : searched+i]
			begin, searched = searched+i+1, searched+i+1
			if regex.Match(withoutCR(line)) {
				d.consume(begin)
				return nil
			}
			continue
		}
		searched = len(d.received)
		err := d.readMore()
		if err == io.EOF && begin < len(d.received) && regex.Match(withoutCR(d.received[begin:])) {
			d.consume(len(d.received))
			return nil
		}
		if err != nil {
			return d.missing(err)
		}
	}
}

func withoutCR(line []byte) []byte { return bytes.TrimSuffix(line, []byte("\r")) }

// take drops the first n bytes of what was heard.
func (d *dialogue) consume(n int) {
	d.midLine = d.received[n-1] != '\n'
	d.received = d.received[n:]
}

// more waits until something is heard.
func (d *dialogue) readMore() error {
	if d.left == 0 {
		return errTooLong
	}
	d.received = slices.Grow(d.received, min(readSize, d.left))
	at := len(d.received)
	n, err := d.conn.Read(d.received[at:min(cap(d.received), at+d.left)])
	d.received, d.left = d.received[:at+n], d.left-n
	if n > 0 {
		return nil // an error comes again
	}
	return err
}

// unheard says what came in the place of what was expected: the last line of it. Once we have sent something the peer may
// give that back, whole, cut, or written in another way, and it may be a secret: then no more is said than a code.
func (d *dialogue) missing(err error) error {
	reason := describe(err)
	text := bytes.TrimRight(d.received, "\r\n")
	last := text[bytes.LastIndexByte(text, '\n')+1:]
	switch {
	case len(last) == 0:
	case len(d.sent) > 0:
		reason += ", after " + d.describeLine(last)
	default:
		reason += ", after " + quote(string(last))
	}
	return errors.New(reason)
}

// answer names a line by its code, if it has one that is none of our words.
func (d *dialogue) describeLine(line []byte) string {
	code := line[:min(len(line), codeLength)]
	ours := slices.ContainsFunc(d.sent, func(text []byte) bool { return bytes.Contains(text, code) })
	coded := len(code) == codeLength && len(bytes.Trim(code, "0123456789")) == 0 &&
		(len(line) == codeLength || line[codeLength] == ' ' || line[codeLength] == '-')
	if ours || !coded {
		return "an answer that is not shown"
	}
	return "an answer with code " + string(code)
}

// startTLS goes on inside TLS. What was heard before is forgotten with it.
func (d *dialogue) startTLS(ctx context.Context) error {
	plain := *d
	raw := d.conn.(net.Conn)
	if h, ok := raw.(*firstByteConn); ok {
		h.answerBegan() // what follows is the handshake, which has a bound of its own
		raw = h.Conn
	}
	client, err := handshake(ctx, &startTLSConn{Conn: raw, clear: &plain}, d.tls, d.handshakeTimeout)
	if err != nil {
		return err
	}
	d.inTLS, d.conn = client, limitFirstByte(client, d.firstByteTimeout)
	d.received, d.left, d.midLine = nil, plain.left, false
	return nil
}

// announced is a connection on which TLS begins. A peer that says so in a line may have more to say to the end of it
// than a step expected; that is dropped. No record of TLS begins like text.
type startTLSConn struct {
	net.Conn
	clear *dialogue
}

// Read is that of a [net.Conn].
func (a *startTLSConn) Read(p []byte) (int, error) {
	if a.clear.midLine {
		if err := a.clear.endLine(); err != nil {
			return 0, err
		}
	}
	if n := copy(p, a.clear.received); n > 0 {
		a.clear.received = a.clear.received[n:]
		return n, nil
	}
	return a.Conn.Read(p)
}

// endLine drops the rest of a line, unless it is TLS that follows: a handshake or an alert (RFC 8446, 5.1).
func (d *dialogue) endLine() error {
	for first := true; d.midLine; first = false {
		if len(d.received) == 0 {
			if err := d.readMore(); err != nil {
				return err
			}
		}
		if first && strings.IndexByte("\x15\x16", d.received[0]) >= 0 {
			d.midLine = false
			return nil
		}
		n := bytes.IndexByte(d.received, '\n') + 1
		if n == 0 {
			n = len(d.received)
		}
		d.consume(n)
	}
	return nil
}
