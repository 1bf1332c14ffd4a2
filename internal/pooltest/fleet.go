package pooltest

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
)

// Fleet is a network in memory that members of a fleet talk over, in fake time. Its members are engines.
type Fleet struct {
	mu      sync.Mutex
	members []*FleetMember
	starts  uint64        // how many members there have been: the epoch of the next
	Delay   time.Duration // from member to member; it must not change while there are members
	Lossy   bool          // one want, answer or last call in four is lost
}

// The engines of this network take a member for dead after deathAfter.
const deathAfter = 7 * time.Second

// FleetMember is the engine of one member.
type FleetMember struct {
	net    *Fleet
	self   fleet.Member
	groups fleet.Groups          // as it has announced them
	to     fleet.Listener        // nil before it has started
	links  map[string]*fleetLink // from others, by name
	side   int                   // of a cut
	turned time.Time             // when the loop last showed that it turns
	doubts bool                  // what it said then
	gone   bool
	stop   chan struct{} // closed when it has gone
	ended  sync.WaitGroup
}

// fleetLink is the way from one member to another.
type fleetLink struct {
	epoch uint64    // of the member that was met last
	heard time.Time // when a beat came
	gap   bool      // something was lost
	there bool      // the listener has been told
	queue chan fleetEvent
}

// fleetEvent is what a listener is told when it arrives.
type fleetEvent struct {
	due time.Time
	run func(fleet.Listener)
}

var _ membership.Engine = (*FleetMember)(nil)

// Open adds a member.
func (n *Fleet) Open(name, site string) *FleetMember {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.starts++
	m := &FleetMember{net: n, self: fleet.Member{Name: name, Epoch: n.starts, Site: site}, links: make(map[string]*fleetLink), stop: make(chan struct{})}
	return m
}

// Cut lets only members on the same side hear each other from now on; all of those that are not named are on side 0.
func (n *Fleet) Cut(sides map[string]int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.members {
		m.side = sides[m.self.Name]
	}
}

// Kill ends a member without a word.
func (m *FleetMember) Kill() {
	m.net.mu.Lock()
	dead := m.gone
	m.gone = true
	m.net.members = slices.DeleteFunc(m.net.members, func(x *FleetMember) bool { return x == m })
	m.net.mu.Unlock()
	if !dead {
		close(m.stop)
	}
	m.ended.Wait()
}

// Self implements membership.Engine.
func (m *FleetMember) Self() fleet.Member { return m.self }

// Start implements membership.Engine.
func (m *FleetMember) Start(groups fleet.Groups, to fleet.Listener) {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	m.groups, m.to = groups, to
	m.self.Joined = time.Now()
	m.net.members = append(m.net.members, m)
	m.ended.Go(m.beat)
}

// Check implements membership.Engine.
func (m *FleetMember) Check(membership.Config) error { return nil }

// Update implements membership.Engine.
func (m *FleetMember) Update(membership.Config) error { return nil }

// Contacts implements membership.Engine.
func (m *FleetMember) Contacts() []membership.Contact { return nil }

// beat shows the others once a second that the member is there, while its loop turns, and misses those that are not heard.
func (m *FleetMember) beat() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-ticker.C:
		}
		m.net.mu.Lock()
		// A loop that hangs does not turn, and its member is silent.
		if time.Since(m.turned) < 1500*time.Millisecond {
			for _, o := range m.reached() {
				o.beatFrom(m)
			}
		}
		for name, l := range m.links {
			if l.there && time.Since(l.heard) > deathAfter {
				l.there, l.gap = false, true
				m.tell(l, func(to fleet.Listener) { to.Left(name) })
			}
		}
		m.net.mu.Unlock()
	}
}

// beatFrom hears a beat. The caller holds the lock, here and below.
func (m *FleetMember) beatFrom(from *FleetMember) {
	l := m.links[from.self.Name]
	if l == nil {
		l = &fleetLink{queue: make(chan fleetEvent, 1<<16)}
		m.links[from.self.Name] = l
		m.ended.Go(func() { m.pass(l) })
	}
	name, epoch, doubts := from.self.Name, from.self.Epoch, from.doubts
	l.heard = time.Now()
	if who := from.self; !l.there || l.epoch != epoch {
		who.Groups = from.groups
		m.tell(l, func(to fleet.Listener) { to.Met(who) })
		if l.epoch != epoch {
			l.gap = false // a stream that is heard for the first time begins now: what was said before has to be asked for
		}
	}
	l.there, l.epoch = true, epoch
	if l.gap {
		l.gap = false
		m.tell(l, func(to fleet.Listener) { to.Restarted(name, epoch) })
	}
	m.tell(l, func(to fleet.Listener) { to.Heard(name, epoch, doubts) })
}

