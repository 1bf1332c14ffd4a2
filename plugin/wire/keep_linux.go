package wire

import (
	"net"

	"golang.org/x/sys/unix"
)

// Take takes over a connection that was opened elsewhere, such as one in TLS, so that [Loop.Keep]
// can hold it. It duplicates the descriptor, so the caller still closes conn, and must send nothing
// more on it. Call [Held.Discard] if the connection is not kept after all.
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

// Discard closes a connection that was taken and not kept.
func (h *Held) Discard() { unix.Close(h.conn.fd) }

// Keep holds a connection that was taken. Its end is reported by an [Answer] with the tag, as for a
// connection that the loop opened itself. A closed loop discards it.
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

// duplicateFD is another descriptor of the connection, closed on exec.
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

// startHolding adds a connection from Keep to the loop.
func (l *Loop) startHolding(c *conn) {
	l.addConn(c)
	keepAlive(c.fd)
	if l.register(c) != nil {
		c.events |= endEvents // a connection that cannot be watched counts as lost
	}
	l.reportLost(c)
}
