// Package etcd is an engine for a fleet that has an etcd: members write what they say to it, and watch what the others write.
//
// Each member has one key with a lease, which says that it is there, and up to 256 keys with its votes, each with those of a part of
// the targets. A key is written when a vote in it is another one than before, so while nothing changes only wants are written, which
// members renew. Open is the one entry.
//
// The reader has the connection: it reads everything once, and then watches. The loop keeps what the members say, and is the one goroutine
// that calls the listener. What the process says waits in the outbox, and the writer writes it.
package etcd

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
)

// maxLabel is the longest name of a fleet, in bytes.
const maxLabel = 255

// engine is a membership. What the pool's loop calls is done by writing to the outbox, under a lock that is never held for long. The
// rest belongs to goroutines: the loop, the reader, the writer, and the one that reads the files.
type engine struct {
	self     fleet.Member
	out      *outbox
	link     *link
	reader   *reader
	loop     *loop
	writer   *writer
	contacts atomic.Pointer[[]contact]
	left     atomic.Bool // nothing is told any longer
	reread   atomic.Bool // all has to be read again

	mu      sync.Mutex
	cancel  context.CancelFunc // of the reader, and of all requests
	ended   bool
	writing sync.WaitGroup // the writer
	running sync.WaitGroup // all others
}

// Open reads the files that the configuration names, and never waits for etcd. It is a membership.Opener.
func Open(c membership.Config, host membership.Host) (membership.Engine, error) {
	if c.Name == "" || len(c.Name) > maxLabel {
		return nil, fmt.Errorf("invalid name %q of the fleet: use 1 to %d bytes", c.Name, maxLabel)
	}
	if !c.UsesStore() {
		return nil, errors.New("etcd without an endpoint: name its host and port")
	}
	l := &link{host: host, changed: make(chan struct{}, 1)}
	if err := l.load(c.Store); err != nil {
		return nil, err
	}
	// The epoch is drawn at random, since a clock may have been set back.
	var random [12]byte
	rand.Read(random[:])
	e := &engine{link: l, out: newOutbox(), self: fleet.Member{
		Name: newID(hex.EncodeToString(random[8:])), Epoch: binary.BigEndian.Uint64(random[:]), Site: printable(c.Site)}}
	keys, feed := keysOf(c.Store.Prefix, c.Name), make(chan news, 16)
	e.reader = &reader{link: l, keys: keys, feed: feed, reread: &e.reread}
	e.writer = &writer{host: host, self: e.self, version: printable(c.Version), keys: keys, link: l, out: e.out, stop: make(chan struct{}), settling: settledAfter,
		retry: backoff{first: retryFirst, most: retryMost}, taken: backoff{first: takenFirst, most: takenMost}}
	e.loop = &loop{self: e.self.Name, keys: keys, link: l, out: e.out, feed: feed, contacts: &e.contacts, left: &e.left, stop: make(chan struct{}),
		latest: &e.writer.latest, crowd: &e.writer.members, terms: &e.writer.term, granted: &e.writer.granted, reread: &e.reread, garbage: garbageAfter,
		authors: make(map[string]*author), touched: make(map[*author]struct{}), lists: make(groupLists), members: 1}
	return e, nil
}

// Self is this process as the others know it.
func (e *engine) Self() fleet.Member { return e.self }

// Start joins the fleet.
func (e *engine) Start(groups fleet.Groups, to fleet.Listener) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended || e.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	e.Announce(groups)
	now := time.Now()
	e.loop.listener, e.loop.started, e.loop.newsAt, e.writer.started = to, now, now, now
	e.running.Go(func() { defer rescue.Log("the fleet"); e.loop.work() })
	e.running.Go(func() { defer rescue.Log("reading from the fleet's etcd"); e.reader.keepReading(ctx) })
	e.running.Go(func() { defer rescue.Log("the files of the fleet"); e.link.keepUp(ctx) })
	e.writing.Go(func() { defer rescue.Log("writing to the fleet's etcd"); e.writer.keepWriting(ctx) })
}

// Check reads the files, and uses them for nothing.
func (e *engine) Check(c membership.Config) error {
	_, err := readSecrets(c.Store)
	return err
}

// Update changes all of the store but the prefix.
func (e *engine) Update(c membership.Config) error { return e.link.switchTo(c.Store) }

// Announce says which groups this process shares.
func (e *engine) Announce(groups fleet.Groups) { e.out.announce(listOf(groups)) }

// Say adds votes for all.
func (e *engine) Say(votes []fleet.Vote) { e.out.say(votes, time.Now()) }

// Answer repeats votes for one member. What has been written for all is not written again: that member has read it.
func (e *engine) Answer(to string, votes []fleet.Vote) { e.out.reply(to, votes, time.Now()) }

// Ask sends a want to some members.
func (e *engine) Ask(of []string, want fleet.Want) { e.out.ask(of, want) }

// Call sends a last call to all.
func (e *engine) Call(call fleet.Call) { e.out.call(call) }

// Turn shows that the loop of this process turns.
func (e *engine) Turn(isolated bool) { e.out.turn(isolated, time.Now()) }

// Leave removes what this process has written, and ends everything.
func (e *engine) Leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return
	}
	e.ended = true
	// Nothing is said any longer, from any goroutine.
	e.out.shut()
	if e.cancel == nil {
		e.left.Store(true)
		return
	}
	// The writer comes first: it needs the connection, which the reader has. What does not end in time does so a little later, since
	// all requests end with the context.
	until := time.Now().Add(leaveTime)
	close(e.writer.stop)
	close(e.loop.stop)
	rescue.Wait(&e.writing, leaveTime*4/5)
	e.left.Store(true)
	e.cancel()
	rescue.Wait(&e.running, time.Until(until))
	rescue.Wait(&e.writing, time.Until(until))
	clearMetrics()
}
