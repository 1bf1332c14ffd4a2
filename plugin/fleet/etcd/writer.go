package etcd

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// lateTime is how long what was said may wait to be written while nothing can be written. After that this process gives up its
	// lease, so that the others do not count what it has said before.
	lateTime = 2 * time.Second
	// settledAfter is when the key of a member is written once more, so that those who come later know that it is no newcomer.
	settledAfter = 15 * time.Second
	// pollEvery is how often the writer looks whether the loop of the process still turns.
	pollEvery = 500 * time.Millisecond
	// What another process has changed is put right after repairEvery; the own key after takenFirst, and each time later up to
	// takenMost. It counts as the first time again after calmFor.
	repairEvery = time.Second
	takenFirst  = time.Second
	takenMost   = time.Minute
	calmFor     = 5 * time.Minute
)

var (
	errTaken = errors.New("another process has written over the key of this one")
	errGone  = errors.New("the key of this process is gone")
	// errUnheard asks for another try, with the revision that the key has. Nothing is wrong.
	errUnheard = errors.New("an earlier write was made, and its answer was lost")
)

// writer writes what this process says. It is one goroutine, which has one request under way at a time.
type writer struct {
	host     membership.Host
	self     fleet.Member
	version  string // of this program
	keys     keySpace
	link     *link         // has the client
	out      *outbox       // what is to be written
	stop     chan struct{} // closed when this process leaves
	trip     atomic.Int64  // how long the last request took
	latest   atomic.Int64  // the last revision of etcd that was heard of
	members  atomic.Int64  // of the fleet, as the loop knows
	term     atomic.Uint64 // of etcd, as was heard last
	granted  atomic.Int64  // the time of the lease
	settling time.Duration // settledAfter

	// What follows belongs to the writer alone.
	started  time.Time
	parts    [parts]ownPart   // what is written
	first    uint8            // the part that the next write begins with
	lease    clientv3.LeaseID // 0 for none
	signs    signs            // that keep the lease
	rev      int64            // of the own key; 0 if it has to be written
	written  fact             // what the own key says
	pace     pace             // between writes
	retry    backoff          // after failures
	taken    backoff          // after changes by others
	takenAt  time.Time        // when the own key was changed last
	waitTill time.Time        // nothing is asked before
	repairAt time.Time        // what others have changed is not put right before
	tried    []byte           // what the own key was last meant to be
	failing  bool             // the last write has failed
	refused  time.Time        // since when etcd takes nothing; the zero time if it does
	restate  bool             // the own key is written again, whatever it says
	warned   bool             // the log says that nothing can be written
	warnedOf bool             // the log says that another process has changed the key
}

// keepWriting is the writer.
func (w *writer) keepWriting(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer w.signs.endStream()
	for {
		select {
		case <-w.stop:
			w.goodbye(ctx)
			return
		case <-w.out.toWriter:
		case <-timer.C:
		}
		wait := pollEvery
		func() {
			defer rescue.Log("writing to the fleet's etcd")
			wait = w.proceed(ctx, time.Now())
		}()
		timer.Reset(wait)
	}
}

// proceed does one thing that is due, and returns when to look again, unless something is said before.
func (w *writer) proceed(ctx context.Context, now time.Time) time.Duration {
	c := w.link.current()
	if c == nil {
		return tickTime
	}
	if early := w.waitTill.Sub(now); early > 0 {
		return early
	}
	w.compare(now)
	b := w.out.bearing(now)
	late := w.failing && w.isLate(b, now)
	var err error
	switch {
	case w.rev == 0 && !b.turns: // it is not there, and need not be
		return pollEvery
	case w.lease == 0:
		err = w.grant(ctx, c)
	case w.rev == 0:
		err = w.write(ctx, c, b, now)
	case b.turns && !late && w.signs.due(now):
		err = w.keepAlive(ctx, c)
	case w.pace.due(now, int(w.members.Load())) > 0 && w.mustAdmit(b, now):
		err = w.admit(ctx, c, b, now)
	default:
		if early := w.pace.due(now, int(w.members.Load())); early > 0 {
			return w.untilSign(b, now, early)
		}
		err = w.write(ctx, c, b, now)
		if err == nil {
			err = w.removeGarbage(ctx, c)
		}
	}
	return w.judge(ctx, c, err, now)
}

