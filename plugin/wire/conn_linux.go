package wire

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A stage is how far a conversation is. It only ever grows, until the connection is asked again.
type stage uint8

const (
	connecting stage = iota // connect(2) is under way
	sending                 // connected; part of the request is unsent
	receiving               // the request is sent
	holding                 // the answer was good, and the connection is held
)

// A conn is one connection, with its conversation. Only the goroutine of the loop touches it,
// except while it waits in Loop.toHold.
type conn struct {
	question   Question
	fd         int   // -1 before the socket is open
	serial     int32 // tells it from others that had the same descriptor
	stage      stage
	registered bool      // with epoll
	events     uint32    // every event so far, because each is reported once
	began      time.Time // when connecting started
	deadline   time.Time // of the conversation, or of postponed bytes: see pieces
	timerIndex int       // in timers; -1 if no timer runs
	unsent     []byte    // the rest of the request
	received   []byte    // everything so far, unless the talk was satisfied at once
	pieces     pieces    // how the answer arrives
	held       *Held     // nil until stage has been holding
	again      bool      // it was held before the conversation
	ended      bool      // the peer has ended it, as reading or writing has told
	twin       *conn     // the other connection on which the question is asked; nil if there is none
	stays      bool      // after the last answer the peer keeps the connection open; known with Reuse only
	complete   bool      // the last answer was complete, with nothing after it; known with Reuse only
}

// recoverPanic turns a panic in a talk into the result of that one question. The other
// conversations go on. It must be deferred directly.
func (l *Loop) recoverPanic(c *conn) {
	if r := recover(); r != nil {
		l.finish(c, fmt.Errorf("%w: %v", ErrPanic, r))
	}
}

// newConn makes a connection without a timer.
func newConn(q Question, fd int) *conn {
	q.On = nil // or each would keep the one before
	return &conn{question: q, fd: fd, timerIndex: -1}
}

// addConn adds a connection with a descriptor to the table of the loop. The serial number may wrap
// around: it only has to differ from that of the last few owners of the descriptor.
func (l *Loop) addConn(c *conn) {
	l.opened++
	c.serial = l.opened
	for len(l.conns) <= c.fd {
		l.conns = append(l.conns, nil)
	}
	l.conns[c.fd] = c
}

// openConn opens a socket and starts to connect. All failures become answers. A question that is asked elsewhere at the same time
// has a twin, and one that was asked before has begun then.
func (l *Loop) openConn(q *Question, began time.Time, twin *conn) {
	c := newConn(*q, -1)
	c.began, c.deadline, c.twin = began, began.Add(q.Timeout), twin
	if twin != nil {
		twin.twin = c
	}
	defer l.recoverPanic(c)
	fd, err := openSocket(familyOf(q.Addr))
	if err != nil {
		l.finish(c, q.Talk.Unconnected(q.Addr, err))
		return
	}
	c.fd = fd
	l.addConn(c)
	switch err := connectTwice(fd, q.Addr); err {
	case nil, unix.EISCONN:
		l.connected(c)
	case unix.EINPROGRESS, unix.EALREADY, unix.EINTR: // epoll reports the result
		l.timers.arm(c)
		l.awaitEvents(c)
	default:
		l.finish(c, q.Talk.Unconnected(q.Addr, err))
	}
}

// awaitEvents registers the connection with epoll. If that fails, so does the conversation.
func (l *Loop) awaitEvents(c *conn) {
	if err := l.register(c); err != nil {
		l.finish(c, c.question.Talk.Unconnected(c.question.Addr, err))
	}
}

// connected continues with an open connection: it sends the request, or gives the answer if there
// is none to send.
func (l *Loop) connected(c *conn) {
	// A connection to our own socket means that nothing listens there.
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

// send writes as much of the request as the kernel takes. It returns false if that ended the
// conversation.
func (l *Loop) send(c *conn) bool {
	for len(c.unsent) > 0 {
		n, err := write(c.fd, c.unsent)
		switch err {
		case nil:
			c.unsent = c.unsent[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			return true // the socket buffer is full; EPOLLOUT will tell when it is not
		default:
			c.ended = true
			l.finish(c, c.question.Talk.Unsent(err))
			return false
		}
	}
	c.stage = receiving
	return true
}

const (
	// endEvents are the events of a connection that the peer, or its kernel, has ended.
	endEvents = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	// readEvents are the events after which there is something to read, if only the end.
	readEvents = unix.EPOLLIN | endEvents
)

// handle processes one event. A closed connection can still report events while a child of this
// process has its descriptor, between fork and exec. Those carry an old serial number and are
// dropped.
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
	case c.stage == receiving && events&readEvents != 0: // reads everything there is: events are edge-triggered
		l.receive(c)
	}
}

