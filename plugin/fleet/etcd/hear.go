package etcd

import (
	"bytes"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
)

const (
	// maxBatch is the longest batch that is told at once, in bytes.
	maxBatch = 16 << 10
	// maxAuthors bounds the members that are kept, with those that have votes and no key.
	maxAuthors = 2 * fleet.MaxMembers
	maxLists   = 256
)

// groupLists has the sets of groups that members have, by their lists. All members with equal ones share one, and its list.
type groupLists map[string]groupList

type groupList struct {
	list   string // the same as the key, in the memory that all share
	groups fleet.Groups
}

// author returns the member of a name, which is new if it is not known; nil if there is no room.
func (l *loop) author(id string, now time.Time) *author {
	if a := l.authors[id]; a != nil {
		return a
	}
	if len(l.authors) >= maxAuthors && !l.evict() {
		l.untrusted = true // all is read again when there is room
		dropped("members")
		return nil
	}
	a := &author{id: id, gone: now, parts: make(map[uint8]*part), counted: now, allowed: votesAtOnce}
	l.authors[id] = a
	return a
}

// evict forgets a member without a key. It reports whether there was one.
func (l *loop) evict() bool {
	for _, a := range l.authors {
		if !a.there {
			l.forget(a)
			return true
		}
	}
	return false
}

// forget forgets a member without a key, and its votes.
func (l *loop) forget(a *author) {
	l.forgot = l.forgot || a.known
	l.untrusted = l.untrusted || len(a.parts) > 0
	l.bytes -= a.bytes
	delete(l.authors, a.id)
	delete(l.touched, a)
}

// meet takes what a member says of itself.
func (l *loop) meet(id string, value []byte, rev int64, now time.Time) {
	f, ok := readFact(value)
	if !ok {
		malformed()
		if a := l.authors[id]; a != nil && a.there {
			a.seen = true
			l.depart(a, now)
		}
		return
	}
	if a := l.authors[id]; (a == nil || !a.there) && l.members > fleet.MaxMembers {
		l.untrusted = true
		dropped("members")
		return
	}
	a := l.author(id, now)
	if a == nil {
		return
	}
	a.seen, a.rev = true, rev
	before := *a
	// Another epoch is another process: the listener begins a new stream when it meets that, and has none of its votes.
	if !a.there || a.fact.epoch != f.epoch {
		if a.fact.epoch != f.epoch { // what was said in another epoch is void
			l.silence(a)
			l.bytes -= a.forgetTold()
			a.joined = time.Time{}
		}
		if !a.there {
			a.there = true
			l.members++
		}
	}
	// The uptime is that of when it was written, so it can only be longer.
	if since := now.Add(-f.uptime); a.joined.IsZero() || since.Before(a.joined) {
		a.joined = since
	}
	known := l.lists.of(f.groups, l.authors)
	a.groups, f.groups = known.groups, known.list
	a.fact = f
	if !a.met || before.fact.epoch != f.epoch || before.fact.site != f.site || before.fact.groups != f.groups || before.fact.uptime < f.uptime {
		a.met = true
		l.toListener(func(to fleet.Listener) { to.Met(a.asMember()) })
	}
	// It says itself that its votes do not count, or that its probes are in doubt: neither waits for a beat.
	if f.behind {
		l.silence(a)
	}
	if before.fact.isolated != f.isolated && a.heard {
		l.tellHeard(a, now)
	}
	l.touched[a] = struct{}{}
}

// of is the set of a list. There is none for a member with a list that has no room.
func (g groupLists) of(list string, authors map[string]*author) groupList {
	if known, ok := g[list]; ok {
		return known
	}
	// A list that no member has is of no use. A liar may write very many, so there are bounds for those that are in use, too.
	if len(g) >= maxLists {
		used := make(map[string]bool, len(authors))
		for _, a := range authors {
			used[a.fact.groups] = a.there
		}
		for known := range g {
			if !used[known] {
				delete(g, known)
			}
		}
	}
	if len(g) >= maxLists {
		dropped("groups")
		return groupList{}
	}
	g[list] = groupList{list, groupsOf(list)}
	return g[list]
}

// depart notes that the key of a member is gone.
func (l *loop) depart(a *author, now time.Time) {
	if !a.there {
		return
	}
	a.there, a.heard, a.gone, a.removeAt = false, false, now, time.Time{}
	l.members--
	if a.met {
		a.met = false
		l.toListener(func(to fleet.Listener) { to.Left(a.id) })
	}
}

// setPart takes the votes of a member on the targets of one part. None is a value that is empty.
func (l *loop) setPart(a *author, number uint8, raw []byte, rev int64, at time.Time) {
	// As in a snapshot of what is known already.
	if p := a.parts[number]; p != nil && !p.lost && bytes.Equal(p.raw, raw) {
		p.rev, p.seen = rev, true
		return
	}
	full := len(raw) > maxPart+maxBatch || len(raw) > 0 && (l.bytes+len(raw) > maxCached || a.bytes+len(raw) > maxCachedOf)
	if full {
		dropped("size")
		l.untrusted = true
	}
	l.bytes += a.set(number, raw, rev, at, full)
	if a.lost > 0 {
		l.silence(a)
	}
	l.touched[a] = struct{}{}
}

