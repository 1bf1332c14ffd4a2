package multivalue

import (
	"context"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/answer"

	"github.com/coredns/coredns/plugin"

	"github.com/miekg/dns"
)

const (
	// maxLessons is how many questions are kept for a server block, besides those of watched names. Beyond, a host
	// whose addresses do not stand in the answer is not judged, and NODATA goes out without a start of authority.
	maxLessons = 4096
	// maxInquiries is how many questions are asked at a time.
	maxInquiries = 8
	// inquiryTimeout bounds a question, inquiryPause the time until one that failed is asked again.
	inquiryTimeout = 3 * time.Second
	inquiryPause   = 5 * time.Second
	// minLesson and maxLesson bound the time that a reply is believed.
	minLesson = 5 * time.Second
	maxLesson = 5 * time.Minute
	// keepLesson is how long a reply is kept that nobody asks for, and keepFailed a question without one.
	keepLesson = 10 * time.Minute
	keepFailed = time.Minute
	// learnerTick is how often the learner looks for replies that are too old, and readyTick while readiness waits.
	learnerTick = time.Second
	readyTick   = 100 * time.Millisecond
	// learnerStop is how long a stop waits for a question under way, which a plugin may keep though its context ended.
	learnerStop = 500 * time.Millisecond
)

// learner knows what the plugins below answer to questions that a query leads to but cannot wait for: the addresses of
// the hosts that records name, and the start of authority for a denial. It asks them in the background, ahead of need,
// and so it learns the addresses of watched names as well.
type learner struct {
	known  atomic.Pointer[map[question]*lesson]
	wanted chan question
	next   atomic.Pointer[plugin.Handler] // the plugins below
	origin atomic.Pointer[origin]         // of the last query that led to a question
	block  *block
	keys   string  // of the server block, by which a reload finds what was known before it
	census *census // of watched names; nil if there are none
	lists  []list  // zones to preload

	running  atomic.Bool
	starting sync.Mutex // held to begin, and to end; never by a query that finds what it needs
	ended    bool
	quit     chan struct{}
	work     sync.WaitGroup

	// What follows is the loop's own.
	answered chan answered
	inFlight int
}

// question is what is asked, with the name in lower case.
type question struct {
	name  string
	qtype uint16
}

// message is the question as it goes out.
func (q question) message() *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.qtype)
	return m
}

// lesson is what is known of a question.
type lesson struct {
	question
	reply atomic.Pointer[reply] // nil until there is one
	asked atomic.Bool           // for, since the learner last looked

	// What follows is the loop's own.
	pinned bool // it is of a watched name
	busy   bool
	due    time.Time
	used   time.Time // last seen asked for
	tried  time.Time // last asked by us
}

// reply is what matters of an answer. It is never changed.
type reply struct {
	addrs   []netip.Addr
	foreign bool // an address is of a name, at the end of an alias, that somebody else owns
	soa     *dns.SOA
}

// answered is a question that was asked. The message is nil if there was no answer of use.
type answered struct {
	lesson *lesson
	msg    *dns.Msg
}

func newLearner(b *block) *learner {
	return &learner{
		block:    b,
		wanted:   make(chan question, 64),
		answered: make(chan answered, maxInquiries),
		quit:     make(chan struct{}),
	}
}

// find returns what is known, nil while there was no answer, and whether it is a question that has been taken up.
func (l *learner) find(q question) (r *reply, found bool) {
	lesson := l.lessons()[q]
	if lesson == nil {
		return nil, false
	}
	if !lesson.asked.Load() {
		lesson.asked.Store(true)
	}
	return lesson.reply.Load(), true
}

// want has a question taken up, if there is room for it.
func (l *learner) want(q question) {
	select {
	case l.wanted <- q:
	default: // the next query repeats it
	}
}

// lacksOrigin reports whether there is something to ask, and no query has yet shown where questions come in.
func (l *learner) lacksOrigin() bool { return l.known.Load() != nil && l.origin.Load() == nil }

// cameFrom takes note of where a query came in, for questions that the status has.
func (l *learner) cameFrom(ctx context.Context) {
	if l.origin.Load() == nil {
		l.origin.CompareAndSwap(nil, originOf(ctx))
	}
}

// start lets the learner begin, unless its block has been stopped. Of a query it keeps where that came in.
func (l *learner) start(from *origin) {
	if from != nil {
		l.origin.CompareAndSwap(nil, from)
	}
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
	if len(l.lists) > 0 {
		l.work.Go(l.preload)
	}
}

// close ends the learner, and waits until it has, but not for a plugin that does not heed its context.
func (l *learner) close() {
	l.starting.Lock()
	if !l.ended {
		l.ended = true
		close(l.quit)
	}
	l.starting.Unlock()
	rescue.Wait(&l.work, learnerStop)
	if l.census != nil {
		l.census.end()
	}
}

// run keeps the loop going. A panic in it loses nothing but time.
func (l *learner) run() {
	for !l.loop() {
		continue
	}
}

// loop returns true when the learner was closed.
func (l *learner) loop() (ended bool) {
	defer rescue.Log("the learner")
	ticker := time.NewTicker(l.tick())
	defer ticker.Stop()
	for {
		select {
		case <-l.quit:
			return true
		case q := <-l.wanted:
			if !l.add(q, false) {
				continue
			}
		case a := <-l.answered:
			l.inFlight--
			l.take(a, time.Now())
		case <-ticker.C:
			if l.census != nil {
				l.census.look(l)
			}
			ticker.Reset(l.tick())
		}
		l.look(time.Now())
	}
}

