package gossip

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
)

const (
	// tickTime is how long what is said is collected before it is sent.
	tickTime = 50 * time.Millisecond
	// sayAgain is after what time a word is sent once more: 2 of 100 packets are lost on a bad day.
	sayAgain = 250 * time.Millisecond
	// packetsPerTick bounds the packets with words in a tick, to all members together, wordsPerTick those to each.
	packetsPerTick = 1500
	wordsPerTick   = 32
	// mindEvery is how often each member is looked at: whether it is silent or gone, or some of what it said is missing.
	mindEvery = 100 * time.Millisecond
	// showEvery is how often metrics and contacts are refreshed.
	showEvery = 500 * time.Millisecond
	// framesAtOnce is how many connections this process opens to repeat what was lost.
	framesAtOnce = 8
	// maxLists is from how many lists of groups on only those are kept that members have, and maxListed how many groups these may have in
	// all: some 40 bytes each.
	maxLists  = 256
	maxListed = 1 << 19
	// lateAfter is from when on the loop itself was late. Then the beats of others may wait in a queue, and for as long again none of
	// them counts as silent: a machine that is short of processor time must not make its servers probe more.
	lateAfter = 500 * time.Millisecond
)

// loop is the goroutine that keeps the streams in order, sends what is said, and is the only one that calls the listener.
type loop struct {
	self     sender
	t        *transport // where messages come from and go to
	out      *outbox    // what the process says
	watcher  *watcher   // what memberlist says
	joiner   *joiner    // told of strangers, and of the dead
	listener fleet.Listener
	contacts *atomic.Pointer[[]contact] // for other goroutines
	left     *atomic.Bool               // nothing is told any longer
	stop     chan struct{}

	// What follows belongs to the loop alone, so nothing of it needs a lock.
	started   time.Time
	peers     map[netip.AddrPort]*peer
	lists     map[hash]fleet.Groups // known lists of groups
	kept      int                   // bytes of early words, of all members
	said      uint64                // the last word that was sent
	again     []repetition          // what is said a second time, in the order of the time
	beatDue   time.Time
	uptime    time.Duration // that the last beat had
	members   int           // how many are there, this one included
	mindDue   time.Time
	showDue   time.Time
	ticked    time.Time // when the last tick was
	lateUntil time.Time
	forgot    bool          // a member was forgotten
	distrust  bool          // a key was removed
	frames    chan struct{} // one for each connection that repeats something
	memory    []byte        // for messages
}

// repetition is a word that is to be sent once more.
type repetition struct {
	number uint64
	due    time.Time
}

// work is the loop. It ends with a last beat when stop is closed.
func (l *loop) work() {
	ticker := time.NewTicker(tickTime)
	defer ticker.Stop()
	for {
		select {
		case <-l.stop:
			l.step(l.sayGoodbye)
			return
		case <-l.t.keys.removed:
			l.distrust = true
		case <-l.watcher.wake:
			l.step(l.takeChanges)
		case m := <-l.t.messages:
			l.t.giveBack(m)
			l.step(func() { l.handle(m) })
		case <-ticker.C:
			l.step(l.tick)
		}
	}
}

// step does a part of the work. If it panics, the loop goes on.
func (l *loop) step(f func()) {
	defer rescue.Log("the fleet's loop")
	f()
}

// tell calls the listener.
func (l *loop) tell(f func(to fleet.Listener)) {
	if l.left.Load() {
		return
	}
	defer rescue.Log("what listens to the fleet")
	f(l.listener)
}

// tick sends what has been said, and sees what is overdue.
func (l *loop) tick() {
	now := time.Now()
	if now.Sub(l.ticked) > lateAfter {
		l.lateUntil = now.Add(lateAfter)
	}
	l.ticked = now
	if l.distrust {
		l.doubtAll()
	}
	// The order matters: words before the beat that tells of them, and both to members that have just come.
	l.takeChanges()
	l.sendAll(now)
	l.sendBeat(now)
	if !now.Before(l.mindDue) {
		l.mindDue = now.Add(mindEvery)
		l.recount()
		quiet := fleet.FreshFor(l.members)
		for _, p := range l.peers {
			l.mind(p, now, quiet)
		}
	}
	if !now.Before(l.showDue) {
		l.showDue = now.Add(showEvery)
		l.show(now)
	}
}

