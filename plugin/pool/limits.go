package pool

import (
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
)

const (
	// MaxTargets is how many targets the pool watches in all; max_targets bounds each stanza below it.
	MaxTargets = 1 << 18
	// maxPerName bounds the targets that one name brings in. It is more than one message can hold, so it only limits a
	// name whose addresses keep changing.
	maxPerName = 4096
	// maxOwners is for how many names a check with host owner asks one address. Below a wildcard a client could make it
	// any number.
	maxOwners = 256
	// A name may bring in learnNameBurst targets at once, and learnName a minute after that; a stanza learnStanza a minute.
	// So strangers who own names cannot have very many addresses probed in a short time. What the Corefile has learned ahead
	// (watch, preload), and what has a verdict already, is not counted.
	learnNameBurst = 1024
	learnName      = 256
	learnStanza    = 8192
	// Once a stanza has learned learnShared in a minute, the rest is for names that have brought in less than learnFew lately:
	// a flood of large names must not keep small ones from being learned.
	learnShared = learnStanza * 3 / 4
	learnFew    = 16
	// maxSteps bounds how many idle targets are looked at in a minute to make room in one group.
	maxSteps = 1 << 20
)

// nameCount is what one name brings in.
type nameCount struct {
	targets int // that it was the first to ask for
	learned allowance
}

// allowance is how many targets were learned: of a name less what it has gained since, of a stanza in the minute that began
// then. The zero value has used nothing.
type allowance struct {
	used float64
	at   clock.Instant
}

// gain brings the allowance up to date: it gains so many a minute.
func (a *allowance) gain(perMinute float64, now clock.Instant) {
	a.used = max(0, a.used-perMinute*max(0, now.Sub(a.at)).Minutes())
	a.at = now
}

// nameOf is the count of a name.
func (p *Pool) nameOf(owner string) *nameCount {
	n := p.names[owner]
	if n == nil {
		n = new(nameCount)
		p.names[owner] = n
	}
	return n
}

// admits reports whether a target may be watched as well, and counts it. It makes room for it if a limit is reached and there
// are idle ones.
func (p *Pool) admits(r targetRequest, c *checkState, owner string, now time.Time) bool {
	_, known := p.recall(c, r.target, owner, now)
	rationed := !r.at.Ahead && !known
	if rationed && !p.mayLearn(r.group, owner, now) || p.overNameLimit(r, c, owner, now) {
		return false
	}
	if len(p.monitors) >= p.maxTargets && !p.makeRoom(r.group, now) {
		p.full.Store(true)
		return false
	}
	if r.group.targets >= r.group.Max { // more than that after a reload that lowered it: review forgets idle ones then
		if !p.makeRoom(r.group, now) || r.group.targets >= r.group.Max {
			r.group.full.Store(true)
			return false
		}
	}
	if rationed {
		p.nameOf(owner).learned.used++
		r.group.learned.used++
	}
	return true
}

// mayLearn reports whether a name and a stanza may bring in one more target now.
func (p *Pool) mayLearn(g *Group, owner string, now time.Time) bool {
	at := clock.At(now)
	if g.learned.at == 0 || at.Sub(g.learned.at) >= time.Minute {
		g.learned = allowance{at: at}
	}
	if g.learned.used < learnStanza {
		name := p.names[owner] // a name that is turned away is not counted: there may be any number of them
		if name == nil {
			return true
		}
		name.learned.gain(learnName, at)
		if name.learned.used+1 <= learnNameBurst && (g.learned.used < learnShared || name.learned.used < learnFew) {
			return true
		}
	}
	metrics.SkippedLearn.Inc()
	if g.loggedLearn.First() {
		p.Warn("more new addresses than may be learned in a minute: further ones, such as those of %s, are served as unknown for now (stanza at %s)", owner, g.At)
	}
	return false
}

// overNameLimit reports whether a name has as many targets as it may have, or one address as many names.
func (p *Pool) overNameLimit(r targetRequest, c *checkState, owner string, now time.Time) bool {
	name := p.names[owner]
	byName := name != nil && name.targets >= maxPerName
	fits := func(m *monitor) bool { return m.owner == owner }
	if !byName {
		place := c.withoutOwner(r.target)
		if p.owners[place] < maxOwners {
			return false
		}
		fits = func(m *monitor) bool { return m.check == c && c.withoutOwner(m.entry.Target) == place }
	}
	if p.makeRoomAmong(r.group, fits, now) {
		return false
	}
	metrics.SkippedName.Inc()
	if !r.group.loggedNames.First() {
		return true
	}
	if byName {
		p.Warn("%s has reached the limit of %d targets for one name: its other addresses are served as unknown (stanza at %s)", owner, maxPerName, r.group.At)
	} else {
		p.Warn("%s has reached the limit of %d names for one address with host owner: for others, such as %s, it is served as unknown (stanza at %s)",
			r.target.Place(), maxOwners, owner, r.group.At)
	}
	return true
}

// restoreBudgets drops the counts of names that bring in nothing any more, and gives groups their steps back.
func (p *Pool) restoreBudgets(now time.Time) {
	for owner, n := range p.names {
		if n.learned.gain(learnName, clock.At(now)); n.targets <= 0 && n.learned.used == 0 {
			delete(p.names, owner)
		}
	}
	for _, g := range p.generations {
		for _, group := range g.groups {
			group.steps = 0
		}
	}
}
