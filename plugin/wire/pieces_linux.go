package wire

import "time"

const (
	// promptly is how many pieces of an answer are heard each when it comes. A talk hears all of it from the beginning each
	// time, so that a peer which sends byte by byte would make work that grows with the square of what it sends. What comes
	// in more pieces is heard when it has grown by a share of growth, or after pause.
	promptly = 64
	growth   = 16
	pause    = 20 * time.Millisecond
)

// pieces is how an answer has come so far.
type pieces struct {
	count    int
	heard    int       // bytes
	deadline time.Time // of the conversation, while the timer is for what is still to be heard; else zero
}

// wait counts a piece, and reports whether there is too little new among all so many bytes.
func (p *pieces) wait(all int) bool {
	p.count++
	return p.count > promptly && all < p.heard+p.heard/growth
}

// postpone has the timer say when to hear what has come.
func (l *Loop) postpone(c *conn) {
	if !c.pieces.deadline.IsZero() {
		return
	}
	c.pieces.deadline = c.deadline
	if soon := time.Now().Add(pause); soon.Before(c.deadline) {
		l.reset(c, soon)
	}
}

// resume gives the timer back to the conversation, of which so many bytes are heard.
func (l *Loop) resume(c *conn, all int) {
	c.pieces.heard = all
	if !c.pieces.deadline.IsZero() {
		l.reset(c, c.pieces.deadline)
		c.pieces.deadline = time.Time{}
	}
}

// postponed lets the talk hear what was postponed, if that is what the timer was for and the conversation may go on.
func (l *Loop) postponed(c *conn) bool {
	if c.pieces.deadline.IsZero() || !time.Now().Before(c.pieces.deadline) {
		return false
	}
	l.let(c, c.heard)
	return true
}

func (l *Loop) reset(c *conn, deadline time.Time) {
	l.timers.remove(c)
	c.deadline = deadline
	l.timers.add(c)
}
