// Package lookup asks the plugins below for what a query leads to but must not wait for, and remembers the replies: the
// addresses of hosts that records name, the start of authority for a denial, and the addresses of watched names.
//
// Resolver is the main type. There is one for each server block, which is its Host. Queries read what it knows without a
// lock; its own goroutines ask, renew replies as their TTL runs out, and forget what is no longer asked for.
package lookup

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

const (
	// maxEntries is how many questions are kept for a server block, besides those of watched names. Beyond it, a host
	// whose addresses are not in the answer is not judged, and NODATA goes out without a start of authority.
	maxEntries = 4096
	// askTimeout bounds a question.
	askTimeout = 3 * time.Second
	// dropAfter is how long a reply is kept that is not asked for, dropFailed how long a question without a reply is. The
	// addresses of a host are kept for idleFor, as long as the pool keeps the targets of quiet names, and renewed every
	// idleEvery: the first query that leads to the host must not get it although all of them are down.
	dropAfter  = 10 * time.Minute
	dropFailed = time.Minute
	idleFor    = 24 * time.Hour
	idleEvery  = 5 * time.Minute
	// tickEvery is how often replies that are too old are looked for. While readiness waits, it is readyTick.
	tickEvery = time.Second
	// stopWait is how long Close waits for a question in flight: a plugin may go on although its context has ended.
	stopWait = 500 * time.Millisecond
)

// Host is the server block that a resolver asks for.
type Host interface {
	// Owns reports whether a name is the block's own: in its zones, and judged.
	Owns(name string) bool
	// Mark returns a context that tells the handlers on the way that the question is the block's own, not a query.
	Mark(ctx context.Context) context.Context
	// Judge shows the pool the addresses in an answer, and returns how many have no verdict yet. Nothing goes out.
	Judge(m *dns.Msg) (unknown int)
	// Sets returns an answer for each record set of a zone that is judged.
	Sets(zone string, records []dns.RR) []*dns.Msg
	// Backlog is how many targets wait to be learned by the pool.
	Backlog() int
	// Absent says that a set does not exist any more, or never did. It is repeated for a set that left a preloaded zone, and
	// for one that is watched.
	Absent(q Question)
}

// Resolver remembers what the plugins below a server block answer. New makes one; it asks nothing before Start.
type Resolver struct {
	known    atomic.Pointer[map[Question]*entry] // replaced, never changed
	noSOA    atomic.Int32                        // SOA questions without a reply
	requests chan Question                       // from queries; lossy
	next     atomic.Pointer[plugin.Handler]      // the plugins below
	ingress  atomic.Pointer[ingress]             // of the first query that needed it
	host     Host
	first    *firstVerdicts       // nil if nothing is watched or preloaded
	zones    []zoneList           // to preload
	adopted  map[string]*zoneSets // of zones that were preloaded before a reload

	running  atomic.Bool
	starting sync.Mutex // held to begin and to end; never by a query that finds what it needs
	ended    bool
	quit     chan struct{}
	work     sync.WaitGroup

	// What follows belongs to the loop.
	answered chan answered
	listed   chan zoneRead
	asking   int // questions
	others   int // of these, for names that are not watched
}

// Question is what is asked, with the name in lower case.
type Question struct {
	Name string
	Type uint16
}

// Message is the question as it goes out.
func (q Question) Message() *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(q.Name, q.Type)
	return m
}

func questionOf(m *dns.Msg) Question { return Question{m.Question[0].Name, m.Question[0].Qtype} }

// answered is a question that was asked. The message is nil if there was no useful answer.
type answered struct {
	entry *entry
	msg   *dns.Msg
	early bool // no query had shown yet which server could be asked
}

// New returns a resolver for a server block.
func New(host Host) *Resolver {
	return &Resolver{
		host:     host,
		requests: make(chan Question, 64),
		answered: make(chan answered, maxAsking),
		listed:   make(chan zoneRead),
		quit:     make(chan struct{}),
	}
}

// SetNext tells the resolver the plugins below. They are known after the whole Corefile has been read.
func (l *Resolver) SetNext(next plugin.Handler) { l.next.Store(&next) }

// Get returns what is known, nil if there was no answer yet, and whether the question has been taken up. It is for
// queries, and notes that the question is still of use. The name is in lower case.
func (l *Resolver) Get(q Question) (r *Reply, taken bool) {
	x := l.entries()[q]
	if x == nil {
		return nil, false
	}
	x.markUsed()
	return x.reply.Load(), true
}

