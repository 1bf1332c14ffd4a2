// Package wire asks many peers over TCP from one goroutine.
//
// Its main type is [Loop], an event loop over epoll, for Linux only. The pool starts one, hands it
// questions, and gets the answers in batches; what is said on a connection is for a [Talk] to know.
// A goroutine and a [net.Conn] for each question would take three times the processor time of a
// bare connect and close (docs/benchmarks.md), too much for thousands of peers a second.
//
// A connection can be held after its answer. The loop then reports when the kernel of the peer ends
// it, which a process that dies cannot prevent, however it dies.
package wire

import (
	"errors"
	"net/netip"
	"time"
)

var (
	// ErrUnsupported is what [Start] returns on systems other than Linux.
	ErrUnsupported = errors.New("not supported on this system")
	// ErrClosing is the result of a question that had no answer yet when the loop was closed. It
	// says nothing about the peer.
	ErrClosing = errors.New("closing")
	// ErrPanic is in the result of a question whose talk panicked. It says nothing about the peer.
	ErrPanic = errors.New("panic")
)

// A Talk says what to send on a connection, and judges what comes back. The loop calls its methods
// from its goroutine, so they must not wait. One Talk may serve many conversations.
type Talk interface {
	// Request returns what to send once the connection is open. If it is empty, the connection is
	// all that was asked for.
	Request(addr netip.AddrPort) []byte
	// Unsent returns the result if the request could not be sent completely.
	Unsent(err error) error
	// Hear judges everything received so far. It is called each time there is more, and once when
	// no more will come; ended is then io.EOF, an error of the connection, or
	// os.ErrDeadlineExceeded, otherwise nil. It reports whether the conversation is over, and its
	// result. A conversation that has ended is over in any case. The bytes are only lent: Hear must
	// not keep them.
	Hear(received []byte, ended error) (over bool, result error)
	// Unconnected returns the result if the connection could not be opened.
	Unconnected(addr netip.AddrPort, err error) error
	// Holds reports whether a peer that gave this good answer keeps the connection open.
	Holds(received []byte) bool
	// HearAll is Hear and Holds in one, for a connection that is to be asked again. After a good answer it also reports
	// whether that is complete, with nothing after it.
	HearAll(received []byte, ended error) (over, stays, complete bool, result error)
}

// A Question is a peer to ask.
type Question struct {
	Addr    netip.AddrPort
	Timeout time.Duration // for the whole conversation, from connect to the last byte
	Talk    Talk
	Hold    bool // hold the connection after a good answer, if the talk allows it
	Reuse   bool // hold it for the next question, without watching over the host of the peer
	// On is a connection that is held to the peer, to ask on; nil for a new one. Whatever happens there but a good answer
	// proves nothing: then a new connection is asked. After half of the time one is asked beside it, and the first good
	// answer counts. It is held no longer, unless it is the one of the answer. With Hold, its end is told as that of any other, before
	// the answer.
	On  *Held
	Tag any // returned with the answer; the loop does not look at it
}

// An Answer is the result of a question or, if Lost is true, the news that the peer ended a held
// connection.
type Answer struct {
	Tag  any
	Err  error         // nil for a good answer
	Took time.Duration // from the start of connecting to the result
	Held *Held         // the connection, if it is held
	Lost bool          // Held has ended; the other results are not set
}
