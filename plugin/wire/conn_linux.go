package wire

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stage is how far a conversation is.
type stage uint8

const (
	connecting stage = iota
	sending
	receiving
	holding
)

// conn is one connection.
type conn struct {
	question   Question
	fd         int
	serial     int32 // tells it from others that had the same descriptor
	stage      stage
	registered bool   // the kernel reports events on it
	events     uint32 // what it has reported so far: an end is told once
	began      time.Time
	deadline   time.Time
	timerIndex int    // among the timers; -1 for none
	unsent     []byte // of the request
	received   []byte
	pieces     pieces
	held       *Held
}

// guard lets a panic in a talk cost no more than the one answer.
func (l *Loop) recoverPanic(c *conn) {
	if r := recover(); r != nil {
		l.finish(c, fmt.Errorf("%w: %v", ErrPanic, r))
	}
}

func newConn(q Question, fd int) *conn { return &conn{question: q, fd: fd, timerIndex: -1} }

// enter makes a connection, which has a descriptor, one of the loop's.
func (l *Loop) addConn(c *conn) {
	l.opened++
	c.serial = l.opened
	for len(l.conns) <= c.fd {
		l.conns = append(l.conns, nil)
	}
	l.conns[c.fd] = c
}

// open opens a connection.
func (l *Loop) openConn(q *Question, now time.Time) {
	c := newConn(*q, -1)
	c.began, c.deadline = now, now.Add(q.Timeout)
	defer l.recoverPanic(c)
	addr, family := sockaddr(q.Addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		l.finish(c, q.Talk.Unconnected(q.Addr, err))
		return
	}
	c.fd = fd
	l.addConn(c)
	switch err := connectTwice(fd, addr); err {
	case nil, unix.EISCONN:
		l.connected(c)
	case unix.EINPROGRESS, unix.EALREADY, unix.EINTR:
		l.timers.arm(c)
		l.awaitEvents(c)
	default:
		l.finish(c, q.Talk.Unconnected(q.Addr, err))
	}
}

// follow waits for what the kernel reports. If that cannot be, the conversation ends.
func (l *Loop) awaitEvents(c *conn) {
	if err := l.register(c); err != nil {
		l.finish(c, c.question.Talk.Unconnected(c.question.Addr, err))
	}
}

// connected goes on with a connection that stands.
func (l *Loop) connected(c *conn) {
	if selfConnected(c.fd, c.question.Addr) {
		l.finish(c, c.question.Talk.Unconnected(c.question.Addr, unix.ECONNREFUSED))
		return
	}
	c.unsent = c.question.Talk.Request(c.question.Addr)
	if len(c.unsent) == 0 {
		l.succeed(c, nil)
		return
	}
	c.stage = sending
	if c.timerIndex < 0 {
		l.timers.arm(c)
	}
	if l.send(c) {
		l.awaitEvents(c)
	}
}