// Peek is Get without a note. It returns nil if nothing is known.
func (l *Resolver) Peek(q Question) *Reply {
	if x := l.entries()[q]; x != nil {
		return x.reply.Load()
	}
	return nil
}

// Known is how many questions have been taken up.
func (l *Resolver) Known() int { return len(l.entries()) }

// Request has a question taken up, if there is room for it. It never waits: the next query repeats what is lost.
func (l *Resolver) Request(q Question) {
	select {
	case l.requests <- q:
	default:
	}
}

// NeedsIngress reports whether there is something to ask, and no query has shown yet where questions come in.
func (l *Resolver) NeedsIngress() bool { return l.known.Load() != nil && l.ingress.Load() == nil }

// HasIngress reports whether a query has shown where questions come in.
func (l *Resolver) HasIngress() bool { return l.ingress.Load() != nil }

// NoteIngress notes where the query with that context came in, for questions of our own.
func (l *Resolver) NoteIngress(ctx context.Context) {
	if l.ingress.Load() == nil {
		l.ingress.CompareAndSwap(nil, ingressOf(ctx))
	}
}

// Start lets the resolver ask, unless it has been closed. It may be called again and again, by queries too.
func (l *Resolver) Start() {
	if l.running.Load() {
		return
	}
	l.starting.Lock()
	defer l.starting.Unlock()
	if l.ended || l.running.Load() {
		return
	}
	l.running.Store(true)
	l.work.Go(l.run)
	if len(l.zones) > 0 {
		l.work.Go(l.preload)
	}
}

// HasWork reports whether there is something to ask before the first query.
func (l *Resolver) HasWork() bool {
	return l.first != nil || l.known.Load() != nil
}

// Close ends the resolver. It waits until its questions have ended, for half a second at most.
func (l *Resolver) Close() {
	l.starting.Lock()
	if !l.ended {
		l.ended = true
		close(l.quit)
	}
	l.starting.Unlock()
	rescue.Wait(&l.work, stopWait)
	l.SkipWait()
}

// run keeps the loop going. A panic in it loses nothing but time.
func (l *Resolver) run() {
	for !l.loop() {
		continue
	}
}

// loop returns true when the resolver was closed.
func (l *Resolver) loop() (ended bool) {
	defer rescue.Log("the resolver")
	ticker := time.NewTicker(l.tick())
	defer ticker.Stop()
	for {
		select {
		case <-l.quit:
			return true
		case q := <-l.requests:
			if !l.takeUp(q, false) {
				continue
			}
		case a := <-l.answered:
			l.store(a, time.Now())
		case z := <-l.listed:
			l.first.noteZone(z)
			continue
		case <-ticker.C:
			if l.first != nil {
				l.first.update(l.host, time.Now())
			}
			ticker.Reset(l.tick())
		}
		l.refresh(time.Now())
	}
}

func (l *Resolver) tick() time.Duration {
	if l.first.waiting() {
		return readyTick
	}
	return tickEvery
}

func (l *Resolver) entries() map[Question]*entry {
	if known := l.known.Load(); known != nil {
		return *known
	}
	return nil
}

// Adopt takes over what the resolver of the same server block knew before a reload. All of it is asked again at once, but
// until then no name falls back to what is known of it at a first start. It is called before Preload and Start.
func (l *Resolver) Adopt(before *Resolver) {
	if before == nil {
		return
	}
	l.adopted = make(map[string]*zoneSets)
	for i := range before.zones {
		l.adopted[before.zones[i].zone] = before.zones[i].sets
	}
	next := maps.Clone(l.entries())
	if next == nil {
		next = make(map[Question]*entry)
	}
	for q, old := range before.entries() {
		if next[q] == nil {
			if old.pinned {
				continue // it is watched no longer
			}
			next[q] = &entry{Question: q, used: time.Now()}
		}
		next[q].reply.Store(old.reply.Load())
	}
	l.known.Store(&next)
}

// Ask asks the plugins below, and waits for three seconds at most. It returns nil if there was no useful answer. The
// context is not a query's, which would end with the query; the host has marked it.
func (l *Resolver) Ask(ctx context.Context, m *dns.Msg) *dns.Msg {
	next := l.next.Load()
	if next == nil {
		return nil
	}
	ctx, cancel := l.until(l.ingress.Load().on(ctx))
	defer cancel()
	var w recorder
	if _, err := plugin.NextOrFailure("multivalue", *next, ctx, &w, m); err != nil || w.reply == nil || w.reply.Truncated {
		return nil
	}
	return w.reply
}

// until is ctx with the time-out of a question, cancelled when the resolver is closed.
func (l *Resolver) until(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	go func() {
		select {
		case <-l.quit:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
