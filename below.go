package multivalue

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"

	"github.com/miekg/dns"
)

const (
	// toldFor is how long an answer of the plugins below is used again to explain with, maxTold how many there are.
	toldFor = 5 * time.Second
	maxTold = 1024
	// maxTelling is how many questions are asked to explain with at a time, of all blocks, and tellWithin bounds the wait for one.
	maxTelling = 8
	tellWithin = 5 * time.Second
)

var errBelow = errors.New("the plugins below did not answer in time")

// asking is a question to the plugins below.
type asking struct {
	question
	do bool // with signatures
}

// message is the question as it goes out.
func (q asking) message() *dns.Msg {
	m := q.question.message()
	if q.do {
		m.SetEdns0(4096, true)
	}
	return m
}

// toBlock is a question to those of one block.
type toBlock struct {
	*block
	asking
}

// told is an answer, or one to come. Whoever asks the same meanwhile waits for it too.
type told struct {
	done chan struct{} // closed when the rest is known
	said said
	err  error
	at   time.Time
}

// said is what the plugins below answer.
type said struct {
	msg       *dns.Msg // nil if it is of no use
	blind     bool     // no query had come in yet
	elsewhere map[string]judgedBy
}

// judgedBy is a question for a name that another server block judges.
type judgedBy struct {
	question
	block string
}

// below is what the plugins below a block answer, or answered a moment ago.
func (v *viewer) below(ctx context.Context, q toBlock) (said, error) {
	t := v.telling(q)
	if t == nil {
		return said{}, errBelow
	}
	ctx, cancel := context.WithTimeout(ctx, tellWithin)
	defer cancel()
	select {
	case <-t.done:
		return t.said, t.err
	case <-ctx.Done():
		return said{}, errBelow
	}
}

// telling is the answer to a question, which is asked if need be. It is nil if too many are under way.
func (v *viewer) telling(q toBlock) *told {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t := v.told[q]; t != nil && !t.stale(q.block) {
		return t
	}
	if len(v.told) >= maxTold {
		maps.DeleteFunc(v.told, func(_ toBlock, t *told) bool { return t.known() })
	}
	if len(v.told) >= maxTold {
		return nil
	}
	t := &told{done: make(chan struct{})}
	v.told[q] = t
	go v.tell(q, t)
	return t
}

func (v *viewer) tell(q toBlock, t *told) {
	defer close(t.done)
	defer func() { t.at = time.Now() }()
	defer rescue.Error("explaining "+q.name, &t.err)
	select {
	case v.mouths <- struct{}{}:
		defer func() { <-v.mouths }()
	case <-time.After(tellWithin):
		t.err = errBelow
		return
	}
	t.said = q.learner.say(q.message())
}

func (t *told) known() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// stale reports whether it is time to ask again: it is a while ago, or a query has shown since how to ask.
func (t *told) stale(b *block) bool {
	return t.known() && (time.Since(t.at) >= toldFor || t.said.blind && b.learner.origin.Load() != nil)
}

// say asks the plugins below for somebody who wants to know all that there is to say of the answer.
func (l *learner) say(m *dns.Msg) said {
	x := l.inquiry()
	x.passage = new(passage)
	s := said{blind: l.origin.Load() == nil}
	s.msg = l.inquire(context.Background(), m, x)
	s.elsewhere = x.passage.all()
	return s
}

// unfollowed reports whether an alias may have been left as it is, since nobody knows yet whom to ask for where it leads.
func (s *said) unfollowed() bool {
	if !s.blind || s.msg == nil {
		return s.blind
	}
	if n := len(s.msg.Answer); n > 0 && s.msg.Answer[n-1].Header().Rrtype == dns.TypeCNAME {
		return true
	}
	return s.msg.Rcode == dns.RcodeServerFailure
}

// passage is where a question of ours passes through the handlers of other blocks. They leave the answer whole, which they do
// not for a query.
type passage struct {
	mu     sync.Mutex
	judged map[string]judgedBy
}

// note takes note of a question that a block would judge the answer to.
func (p *passage) note(b *block, z *zone, q *dns.Question) {
	if !z.stanza.rule.Types.Has(q.Qtype) {
		return
	}
	name := dns.CanonicalName(q.Name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.judged == nil {
		p.judged = make(map[string]judgedBy)
	}
	p.judged[name] = judgedBy{question{name, q.Qtype}, b.learner.keys}
}

// all is what was noted, and may be noted yet by a plugin that went on without us.
func (p *passage) all() map[string]judgedBy {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.judged)
}