// connectResult continues once connect has finished. It returns false if that ended the
// conversation.
func (l *Loop) connectResult(c *conn) bool {
	if errno, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || errno != 0 {
		l.finish(c, c.question.Talk.Unconnected(c.question.Addr, connectError(err, errno)))
		return false
	}
	l.connected(c)
	return l.conns[c.fd] == c
}

// connectError is the error of getsockopt, or the one that it returned for connect.
func connectError(err error, errno int) error {
	if err != nil {
		return err
	}
	return syscall.Errno(errno)
}

// receive reads until there is nothing left to read. With edge-triggered events, what stays unread
// is never reported again.
func (l *Loop) receive(c *conn) {
	for {
		n, err := read(c.fd, l.buffer[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return
		case err != nil:
			c.ended = true
			l.deliverEnd(c, err)
			return
		case n == 0:
			c.ended = true
			l.deliverEnd(c, io.EOF)
			return
		}
		if !l.received(c, l.buffer[:n]) {
			return
		}
	}
}

// received adds a part to what was received, and lets the talk judge all of it. It returns false if
// that ended the conversation.
func (l *Loop) received(c *conn, part []byte) bool {
	all := part
	// Most answers arrive in one part, which is then judged in the buffer of the loop, without a
	// copy.
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

// deliver lets the talk judge everything received. It returns false if that ended the conversation.
func (l *Loop) deliver(c *conn, all []byte) bool {
	l.stopPostponing(c, len(all))
	over, result := c.weigh(all, nil)
	switch {
	case !over:
		// The bytes are in the buffer of the loop, which the next connection overwrites.
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

// deliverEnd lets the talk judge what was received, given that no more will come, and ends the
// conversation.
func (l *Loop) deliverEnd(c *conn, ended error) {
	_, result := c.weigh(c.received, ended)
	l.finish(c, result)
}

// succeed gives a good answer, and holds the connection if that is wanted. A connection that cannot
// be watched is not held: its end would never be reported.
func (l *Loop) succeed(c *conn, received []byte) {
	if !c.mayHold(received) {
		l.finish(c, nil)
		return
	}
	if l.register(c) != nil {
		l.finish(c, nil)
		return
	}
	l.timers.disarm(c)
	l.partTwins(c)
	if c.question.Hold && !c.again {
		keepAlive(c.fd)
	}
	c.stage, c.unsent = holding, nil
	if c.held == nil {
		c.held = &Held{c}
	}
	l.addAnswer(c, nil)
	l.reportLost(c) // its end may have come with the answer, and is not reported again
}

// reportLost reports that a held connection has ended, if it has. Data that the peer sends is
// ignored.
func (l *Loop) reportLost(c *conn) {
	if c.events&endEvents == 0 {
		return
	}
	l.answers = append(l.answers, Answer{Tag: c.question.Tag, Held: c.held, Lost: true})
	l.closeConn(c)
}

// reportEnded reports that a connection which was held has ended while it was being asked again, if its end was to be noticed.
func (l *Loop) reportEnded(c *conn) {
	if c.ended && c.held != nil && c.question.Hold {
		l.answers = append(l.answers, Answer{Tag: c.question.Tag, Held: c.held, Lost: true})
	}
}

// releaseHeld ends a held connection at the wish of the caller.
func (l *Loop) releaseHeld(h *Held) {
	c := h.conn
	if c.fd < 0 || c.fd >= len(l.conns) || l.conns[c.fd] != c {
		return // the peer ended it first, or a panic of the loop did
	}
	if c.stage != holding { // it is being asked again, and the answer is still of use
		c.question.Hold, c.question.Reuse = false, false
		return
	}
	if c.events&unix.EPOLLIN != 0 {
		_, _ = read(c.fd, l.buffer[:]) // unread data would make the kernel send a reset instead of a FIN
	}
	l.closeConn(c)
}

// expire handles a timer that has run out: it delivers postponed bytes, or ends the conversation.
func (l *Loop) expire(c *conn) {
	defer l.recoverPanic(c)
	if l.deliverPostponed(c) || l.askBeside(c) {
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

// finish closes the connection, then gives the answer. After that c must not be used.
func (l *Loop) finish(c *conn, result error) {
	l.timers.disarm(c)
	l.closeConn(c)
	if c.again && result != nil { // that proves nothing, but the end of a connection that is watched is told
		l.reportEnded(c)
		l.askElsewhere(c)
		return
	}
	l.partTwins(c)
	c.held = nil
	l.addAnswer(c, result)
}

// addAnswer queues an answer. The queue is reported at the end of the turn.
func (l *Loop) addAnswer(c *conn, result error) {
	l.answers = append(l.answers, Answer{Tag: c.question.Tag, Err: result, Took: time.Since(c.began), Held: c.held})
}
