package wire

import (
	"net"

	"golang.org/x/sys/unix"
)

// Take takes a connection that somebody else has opened, such as one in TLS, to be held by [Loop.Keep]. It has a descriptor of
// its own: conn stays its owner's to close, who must say nothing more on it.
func Take(conn *net.TCPConn) (*Held, error) {
	fd, err := duplicateFD(conn)
	if err != nil {
		return nil, err
	}
	c := newConn(Question{}, fd)
	c.stage = holding
	c.held = &Held{c}
	return c.held, nil
}

// Discard ends a connection that was taken and is not to be kept.
func (h *Held) Discard() { unix.Close(h.conn.fd) }

// Keep holds a connection that was taken: its end is told, by an [Answer] with the tag, as that of one which the loop opened
// itself. A loop that was closed discards it.
func (l *Loop) Keep(h *Held, tag any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		h.Discard()
		return
	}
	h.conn.question.Tag = tag
	l.toHold = append(l.toHold, h.conn)
	l.wake()
}

// duplicate is another descriptor of a connection.
func duplicateFD(conn *net.TCPConn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	failed := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if failed != nil {
		return -1, failed
	}
	return fd, err
}

// adopt takes in a connection that was left to be held.
func (l *Loop) startHolding(c *conn) {
	l.addConn(c)
	keepAlive(c.fd)
	if l.register(c) != nil {
		c.events |= endEvents // what cannot be watched counts as lost
	}
	l.reportLost(c)
}
