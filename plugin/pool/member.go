package pool

import (
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// A process may be a member of a fleet. Then the targets of some checks are shared: this process probes those that it has a seat
// for, and believes of them what the votes of all vantage points say. What is shared of a target is in shared.go, what is said to
// others in voice.go.

const (
	// tickEvery is how often the loop shows the fleet that it turns, and looks after what is in transition.
	tickEvery = 250 * time.Millisecond
	// seatsEvery is how often it is computed who has the seats, at most.
	seatsEvery = time.Second
	// newFor is how long a process is new to its fleet. In that time each member that it meets may change who has the seats: before it
	// has met any it has all of them, and would probe what the others know.
	newFor = 30 * time.Second
	// scanTicks is in how many ticks all shared targets are gone through.
	scanTicks = 16
)

// member is this process as a member of a fleet. It belongs to the loop.
type member struct {
	pool      *Pool
	engine    membership.Engine
	self      string // the name of this process
	joined    time.Time
	inbox     *inbox
	pending   []event // that were taken from the inbox and not handled yet
	roster    *fleet.Roster
	wants     fleet.Wants
	checks    map[fleet.Group]*checkState // which are shared: they are live, or a reload keeps them
	twins     map[fleet.Group]bool        // that several checks have, which are not shared
	announced fleet.Groups
	transits  map[*monitor]*transit // what is to be done about monitors soon
	voice     voice
	listening int // monitors that are not probed here

	roles               [3]int // monitors by fleet.Role
	thin, contradicted  int
	nextTick, nextSeats time.Time
	scanned             int       // the shard of the table that the scan comes to next
	turned              time.Time // when the others were last told that the loop turns
	stale               bool      // votes that must not count any longer are yet to be taken back
	isolated            bool
	lost                bool // votes of some author, since the last tick
	warnedFew           bool // that vantage points save no probe

	seen map[string]string // members that were there, and whether they were heard; nil before that was recorded
}

// JoinFleet makes this process a member of the fleet of an engine, which it starts, in place of the one before; nil is none. It is
// called when the servers run that ask for it. The engine is ended by its owner, after another JoinFleet or the end of the pool.
func (p *Pool) JoinFleet(engine membership.Engine) {
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() { p.joinFleet(engine, time.Now()) })
}

// joinFleet is JoinFleet on the loop.
func (p *Pool) joinFleet(engine membership.Engine, now time.Time) {
	switch {
	case p.member == nil && engine == nil, p.member != nil && p.member.engine == engine:
		return
	case p.member != nil:
		for _, m := range p.monitors {
			p.unshare(m, now)
		}
		p.member.clearMetrics()
		p.member = nil
	}
	if engine == nil {
		return
	}
	self := engine.Self()
	p.member = &member{
		pool: p, engine: engine, self: self.Name, joined: now, inbox: &inbox{ready: p.fleetEvents}, roster: fleet.NewRoster(self, now), wants: fleet.Wants{Max: p.maxTargets / 2},
		transits: make(map[*monitor]*transit), nextTick: now, voice: voice{answers: make(map[answer]bool)},
	}
	p.shareChecks(now)
	engine.Start(p.member.announced, p.member.inbox)
}

// seat computes who has seats, and gives targets whose seats have moved their new roles.
func (f *member) seat(now time.Time) {
	f.nextSeats = now.Add(seatsEvery)
	f.roster.Share(f.announced)
	moved := make(map[*checkState]func(fleet.Shard) bool)
	same := make(map[[2]*fleet.Seats]func(fleet.Shard) bool) // of checks that had the same seats, and have
	for group, c := range f.checks {
		before := c.seats
		if c.seats = f.roster.Seats(group, c.terms.Vantage, now); c.seats == before {
			continue
		}
		change := [2]*fleet.Seats{before, c.seats}
		if same[change] == nil {
			same[change] = c.seats.Moved(before)
		}
		moved[c] = same[change]
	}
	if len(moved) == 0 {
		return
	}
	for _, m := range f.pool.monitors {
		if has := moved[m.check]; has != nil && m.shared != nil && has(m.shared.shard) {
			m.shared.told, m.shared.passes = 0, 0 // the new ones do not know that it is wanted
			f.pool.refold(m, now)
		}
	}
}

