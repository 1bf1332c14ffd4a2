// Package wire asks many peers over TCP from one goroutine.
//
// A goroutine and a [net.Conn] for each question would be the plain way. That takes three times the processor time of a
// bare connect and close, most of it for stacks, timers and wake-ups (see docs/benchmarks.md). A pool that asks thousands
// of peers a second feels that, so here one goroutine, the [Loop], holds all conversations, and is woken for many of them
// at once. It knows nothing of what is said: that is for a [Talk].
//
// A connection can be held after its answer. Then the loop tells when the peer's kernel ends it, which a process that
// dies, however it dies, cannot prevent.
package wire

import (
	"errors"
	"net/netip"
	"time"
)

var (
	// ErrUnsupported is what [Start] returns where there is no implementation: it is for Linux only.
	ErrUnsupported = errors.New("not supported on this system")
	// ErrClosing is the result of a question that the loop had no time for before it was closed.
	ErrClosing = errors.New("closing")
	// ErrPanic is in the result of a question whose talk panicked.
	ErrPanic = errors.New("panic")
)

// A Talk is what is said on a connection. Its methods are called from the loop, so they must not wait.
type Talk interface {
	// Request is what to send once the connection stands. If it is empty, the connection is all that was asked for.
	Request(addr netip.AddrPort) []byte
	// Unsent puts the failure to send all of the request into words.
	Unsent(err error) error
	// Hear is given all that has been received, each time there is more, and once when no more will come; ended is
	// then why: io.EOF, an error of the connection, or one of the timer. It says whether the conversation is over, which
	// it is in any case once it has ended, and with what result. The bytes are only lent.
	Hear(received []byte, ended error) (over bool, result error)
	// Unconnected puts the failure to connect into words.
	Unconnected(addr netip.AddrPort, err error) error
	// Holds reports whether a peer that gave this good answer lets the connection stand.
	Holds(received []byte) bool
}

// Question is a peer to ask.
type Question struct {
	Addr    netip.AddrPort
	Timeout time.Duration // for the whole conversation
	Talk    Talk
	Hold    bool // keep the connection after a good answer, if the talk holds
	Tag     any  // comes back with the answer
}

// Answer is what came of a question, or, if Lost is true, the news that the peer ended a connection that was held.
type Answer struct {
	Tag  any
	Err  error
	Took time.Duration
	Held *Held // the connection, if it is held
	Lost bool
}