// recount counts the members that are there, this one included. A large fleet has too many to do that for each beat.
func (l *loop) recount() {
	l.members = 1
	for _, p := range l.peers {
		if p.anyAlive() {
			l.members++
		}
	}
}

// targets are the addresses of all members that are there or were a short while ago.
func (l *loop) targets() []netip.AddrPort {
	all := make([]netip.AddrPort, 0, len(l.peers))
	for addr, p := range l.peers {
		if !p.gone {
			all = append(all, addr)
		}
	}
	return all
}

// sendAll sends what has been said since.
func (l *loop) sendAll(now time.Time) {
	// Words are paced, so that a burst neither overflows the buffers of the others nor keeps this loop from hearing them.
	ready, lost := l.out.collect()
	l.t.busy.Add(float64(lost))
	targets := l.targets()
	perTick := max(1, min(wordsPerTick, packetsPerTick/max(1, len(targets))))
	from, words := l.out.next(l.said, perTick)
	l.said = from - 1
	for i, batch := range words {
		number := from + uint64(i)
		ready = l.sendReady(ready, number, targets)
		l.sendWord(number, batch, targets)
		l.again = append(l.again, repetition{number, now.Add(sayAgain)})
		l.said = number
	}
	l.sendReady(ready, maxNumber, targets)
	l.repeat(now, targets)
}

// sendReady sends the messages that belong in front of a word, and returns the others: an answer is worth nothing behind the next
// word.
func (l *loop) sendReady(ready []outgoing, before uint64, targets []netip.AddrPort) (rest []outgoing) {
	for _, m := range ready {
		if m.after >= before {
			rest = append(rest, m)
			continue
		}
		to := targets
		if m.to != "" {
			addr, err := netip.ParseAddrPort(m.to)
			if err != nil || l.peers[addr] == nil {
				continue
			}
			to = []netip.AddrPort{addr}
		}
		l.t.sendTo(append(l.self.header(nil, m.kind), m.body...), to...)
	}
	return rest
}

// repeat says words once more whose time has come.
func (l *loop) repeat(now time.Time, targets []netip.AddrPort) {
	for len(l.again) > 0 && !now.Before(l.again[0].due) {
		n := l.again[0].number
		l.again = l.again[1:]
		if _, words := l.out.words(span{n, n}, maxBatch*2); len(words) > 0 {
			l.sendWord(n, words[0], targets)
		}
	}
}

// sendWord sends a word.
func (l *loop) sendWord(number uint64, batch []byte, to []netip.AddrPort) {
	l.memory = appendWord(l.self.header(l.memory[:0], kindWords), number, batch)
	l.t.sendTo(l.memory, to...)
}

// sendBeat sends a beat if it is time, and the loop of the process turns.
func (l *loop) sendBeat(now time.Time) {
	b, turns, hurry := l.out.state(now, true)
	if !turns || now.Before(l.beatDue) && !hurry {
		return
	}
	l.beatDue = now.Add(fleet.Beat(l.members))
	l.beatTo(b, now, l.targets()...)
}

// beatTo sends a beat. Each has a greater uptime than the one before, so that a recorded one is known as such.
func (l *loop) beatTo(b beat, now time.Time, to ...netip.AddrPort) {
	// It speaks of what was sent: a number that no member could have heard yet would look like a gap.
	b.last = l.said
	b.first = min(b.first, b.last+1)
	l.uptime = max(l.uptime+time.Millisecond, now.Sub(l.started))
	b.uptime = l.uptime
	l.memory = b.appendTo(l.self.header(l.memory[:0], kindBeat))
	l.t.sendTo(l.memory, to...)
}

// sayGoodbye sends what is left, and that this process stops. It says so twice, because no later beat can repeat it.
func (l *loop) sayGoodbye() {
	now := time.Now()
	l.sendAll(now)
	b, _, _ := l.out.state(now, true)
	b.stopping = true
	for range 2 {
		l.beatTo(b, now, l.targets()...)
	}
}

