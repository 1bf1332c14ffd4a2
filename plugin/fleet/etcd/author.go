package etcd

import (
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
)

const (
	// maxCached bounds what is kept of the votes of all members, in bytes, and maxCachedOf of one.
	maxCached   = 128 << 20
	maxCachedOf = 64 << 20
	// partCost is what a part costs beside its value.
	partCost = 128
	// Not more than votesPerSecond are told of one author, after votesAtOnce that may come together: the pool takes 8,000 at once, which
	// leaves a second for what waits in its inbox. What was asked for leaves votesLate for what is new.
	votesPerSecond = 2000
	votesAtOnce    = 6000
	votesLate      = 3000
	// noteBytes is less than a want takes.
	noteBytes = 24
)

// part is what a member says of the targets of one part.
type part struct {
	raw   []byte    // the value of the key; empty if it is not there
	rev   int64     // of the key
	at    time.Time // when it came; the zero time if it may be older
	told  []byte    // what the listener knows, if that is another value
	dirty bool      // it is
	lost  bool      // there was no room for the value
	seen  bool      // it was in the snapshot that is being read
}

// author is another member as the loop knows it, or votes without a member.
type author struct {
	id       string
	fact     fact
	rev      int64 // of its key
	groups   fleet.Groups
	joined   time.Time // when it came, as far as it can be told
	there    bool      // it has a key
	gone     time.Time // since when it has none
	met      bool      // the listener knows it as there
	known    bool      // the listener has met it in this epoch, and may have votes of it
	heard    bool      // the listener knows it as well
	parts    map[uint8]*part
	dirty    []uint8 // parts that the listener does not know whole
	bytes    int     // of parts
	lost     int     // parts without a value
	seen     bool    // its key was in the snapshot that is being read
	allowed  float64 // votes that may be told now
	counted  time.Time
	waitTill time.Time // what the listener does not know is told from then on
	heardAt  time.Time // when it was told as well last
	removeAt time.Time // when its votes are removed if it has no key then
}

// grant adds the votes that may be told since.
func (a *author) grant(now time.Time) {
	if a.counted.IsZero() {
		a.allowed = votesAtOnce
	} else {
		a.allowed = min(votesAtOnce, a.allowed+max(0, now.Sub(a.counted).Seconds())*votesPerSecond)
	}
	a.counted = now
}

// asMember is the author for the listener.
func (a *author) asMember() fleet.Member {
	return fleet.Member{Name: a.id, Epoch: a.fact.epoch, Site: a.fact.site, Joined: a.joined, Groups: a.groups}
}

// well reports whether the votes of the author count, if the watch is current.
func (a *author) well() bool {
	return a.met && !a.fact.behind && a.lost == 0 && len(a.dirty) == 0
}

// set takes the value of a part. at is when it came, and full whether there is no room for it. It returns how many bytes more are kept.
func (a *author) set(number uint8, raw []byte, rev int64, at time.Time, full bool) (more int) {
	p := a.parts[number]
	if p == nil {
		if len(raw) == 0 && !full {
			return 0
		}
		p = new(part)
		a.parts[number] = p
		more = partCost
	}
	more += len(raw) - len(p.raw)
	// What the listener was told stays what it knows, until it is told again.
	if a.known && !p.dirty {
		p.told, p.dirty = p.raw, true
		a.dirty = append(a.dirty, number)
		more += len(p.told)
	}
	if p.lost != full {
		p.lost = full
		if full {
			a.lost++
		} else {
			a.lost--
		}
	}
	if full {
		more -= len(raw)
		raw = nil
	}
	p.raw, p.rev, p.at, p.seen = raw, rev, at, true
	if len(raw) == 0 && !p.dirty && !full {
		delete(a.parts, number)
		more -= partCost
	}
	a.bytes += more
	return more
}

// clean notes that the listener knows all of the first part of which it did not. It returns how many bytes less are kept.
func (a *author) clean() (less int) {
	number := a.dirty[0]
	a.dirty = a.dirty[1:]
	p := a.parts[number]
	less = len(p.told)
	p.told, p.dirty = nil, false
	if len(p.raw) == 0 && !p.lost {
		delete(a.parts, number)
		less += partCost
	}
	a.bytes -= less
	return less
}

// forgetTold notes that the listener knows nothing of the author. It returns how many bytes less are kept.
func (a *author) forgetTold() (less int) {
	for len(a.dirty) > 0 {
		less += a.clean()
	}
	a.known = false
	return less
}

// aged are votes of the part as they are now: their ages have grown since they came.
func (p *part) aged(votes []fleet.Vote, now time.Time) []fleet.Vote {
	votes = slices.Clone(votes)
	for i := range votes {
		if p.at.IsZero() {
			votes[i].Holds = 0 // nothing says how long ago it was written
			continue
		}
		votes[i].Age += now.Sub(p.at)
		votes[i].Holds = max(0, votes[i].Holds-now.Sub(p.at))
	}
	return votes
}
