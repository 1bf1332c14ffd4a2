package inspect

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/lookup"
	"github.com/coredns-multivalue/multivalue/plugin/rules"

	"github.com/miekg/dns"
)

const (
	// reuseFor is how long an answer of the plugins below is used again to explain with; maxAnswers is how many are kept.
	reuseFor   = 5 * time.Second
	maxAnswers = 1024
	// maxAsking is how many questions are asked to explain with at a time, of all blocks; askWait bounds the wait for one.
	maxAsking = 8
	askWait   = 5 * time.Second
)

var errBelow = errors.New("the plugins that serve the zone did not answer in time")

// query is a question to the plugins below, by which answers are kept.
type query struct {
	lookup.Question
	do bool // with signatures (the DO bit)
}

// message is the question as it goes out.
func (q query) message() *dns.Msg {
	m := q.Question.Message()
	if q.do {
		m.SetEdns0(4096, true)
	}
	return m
}

// blockQuestion is a question to the plugins below one block. Views of one zone are blocks of their own, with answers of
// their own.
type blockQuestion struct {
	*rules.Block
	query
}

// cachedAnswer is an answer, or one to come: callers that ask the same meanwhile wait for it too. A page that is open in many
// browsers asks the plugins below once in five seconds.
type cachedAnswer struct {
	done   chan struct{} // closed when the rest is known
	answer belowAnswer
	err    error
	at     time.Time
}

// belowAnswer is what the plugins below answer.
type belowAnswer struct {
	msg       *dns.Msg                  // nil if it is of no use
	blind     bool                      // no query had arrived before, so that lookups through the whole server could not be made
	elsewhere map[string]rules.Crossing // names on the way that other server blocks judge
}

// askBelow is what the plugins below a block answer, or answered a moment ago.
func (v *Source) askBelow(ctx context.Context, q blockQuestion) (belowAnswer, error) {
	t := v.cached(q)
	if t == nil {
		return belowAnswer{}, errBelow
	}
	ctx, cancel := context.WithTimeout(ctx, askWait) // the question goes on without this caller
	defer cancel()
	select {
	case <-t.done:
		return t.answer, t.err
	case <-ctx.Done():
		return belowAnswer{}, errBelow
	}
}

// cached is the answer to a question, which is asked if need be. It is nil if too many are in flight.
func (v *Source) cached(q blockQuestion) *cachedAnswer {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t := v.answers[q]; t != nil && !t.stale(q.Block) {
		return t
	}
	if len(v.answers) >= maxAnswers {
		maps.DeleteFunc(v.answers, func(_ blockQuestion, t *cachedAnswer) bool { return t.known() })
	}
	if len(v.answers) >= maxAnswers { // all of them are in flight
		return nil
	}
	t := &cachedAnswer{done: make(chan struct{})}
	v.answers[q] = t
	go v.ask(q, t)
	return t
}

// ask asks the plugins below, in a goroutine of its own, and completes the answer in any case: a caller waits for that.
func (v *Source) ask(q blockQuestion, t *cachedAnswer) {
	defer close(t.done)
	defer func() { t.at = time.Now() }()
	defer rescue.Error("explaining "+q.Name, &t.err)
	select {
	case v.slots <- struct{}{}: // so that pages cannot flood the plugins below
		defer func() { <-v.slots }()
	case <-time.After(askWait):
		t.err = errBelow
		return
	}
	t.answer.blind = !q.Resolver.HasIngress()
	t.answer.msg, t.answer.elsewhere = q.AskBelow(context.Background(), q.message())
}

// known reports whether the answer is complete.
func (t *cachedAnswer) known() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// stale reports whether it is time to ask again: the answer is too old, or it was asked before a query had shown where
// questions come in, and one has since.
func (t *cachedAnswer) stale(b *rules.Block) bool {
	return t.known() && (time.Since(t.at) >= reuseFor || t.answer.blind && b.Resolver.HasIngress())
}

// unfollowed reports whether an alias may have been left as it is, because no query has shown yet where to ask for what it
// leads to.
func (s *belowAnswer) unfollowed() bool {
	if !s.blind || s.msg == nil {
		return s.blind
	}
	if n := len(s.msg.Answer); n > 0 && s.msg.Answer[n-1].Header().Rrtype == dns.TypeCNAME {
		return true
	}
	return s.msg.Rcode == dns.RcodeServerFailure
}
