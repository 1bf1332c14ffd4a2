package etcd

import (
	"bytes"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

const (
	tickTime = 100 * time.Millisecond
	// currentFor is how long after the last sign of the watch what is known counts as current.
	currentFor = 3 * time.Second
	// provedFor is how long it does without a sign that nothing is missing, while changes come.
	provedFor = 10 * time.Second
	// backMargin is how long after its lease a member is there that has not written its key: the time between two signs.
	backMargin = signEvery
	// renewEvery is how often another connection is tried while there is no sign.
	renewEvery = 4 * time.Second
	// showEvery is how often metrics and contacts are refreshed.
	showEvery = 500 * time.Millisecond
	// sweepEvery is how often votes without a member are looked for. They are removed after garbageAfter, and up to half as long again, so
	// that one member does it.
	sweepEvery   = 10 * time.Second
	garbageAfter = 10 * time.Minute
	// forgetAfter is after what time without a key nothing is kept of a member that has no votes either.
	forgetAfter = 20 * time.Minute
	// rereadEvery is how often all is read again at most, because there was no room for some of it.
	rereadEvery = 10 * time.Minute
)

// loop is the goroutine that keeps what the members say, and is the only one that calls the listener.
type loop struct {
	self     string // the name of this process
	keys     keySpace
	link     *link
	out      *outbox   // what was asked, and what the writer is told
	feed     chan news // of the reader
	listener fleet.Listener
	contacts *atomic.Pointer[[]contact] // for other goroutines
	left     *atomic.Bool               // nothing is told any longer
	stop     chan struct{}
	latest   *atomic.Int64  // the last revision of etcd that the writer has heard of
	crowd    *atomic.Int64  // how many members there are, for the writer
	terms    *atomic.Uint64 // the term of etcd, for the writer
	granted  *atomic.Int64  // the time of the own lease
	garbage  time.Duration  // garbageAfter
	reread   *atomic.Bool   // all has to be read again

	// What follows belongs to the loop alone, so nothing of it needs a lock.
	started   time.Time
	authors   map[string]*author
	members   int // how many have a key, this one included
	bytes     int // that are kept of all authors
	lists     groupLists
	own       stored    // what etcd has of this process, as of the last snapshot
	reading   bool      // a snapshot is being read
	rev       int64     // up to which everything is known
	signAt    time.Time // the last sign of the watch
	provedAt  time.Time // the last sign that nothing is missing
	newsAt    time.Time // the last news, or the last try to have some
	current   bool
	lostRev   int64     // what was known when the watch was lost; 0 if it never was
	lostAt    time.Time // when it was heard again after that
	term      uint64    // of etcd
	termAt    time.Time // since when this process knows it
	wasLost   bool      // the log says that etcd does not answer
	asked     []ask
	touched   map[*author]struct{} // of which the listener may not know all
	forgot    bool                 // a member was forgotten that the listener may know
	rereadAt  time.Time            // when all is read again at the earliest
	beatDue   time.Time
	showDue   time.Time
	sweepDue  time.Time
	untrusted bool // the values of some parts had no room
}

// work is the loop.
func (l *loop) work() {
	ticker := time.NewTicker(tickTime)
	defer ticker.Stop()
	for {
		select {
		case <-l.stop:
			return
		case n := <-l.feed:
			l.guard(func() { l.takeNews(n, time.Now()) })
		case <-l.out.toLoop:
			l.guard(func() { l.look(time.Now()) })
		case <-ticker.C:
			l.guard(func() { l.mindAll(time.Now()) })
		}
	}
}

// guard does a part of the work. If it panics, the loop goes on.
func (l *loop) guard(f func()) {
	defer rescue.Log("the fleet's loop")
	f()
}

// toListener calls the listener.
func (l *loop) toListener(f func(to fleet.Listener)) {
	if l.left.Load() {
		return
	}
	defer rescue.Log("what listens to the fleet")
	f(l.listener)
}

// takeNews takes news of the reader.
func (l *loop) takeNews(n news, now time.Time) {
	l.newsAt = now
	if n.term != 0 && n.term != l.term {
		l.term, l.termAt = n.term, now
		l.terms.Store(n.term)
	}
	switch n.kind {
	case newsSnapshot:
		// Until it is complete, nothing says who is there.
		l.lose()
		l.reading, l.own = true, stored{parts: make(map[uint8]storedPart)}
		for _, a := range l.authors {
			a.seen = false
			for _, p := range a.parts {
				p.seen = false
			}
		}
	case newsPage:
		for _, kv := range n.keys {
			l.takeKey(kv, time.Time{}, now)
		}
	case newsWhole:
		l.closeSnapshot(n.rev, now)
	case newsEvents:
		for _, e := range n.events {
			l.takeEvent(e, now)
		}
		l.sign(n.rev, now)
	case newsReach:
		l.provedAt = now
		l.sign(n.rev, now)
	}
}

// sign notes that the watch lives, and tells what has come.
func (l *loop) sign(rev int64, now time.Time) {
	if rev > 0 {
		l.rev = rev
	}
	l.signAt = now
	if !l.current && l.provedAt == now && !l.reading {
		l.current = true
		if l.lostRev > 0 {
			l.lostAt = now
			l.out.cameBack()
		}
		for _, a := range l.authors {
			l.touched[a] = struct{}{}
		}
		if l.wasLost {
			l.wasLost = false
			l.link.host.Infof("fleet: etcd answers again")
		}
	}
	l.settle(now)
}

// lose notes that what is known is not current.
func (l *loop) lose() {
	if l.current {
		l.lostRev = l.rev
	}
	l.current = false
	for _, a := range l.authors {
		l.silence(a)
	}
}

// silence tells that the votes of an author do not count.
func (l *loop) silence(a *author) {
	if a.heard {
		a.heard = false
		l.toListener(func(to fleet.Listener) { to.Silent(a.id) })
	}
}

// takeKey takes the value of a key. at is when it was written, as far as that is known.
func (l *loop) takeKey(kv *mvccpb.KeyValue, at, now time.Time) {
	kind, id, number := l.keys.split(kv.Key)
	if id == l.self {
		l.seeOwn(kind, number, kv, at.IsZero())
		return
	}
	switch kind {
	case keyMember:
		l.meet(id, kv.Value, kv.ModRevision, now)
	case keyVotes:
		if a := l.author(id, now); a != nil {
			l.setPart(a, number, kv.Value, kv.ModRevision, at)
		}
	case keyWants: // those of before are not for a newcomer, and may be lost
		if a := l.authors[id]; a != nil && a.met && !at.IsZero() {
			told := readNotes(kv.Value, l.self, func(batch []byte) {
				a.allowed -= float64(len(batch)) / noteBytes
				l.toListener(func(to fleet.Listener) { to.Said(a.id, a.fact.epoch, batch) })
			})
			if !told {
				malformed()
			}
		}
	default:
		malformed()
	}
}

// takeEvent takes an event of the watch.
func (l *loop) takeEvent(e *mvccpb.Event, now time.Time) {
	if e.Type == mvccpb.Event_PUT {
		l.takeKey(e.Kv, now, now)
		return
	}
	kind, id, number := l.keys.split(e.Kv.Key)
	if id == l.self {
		l.out.sawKey(string(e.Kv.Key), e.Kv.ModRevision)
		return
	}
	a := l.authors[id]
	switch {
	case a == nil:
	case kind == keyMember: // its lease has run out, or it has left
		l.depart(a, now)
	case kind == keyVotes:
		l.setPart(a, number, nil, e.Kv.ModRevision, now)
	}
}

// seeOwn takes the value of a key of this process.
func (l *loop) seeOwn(kind keyKind, number uint8, kv *mvccpb.KeyValue, inSnapshot bool) {
	switch {
	case !inSnapshot:
		l.out.sawKey(string(kv.Key), kv.ModRevision)
	case kind == keyMember:
		l.own.member = kv.ModRevision
	case kind == keyVotes:
		raw := kv.Value
		if len(raw) > maxPart+maxBatch { // none of this process is: it is put right, and not kept
			raw = raw[:1:1]
		}
		l.own.parts[number] = storedPart{bytes.Clone(raw), kv.ModRevision}
	}
}

// closeSnapshot ends a snapshot: what it did not have is not there.
func (l *loop) closeSnapshot(rev int64, now time.Time) {
	l.reading, l.rev = false, rev
	l.lostRev = min(l.lostRev, rev) // of an etcd that was restored
	for _, a := range l.authors {
		if a.there && !a.seen {
			l.depart(a, now)
		}
		for number, p := range a.parts {
			if !p.seen && (len(p.raw) > 0 || p.lost) {
				l.setPart(a, number, nil, 0, now)
			}
		}
	}
	own := l.own
	l.own = stored{}
	l.out.sawAll(&own)
}

// mindAll sees what is overdue.
func (l *loop) mindAll(now time.Time) {
	// What waits comes first: a machine that is short of processor time must not make its server probe more.
	if len(l.feed) == 0 && l.current && (now.Sub(l.signAt) > currentFor || now.Sub(l.provedAt) > provedFor) {
		l.lose()
	}
	// A snapshot of a large fleet takes longer than that, but its pages are news.
	if !l.current && now.Sub(l.newsAt) > renewEvery {
		l.newsAt = now
		l.link.renew()
	}
	if !l.current && !l.wasLost && now.Sub(l.started) > currentFor && now.Sub(l.signAt) > currentFor {
		l.wasLost = true
		l.link.host.Warnf("fleet: etcd does not answer (%s): this server probes for itself until it does", l.link.lastFault())
	}
	l.look(now)
	l.settle(now)
	l.crowd.Store(int64(l.members))
	if !now.Before(l.beatDue) {
		l.beatDue = now.Add(fleet.Beat(l.members))
		for _, a := range l.authors {
			l.tellHeard(a, now)
		}
	}
	if !now.Before(l.sweepDue) {
		l.sweepDue = now.Add(sweepEvery)
		l.sweep(now)
	}
	if !now.Before(l.showDue) {
		l.showDue = now.Add(showEvery)
		l.show(now)
	}
}

// sweep has votes without a member removed, and forgets members that are gone for long.
func (l *loop) sweep(now time.Time) {
	if l.untrusted && l.bytes < maxCached/2 && l.members < fleet.MaxMembers && now.After(l.rereadAt) {
		l.untrusted, l.rereadAt = false, now.Add(rereadEvery)
		l.reread.Store(true)
		l.link.renew()
	}
	// Who has lost its lease may have it again soon, and needs its votes then.
	for id, a := range l.authors {
		switch {
		case a.there || !l.current:
		case len(a.parts) == 0 && now.Sub(a.gone) > forgetAfter:
			l.forget(a)
		case len(a.parts) > 0 && a.removeAt.IsZero():
			a.removeAt = a.gone.Add(l.garbage + rand.N(l.garbage/2+1))
		case len(a.parts) > 0 && now.After(a.removeAt):
			a.removeAt = time.Time{}
			a.gone = now
			l.out.discard(id)
		}
	}
}

func malformed() { metrics.Fleet.Drops.WithLabelValues("malformed").Inc() }
