package gossip

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
)

// handle takes a message of another member.
func (l *loop) handle(m message) {
	if m.from.addr == l.self.addr { // our own, by way of a wrong address, of a former epoch, or of a twin
		return
	}
	now := time.Now()
	p := l.peers[m.from.addr]
	if m.kind == kindBeat {
		l.handleBeat(p, m, now)
		return
	}
	if p == nil || !p.chosen || p.epoch != m.from.epoch {
		l.t.past.Inc()
		return
	}
	// What follows is said to a member that is known in this epoch. It is known by its beats, so what comes before the first one is
	// lost, and is part of what is asked for then.
	switch m.kind {
	case kindWords:
		l.handleWords(p, m.body, now)
	case kindAnswer:
		position, size := binary.Uvarint(m.body)
		if size <= 0 || position > maxNumber {
			l.t.malformed.Inc()
		} else if p.streaming {
			p.in.answer(position, m.body[size:], now, l.saidBy(p))
		}
	case kindAsk:
		if p.streaming {
			l.saidBy(p)(m.body)
		}
	case kindGap:
		l.handleGap(p, m.body, now)
	case kindRequest:
		l.handleRequest(p, m.body, now)
	case kindList:
		l.handleList(m.body, now)
	default: // of a later version
		l.t.malformed.Inc()
	}
}

// saidBy returns a function that tells of what a member said.
func (l *loop) saidBy(p *peer) func(batch []byte) {
	return func(batch []byte) {
		if len(batch) == 0 { // it would weigh nothing, and no member says nothing
			l.t.malformed.Inc()
			return
		}
		l.tell(func(to fleet.Listener) { to.Said(p.name, p.epoch, batch) })
	}
}

// handleBeat takes a beat. One of a process that memberlist does not know as a living member has it join: that is how a fleet finds
// together that was cut.
func (l *loop) handleBeat(p *peer, m message, now time.Time) {
	b, err := readBeat(m.body)
	if err != nil {
		l.t.malformed.Inc()
		return
	}
	if p == nil || !p.anyAlive() && !(p.chosen && p.stopped && p.epoch == m.from.epoch) {
		l.joiner.meetStranger(m.from.addr, now)
	}
	if p == nil {
		return
	}
	former := p.epoch
	if !p.choose(m.from.epoch, now, 2*fleet.Beat(l.members)) {
		return
	}
	if p.epoch != former { // what was there is not what is there now
		l.leave(p)
		p.heard = false
	}
	// The last beat of a process says that it stops. One that goes on for long has not said so: somebody else did.
	if b.uptime <= p.beat.uptime || p.stopped && b.uptime <= p.beat.uptime+doubtAfter {
		l.t.past.Inc()
		return
	}
	p.stopped = false
	p.mistrust(b.last, now)
	p.beat, p.beatAt, p.seen, p.gone = b, now, now, false
	if p.joined.IsZero() {
		p.joined = now.Add(-b.uptime)
	}
	if b.stopping {
		p.stopped = true
		l.leave(p)
		return
	}
	l.refreshPeer(p, now)
}

// refreshPeer brings the listener up to the last beat of a member.
func (l *loop) refreshPeer(p *peer, now time.Time) {
	// A member that shares nothing so far has a list without groups, which is known from the start. One whose list is on its way is told when it
	// is there, or stays what it was.
	isNew := !p.met
	if groups, known := l.lists[p.beat.groups]; known && (!p.listed || p.list != p.beat.groups) {
		p.listed, p.list, p.groups, isNew = true, p.beat.groups, groups, true
	} else if !known {
		l.askForList(p, now)
	}
	if !p.listed {
		return
	}
	if isNew && p.present() {
		p.met = true
		l.tell(func(to fleet.Listener) { to.Met(p.member()) })
	}
	restart := func() { l.tell(func(to fleet.Listener) { to.Restarted(p.name, p.epoch) }) }
	// The stream begins with the first beat after the listener knows the member: of what was said before, the pool asks for what it needs.
	if !p.streaming {
		if !p.met {
			return
		}
		p.streaming = true
		p.in.startAfter(p.beat.last)
		if l.forgot {
			restart()
		}
	}
	// A word that was made up has the place of a real one, so the votes are asked for again, whether the stream is too long or not.
	if p.doubted {
		p.doubted = false
		p.in.startAgain(p.beat.last)
		restart()
	}
	p.in.reach(p.beat.last, p.beat.first, now, restart, l.saidBy(p))
	l.hear(p)
}

// hear tells that a member is well, if nothing is missing.
func (l *loop) hear(p *peer) {
	if p.in.whole() {
		p.heard = true
		l.tell(func(to fleet.Listener) { to.Heard(p.name, p.epoch, p.beat.isolated) })
	}
}

