package etcd

import "time"

const (
	firstGap = 10 * time.Millisecond
	maxGap   = 250 * time.Millisecond
	calmTime = 500 * time.Millisecond
	// fleetRate is how many bytes a second all members together write for long, and burst how many one writes at once after some calm.
	// Each member reads all of that, and a part is written as a whole for one vote, so members that take themselves for alone could
	// else say more than they can read.
	fleetRate = 1 << 20
	burst     = 1 << 20
	// leastRate is what a member may write in any case: a liar may bring very many members.
	leastRate = 16 << 10
)

// pace gathers what is said: the first write after some calm is made at once, and under a flood the next ones have growing gaps between
// them, so that a write has more in it.
type pace struct {
	gap  time.Duration
	last time.Time // when the last write was made
	owed float64   // bytes beyond those that have had their time, from 0
}

// rateOf is how many bytes a second one of so many members writes for long.
func rateOf(members int) float64 { return max(leastRate, fleetRate/float64(max(1, members))) }

// due is how long to wait before the next write, in a fleet of so many members.
func (p *pace) due(now time.Time, members int) time.Duration {
	since := now.Sub(p.last)
	wait := p.gap - since
	if p.owed > burst {
		wait = max(wait, time.Duration((p.owed-burst)/rateOf(members)*float64(time.Second))-since)
	}
	return max(0, wait)
}

// wrote notes a write of so many bytes that etcd has taken.
func (p *pace) wrote(now time.Time, bytes, members int) {
	// More than that is never owed: what waits for longer is out of date.
	p.owed = min(2*burst, max(0, p.owed-now.Sub(p.last).Seconds()*rateOf(members))+float64(bytes))
	if now.Sub(p.last) > calmTime {
		p.gap = 0
	} else {
		p.gap = min(maxGap, max(firstGap, 2*p.gap))
	}
	p.last = now
}

// backoff is how long to wait after failures in a row.
type backoff struct {
	first, most time.Duration
	next        time.Duration
}

// failed returns how long to wait, each time for twice as long.
func (b *backoff) failed() time.Duration {
	b.next = min(b.most, max(b.first, 2*b.next))
	return jittered(b.next)
}

// worked notes a success.
func (b *backoff) worked() { b.next = 0 }