// send sends what is left of the request, as far as it goes. It returns false if that ended the conversation.
func (l *Loop) send(c *conn) bool {
	for len(c.unsent) > 0 {
		n, err := unix.Write(c.fd, c.unsent)
		switch err {
		case nil:
			c.unsent = c.unsent[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			return true
		default:
			l.finish(c, c.question.Talk.Unsent(err))
			return false
		}
	}
	c.stage = receiving
	return true
}

const (
	// over are the events of a connection that the peer, or its kernel, has ended.
	endEvents = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	// readable are those after which there is something to read, if only the end.
	readEvents = unix.EPOLLIN | endEvents
)

// handle takes one event. A connection that was closed while a child of this process still had it, which is so between
// fork and exec, may go on to report events: they bear its number.
func (l *Loop) handle(fd int, number int32, events uint32) {
	c := l.conns[fd]
	if c == nil || c.serial != number {
		return
	}
	defer l.recoverPanic(c)
	c.events |= events
	if c.stage == connecting && !l.connectResult(c) {
		return
	}
	if c.stage == sending && !l.send(c) {
		return
	}
	switch {
	case c.stage == holding:
		l.reportLost(c)
	case c.stage == receiving && events&readEvents != 0: // all there is now, not just what is new
		l.receive(c)
	}
}

// settled goes on with a connection on which connect has come to a result. It returns false if that ended it.
func (l *Loop) connectResult(c *conn) bool {
	if errno, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || errno != 0 {
		l.finish(c, c.question.Talk.Unconnected(c.question.Addr, connectError(err, errno)))
		return false
	}
	l.connected(c)
	return l.conns[c.fd] == c
}

func connectError(err error, errno int) error {
	if err != nil {
		return err
	}
	return syscall.Errno(errno)
}

// receive reads all there is.
func (l *Loop) receive(c *conn) {
	for {
		n, err := unix.Read(c.fd, l.buffer[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return
		case err != nil:
			l.deliverEnd(c, err)
			return
		case n == 0:
			l.deliverEnd(c, io.EOF)
			return
		}
		if !l.received(c, l.buffer[:n]) {
			return
		}
	}
}

// more takes what has come, and lets the talk hear it. It returns false if that ended the conversation.
func (l *Loop) received(c *conn, part []byte) bool {
	all := part
	if len(c.received) > 0 {
		c.received = append(c.received, part...)
		all = c.received
	}
	if c.pieces.tooLittle(len(all)) {
		l.postpone(c)
		return true
	}
	return l.deliver(c, all)
}

// let lets the talk hear all that has come. It returns false if that ended the conversation.
func (l *Loop) deliver(c *conn, all []byte) bool {
	l.stopPostponing(c, len(all))
	over, result := c.question.Talk.Hear(all, nil)
	switch {
	case !over:
		if len(c.received) == 0 {
			c.received = append(c.received, all...)
		}
		return true
	case result == nil:
		l.succeed(c, all)
	default:
		l.finish(c, result)
	}
	return false
}

// hear ends the conversation, for no more will come.
func (l *Loop) deliverEnd(c *conn, ended error) {
	_, result := c.question.Talk.Hear(c.received, ended)
	l.finish(c, result)
}

// good gives a good answer, and keeps the connection if that is wanted.
func (l *Loop) succeed(c *conn, received []byte) {
	if !c.question.Hold || !c.question.Talk.Holds(received) {
		l.finish(c, nil)
		return
	}
	if l.register(c) != nil {
		l.finish(c, nil)
		return
	}
	l.timers.disarm(c)
	keepAlive(c.fd)
	c.stage, c.received, c.unsent = holding, nil, nil
	c.held = &Held{c}
	l.addAnswer(c, nil)
	l.reportLost(c) // its end may have come with the answer, and is not reported again
}

// lose tells that a held connection has ended, if it has. That the peer sends something is no matter.
func (l *Loop) reportLost(c *conn) {
	if c.events&endEvents == 0 {
		return
	}
	l.answers = append(l.answers, Answer{Tag: c.question.Tag, Held: c.held, Lost: true})
	l.closeConn(c)
}

// part ends a held connection.
func (l *Loop) releaseHeld(h *Held) {
	c := h.conn
	if c.fd < 0 || c.fd >= len(l.conns) || l.conns[c.fd] != c {
		return // the peer has ended it, or a panic of the loop
	}
	if c.events&unix.EPOLLIN != 0 {
		_, _ = unix.Read(c.fd, l.buffer[:]) // what is unread would make the kernel end it with a reset
	}
	l.closeConn(c)
}

// expire ends a conversation that has lasted too long.
func (l *Loop) expire(c *conn) {
	defer l.recoverPanic(c)
	if l.deliverPostponed(c) {
		return
	}
	switch c.stage {
	case connecting:
		l.finish(c, c.question.Talk.Unconnected(c.question.Addr, os.ErrDeadlineExceeded))
	case sending:
		l.finish(c, c.question.Talk.Unsent(os.ErrDeadlineExceeded))
	default:
		l.deliverEnd(c, os.ErrDeadlineExceeded)
	}
}

// finish closes the connection, and gives the answer.
func (l *Loop) finish(c *conn, result error) {
	l.timers.disarm(c)
	l.closeConn(c)
	l.addAnswer(c, result)
}

func (l *Loop) addAnswer(c *conn, result error) {
	l.answers = append(l.answers, Answer{Tag: c.question.Tag, Err: result, Took: time.Since(c.began), Held: c.held})
}