// mind sees whether a member is silent or gone, and asks for what is missing.
func (l *loop) mind(p *peer, now time.Time, quiet time.Duration) {
	p.prune(now)
	p.in.expire(now)
	// A member that is dead for memberlist is heard for as long as its beats come, and gets what is said: it may be there.
	if p.anyAlive() && !p.stopped {
		p.seen = now
	}
	p.gone = now.Sub(p.seen) > sendFor
	if p.heard && !now.Before(l.lateUntil) && (p.gone || now.Sub(p.beatAt) > quiet || !p.in.since.IsZero() && now.Sub(p.in.since) > gapTime) {
		p.heard = false
		l.tell(func(to fleet.Listener) { to.Silent(p.name) })
	}
	if p.gone && now.Sub(p.seen) > knownFor {
		l.forgetPeer(p)
		return
	}
	if !p.streaming || now.Sub(p.beatAt) > quiet {
		return // it would not answer
	}
	if missing, isNew := p.in.due(now); len(missing) > 0 {
		if isNew {
			metrics.Fleet.Gaps.Inc()
		}
		l.t.sendTo(appendSpans(l.self.header(nil, kindGap), missing), p.addr)
	}
}

// forgetPeer forgets a member. From then on, one that comes may have been known before, and some of its stream may be missing.
func (l *loop) forgetPeer(p *peer) {
	p.in.drop()
	delete(l.peers, p.addr)
	l.forgot = true
}

// makeRoom forgets the member that is gone for the longest, if there are too many. It reports whether there is room.
func (l *loop) makeRoom() bool {
	if len(l.peers) < maxNames {
		return true
	}
	var oldest *peer
	for _, p := range l.peers {
		if !p.anyAlive() && (oldest == nil || p.seen.Before(oldest.seen)) {
			oldest = p
		}
	}
	if oldest == nil {
		return false
	}
	l.leave(oldest)
	l.forgetPeer(oldest)
	return true
}

// askForList asks a member for its list of groups.
func (l *loop) askForList(p *peer, now time.Time) {
	if p.stopped || now.Sub(p.askedAt) < listEvery {
		return
	}
	p.askedAt = now
	l.t.sendTo(append(l.self.header(nil, kindRequest), p.beat.groups[:]...), p.addr)
}

// takeChanges takes what memberlist has noticed.
func (l *loop) takeChanges() {
	now := time.Now()
	for name, state := range l.watcher.changes() {
		addr, epoch, ok := splitNodeName(name)
		if !ok {
			continue
		}
		if addr == l.self.addr { // a former epoch of this process, or a mistake
			l.joiner.meetTwin(epoch, state, now)
			continue
		}
		p := l.peers[addr]
		if p == nil {
			if !state.alive || !l.makeRoom() {
				continue
			}
			p = &peer{addr: addr, name: addr.String(), nodes: make(map[uint64]*node), past: make(map[uint64]time.Duration), in: inflow{total: &l.kept}}
			l.peers[addr] = p
		}
		l.change(p, epoch, state, now)
	}
}

// change takes a change of a member in an epoch.
func (l *loop) change(p *peer, epoch uint64, state nodeState, now time.Time) {
	n := p.nodes[epoch]
	if n == nil {
		n = new(node)
		p.nodes[epoch] = n
	}
	// A member of another version of our protocol is there for memberlist, which needs every member, and for nothing else.
	n.fact, n.ok = readFact(state.meta)
	n.alive, n.changed = state.alive, now
	if state.alive {
		p.seen, p.gone = now, false
		l.joiner.dropAddress(p.addr)
		if b, turns, _ := l.out.state(now, false); turns { // it need not wait for the next beat
			l.beatTo(b, now, p.addr)
		}
		return
	}
	// The end of a former epoch says nothing about the one that counts.
	if p.chosen && p.epoch == epoch {
		l.leave(p)
	}
	if !p.stopped && !p.anyAlive() {
		l.joiner.remember(p.addr)
	}
}

// leave tells that a member is not there.
func (l *loop) leave(p *peer) {
	if p.met {
		p.met = false
		l.tell(func(to fleet.Listener) { to.Left(p.name) })
	}
}
