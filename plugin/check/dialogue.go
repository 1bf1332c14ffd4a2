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
	conn  io.ReadWriter
	tls   *tls.Config   // nil if no step begins TLS
	limit time.Duration // of its handshake
	first time.Duration // how long the peer may take to begin, in the clear and then in TLS
	inTLS *tls.Conn     // nil before
	sent  [][]byte
	heard []byte // and not taken by a step yet
	left  int    // that may be heard
	inner bool   // what was taken last ends within a line
}

// hold goes through the steps.
func (d *dialogue) hold(ctx context.Context, steps []step) error {
	for i, s := range steps {
		if err := s.take(ctx, d); err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, s.what, err)
		}
	}
	return nil
}

func (d *dialogue) send(text []byte) error {
	d.sent = append(d.sent, text)
	if _, err := d.conn.Write(text); err != nil {
		return errors.New(words(err))
	}
	return nil
}

// expect takes what is heard up to the end of the text, whatever comes before it.
func (d *dialogue) expect(text []byte) error {
	for searched := 0; ; {
		if i := bytes.Index(d.heard[searched:], text); i >= 0 {
			d.take(searched + i + len(text))
			return nil
		}
		searched = max(0, len(d.heard)-len(text)+1)
		if err := d.more(); err != nil {
			return d.unheard(err)
		}
	}
}

// expectLine takes lines, until one matches. It waits for the end of each, since half a line may match what the whole
// does not. The last may end with the connection.
func (d *dialogue) expectLine(regex *regexp.Regexp) error {
	for begin, searched := 0, 0; ; {
		if i := bytes.IndexByte(d.heard[searched:], '\n'); i >= 0 {
			line := d.heard[begin : searched+i]
			begin, searched = searched+i+1, searched+i+1
			if regex.Match(withoutCR(line)) {
				d.take(begin)
				return nil
			}
			continue
		}
		searched = len(d.heard)
		err := d.more()
		if err == io.EOF && begin < len(d.heard) && regex.Match(withoutCR(d.heard[begin:])) {
			d.take(len(d.heard))
			return nil
		}
		if err != nil {
			return d.unheard(err)
		}
	}
}

func withoutCR(line []byte) []byte { return bytes.TrimSuffix(line, []byte("\r")) }

// take drops the first n bytes of what was heard.
func (d *dialogue) take(n int) {
	d.inner = d.heard[n-1] != '\n'
	d.heard = d.heard[n:]
}

// more waits until something is heard.
func (d *dialogue) more() error {
	if d.left == 0 {
		return errTooLong
	}
	d.heard = slices.Grow(d.heard, min(readSize, d.left))
	at := len(d.heard)
	n, err := d.conn.Read(d.heard[at:min(cap(d.heard), at+d.left)])
	d.heard, d.left = d.heard[:at+n], d.left-n
	if n > 0 {
		return nil // an error comes again
	}
	return err
}

// unheard says what came in the place of what was expected: the last line of it. Once we have sent something the peer may
// give that back, whole, cut, or written in another way, and it may be a secret: then no more is said than a code.
func (d *dialogue) unheard(err error) error {
	reason := words(err)
	text := bytes.TrimRight(d.heard, "\r\n")
	last := text[bytes.LastIndexByte(text, '\n')+1:]
	switch {
	case len(last) == 0:
	case len(d.sent) > 0:
		reason += ", after " + d.answer(last)
	default:
		reason += ", after " + quote(string(last))
	}
	return errors.New(reason)
}

// answer names a line by its code, if it has one that is none of our words.
func (d *dialogue) answer(line []byte) string {
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
	if h, ok := raw.(*hastened); ok {
		h.begun() // what follows is the handshake, which has a bound of its own
		raw = h.Conn
	}
	client, err := secure(ctx, &announced{Conn: raw, plain: &plain}, d.tls, d.limit)
	if err != nil {
		return err
	}
	d.inTLS, d.conn = client, hasten(client, d.first)
	d.heard, d.left, d.inner = nil, plain.left, false
	return nil
}

// announced is a connection on which TLS begins. A peer that says so in a line may have more to say to the end of it
// than a step expected; that is dropped. No record of TLS begins like text.
type announced struct {
	net.Conn
	plain *dialogue
}

// Read is that of a [net.Conn].
func (a *announced) Read(p []byte) (int, error) {
	if a.plain.inner {
		if err := a.plain.endLine(); err != nil {
			return 0, err
		}
	}
	if n := copy(p, a.plain.heard); n > 0 {
		a.plain.heard = a.plain.heard[n:]
		return n, nil
	}
	return a.Conn.Read(p)
}

// endLine drops the rest of a line, unless it is TLS that follows: a handshake or an alert (RFC 8446, 5.1).
func (d *dialogue) endLine() error {
	for first := true; d.inner; first = false {
		if len(d.heard) == 0 {
			if err := d.more(); err != nil {
				return err
			}
		}
		if first && strings.IndexByte("\x15\x16", d.heard[0]) >= 0 {
			d.inner = false
			return nil
		}
		n := bytes.IndexByte(d.heard, '\n') + 1
		if n == 0 {
			n = len(d.heard)
		}
		d.take(n)
	}
	return nil
}
