package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// world is a network in memory with members of a fleet, all in one goroutine. A second is the smallest time.
type world struct {
	t      *testing.T
	rng    *rand.Rand
	now    time.Time
	nodes  []*node
	down   map[Target]time.Time // since when they are dead
	up     map[Target]time.Time // since when they answer
	starts uint64
}

const (
	modelVantage = 3
	modelTargets = 24
	deathAfter   = 8 * time.Second // a member that cannot be reached is taken for dead
	settled      = time.Minute     // after the last event all must be as it should
	// mayBeWrong is a probe, four seconds until votes have lapsed, and the patience of a member that is alone, in steps of a second.
	mayBeWrong = 12 * time.Second
)

// node is a member with its engine: what it says reaches others at once, or is lost.
type node struct {
	*world
	name    string
	epoch   uint64
	side    int // of a partition
	gone    bool
	born    time.Time
	roster  *Roster
	wants   Wants
	seats   *Seats
	watched map[Target]*watch
	own     map[Target]Vote // its stream, in short
	links   map[string]*link
}

// link is what a member knows of the way to another.
type link struct {
	epoch uint64
	last  time.Time // when a beat came
	gap   bool
	dead  bool
}

// watch is a target at a member.
type watch struct {
	ballot Ballot
	asked  bool // by queries here
	role   Role
	since  time.Time // in this role
	lost   time.Time // its seat; zero if it has none to hand over
	belief verdict.State
}

var (
	_ Engine   = (*node)(nil)
	_ Listener = (*node)(nil)
)

func (w *world) start(name string) *node {
	w.starts++
	n := &node{world: w, name: name, epoch: w.starts, born: w.now, wants: Wants{Max: 2 * modelTargets}, watched: map[Target]*watch{},
		own: map[Target]Vote{}, links: map[string]*link{}}
	m := here(name)
	m.Epoch, m.Joined = n.epoch, w.now
	n.roster = NewRoster(m, w.now)
	for i := range modelTargets {
		if w.rng.IntN(3) > 0 {
			n.watched[target(i)] = &watch{asked: true}
		}
	}
	return n
}

// reached are the others that can be heard.
func (n *node) reached() (all []*node) {
	for _, o := range n.nodes {
		if o != n && !o.gone && !n.gone && o.side == n.side {
			all = append(all, o)
		}
	}
	return all
}

// node is the engine of its member.

func (n *node) Announce(Groups) {}
func (n *node) Call(Call)       {}
func (n *node) Leave()          { n.gone = true }

func (n *node) Say(votes []Vote) {
	for _, v := range votes {
		n.own[v.Target] = v
	}
	reached := n.reached()
	for _, o := range n.nodes {
		if slices.Contains(reached, o) {
			o.hear(n, votes)
		} else if l := o.links[n.name]; l != nil {
			l.gap = true
		}
	}
}

// hear passes on votes from another engine, if the way to that has no gap.
func (n *node) hear(from *node, votes []Vote) {
	if l := n.links[from.name]; l != nil && l.epoch == from.epoch && !l.gap {
		n.Said(from.name, from.epoch, said{votes: votes}.batch())
	}
}

func (n *node) Answer(to string, votes []Vote) {
	for _, o := range n.reached() {
		if o.name == to {
			o.hear(n, votes)
		}
	}
}

// Ask loses one want in four.
func (n *node) Ask(of []string, want Want) {
	for _, o := range n.reached() {
		if slices.Contains(of, o.name) && n.rng.IntN(4) > 0 {
			o.Said(n.name, n.epoch, said{wants: []Want{want}}.batch())
		}
	}
}

// Turn is a beat to all that can be reached. It closes gaps.
func (n *node) Turn(isolated bool) {
	for _, o := range n.reached() {
		l := o.links[n.name]
		if l == nil || l.epoch != n.epoch {
			l = &link{epoch: n.epoch, gap: true, dead: true}
			o.links[n.name] = l
		}
		if l.dead {
			m := here(n.name)
			m.Epoch, m.Joined = n.epoch, n.born
			o.Met(m)
		}
		l.last, l.dead = n.now, false
		if l.gap {
			l.gap = false
			o.Restarted(n.name, n.epoch)
			for i := range modelTargets {
				if v, ok := n.own[target(i)]; ok {
					o.hear(n, []Vote{v})
				}
			}
		}
		o.Heard(n.name, n.epoch, isolated)
	}
}

// miss takes members for dead that were not heard for some time.
func (n *node) miss() {
	for name, l := range n.links {
		if !l.dead && n.now.Sub(l.last) > deathAfter {
			l.dead, l.gap = true, true
			n.Left(name)
		}
	}
}

// node is the listener of its engine, too.

func (n *node) Met(m Member)                            { n.roster.Meet(m, n.now) }
func (n *node) Left(name string)                        { n.roster.Leave(name, n.now) }
func (n *node) Heard(name string, epoch uint64, i bool) { n.roster.Heard(name, epoch, i, n.now) }
func (n *node) Silent(name string)                      { n.roster.Silent(name, n.now) }
func (n *node) Restarted(name string, epoch uint64)     { n.roster.Restart(name, epoch, n.now) }

