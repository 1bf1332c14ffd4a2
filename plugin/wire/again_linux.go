package wire

import (
	"time"

	"golang.org/x/sys/unix"
)

// restLimit is how many bytes of an answer are kept until the rest of it has come, which is not waited for.
const restLimit = 64 << 10

// weigh lets the talk judge what was received, and notes what is left of a connection that is to be asked again.
func (c *conn) weigh(received []byte, ended error) (over bool, result error) {
	if !c.question.Reuse {
		return c.question.Talk.Hear(received, ended)
	}
	over, c.stays, c.complete, result = c.question.Talk.HearAll(received, ended)
	return over, result
}

// mayHold reports whether a connection stays open after a good answer. If one that is to be asked again has not had all of the
// answer, what came is kept: the rest may come until the next question.
func (c *conn) mayHold(received []byte) bool {
	if !c.question.Reuse {
		c.received = nil
		return c.question.Hold && c.question.Talk.Holds(received)
	}
	if c.complete || len(received) > restLimit {
		c.received = nil
	} else if len(c.received) == 0 {
		c.received = append([]byte(nil), received...) // they are in the buffer of the loop
	}
	return c.stays
}

// askAgain asks on the connection that is held for that. It returns false if there is none, or if it cannot be asked: its
// peer has ended it, the last answer is not complete, or something else has come, which must not be taken for the answer.
func (l *Loop) askAgain(q *Question, now time.Time) (asked bool) {
	if q.On == nil {
		return false
	}
	c := q.On.conn
	if c.fd < 0 || c.fd >= len(l.conns) || l.conns[c.fd] != c || c.stage != holding {
		return false
	}
	if !l.rests(c) {
		l.closeConn(c)
		l.reportEnded(c)
		return false
	}
	asked = true // also if the talk panics
	defer l.recoverPanic(c)
	c.question, c.again, c.received, c.pieces = *q, true, nil, pieces{}
	c.began, c.deadline, c.stage = now, now.Add(q.Timeout/2), sending
	c.unsent = q.Talk.Request(q.Addr)
	l.timers.arm(c)
	l.send(c)
	return asked
}

// rests reports whether a held connection can be asked. It reads what has come since, without waiting.
func (l *Loop) rests(c *conn) bool {
	for {
		n, err := read(c.fd, l.buffer[:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return c.complete
		case err != nil || n == 0:
			c.ended = true
			return false
		case c.complete || len(c.received) == 0 || len(c.received)+n > restLimit:
			return false
		default:
			c.received = append(c.received, l.buffer[:n]...)
			_, c.stays, c.complete, _ = c.question.Talk.HearAll(c.received, nil)
		}
	}
}

// askBeside asks a new connection beside one that was held, when half of the time has passed without an answer. The first good answer
// counts, and the new one decides if it fails: so a dead peer is noticed in time, and one that has become slow is not taken for dead.
// It returns false if there is nothing to ask beside.
func (l *Loop) askBeside(c *conn) bool {
	if !c.again || c.twin != nil || !time.Now().Before(c.began.Add(c.question.Timeout)) {
		return false
	}
	c.pieces.deadline = time.Time{}
	l.setDeadline(c, c.began.Add(c.question.Timeout))
	l.openConn(&c.question, c.began, c)
	return true
}

// askElsewhere asks a new connection, unless one is being asked, after one that was held has failed.
func (l *Loop) askElsewhere(c *conn) {
	if c.twin != nil {
		c.twin.twin, c.twin = nil, nil
		return
	}
	l.openConn(&c.question, c.began, nil)
}

// partTwins ends the other connection on which the question of a connection is asked, if there is one: it has its answer.
func (l *Loop) partTwins(c *conn) {
	other := c.twin
	if other == nil {
		return
	}
	c.twin, other.twin = nil, nil
	l.timers.disarm(other)
	l.closeConn(other)
}
