package wire

import "time"

const (
	// promptly is how many pieces of an answer are heard each when it comes. A talk hears all of it from the beginning each
	// time, so that a peer which sends byte by byte would make work that grows with the square of what it sends. What comes
	// in more pieces is heard when it has grown by a share of growth, or after pause.
	eagerPieces  = 64
	growthShare  = 16
	postponement = 20 * time.Millisecond
)

// pieces is how an answer has come so far.
type pieces struct {
	count     int
	delivered int       // bytes
	deadline  time.Time // of the conversation, while the timer is for what is still to be heard; else zero
}

// wait counts a piece, and reports whether there is too little new among all so many bytes.
func (p *pieces) tooLittle(all int) bool {
	p.count++
	return p.count > eagerPieces && all < p.delivered+p.delivered/growthShare
}

// postpone has the timer say when to hear what has come.
func (l *Loop) postpone(c *conn) {
	if !c.pieces.deadline.IsZero() {
		return
	}
	c.pieces.deadline = c.deadline
	if soon := time.Now().Add(postponement); soon.Before(c.deadline) {
		l.setDeadline(c, soon)
	}
}

// resume gives the timer back to the conversation, of which so many bytes are heard.
func (l *Loop) stopPostponing(c *conn, all int) {
	c.pieces.delivered = all
	if !c.pieces.deadline.IsZero() {
		l.setDeadline(c, c.pieces.deadline)
		c.pieces.deadline = time.Time{}
	}
}

// postponed lets the talk hear what was postponed, if that is what the timer was for and the conversation may go on.
func (l *Loop) deliverPostponed(c *conn) bool {
	if c.pieces.deadline.IsZero() || !time.Now().Before(c.pieces.deadline) {
		return false
	}
	l.deliver(c, c.received)
	return true
}

func (l *Loop) setDeadline(c *conn, deadline time.Time) {
	l.timers.disarm(c)
	c.deadline = deadline
	l.timers.arm(c)
}
