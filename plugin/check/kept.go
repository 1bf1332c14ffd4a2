package check

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// A Kept is a connection that a good probe has left open for the next one. It belongs to one goroutine at a time. While it
// rests it costs no goroutine and no buffer, and what the peer sends is not read; the next probe looks at that first.
//
// For TLS a goroutine each was tried, and crypto/tls fed by the event loop: see docs/design.md.
type Kept struct {
	tcp     *pollConn
	conn    net.Conn  // what to talk on: tcp, or TLS over it
	trust   *trust    // what the files said at the handshake; nil if there are none
	refused time.Time // when its certificate would not be accepted any more; zero for never
	lease   Lease     // for how long it may be asked
	failed  bool      // it was asked again, in vain
	quiet   bool      // it is closed without a word, since something else holds it: see hold

	// Of the last answer.
	again  bool          // it was good, and another question may follow
	in     *bufio.Reader // has read beyond what was judged; nil if nothing was
	finish func() error  // reads the rest of the answer from in; nil if there is no rest
	http2  *http2Conn    // nil unless HTTP/2 is spoken
}

// TCP is the connection below TLS, if there is any, so that it can be held; see [Check.Hold].
func (k *Kept) TCP() *net.TCPConn { return k.tcp.TCPConn }

// Failed reports whether the connection was asked again and gave no good answer. It may be called on nil.
func (k *Kept) Failed() bool { return k != nil && k.failed }

// Close ends the connection. It may be called more than once, and on nil.
func (k *Kept) Close() error {
	if k == nil {
		return nil
	}
	k.again = false
	if !k.quiet {
		_ = k.conn.Close() // sends close_notify in TLS
	}
	k.release()
	return k.tcp.Close()
}

// release gives back the buffer.
func (k *Kept) release() {
	if k.in != nil {
		readers.Put(k.in)
	}
	k.in, k.finish = nil, nil
}

// lasts reports whether the connection may be asked once more, as far as the clock can tell.
func (k *Kept) lasts(now time.Time) bool {
	return k.lease.Lasts(now) && (k.refused.IsZero() || now.Before(k.refused))
}

// converse lets talk use the connection until ctx ends. It closes the connection unless another question may follow.
func (k *Kept) converse(ctx context.Context, talk func() error) error {
	k.again = false
	release := closeAtEnd(ctx, k.tcp)
	err := talk()
	if err != nil || !k.again {
		k.Close()
	}
	if !release() {
		k.Close()
	}
	return err
}

// stay notes that the answer was good and another question may follow, once finish has read the rest of it. The reader has
// what was received beyond what was judged, and belongs to the connection from now on.
func (k *Kept) stay(in *bufio.Reader, finish func() error) {
	k.again, k.in, k.finish = true, in, finish
	if finish == nil && in.Buffered() == 0 {
		k.release()
	}
}

// rests reports whether the connection can be asked: the last answer is complete, nothing has come after it, and the peer has
// not ended the connection. Otherwise what comes next might be taken for the answer. It does not wait.
func (k *Kept) rests() bool {
	k.tcp.noWait = true
	defer func() { k.tcp.noWait = false }()
	if k.http2 != nil {
		return k.http2.rests(k) && !k.amidRecord()
	}
	if k.finish != nil && k.finish() != nil {
		return false
	}
	if k.in != nil && k.in.Buffered() > 0 {
		return false
	}
	k.release()
	var early [1]byte
	n, err := k.conn.Read(early[:])
	return n == 0 && errors.Is(err, errWouldWait) && !k.amidRecord()
}

// amidRecord reports whether a record of TLS has come in part: once the rest is there, it might be an answer.
func (k *Kept) amidRecord() bool { return k.conn != net.Conn(k.tcp) && !k.tcp.records.areWhole() }

// errWouldWait is the error of a read for which nothing is there. It is one after which a connection over TLS can still be
// used: crypto/tls keeps every other error.
var errWouldWait = os.ErrDeadlineExceeded

// A pollConn is a connection that can also be read without waiting.
type pollConn struct {
	*net.TCPConn
	raw    syscall.RawConn // nil if it can not
	noWait bool            // a read returns errWouldWait if nothing is there

	records records // of TLS, which all that was read is if the connection is for that
}

// newPollConn wraps a connection over TCP.
func newPollConn(conn net.Conn) *pollConn {
	p := new(pollConn)
	if p.TCPConn, _ = conn.(*net.TCPConn); p.TCPConn != nil {
		p.raw, _ = p.SyscallConn()
	}
	return p
}

// Read reads what has arrived, or waits for it, as noWait says.
func (p *pollConn) Read(b []byte) (n int, err error) {
	if p.noWait {
		n, err = readArrived(p.raw, b)
	} else {
		n, err = p.TCPConn.Read(b)
	}
	p.records.track(b[:n])
	return n, err
}

// records follows the records of TLS in a stream: a head of five bytes, the last two of which are the length of what follows (RFC 8446,
// section 5.1).
type records struct {
	head [5]byte
	have int // bytes of the head of the next record
	left int // bytes that the record at hand lacks
}

// track follows bytes that were read.
func (r *records) track(b []byte) {
	for len(b) > 0 {
		if r.left > 0 {
			n := min(r.left, len(b))
			r.left, b = r.left-n, b[n:]
			continue
		}
		n := copy(r.head[r.have:], b)
		if r.have, b = r.have+n, b[n:]; r.have == len(r.head) {
			r.have, r.left = 0, int(r.head[3])<<8|int(r.head[4])
		}
	}
}

// areWhole reports whether all that was read is whole records.
func (r *records) areWhole() bool { return r.have == 0 && r.left == 0 }