// judge draws conclusions from how a request went, and returns when to look again.
func (w *writer) judge(ctx context.Context, c *client, err error, now time.Time) time.Duration {
	switch {
	case err == nil:
		w.retry.worked()
		w.refused = time.Time{}
		return w.next(now)
	case errors.Is(err, errUnheard):
		return 0
	case isGone(err):
		w.lease, w.rev = 0, 0
		w.signs.endStream()
		return 0
	case errors.Is(err, errGone), errors.Is(err, errTaken):
		w.wasTaken(errors.Is(err, errTaken), now)
		return max(0, w.waitTill.Sub(now))
	case isRefusal(err):
		// Etcd is well, and may not be for long: reads go on, so the others have to be told.
		if w.refused.IsZero() {
			w.refused = now
		}
		if w.lease != 0 && w.isLate(w.out.bearing(now), now) {
			w.giveUp(ctx, c)
		}
		if !w.warned {
			w.warned = true
			w.host.Warnf("fleet: etcd takes nothing from this server (%s): the others do not count its votes until it does", faultText(err))
		}
	default:
		// No answer, or none that says anything: another connection may do better.
		w.link.renew()
		w.signs.endStream()
	}
	if ctx.Err() == nil {
		w.link.failed(err)
	}
	w.waitTill = time.Now().Add(w.retry.failed())
	return time.Until(w.waitTill)
}

// next is when to look again if nothing is said.
func (w *writer) next(now time.Time) time.Duration {
	b := w.out.bearing(now)
	if !b.since.IsZero() || b.notes || w.rev == 0 && b.turns {
		return w.untilSign(b, now, w.pace.due(now, int(w.members.Load())))
	}
	return w.untilSign(b, now, pollEvery)
}

// untilSign is a time to wait, and not longer than until the next look, or until the lease needs a sign. A process that hangs gives none,
// so none is due.
func (w *writer) untilSign(b bearing, now time.Time, wait time.Duration) time.Duration {
	wait = min(wait, pollEvery)
	if b.turns && w.lease != 0 {
		wait = min(wait, max(0, w.signs.next.Sub(now)))
	}
	return wait
}

// isLate reports whether what this process says has not been taken for too long, be it votes or what it says of itself.
func (w *writer) isLate(b bearing, now time.Time) bool {
	return !b.since.IsZero() && now.Sub(b.since) > lateTime || !w.refused.IsZero() && now.Sub(w.refused) > lateTime
}

// wasTaken notes that the own key is not what this process has written. If that happens often it is written more and more rarely.
func (w *writer) wasTaken(over bool, now time.Time) {
	w.rev = 0
	if over && !w.warnedOf {
		w.warnedOf = true
		w.host.Warnf("fleet: another process has written over the key of this one (%s) in etcd: this server writes it again, less and less often", w.self.Name)
	}
	if now.Sub(w.takenAt) > calmFor {
		w.taken.worked()
		w.takenAt = now
		return // at once: a lease has run out, as it may
	}
	w.takenAt = now
	if over {
		w.waitTill = now.Add(w.taken.failed())
	} else { // a lease that runs out is no fight
		w.waitTill = now.Add(jittered(takenFirst))
	}
}

// compare looks at what the loop has seen of the own keys.
func (w *writer) compare(now time.Time) {
	seen, all, again := w.out.takeSeen()
	w.restate = w.restate || again
	if all != nil {
		if all.member != w.rev {
			w.rev = 0 // it is written again, whatever it says
		}
		for i := range w.parts {
			there := all.parts[uint8(i)]
			w.parts[i].force = w.parts[i].force || !bytes.Equal(there.raw, w.parts[i].raw)
			w.parts[i].rev = there.rev
		}
	}
	for key, rev := range seen {
		switch kind, _, part := w.keys.split([]byte(key)); kind {
		case keyMember:
			if w.rev != 0 && rev > w.rev {
				w.wasTaken(false, now)
			}
		case keyVotes:
			w.parts[part].force = w.parts[part].force || rev > w.parts[part].rev
		}
	}
}

// isDue reports whether a part that another process has changed may be put right.
func (w *writer) isDue(now time.Time) bool { return !now.Before(w.repairAt) }
