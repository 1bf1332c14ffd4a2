package gossip

import (
	"bytes"
	"encoding/binary"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"
)

const (
	// logVotes and logBytes bound what is kept of the own stream, so that it can be repeated.
	logVotes = 1 << 16
	logBytes = 8 << 20
	// outboxBytes bounds what waits to be sent beside the stream.
	outboxBytes = 4 << 20
	// turnsWithin is how long ago the loop of the process must have turned for this process to send beats. It turns about four times
	// a second.
	turnsWithin = 1500 * time.Millisecond
)

// word is a part of the stream of votes. The words have the numbers 1, 2, 3 and so on.
type word struct {
	batch []byte
	votes int
}

// wordLog is the end of the own stream.
type wordLog struct {
	words        []word
	gone         uint64 // the number of the last word that is not kept any longer
	votes, bytes int
}

// last is the number of the last word.
func (l *wordLog) last() uint64 { return l.gone + uint64(len(l.words)) }

// at is a word by its number, or nil.
func (l *wordLog) at(number uint64) []byte {
	if number <= l.gone || number > l.last() {
		return nil
	}
	return l.words[number-l.gone-1].batch
}

// push adds a word, and lets the first ones go if there are too many.
func (l *wordLog) push(w word) {
	l.words = append(l.words, w)
	l.votes += w.votes
	l.bytes += len(w.batch)
	// What is cut off in front is freed when append moves the rest.
	for l.votes > logVotes || l.bytes > logBytes {
		l.votes -= l.words[0].votes
		l.bytes -= len(l.words[0].batch)
		l.words[0] = word{}
		l.words = l.words[1:]
		l.gone++
	}
}

// outgoing is a message that waits to be sent, up to its body.
type outgoing struct {
	to    string // a member; empty for all
	kind  byte
	body  []byte
	after uint64 // the word that it follows; of answers only
}

// outbox is what the process says, until the loop of the engine sends it. What is called on the loop of the pool only writes here, so
// it never waits for the network. What is not sent has bounds: votes that do not fit push out the first ones, which is a gap that the
// others see, and of wants and calls the latest are lost.
type outbox struct {
	mu       sync.Mutex
	closed   bool
	turned   time.Time // when the loop of the process turned last
	isolated bool
	groups   hash   // of the own groups
	list     []byte // the own groups, as they are sent
	hurry    bool   // a beat is due at once, because it says something new

	open    fleet.Batch // the word that is not full yet
	votes   int         // in it
	log     wordLog
	answers map[string]*pendingAnswer
	asks    map[string]*fleet.Batch // wants, by member
	calls   fleet.Batch
	ready   []outgoing
	bytes   int // in ready
	lost    int // messages that had no room
}

// pendingAnswer is votes for one member, as of a word of the stream.
type pendingAnswer struct {
	position uint64
	batch    fleet.Batch
}

// newOutbox returns an empty one.
func newOutbox() *outbox {
	return &outbox{open: fleet.Batch{Max: maxBatch}, calls: fleet.Batch{Max: maxBatch}, answers: make(map[string]*pendingAnswer), asks: make(map[string]*fleet.Batch)}
}

// say adds votes to the stream. They are numbered when a word is full, or when the loop collects it.
func (o *outbox) say(votes []fleet.Vote) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range votes {
		if o.closed {
			return
		}
		if !o.open.Vote(votes[i]) {
			o.seal()
			o.open.Vote(votes[i])
		}
		o.votes++
	}
}

// seal ends the word that is open. The caller holds the lock.
func (o *outbox) seal() {
	if len(o.open.Bytes()) > 0 {
		o.log.push(word{bytes.Clone(o.open.Bytes()), o.votes})
	}
	o.open.Reset()
	o.votes = 0
}

// answer adds votes for one member. They are true as of the last word.
func (o *outbox) answer(to string, votes []fleet.Vote) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || len(votes) == 0 {
		return
	}
	// What was said before comes before the answer, and what is said later may be newer: so the word that is open ends here.
	o.seal()
	a := o.answers[to]
	if a == nil {
		a = &pendingAnswer{batch: fleet.Batch{Max: maxBatch}}
		o.answers[to] = a
	}
	if a.position != o.log.last() {
		o.endAnswer(to, a)
		a.position = o.log.last()
	}
	for i := range votes {
		if !a.batch.Vote(votes[i]) {
			o.endAnswer(to, a)
			a.batch.Vote(votes[i])
		}
	}
}

