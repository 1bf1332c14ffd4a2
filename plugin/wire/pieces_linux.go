package wire

import "time"

const (
	// eagerPieces is how many pieces of an answer are judged as soon as they arrive. A talk judges
	// everything from the start each time, so a peer that sends byte by byte would cause work that
	// grows with the square of what it sends. More pieces than that are judged when the answer has
	// grown by 1/growthShare, or after postponement.
	eagerPieces  = 64
	growthShare  = 16
	postponement = 20 * time.Millisecond
)

// pieces is the progress of an answer that arrives in pieces.
type pieces struct {
	count     int       // pieces so far
	delivered int       // bytes that the talk has judged
	deadline  time.Time // of the conversation, while its timer is used to postpone; zero otherwise
}

// tooLittle counts a piece. It reports whether too little of all bytes is new to be worth judging
// now.
func (p *pieces) tooLittle(all int) bool {
	p.count++
	return p.count > eagerPieces && all < p.delivered+p.delivered/growthShare
}

// postpone sets the timer for what was not judged, and remembers the deadline of the conversation.
// If that comes sooner, the timer stays.
func (l *Loop) postpone(c *conn) {
	if !c.pieces.deadline.IsZero() {
		return
	}
	c.pieces.deadline = c.deadline
	if soon := time.Now().Add(postponement); soon.Before(c.deadline) {
		l.setDeadline(c, soon)
	}
}

// stopPostponing notes how many bytes are judged, and gives the timer back to the conversation.
func (l *Loop) stopPostponing(c *conn, all int) {
	c.pieces.delivered = all
	if !c.pieces.deadline.IsZero() {
		l.setDeadline(c, c.pieces.deadline)
		c.pieces.deadline = time.Time{}
	}
}

// deliverPostponed lets the talk judge what was postponed, if that is what the timer was for. It
// returns false if the conversation has reached its deadline.
func (l *Loop) deliverPostponed(c *conn) bool {
	if c.pieces.deadline.IsZero() || !time.Now().Before(c.pieces.deadline) {
		return false
	}
	l.deliver(c, c.received)
	return true
}

// setDeadline moves the timer of a connection.
func (l *Loop) setDeadline(c *conn, deadline time.Time) {
	l.timers.disarm(c)
	c.deadline = deadline
	l.timers.arm(c)
}