// pass tells the listener what has come over a link, when it arrives.
func (m *FleetMember) pass(l *fleetLink) {
	for {
		select {
		case <-m.stop:
			return
		case e := <-l.queue:
			time.Sleep(time.Until(e.due))
			e.run(m.to)
		}
	}
}

// tell queues what a listener is told.
func (m *FleetMember) tell(l *fleetLink, run func(fleet.Listener)) {
	l.queue <- fleetEvent{time.Now().Add(m.net.Delay), run}
}

// reached are the others that can be heard.
func (m *FleetMember) reached() (all []*FleetMember) {
	for _, o := range m.net.members {
		if o != m && o.side == m.side {
			all = append(all, o)
		}
	}
	return all
}

// carry gives batches to another member. Votes that cannot be heard leave a gap.
func (m *FleetMember) carry(o *FleetMember, votes bool, batches [][]byte) {
	l := o.links[m.self.Name]
	if l == nil || l.epoch != m.self.Epoch {
		return // it has not met this member yet
	}
	// The listener is told of the gap with the next beat that comes.
	if o.side != m.side || votes && l.gap {
		l.gap = l.gap || votes
		return
	}
	name, epoch := m.self.Name, m.self.Epoch
	for _, batch := range batches {
		o.tell(l, func(to fleet.Listener) { to.Said(name, epoch, batch) })
	}
}

// Announce implements fleet.Engine.
func (m *FleetMember) Announce(groups fleet.Groups) {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	m.groups = groups
	for _, o := range m.net.members {
		if l := o.links[m.self.Name]; l != nil {
			l.there = false // the next beat tells of the groups
		}
	}
}

// batchesOf encodes what is said.
func batchesOf[T any](all []T, add func(*fleet.Batch, T) bool) (batches [][]byte) {
	b := fleet.Batch{Max: 1100}
	for _, x := range all {
		if !add(&b, x) {
			batches = append(batches, slices.Clone(b.Bytes()))
			b.Reset()
			add(&b, x)
		}
	}
	return append(batches, slices.Clone(b.Bytes()))
}

// Say implements fleet.Engine.
func (m *FleetMember) Say(votes []fleet.Vote) {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	batches := batchesOf(votes, (*fleet.Batch).Vote)
	for _, o := range m.net.members {
		if o != m {
			m.carry(o, true, batches)
		}
	}
}

// Answer implements fleet.Engine.
func (m *FleetMember) Answer(to string, votes []fleet.Vote) {
	m.toThose([]string{to}, batchesOf(votes, (*fleet.Batch).Vote))
}

// Ask implements fleet.Engine.
func (m *FleetMember) Ask(of []string, want fleet.Want) {
	m.toThose(of, batchesOf([]fleet.Want{want}, (*fleet.Batch).Want))
}

// Call implements fleet.Engine.
func (m *FleetMember) Call(call fleet.Call) {
	var all []string
	m.net.mu.Lock()
	for _, o := range m.net.members {
		all = append(all, o.self.Name)
	}
	m.net.mu.Unlock()
	m.toThose(all, batchesOf([]fleet.Call{call}, (*fleet.Batch).Call))
}

// toThose gives batches to the members of these names that can be heard. They may be lost.
func (m *FleetMember) toThose(names []string, batches [][]byte) {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	for _, o := range m.reached() {
		if slices.Contains(names, o.self.Name) && !(m.net.Lossy && rand.IntN(4) == 0) {
			m.carry(o, false, batches)
		}
	}
}

// Turn implements fleet.Engine.
func (m *FleetMember) Turn(isolated bool) {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	m.turned, m.doubts = time.Now(), isolated
}

// Leave implements fleet.Engine.
func (m *FleetMember) Leave() {
	m.net.mu.Lock()
	for _, o := range m.reached() {
		if l := o.links[m.self.Name]; l != nil && l.there {
			name := m.self.Name
			l.there = false
			o.tell(l, func(to fleet.Listener) { to.Left(name) })
		}
	}
	m.net.mu.Unlock()
	m.Kill()
}