// endAnswer makes a message of an answer. The caller holds the lock.
func (o *outbox) endAnswer(to string, a *pendingAnswer) {
	if len(a.batch.Bytes()) > 0 {
		o.queue(outgoing{to, kindAnswer, append(binary.AppendUvarint(nil, a.position), a.batch.Bytes()...), a.position})
	}
	a.batch.Reset()
}

// queue adds a message, if there is room. The caller holds the lock.
func (o *outbox) queue(m outgoing) {
	if o.bytes+len(m.body) > outboxBytes {
		o.lost++
		return
	}
	o.ready = append(o.ready, m)
	o.bytes += len(m.body)
}

// ask adds a want for some members.
func (o *outbox) ask(of []string, want fleet.Want) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, to := range of {
		if o.closed {
			return
		}
		b := o.asks[to]
		if b == nil {
			b = &fleet.Batch{Max: maxBatch}
			o.asks[to] = b
		}
		if !b.Want(want) {
			o.endAsk(to, b)
			b.Want(want)
		}
	}
}

// call adds a last call for all.
func (o *outbox) call(call fleet.Call) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed && !o.calls.Call(call) {
		o.endAsk("", &o.calls)
		o.calls.Call(call)
	}
}

// endAsk makes a message of wants or last calls. The caller holds the lock.
func (o *outbox) endAsk(to string, b *fleet.Batch) {
	if len(b.Bytes()) > 0 {
		o.queue(outgoing{to: to, kind: kindAsk, body: bytes.Clone(b.Bytes())})
	}
	b.Reset()
}

// turn notes that the loop of the process turns.
func (o *outbox) turn(isolated bool, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	// Whether a process doubts its probes decides whether its votes count.
	o.hurry = o.hurry || isolated != o.isolated
	o.turned, o.isolated = now, isolated
}

// announce sets the own groups.
func (o *outbox) announce(h hash, list []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hurry = o.hurry || h != o.groups
	o.groups, o.list = h, list
}

// collect ends all batches, and returns the messages to send, and how many were lost.
func (o *outbox) collect() (ready []outgoing, lost int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seal()
	for to, a := range o.answers {
		o.endAnswer(to, a)
	}
	for to, b := range o.asks {
		o.endAsk(to, b)
	}
	o.endAsk("", &o.calls)
	clear(o.answers) // for members that have gone
	clear(o.asks)
	ready, lost = o.ready, o.lost
	o.ready, o.bytes, o.lost = nil, 0, 0
	return ready, lost
}

// next returns words to send after one, up to so many, and the number of the first. Those that are not kept any longer are left out,
// also if they were never sent: the next beat says so.
func (o *outbox) next(after uint64, atMost int) (from uint64, all [][]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for from = max(after, o.log.gone) + 1; len(all) < atMost; {
		batch := o.log.at(from + uint64(len(all)))
		if batch == nil {
			break
		}
		all = append(all, batch)
	}
	return from, all
}

// words returns the words of a span that are kept, up to so many bytes, and the number of the first one.
func (o *outbox) words(s span, atMost int) (from uint64, all [][]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	from = max(s.from, o.log.gone+1)
	for n := from; n <= min(s.to, o.log.last()); n++ {
		batch := o.log.at(n)
		if atMost -= len(batch); atMost < 0 {
			break
		}
		all = append(all, batch)
	}
	return from, all
}

// state is what a beat says, apart from what the loop knows. It reports whether the process may send one, and whether it has to be
// sent to all at once. The caller says whether it is the one that does so.
func (o *outbox) state(now time.Time, toAll bool) (b beat, turns, hurry bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	// The number of the last word is what the loop has sent, and not what is in the log.
	b = beat{first: o.log.gone + 1, isolated: o.isolated, groups: o.groups}
	turns = !o.turned.IsZero() && now.Sub(o.turned) <= turnsWithin
	hurry = o.hurry
	o.hurry = o.hurry && !(turns && toAll)
	return b, turns, hurry
}

// ownList is the own groups, if that is their hash.
func (o *outbox) ownList(h hash) (list []byte, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.list, h == o.groups
}

// close lets nothing more in.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
}
