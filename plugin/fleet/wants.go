package fleet

import "time"

const (
	// MaxWant is the longest that one want keeps a target busy.
	MaxWant = 24 * time.Hour
	// LastCallBefore is how long before a vantage point lets a target become idle it asks the others whether they want it.
	LastCallBefore = 2 * time.Minute
	// answerWithin is the time over which they spread their wants, of which the first is enough.
	answerWithin = 30 * time.Second
)

// Want says that the target is busy at a member, so that it is busy for all. It goes to the vantage points of the target.
type Want struct {
	Target Target
	For    time.Duration // how long from now on, as far as the member knows
}

// Call is a last call, or the end of one.
type Call struct {
	Target   Target
	Answered bool // a member wants the target: the others need not say so
}

// Wants bounds what this process watches because others want it. A want for a target that is watched so already costs nothing. Half of
// the room at most is for one author, so that one who wants everything leaves the other half.
type Wants struct {
	Max    int // targets
	total  int
	charge map[Stream]int
}

// Take notes that an author wants the target of a ballot for some time after now, in seconds. It reports false if there is no room.
// Call it with a new ballot for a target that is not watched, and drop that if it is refused.
func (w *Wants) Take(b *Ballot, from Stream, want Want, now uint32) bool {
	until := now + uint32(min(max(0, want.For), MaxWant)/time.Second)
	if b.wanter != 0 {
		b.until = max(b.until, until)
		return true
	}
	if from == 0 || w.total >= w.Max || w.charge[from] >= (w.Max+1)/2 {
		return false
	}
	if w.charge == nil {
		w.charge = make(map[Stream]int)
	}
	w.charge[from]++
	w.total++
	b.wanter, b.until = from, until
	return true
}

// Drop notes that nothing is kept for others any longer in a ballot: the target is forgotten, or Wanted has ended.
func (w *Wants) Drop(b *Ballot) {
	if b.wanter == 0 {
		return
	}
	if w.charge[b.wanter]--; w.charge[b.wanter] == 0 {
		delete(w.charge, b.wanter)
	}
	w.total--
	b.wanter, b.until = 0, 0
}

// Targets is how many targets are watched for others.
func (w *Wants) Targets() int { return w.total }

// Wanted is how long others still want the target at this second; 0 if they do not.
func (b *Ballot) Wanted(now uint32) time.Duration {
	if b.until <= now {
		return 0
	}
	return time.Duration(b.until-now) * time.Second
}

// Lent reports whether the target has been watched because others wanted it, since the last Drop.
func (b *Ballot) Lent() bool { return b.wanter != 0 }

// CallDue reports whether it is time for a last call, which is said once: nothing is known that keeps the target busy for longer.
func (b *Ballot) CallDue(now uint32) bool {
	left := b.Wanted(now)
	return left > 0 && left <= LastCallBefore
}
