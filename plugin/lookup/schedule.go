package lookup

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"

	"github.com/miekg/dns"
)

const (
	// maxAsking is how many questions are asked at a time. Two of these places are for watched names alone, so that the
	// names that must stay known do not wait for questions that clients cause.
	maxAsking = 8
	maxOthers = maxAsking - 2
	// retryAfter is when a question that failed is asked again. It doubles with each failure in a row, up to maxRetry.
	retryAfter = 5 * time.Second
	maxRetry   = time.Minute
)

// entry is what is known of a question.
type entry struct {
	Question
	reply     atomic.Pointer[Reply] // nil until there is one
	requested atomic.Bool           // since the last refresh
	failures  atomic.Int32          // in a row; the loop writes it

	// What follows belongs to the loop.
	pinned  bool // it is of a watched name, or of one that Keep named
	awaited bool // readiness waits for it
	busy    bool
	due     time.Time
	used    time.Time // last found requested
	tried   time.Time // last asked
}

// markUsed notes that the question is still of use. It writes only once until the next refresh.
func (x *entry) markUsed() {
	if !x.requested.Load() {
		x.requested.Store(true)
	}
}

// takeUp takes up a question, if there is room for it. What nothing has asked for in a while makes room.
func (l *Resolver) takeUp(q Question, pinned bool) bool {
	old, now := l.entries(), time.Now()
	if old[q] != nil {
		return false
	}
	next := make(map[Question]*entry, len(old)+1)
	maps.Copy(next, old)
	if !pinned && len(old) >= maxEntries {
		idle := longestIdle(old, now)
		if idle == nil {
			return false
		}
		delete(next, idle.Question)
	}
	next[q] = &entry{Question: q, pinned: pinned, used: now, due: now}
	l.known.Store(&next)
	return true
}

// longestIdle is the entry that nothing has asked for in the longest time, nil if all are busy.
func longestIdle(entries map[Question]*entry, now time.Time) (idle *entry) {
	for _, x := range entries {
		if !x.pinned && !x.busy && !x.requested.Load() && now.Sub(x.used) > dropAfter && (idle == nil || x.used.Before(idle.used)) {
			idle = x
		}
	}
	return idle
}

// refresh asks what is due, and drops what has not been requested for a long time.
func (l *Resolver) refresh(now time.Time) {
	stale, noSOA := 0, int32(0)
	var watched, others []*entry // that are due; the first few of each
	for _, x := range l.entries() {
		if x.requested.Load() {
			x.requested.Store(false)
			x.used = now
		}
		switch {
		case x.expired(now):
			stale++
		case !x.isDue(now):
		case x.pinned:
			watched = insertByDue(watched, x)
		default:
			others = insertByDue(others, x)
		}
		if x.Type == dns.TypeSOA && x.reply.Load() == nil {
			noSOA++
		}
	}
	l.noSOA.Store(noSOA)
	for _, x := range l.choose(watched, others) {
		l.ask(x, now)
	}
	if stale > 0 {
		l.drop(now)
	}
}

// choose returns the questions to ask now: those of watched names first, then others, each list by due time. Others have
// six of the eight places at most, but one as soon as a place is free, however many watched names are due.
func (l *Resolver) choose(watched, others []*entry) []*entry {
	room := maxAsking - l.asking
	forWatched := room
	if l.others == 0 && len(others) > 0 {
		forWatched--
	}
	watched = watched[:max(0, min(len(watched), forWatched))]
	forOthers := min(room-len(watched), maxOthers-l.others)
	return append(watched, others[:max(0, min(len(others), forOthers))]...)
}

// insertByDue inserts an entry into a list in the order of due times, of which as many are kept as can be asked at a time.
func insertByDue(list []*entry, x *entry) []*entry {
	i, _ := slices.BinarySearchFunc(list, x, func(a, b *entry) int { return a.due.Compare(b.due) })
	if i == maxAsking {
		return list
	}
	list = slices.Insert(list, i, x)
	return list[:min(len(list), maxAsking)]
}

// drop forgets the entries that have expired.
func (l *Resolver) drop(now time.Time) {
	next := maps.Clone(l.entries())
	maps.DeleteFunc(next, func(_ Question, x *entry) bool { return x.expired(now) })
	l.known.Store(&next)
}

// expired reports whether the entry has not been requested for so long that it can go.
func (x *entry) expired(now time.Time) bool {
	keep := dropAfter
	if x.reply.Load() == nil {
		keep = dropFailed
	} else if x.isHost() {
		keep = idleFor
	}
	return !x.pinned && !x.busy && now.Sub(x.used) > keep
}

// isDue reports whether it is time to ask: the reply is too old, and a query has requested it since the last time. The
// addresses of a host are asked for now and then without a query.
func (x *entry) isDue(now time.Time) bool {
	if x.busy || now.Before(x.due) {
		return false
	}
	return x.pinned || x.tried.IsZero() || x.used.After(x.tried) || x.isHost() && x.reply.Load() != nil && now.Sub(x.tried) >= idleEvery
}

// isHost reports whether the entry is about the addresses of a host.
func (x *entry) isHost() bool { return x.Type == dns.TypeA || x.Type == dns.TypeAAAA }

func (l *Resolver) ask(x *entry, now time.Time) {
	x.busy, x.tried = true, now
	l.occupy(x, 1)
	l.work.Go(func() {
		a := answered{entry: x}
		defer func() { l.answered <- a }()
		defer rescue.Log("the question for " + x.Name)
		a.msg = l.Ask(l.host.Mark(context.Background()), x.Message())
		if x.pinned && !l.host.Owns(x.Name) {
			l.askElsewhere(&a)
		}
	})
}

// occupy counts the places that a question takes, or gives back.
func (l *Resolver) occupy(x *entry, places int) {
	l.asking += places
	if !x.pinned {
		l.others += places
	}
}

// store keeps what an answer says, and gives its place back.
func (l *Resolver) store(a answered, now time.Time) {
	x := a.entry
	x.busy = false
	l.occupy(x, -1)
	reply, ttl := l.digest(x.Question, a.msg)
	switch {
	case a.early: // which the next query changes
		x.due = now.Add(retryAfter)
	case reply == nil:
		x.due = now.Add(retryPause(x.failures.Add(1)))
	default:
		x.failures.Store(0)
		x.reply.Store(reply)
		x.due = now.Add(ttl)
	}
	switch {
	case !x.pinned:
	case x.awaited:
		l.first.noteAnswer(l.host, x.Question, a.msg)
	case reply != nil:
		l.host.Judge(a.msg)
	}
}

// retryPause is how long a question rests after some failures in a row, at least one.
func retryPause(failures int32) time.Duration {
	return min(retryAfter<<min(failures-1, 8), maxRetry)
}