// doubtAll forgets what was said with a key that opens nothing any longer. It does not tell who said what, so all members say it again.
func (l *loop) doubtAll() {
	l.distrust = false
	for len(l.t.messages) > 0 { // which may be sealed with that key
		l.t.giveBack(<-l.t.messages)
	}
	for _, p := range l.peers {
		p.doubt()
	}
}

// handleWords takes a part of the stream.
func (l *loop) handleWords(p *peer, body []byte, now time.Time) {
	if !p.streaming {
		return
	}
	tell := l.saidBy(p)
	err := readWords(body, func(number uint64, batch []byte) { p.in.hearWord(number, batch, now, tell) })
	if err != nil {
		l.t.malformed.Inc()
	}
	// The stream may have become complete between two beats.
	if !p.heard && now.Sub(p.beatAt) <= fleet.FreshFor(l.members) {
		l.hear(p)
	}
}

// handleGap says again what a member lacks, as far as it is kept and within bounds. What is longer than a few packets goes over a
// connection.
func (l *loop) handleGap(p *peer, body []byte, now time.Time) {
	spans, err := readSpans(body)
	if err != nil {
		l.t.malformed.Inc()
		return
	}
	// The author is the one who bounds how much is said again: a member that asks for everything all the time gets repairBytes a second.
	const fewPackets = 8
	var frame []byte
	count := 0
	for _, s := range spans {
		from, words := l.out.words(span{s.from, min(s.to, l.said)}, repairBytes-len(frame))
		for i, batch := range words {
			if !p.repair.admits(float64(len(batch)), repairBytes, repairAtOnce, now) {
				l.t.rate.Inc()
				l.sendWords(p, frame, count > fewPackets)
				return
			}
			frame = appendWord(frame, from+uint64(i), batch)
			count++
		}
	}
	l.sendWords(p, frame, count > fewPackets)
}

// sendWords sends words to one member.
func (l *loop) sendWords(p *peer, words []byte, long bool) {
	switch {
	case len(words) == 0:
	case long:
		l.sendFrame(append(l.self.header(nil, kindWords), words...), p)
	default:
		readWords(words, func(number uint64, batch []byte) {
			l.t.sendTo(appendWord(l.self.header(nil, kindWords), number, batch), p.addr)
		})
	}
}

// sendFrame sends a message over a connection, in a goroutine of its own. It may be lost: then it is asked for again.
func (l *loop) sendFrame(plain []byte, p *peer) {
	select {
	case l.frames <- struct{}{}:
	default:
		l.t.busy.Inc()
		return
	}
	to := p.addr
	l.t.running.Go(func() {
		defer func() { <-l.frames }()
		defer rescue.Log("repeating what was said to the fleet")
		l.t.sendFrame(plain, to)
	})
}

// handleRequest sends the own list of groups.
func (l *loop) handleRequest(p *peer, body []byte, now time.Time) {
	if len(body) < len(hash{}) {
		l.t.malformed.Inc()
		return
	}
	// If it has changed since, the next beat has the hash of the new one.
	list, ok := l.out.ownList(hash(body))
	if !ok || !p.repair.admits(float64(len(list)), repairBytes, repairAtOnce, now) {
		return
	}
	message := append(l.self.header(nil, kindList), list...)
	if len(message) <= maxPacket {
		l.t.sendTo(message, p.addr)
	} else {
		l.sendFrame(message, p)
	}
}

// handleList takes a list of groups, if a member has it. All members with equal lists share one.
func (l *loop) handleList(body []byte, now time.Time) {
	groups, err := readList(body)
	if err != nil {
		l.t.malformed.Inc()
		return
	}
	h, list := hashOf(groups)
	// The hash is that of what has come, so it does not matter who sent it. One way to write a list is enough.
	if _, known := l.lists[h]; known || !bytes.Equal(list, body) {
		return
	}
	if l.dropLists()+len(groups) > maxListed {
		l.t.busy.Inc()
		return
	}
	for _, p := range l.peers {
		if p.chosen && p.beat.groups == h && !p.beatAt.IsZero() {
			l.lists[h] = groups
			l.refreshPeer(p, now)
		}
	}
}

// dropLists forgets lists that no member has, if there are many. It returns how many groups those have that are left.
func (l *loop) dropLists() (groups int) {
	var used map[hash]bool
	if len(l.lists) >= maxLists {
		used = make(map[hash]bool, len(l.peers))
		for _, p := range l.peers {
			used[p.list], used[p.beat.groups] = true, true
		}
	}
	for h, list := range l.lists {
		if used != nil && !used[h] {
			delete(l.lists, h)
		} else {
			groups += len(list)
		}
	}
	return groups
}