func (l *learner) tick() time.Duration {
	if l.census.waiting() {
		return readyTick
	}
	return learnerTick
}

// lessons is the table. It is replaced, never changed.
func (l *learner) lessons() map[question]*lesson {
	if known := l.known.Load(); known != nil {
		return *known
	}
	return nil
}

// add begins to ask a question, if there is room for it.
func (l *learner) add(q question, pinned bool) bool {
	old := l.lessons()
	if old[q] != nil || (!pinned && len(old) >= maxLessons) {
		return false
	}
	next := make(map[question]*lesson, len(old)+1)
	maps.Copy(next, old)
	next[q] = &lesson{question: q, pinned: pinned, used: time.Now()}
	l.known.Store(&next)
	return true
}

// adopt takes over what the learner of the same server block knew before a reload. All of it is asked again at once, but
// until then no name falls back to what is known of it at a first start.
func (l *learner) adopt(before *learner) {
	if before == nil {
		return
	}
	next := maps.Clone(l.lessons())
	if next == nil {
		next = make(map[question]*lesson)
	}
	for q, old := range before.lessons() {
		if next[q] == nil {
			if old.pinned {
				continue // watched no longer
			}
			next[q] = &lesson{question: q, used: time.Now()}
		}
		next[q].reply.Store(old.reply.Load())
	}
	l.known.Store(&next)
}

// look asks what is due, and drops what nobody has asked for in a long time.
func (l *learner) look(now time.Time) {
	stale := 0
	for _, lesson := range l.lessons() {
		if lesson.asked.Load() {
			lesson.asked.Store(false)
			lesson.used = now
		}
		if lesson.idle(now) {
			stale++
		}
		if l.inFlight < maxInquiries && lesson.isDue(now) {
			l.ask(lesson, now)
		}
	}
	if stale > 0 {
		next := maps.Clone(l.lessons())
		maps.DeleteFunc(next, func(_ question, x *lesson) bool { return x.idle(now) })
		l.known.Store(&next)
	}
}

// idle reports whether nobody wants the lesson any longer.
func (x *lesson) idle(now time.Time) bool {
	keep := keepLesson
	if x.reply.Load() == nil {
		keep = keepFailed
	}
	return !x.pinned && !x.busy && now.Sub(x.used) > keep
}

// isDue reports whether it is time to ask: the reply is too old, and somebody has asked for it since we did.
func (x *lesson) isDue(now time.Time) bool {
	return !x.busy && !now.Before(x.due) && (x.pinned || x.tried.IsZero() || x.used.After(x.tried))
}

func (l *learner) ask(x *lesson, now time.Time) {
	x.busy, x.tried = true, now
	l.inFlight++
	l.work.Go(func() {
		a := answered{lesson: x}
		defer func() { l.answered <- a }()
		defer rescue.Log("the question for " + x.name)
		a.msg = l.inquire(context.Background(), x.message(), l.inquiry())
	})
}

// inquire asks the plugins below, until ctx ends at the latest. It returns nil for an answer of no use.
func (l *learner) inquire(ctx context.Context, m *dns.Msg, x *exchange) *dns.Msg {
	next := l.next.Load()
	if next == nil {
		return nil
	}
	own, cancel := until(l.context(x), l.quit)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	var w inquirer
	if _, err := plugin.NextOrFailure(name, *next, own, &w, m); err != nil || w.reply == nil || w.reply.Truncated {
		return nil
	}
	return w.reply
}

// inquiry is a question of our own.
func (l *learner) inquiry() *exchange { return &exchange{block: l.block, inquiring: true} }

// context is what a question goes out with. It is not a query's: that would end with the query, and its metadata is not
// for other goroutines.
func (l *learner) context(x *exchange) context.Context {
	ctx := context.WithValue(context.Background(), exchangeKey{}, x)
	return l.origin.Load().on(ctx)
}

// take learns from an answer.
func (l *learner) take(a answered, now time.Time) {
	x := a.lesson
	x.busy = false
	known, ttl := l.digest(x.question, a.msg)
	if known == nil {
		x.due = now.Add(inquiryPause)
	} else {
		x.reply.Store(known)
		x.due = now.Add(ttl)
	}
	if x.pinned {
		l.census.took(l, x.question, a.msg)
	}
}

// digest takes what matters out of an answer, and how long that is to be believed. It is nil if the answer is none.
func (l *learner) digest(q question, m *dns.Msg) (*reply, time.Duration) {
	if m == nil || (m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError) {
		return nil, 0
	}
	r := new(reply)
	ttl := uint32(maxLesson / time.Second)
	for _, rr := range m.Answer {
		ttl = min(ttl, rr.Header().Ttl)
		if addr, ok := answer.Address(rr); ok {
			r.addrs = append(r.addrs, addr)
			r.foreign = r.foreign || !l.block.ours(rr.Header().Name)
		}
	}
	for _, section := range [][]dns.RR{m.Answer, m.Ns} {
		for _, rr := range section {
			if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, q.name) && r.soa == nil {
				own := *soa
				r.soa = &own
				ttl = min(ttl, soa.Hdr.Ttl, max(soa.Minttl, 1))
			}
		}
	}
	if r.soa == nil && (q.qtype == dns.TypeSOA || len(m.Answer) == 0) {
		return nil, 0 // neither an answer nor a denial: a referral, or less
	}
	return r, min(max(time.Duration(ttl)*time.Second, minLesson), maxLesson)
}

// until is ctx with the time-out of a question, cancelled when quit is closed.
func until(ctx context.Context, quit <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, inquiryTimeout)
	go func() {
		select {
		case <-quit:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
