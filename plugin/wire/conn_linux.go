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
	hearing
	holding
)

// conn is one connection.
type conn struct {
	question Question
	fd       int
	stage    stage
	watched  bool // the kernel reports events on it
	began    time.Time
	deadline time.Time
	place    int    // among the timers; -1 for none
	unsent   []byte // of the request
	heard    []byte
	held     *Held
}

// guard lets a panic in a talk cost no more than the one answer.
func (l *Loop) guard(c *conn) {
	if r := recover(); r != nil {
		l.finish(c, fmt.Errorf("%w: %v", ErrPanic, r))
	}
}

// open opens a connection.
func (l *Loop) open(q *Question, now time.Time) {
	c := &conn{question: *q, fd: -1, began: now, deadline: now.Add(q.Timeout), place: -1}
	defer l.guard(c)
	addr, family := sockaddr(q.Addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		l.finish(c, q.Talk.Unconnected(err))
		return
	}
	c.fd = fd
	for len(l.conns) <= fd {
		l.conns = append(l.conns, nil)
	}
	l.conns[fd] = c
	if q.Hold {
		keepAlive(fd)
	}
	switch err := connect(fd, addr); err {
	case nil, unix.EISCONN:
		l.connected(c)
	case unix.EINPROGRESS, unix.EALREADY, unix.EINTR:
		l.timers.add(c)
		l.watch(c)
	default:
		l.finish(c, q.Talk.Unconnected(err))
	}
}

// connected goes on with a connection that stands.
func (l *Loop) connected(c *conn) {
	if toItself(c.fd, c.question.Addr) {
		l.finish(c, c.question.Talk.Unconnected(unix.ECONNREFUSED))
		return
	}
	c.unsent = c.question.Talk.Request(c.question.Addr)
	if len(c.unsent) == 0 {
		l.good(c, nil)
		return
	}
	c.stage = sending
	if c.place < 0 {
		l.timers.add(c)
	}
	if l.send(c) {
		l.watch(c)
	}
}

// send sends what is left of the request. It returns false if that ended the conversation.
func (l *Loop) send(c *conn) bool {
	n, err := unix.Write(c.fd, c.unsent)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return true
	case err != nil:
		return l.hear(c, err)
	}
	if c.unsent = c.unsent[n:]; len(c.unsent) == 0 {
		c.stage = hearing
	}
	return true
}

// handle takes one event.
func (l *Loop) handle(fd int, events uint32) {
	c := l.conns[fd]
	if c == nil {
		return
	}
	defer l.guard(c)
	if c.stage == connecting {
		if errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || errno != 0 {
			l.finish(c, c.question.Talk.Unconnected(cause(err, errno)))
			return
		}
		l.connected(c)
		if l.conns[fd] != c {
			return
		}
	}
	if c.stage == holding {
		l.lose(c, events)
		return
	}
	if c.stage == sending && events&unix.EPOLLOUT != 0 && !l.send(c) {
		return
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		l.receive(c)
	}
}

func cause(err error, errno int) error {
	if err != nil {
		return err
	}
	return syscall.Errno(errno)
}

// receive reads all there is.
func (l *Loop) receive(c *conn) {
	for {
		n, err := unix.Read(c.fd, l.room[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return
		case err != nil:
			l.hear(c, err)
			return
		case n == 0:
			l.hear(c, io.EOF)
			return
		}
		if !l.more(c, l.room[:n]) {
			return
		}
	}
}

// more lets the talk hear what has come. It returns false if that ended the conversation.
func (l *Loop) more(c *conn, part []byte) bool {
	all := part
	if len(c.heard) > 0 {
		c.heard = append(c.heard, part...)
		all = c.heard
	}
	over, result := c.question.Talk.Hear(all, nil)
	switch {
	case !over:
		if len(c.heard) == 0 {
			c.heard = append(c.heard, part...)
		}
		return true
	case result == nil:
		l.good(c, all)
	default:
		l.finish(c, result)
	}
	return false
}

// hear ends the conversation, for no more will come. It returns false, as everything does that ends one.
func (l *Loop) hear(c *conn, ended error) bool {
	_, result := c.question.Talk.Hear(c.heard, ended)
	l.finish(c, result)
	return false
}

// good gives a good answer, and keeps the connection if that is wanted.
func (l *Loop) good(c *conn, received []byte) {
	if !c.question.Hold || !c.question.Talk.Holds(received) {
		l.finish(c, nil)
		return
	}
	l.timers.remove(c)
	c.stage, c.heard, c.unsent = holding, nil, nil
	if l.watch(c); l.conns[c.fd] != c {
		return // it could not be watched
	}
	c.held = &Held{c}
	l.answer(c, nil)
}

// lose tells that a held connection has ended. That the peer sends something is no matter.
func (l *Loop) lose(c *conn, events uint32) {
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return
	}
	l.answers = append(l.answers, Answer{Tag: c.question.Tag, Held: c.held, Lost: true})
	l.drop(c)
}

// part ends a held connection.
func (l *Loop) part(h *Held) {
	if c := h.conn; l.conns[c.fd] == c {
		l.drop(c) // else the peer has ended it
	}
}

// expire ends a conversation that has lasted too long.
func (l *Loop) expire(c *conn) {
	defer l.guard(c)
	if c.stage == connecting {
		l.finish(c, c.question.Talk.Unconnected(os.ErrDeadlineExceeded))
	} else {
		l.hear(c, os.ErrDeadlineExceeded)
	}
}

// finish closes the connection, and gives the answer.
func (l *Loop) finish(c *conn, result error) {
	l.timers.remove(c)
	l.drop(c)
	l.answer(c, result)
}

func (l *Loop) answer(c *conn, result error) {
	l.answers = append(l.answers, Answer{Tag: c.question.Tag, Err: result, Took: time.Since(c.began), Held: c.held})
}