// hearFleet handles what the engine has told.
func (p *Pool) hearFleet(now time.Time) {
	if p.member == nil {
		return
	}
	f := p.member
	events, more := f.inbox.some()
	f.pending = append(f.pending, events...)
	for len(f.pending) > 0 { // each is taken off first: if one makes the pool panic, the others are handled when it has restarted
		next := f.pending[0]
		f.pending = f.pending[1:]
		next.run(f, now)
	}
	f.pending = nil
	if more {
		select {
		case p.fleetEvents <- struct{}{}:
		default:
		}
	}
}

// lose notes that votes of an author were lost, so that all of them are void until they are heard again. The next tick has it asked
// who has not voted: one who says too much may have this called very often.
func (f *member) lose(name string, epoch uint64, now time.Time) {
	f.lost = f.roster.Restart(name, epoch, now) != 0 || f.lost
}

// hear takes what a member has said.
func (f *member) hear(name string, epoch uint64, batch []byte, now time.Time) {
	from := f.roster.StreamOf(name, epoch)
	if from == 0 {
		return
	}
	lost := false
	admitted := func() bool {
		if f.roster.Admit(name, 1, now) == 0 {
			lost = true
		}
		return !lost
	}
	err := fleet.Decode(batch, fleet.Reader{
		Vote: func(v fleet.Vote) {
			if admitted() {
				f.hearVote(from, &v, now)
			}
		},
		Want: func(w fleet.Want) {
			if admitted() {
				f.hearWant(name, from, w, now)
			}
		},
		Call: func(c fleet.Call) {
			if admitted() {
				f.hearCall(c, now)
			}
		},
	})
	if err != nil {
		metrics.Fleet.Drops.WithLabelValues("damaged").Inc()
	}
	if lost { // it says more than it may
		metrics.Fleet.Drops.WithLabelValues("rate").Inc()
		f.lose(name, epoch, now)
	}
}

// monitorOf is the monitor of a target that another member names, and its check; nil if there is none.
func (f *member) monitorOf(t *fleet.Target) (*monitor, *checkState) {
	c := f.checks[t.Group]
	if c == nil || (c.forOwner == nil) != (t.Owner == "") {
		return nil, nil
	}
	own, seed := c.target(t.Owner, t.Addr.Addr(), t.Addr.Port())
	if own.Addr != t.Addr || c.hasNoPort(own) {
		return nil, nil
	}
	return f.pool.find(&own, seed), c
}

// hearVote takes the vote of an author.
func (f *member) hearVote(from fleet.Stream, v *fleet.Vote, now time.Time) {
	metrics.Fleet.Votes.WithLabelValues("received").Inc()
	m, c := f.monitorOf(&v.Target)
	if m == nil || m.shared == nil {
		return // it is not asked for here
	}
	if m.shared.ballot.Put(c.seats, from, v, clock.Steady(now), c.pace.LongestHold()) {
		f.pool.refold(m, now)
	}
}

// hearCall notes that a vantage point asks who wants a target, or that another member has answered that.
func (f *member) hearCall(c fleet.Call, now time.Time) {
	m, _ := f.monitorOf(&c.Target)
	if m == nil || m.shared == nil || m.idle || !m.askedHere() {
		return
	}
	at := seconds(now)
	if c.Answered {
		m.shared.told = at + uint32((keepUnasked-fleet.LastCallBefore)/time.Second)
		m.shared.set(markCalled, false)
		return
	}
	wait := uint32(f.roster.AnswerAfter(c.Target) / time.Second)
	m.shared.told = min(m.shared.told, at+wait)
	m.shared.set(markCalled, true)
}

// tick is what the loop does for the fleet four times a second.
func (p *Pool) tick(now time.Time) {
	f := p.member
	if f == nil || now.Before(f.nextTick) {
		return
	}
	f.nextTick = now.Add(tickEvery)
	p.hearFleet(now)
	doubted := f.isolated
	f.isolated = !p.isolation.since.IsZero()
	if p.onTime(now) && p.believesItself(doubted && !f.isolated, now) {
		f.engine.Turn(f.isolated)
		f.turned = now
	}
	f.roster.Doubt(f.isolated)
	if f.listening > 0 { // others have probed meanwhile
		p.settled++
	}
	changed := f.roster.Lapse(now)
	f.lost = f.lost || len(changed) > 0 // what a member has said before it was heard here, or while it was not, has to be asked for
	f.refoldVotesOf(changed, now)
	if !now.Before(f.nextSeats) {
		f.seat(now)
		f.warnFew(now)
		f.recordMembers(now)
		f.setMetrics()
	}
	for m, x := range f.transits {
		p.advance(m, x, now)
	}
	for range table.Shards / scanTicks {
		p.table.Each(f.scanned, func(e *table.Entry) {
			if m := p.monitors[e]; m != nil && m.shared != nil {
				p.tend(m, now)
			}
		})
		f.scanned = (f.scanned + 1) % table.Shards
	}
}

