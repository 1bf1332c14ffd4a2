package gossip

import (
	"net/netip"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
)

const (
	// sendFor is how long a member gets votes after it was there: memberlist takes members for dead that are not.
	sendFor = time.Minute
	// knownFor is how long it is known after it was there, with its place in its stream: then what it said since can be asked for. It is
	// longer than fleet.Roster remembers its votes.
	knownFor = 15 * time.Minute
	// maxPast is how many former epochs of a member are kept.
	maxPast = 8
	// listEvery is how often a list of groups is asked for until it comes.
	listEvery = time.Second
	// repairBytes is how much of the stream a member is told again in a second, after repairAtOnce.
	repairBytes  = 64 << 10
	repairAtOnce = 256 << 10
	// doubtAfter is for how long a member's beats must know less of its stream than this process does until that is a lie of another:
	// packets overtake each other, but not by so much. For as long they go on after one that says that it stops, until that is a lie, too.
	doubtAfter = 3 * time.Second
)

// node is what memberlist knows of a member in one epoch.
type node struct {
	alive bool
	usable
	changed time.Time // when alive became what it is
}

// usable is what a member says of itself, if this program understands it.
type usable struct {
	fact
	ok bool // it has our format, and our protocol
}

// peer is another member, as the loop knows it. It is an address: who starts again there is the same member in another epoch.
type peer struct {
	addr  netip.AddrPort
	name  string
	nodes map[uint64]*node         // by epoch
	past  map[uint64]time.Duration // former epochs, with the uptime of the last beat
	seen  time.Time                // when it was last there
	gone  bool                     // that is so long ago that it gets nothing any longer

	chosen  bool // an epoch was chosen, which the fields below belong to
	epoch   uint64
	beat    beat      // the last one
	beatAt  time.Time // when it came; the zero time if there was none
	joined  time.Time // when the process started, by its uptime
	stopped bool      // it said that it stops
	listed  bool      // its groups are known
	list    hash      // of the groups that are known
	groups  fleet.Groups
	askedAt time.Time // for the groups

	met, heard bool      // what the listener was told last: that it is there, and that it is well
	streaming  bool      // its stream has begun
	doubted    bool      // what it is said to have said counts only as far as its next beat confirms it
	ahead      uint64    // what was known of its stream when a beat knew less
	aheadAt    time.Time // when that was; the zero time if the last beat knew all
	in         inflow
	repair     bucket // of what it asks for
}

// present reports whether memberlist says that the member is there.
func (p *peer) present() bool {
	n := p.nodes[p.epoch]
	return p.chosen && n != nil && n.alive && !p.stopped
}

// anyAlive reports whether memberlist says so of any epoch.
func (p *peer) anyAlive() bool {
	for _, n := range p.nodes {
		if n.alive {
			return true
		}
	}
	return false
}

// choose takes note of a beat of an epoch, and reports whether it is the one that counts. A process that starts again has another
// epoch, and the old one is there for memberlist until it is found dead. So the new one counts once the old one is gone or silent: a
// recorded beat of an epoch that has ended must not take the place of the living one.
func (p *peer) choose(epoch uint64, now time.Time, quiet time.Duration) bool {
	if p.chosen && p.epoch == epoch {
		return true
	}
	n := p.nodes[epoch]
	if n == nil || !n.alive || !n.ok || p.present() && now.Sub(p.beatAt) < quiet {
		return false
	}
	if p.chosen {
		for old := range p.past {
			if len(p.past) >= maxPast {
				delete(p.past, old)
			}
		}
		p.past[p.epoch] = p.beat.uptime
	}
	// The uptime of a former epoch is kept, so that its recorded beats are still old if it counts again.
	p.in.drop()
	p.chosen, p.epoch = true, epoch
	p.beat, p.beatAt, p.joined = beat{uptime: p.past[epoch]}, time.Time{}, time.Time{}
	p.stopped, p.listed, p.streaming, p.askedAt, p.aheadAt = false, false, false, time.Time{}, time.Time{}
	return true
}

// doubt forgets what only the member itself can know, and what others with the key may have said in its name: how long it has run, that it
// stops, what was in its stream. Its next beat begins all of that again, and its votes are asked for.
func (p *peer) doubt() {
	clear(p.past)
	p.beat.uptime, p.joined = 0, time.Time{}
	p.stopped, p.listed, p.doubted, p.aheadAt = false, false, true, time.Time{}
}

// mistrust looks for a stream that is longer than its author says, beat after beat. Others have said words in its name then.
func (p *peer) mistrust(last uint64, now time.Time) {
	switch {
	case !p.streaming || last >= p.in.known:
		p.aheadAt = time.Time{}
	case p.aheadAt.IsZero() || last >= p.ahead:
		p.ahead, p.aheadAt = p.in.known, now
	case now.Sub(p.aheadAt) > doubtAfter:
		p.doubted, p.aheadAt = true, time.Time{}
	}
}

// member is the member as the listener is told.
func (p *peer) member() fleet.Member {
	return fleet.Member{Name: p.name, Epoch: p.epoch, Site: p.nodes[p.epoch].site, Joined: p.joined, Groups: p.groups}
}

// prune forgets epochs that have ended.
func (p *peer) prune(now time.Time) {
	for epoch, n := range p.nodes {
		if !n.alive && now.Sub(n.changed) > sendFor && !(p.chosen && epoch == p.epoch) {
			delete(p.nodes, epoch)
		}
	}
}