// settle tells what the listener does not know yet, at the pace that it takes.
func (l *loop) settle(now time.Time) {
	if l.reading {
		return
	}
	// The listener hears a member only when it has been told all that the member has said: until then its votes do not count.
	for a := range l.touched {
		if !a.met {
			delete(l.touched, a) // it is touched again when it is there
			continue
		}
		// Of what a member has said before it is met, the pool asks for what it needs.
		if !a.known {
			a.known = true
			if l.forgot { // it may have been known before
				l.toListener(func(to fleet.Listener) { to.Restarted(a.id, a.fact.epoch) })
			}
		}
		a.grant(now)
		for len(a.dirty) > 0 && !now.Before(a.waitTill) {
			// A part is told as a whole or not at all. One that is larger than all that may come at once is told when nothing else was.
			number := a.dirty[0]
			p := a.parts[number]
			changed := differences(p.told, p.raw, number)
			if more := min(float64(len(changed)), votesAtOnce) - a.allowed; more > 0 {
				a.waitTill = now.Add(time.Duration(more / votesPerSecond * float64(time.Second)))
				break
			}
			a.allowed -= float64(len(changed))
			changed = p.aged(changed, now)
			l.bytes -= a.clean()
			l.said(a, changed)
		}
		if len(a.dirty) > 0 {
			l.silence(a)
			continue
		}
		delete(l.touched, a)
		if !a.heard {
			l.tellHeard(a, now)
		}
	}
}

// isBack reports whether a member is known to be there since etcd was away, for all or for this process: its key was written since then,
// or its lease would have run out. Etcd gives all leases their whole time again with each new leader, so until then what a member that is
// gone, or not back yet, found out before would count. One that is back may have found out something since then that is not written yet,
// and does not have to say so before lateTime: until then, what this process found out alone is newer.
func (l *loop) isBack(a *author, now time.Time) bool {
	away, lease := now.Sub(l.lostAt), max(leaseTime*time.Second, time.Duration(l.granted.Load()))+backMargin
	return (a.rev > l.lostRev && away > lateTime || away > lease) && (a.fact.term >= l.term || now.Sub(l.termAt) > lease)
}

// tellHeard tells that a member is well, if it is.
func (l *loop) tellHeard(a *author, now time.Time) {
	if l.current && a.well() && l.isBack(a, now) {
		a.heard, a.heardAt = true, now
		l.toListener(func(to fleet.Listener) { to.Heard(a.id, a.fact.epoch, a.fact.isolated) })
	}
}

// said tells votes of a member.
func (l *loop) said(a *author, votes []fleet.Vote) {
	batch := fleet.Batch{Max: maxBatch}
	flush := func() {
		if len(batch.Bytes()) > 0 {
			l.toListener(func(to fleet.Listener) { to.Said(a.id, a.fact.epoch, batch.Bytes()) })
		}
		batch.Reset()
	}
	for i := range votes {
		if !batch.Vote(votes[i]) {
			flush()
			batch.Vote(votes[i])
		}
	}
	flush()
}

// place is where the votes of a member on some targets are.
type place struct {
	*author
	number uint8
}

// look tells the votes that were asked for, as far as they are known. That costs no request, so a newcomer has an answer at once.
func (l *loop) look(now time.Time) {
	asked, lost := l.out.takeAsks()
	metrics.Fleet.Drops.WithLabelValues("busy").Add(float64(lost))
	l.asked = append(l.asked, asked...)
	l.asked = l.asked[max(0, len(l.asked)-maxAsks):] // what is old was asked again
	if len(l.asked) == 0 || !l.current {
		return
	}
	// The votes of a part are read once for all that is asked of it: a newcomer asks for thousands of targets.
	wanted := make(map[place]map[fleet.Target]bool)
	for _, q := range l.asked {
		number := partOf(q.target)
		for _, id := range q.of {
			a := l.authors[id]
			if a == nil || !a.met || a.parts[number] == nil {
				continue
			}
			at := place{a, number}
			if wanted[at] == nil {
				wanted[at] = make(map[fleet.Target]bool)
			}
			wanted[at][q.target] = true
		}
	}
	l.asked = nil
	for at, targets := range wanted {
		// What is asked for again and again must not push out what is new.
		at.grant(now)
		if at.allowed < votesLate {
			for t := range targets { // later
				l.asked = append(l.asked, ask{[]string{at.id}, t})
			}
			continue
		}
		p := at.parts[at.number]
		all, places, _ := votesIn(p.raw, at.number)
		var found []fleet.Vote
		for t := range targets {
			if i, known := places[t]; known {
				found = append(found, all[i])
			}
		}
		at.allowed -= float64(len(found))
		l.said(at.author, p.aged(found, now))
	}
}

// dropped counts what had no room.
func dropped(reason string) { metrics.Fleet.Drops.WithLabelValues(reason).Inc() }