// refoldVotesOf folds again what votes of some streams are on, and has it asked again who has not voted if votes were lost.
func (f *member) refoldVotesOf(changed []fleet.Stream, now time.Time) {
	if len(changed) == 0 && !f.lost {
		return
	}
	streams := make(map[fleet.Stream]bool, len(changed))
	for _, stream := range changed {
		streams[stream] = true
	}
	for _, m := range f.pool.monitors {
		switch {
		case m.shared == nil:
			continue
		case f.lost:
			m.shared.passes = 0
		}
		if len(changed) > 0 && m.shared.ballot.HasAny(streams) {
			f.pool.refold(m, now)
		}
	}
	f.lost = false
}

// onTime reports whether the probes that the fleet relies on are made when they are due. A member whose probes are not has no say.
func (p *Pool) onTime(now time.Time) bool {
	for l := doubt; l <= calm; l++ {
		if lag := p.schedule.lag(l, now); lag > 0 && lag > max(p.schedule.queues[l][0].check.pace.Fast, 3*time.Second) {
			return false
		}
	}
	return true
}

// believesItself reports whether the votes of this process may count. After it has hung, or its probes have been late, for so long that
// the others took it for silent, what it voted before is out of date. So are the votes that were frozen while it doubted its own probes
// and that its last probes contradict. They would count from its next beat on, so they are taken back first, and each target is voted on
// again when probes have decided.
func (p *Pool) believesItself(doubted bool, now time.Time) bool {
	f := p.member
	members := f.roster.Present()
	late := !f.turned.IsZero() && now.Sub(f.turned) > fleet.FreshFor(members)-fleet.Beat(members)
	if late || doubted {
		f.stale, f.turned = true, now
		for _, m := range p.monitors {
			if m.shared != nil && m.shared.is(markVoted) && (late || m.suspicion != trusted) {
				p.withdraw(m)
				m.shared.fails = 0
				p.refold(m, now)
			}
		}
	}
	f.stale = f.stale && len(f.voice.withdrawn) > 0
	return !f.stale
}

// warnFew says once that there are too few members for the vantage points to save a probe.
func (f *member) warnFew(now time.Time) {
	if f.warnedFew || len(f.checks) == 0 || now.Sub(f.joined) < time.Minute {
		return
	}
	members := f.roster.Present()
	for _, c := range f.checks {
		if members < 2 || members > c.terms.Vantage {
			return
		}
	}
	f.warnedFew = true
	log.Infof("the fleet has %d members and each target as many vantage points: they share what they find, but save no probe", members)
}

// setMetrics sets the gauges of the fleet.
func (f *member) setMetrics() {
	for role, n := range f.roles {
		metrics.Fleet.Targets.WithLabelValues(fleet.Role(role).String()).Set(float64(n))
	}
	metrics.Fleet.Thin.Set(float64(f.thin))
	metrics.Fleet.Contradicted.Set(float64(f.contradicted))
}

// clearCounts sets the counts of shared targets when there are none. It may be called for nil.
func (f *member) clearCounts() {
	if f != nil {
		f.roles, f.thin, f.contradicted, f.listening = [3]int{}, 0, 0, 0
		clear(f.transits)
	}
}

// clearMetrics drops the gauges of a fleet that this process has left.
func (f *member) clearMetrics() {
	metrics.Fleet.Targets.Reset()
	metrics.Fleet.Thin.Set(0)
	metrics.Fleet.Contradicted.Set(0)
}

// probed is how many targets this process probes itself, or would.
func (p *Pool) probedHere() int {
	if p.member == nil {
		return len(p.monitors)
	}
	return len(p.monitors) - p.member.listening
}

// sinceOf is when the state of a brief was entered; the zero time if it was never decided.
func sinceOf(b verdict.Brief) time.Time {
	if b.Since() == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(b.Since()))
}