func (n *node) Said(name string, epoch uint64, batch []byte) {
	from := n.roster.StreamOf(name, epoch)
	if from == 0 {
		return
	}
	err := Decode(batch, Reader{
		Vote: func(v Vote) {
			if x := n.watched[v.Target]; x != nil {
				x.ballot.Put(n.seats, from, &v, n.now, longest)
			}
		},
		Want: func(want Want) {
			x := n.watched[want.Target]
			if x == nil {
				x = &watch{since: n.now}
			}
			if n.wants.Take(&x.ballot, from, want, uint32(n.now.Unix())) {
				n.watched[want.Target] = x
			}
			if v, ok := n.own[want.Target]; ok {
				n.Answer(name, []Vote{v})
			}
		},
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// step is what the loop of a pool would do in a second.
func (n *node) step() {
	n.miss()
	n.roster.Lapse(n.now)
	n.seats = n.roster.Seats(someGroup, modelVantage, n.now)
	for i := range modelTargets {
		if x := n.watched[target(i)]; x != nil {
			n.tend(target(i), x)
		}
	}
	n.Turn(false)
}

// tend does what there is to do about a target.
func (n *node) tend(t Target, x *watch) {
	role := n.seats.Role(&x.ballot, t.Shard())
	if role != x.role {
		if x.role == Seat && !n.own[t].Target.Addr.IsValid() {
			x.lost = time.Time{}
		} else if x.role == Seat {
			x.lost = n.now
		}
		x.role, x.since = role, n.now
	}
	truth := verdict.Up
	if !n.down[t].IsZero() {
		truth = verdict.Down
	}
	if role == Seat {
		x.lost = time.Time{}
	}
	_, voted := n.own[t]
	keeps := voted && !n.seats.Relieved(&x.ballot, t.Shard()) && n.now.Sub(x.lost) < 20*time.Second
	switch {
	case role == Seat && n.now.After(x.since), keeps: // its probes have decided
		n.vote(x, Vote{Target: t, State: truth, Holds: time.Second})
	case voted && role != Seat:
		n.vote(x, Vote{Target: t})
		delete(n.own, t)
	}
	if x.asked && n.rng.IntN(2) == 0 {
		if names := slices.Collect(n.seats.Asked(&x.ballot, t.Shard())); len(names) > 0 {
			n.Ask(names, Want{t, time.Hour})
		}
	}
	if fold := n.seats.Fold(&x.ballot, t.Shard(), Defaults().Quorum); fold.Votes() > 0 {
		x.belief = fold.Brief.State()
	} else if n.now.Sub(x.since) >= time.Second+n.roster.Spread(t, 2*time.Second) {
		x.belief = truth
	}
}

// vote says and counts a vote, if it is another than before.
func (n *node) vote(x *watch, v Vote) {
	if n.own[v.Target] != v {
		x.ballot.Put(n.seats, n.roster.Own(), &v, n.now, longest)
		n.Say([]Vote{v})
	}
}

// event lets something happen.
func (w *world) event() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	t := target(w.rng.IntN(modelTargets))
	switch w.rng.IntN(6) {
	case 0, 1:
		if w.down[t].IsZero() {
			w.down[t] = w.now
			delete(w.up, t)
		} else {
			delete(w.down, t)
			w.up[t] = w.now
		}
	case 2: // it dies, or starts again under its name
		if n.gone = !n.gone; !n.gone {
			*n = *w.start(n.name)
			n.seats = n.roster.Seats(someGroup, modelVantage, w.now)
		}
	case 3: // some are cut off
		for _, n := range w.nodes {
			n.side = w.rng.IntN(2)
		}
	case 4: // and can be heard again
		for _, n := range w.nodes {
			n.side = 0
		}
	case 5: // another target is asked for
		if n.watched[t] == nil {
			n.watched[t] = &watch{since: w.now}
		}
		n.watched[t].asked = true
	}
}

// check holds what must be true at any time, and if calm what must be so after a while without an event.
func (w *world) check(calm bool) {
	for _, n := range w.nodes {
		if n.gone || w.now.Sub(n.born) < mayBeWrong {
			continue
		}
		for t, x := range n.watched {
			if !x.asked {
				continue
			}
			since, dead := w.down[t]
			if !dead {
				since = w.up[t]
			}
			long := w.now.Sub(since) > mayBeWrong
			if long && dead && x.belief == verdict.Up || long && !dead && x.belief == verdict.Down {
				w.t.Fatalf("%s: %s believes that %s is %s, which it is not since %s: %+v", w.now.Sub(noon), n.name, t.Addr, x.belief, since.Sub(noon),
					n.seats.Lines(&x.ballot, t.Shard()))
			}
			if !calm {
				continue
			}
			probing, side := 0, 1+len(n.reached())
			for _, o := range append(n.reached(), n) {
				if y := o.watched[t]; y != nil && (y.role == Seat || y.role == Alone && y.asked) {
					probing++
				}
			}
			if probing != min(modelVantage, side) || x.belief == verdict.Unknown {
				w.t.Fatalf("%s: %d of %d probe %s, and %s believes it is %s", w.now.Sub(noon), probing, side, t.Addr, n.name, x.belief)
			}
		}
	}
}

// Whatever members do, a dead target is out soon wherever it is asked for, one that answers is not, and some time after the last
// event each target has as many vantage points as it should, on each side of a cut.
func TestFleetModel(t *testing.T) {
	for seed := range uint64(15) {
		w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: noon, down: map[Target]time.Time{}, up: map[Target]time.Time{}}
		for i := range 2 + w.rng.IntN(7) {
			n := w.start(fmt.Sprintf("n%d@%d", i, i%3))
			n.seats = n.roster.Seats(someGroup, modelVantage, w.now)
			w.nodes = append(w.nodes, n)
		}
		for range 4 {
			for range 1 + w.rng.IntN(40) {
				w.event()
				for range w.rng.IntN(10) {
					w.second(false)
				}
			}
			for range settled / time.Second {
				w.second(false)
			}
			w.second(true)
		}
	}
}

// second lets a second pass.
func (w *world) second(calm bool) {
	w.now = w.now.Add(time.Second)
	for _, n := range w.nodes {
		if !n.gone {
			n.step()
		}
	}
	w.check(calm)
}
