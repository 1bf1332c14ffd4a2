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
	// readSize is how much room a read has at least, in bytes.
	readSize = 512
	// codeLength is the number of digits of the reply code that starts a line in SMTP, FTP and
	// similar protocols (RFC 5321, 4.2).
	codeLength = 3
)

// A dialogue runs the steps of a tcp check on one connection. It reads at most [responseLimit]
// bytes. Its result must not depend on how the words of the peer are spread over packets; a fuzz
// test holds it to that.
type dialogue struct {
	conn             io.ReadWriter // the connection to use now: in the clear, later perhaps in TLS
	tls              *tlsClient    // nil if no step begins TLS
	handshakeTimeout time.Duration // for the TLS handshake; 0 for no bound of its own
	firstByteTimeout time.Duration // until the first byte in the clear, and again until the first in TLS
	inTLS            *tls.Conn     // nil before TLS has started
	sent             [][]byte      // everything we sent, to recognise an echo of it
	received         []byte        // received, and not yet consumed by a step
	left             int           // bytes that may still be read
	midLine          bool          // the last consumed byte was not the end of a line
}

// runSteps runs the steps in order, until one fails. The reason names the step by its number, from
// 1.
func (d *dialogue) runSteps(ctx context.Context, steps []step) error {
	for i, s := range steps {
		if err := s.run(ctx, d); err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, s.what, err)
		}
	}
	return nil
}

// send writes a text and remembers it.
func (d *dialogue) send(text []byte) error {
	d.sent = append(d.sent, text)
	if _, err := d.conn.Write(text); err != nil {
		return errors.New(describe(err))
	}
	return nil
}

// expect consumes everything up to the end of text. It ignores what comes before, so several lines
// may precede the text.
func (d *dialogue) expect(text []byte) error {
	for searched := 0; ; {
		if i := bytes.Index(d.received[searched:], text); i >= 0 {
			d.consume(searched + i + len(text))
			return nil
		}
		// The text may have begun in what was received so far.
		searched = max(0, len(d.received)-len(text)+1)
		if err := d.readMore(); err != nil {
			return d.missing(err)
		}
	}
}

// expectLine consumes lines until one matches. It waits for the end of each line, because half a
// line may match when the whole line does not. Only the end of the connection can stand in for the
// end of the last line.
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
		// The line may have more to it, so nothing is decided before its end.
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

// withoutCR removes the CR of a line that ends with CRLF. The LF is gone already.
func withoutCR(line []byte) []byte { return bytes.TrimSuffix(line, []byte("\r")) }

// consume drops the first n received bytes; n must be at least 1.
func (d *dialogue) consume(n int) {
	d.midLine = d.received[n-1] != '\n'
	d.received = d.received[n:]
}

// readMore waits until more is received. It returns nil if there is at least one new byte.
func (d *dialogue) readMore() error {
	if d.left == 0 {
		return errTooLong
	}
	d.received = slices.Grow(d.received, min(readSize, d.left))
	at := len(d.received)
	n, err := d.conn.Read(d.received[at:min(cap(d.received), at+d.left)])
	d.received, d.left = d.received[:at+n], d.left-n
	if n > 0 {
		return nil // an error will come again with the next read
	}
	return err
}

// missing is the reason why a step did not get what it expected: how the connection ended, and the
// last line that came instead. Once we have sent something, the peer may repeat it, whole, cut, or
// encoded, and it may be a secret. Then only a reply code is shown.
func (d *dialogue) missing(err error) error {
	reason := describe(err)
	// The last line is the one that explains most: servers send details before a final reply.
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

// describeLine describes a line that must not be quoted. It shows the reply code, unless the code
// occurs in something that we sent.
func (d *dialogue) describeLine(line []byte) string {
	code := line[:min(len(line), codeLength)]
	// A password may well consist of three digits.
	ours := slices.ContainsFunc(d.sent, func(text []byte) bool { return bytes.Contains(text, code) })
	coded := len(code) == codeLength && len(bytes.Trim(code, "0123456789")) == 0 &&
		(len(line) == codeLength || line[codeLength] == ' ' || line[codeLength] == '-')
	if ours || !coded {
		return "an answer that is not shown"
	}
	return "an answer with code " + string(code)
}

// startTLS continues the dialogue in TLS. Bytes received in the clear are dropped with it, as RFC
// 3207, 4.2, demands of SMTP: a man in the middle may have inserted them.
func (d *dialogue) startTLS(ctx context.Context) error {
	plain := *d
	raw := d.conn.(net.Conn)
	if h, ok := raw.(*firstByteConn); ok {
		h.answerBegan() // the handshake follows, which has a time-out of its own
		raw = h.Conn
	}
	// The copy keeps the bytes received in the clear for the announcing line; d itself starts
	// fresh.
	client, err := handshake(ctx, &startTLSConn{Conn: raw, clear: &plain}, d.tls.now(ctx), d.handshakeTimeout)
	if err != nil {
		return err
	}
	d.inTLS, d.conn = client, limitFirstByte(client, d.firstByteTimeout)
	d.received, d.left, d.midLine = nil, plain.left, false
	return nil
}

// A startTLSConn is the connection below TLS right after the peer announced it. An expect step may
// have matched in the middle of the announcing line; the rest of that line is not TLS and is
// dropped. Text and TLS cannot be confused, because no TLS record starts with a printable byte.
type startTLSConn struct {
	net.Conn
	clear *dialogue // the dialogue in the clear, with what it has received beyond the announcement
}

// Read drops the rest of the announcing line, then reads the bytes of TLS: those already received,
// then those on the connection.
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

// endLine drops the rest of a line, unless TLS follows at once: a handshake or an alert (RFC 8446,
// 5.1).
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
