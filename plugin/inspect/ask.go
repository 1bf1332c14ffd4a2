package inspect

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/lookup"
	"github.com/coredns-multivalue/multivalue/plugin/rules"

	"github.com/miekg/dns"
)

const (
	// reuseFor is how long an answer of the plugins below is used again to explain with. Then it is dropped.
	reuseFor = 5 * time.Second
	// maxAnswers is how many answers are kept, with those to come. maxRecords is how many records and addresses in hints the
	// kept ones have in all, at some 100 bytes each: about 7 MB. A longer answer is not kept.
	maxAnswers = 1024
	maxRecords = 1 << 16
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
	question blockQuestion
	done     chan struct{} // closed when the rest is known
	answer   belowAnswer
	err      error
	at       time.Time
	records  int // see belowAnswer.records
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
	for len(v.answers) >= maxAnswers && len(v.kept) > 0 {
		v.dropOldest()
	}
	if len(v.answers) >= maxAnswers { // all of them are in flight
		return nil
	}
	t := &cachedAnswer{question: q, done: make(chan struct{})}
	v.answers[q] = t
	go v.ask(t)
	return t
}

// ask asks the plugins below, in a goroutine of its own, and completes the answer in any case: a caller waits for that.
func (v *Source) ask(t *cachedAnswer) {
	defer v.complete(t)
	defer rescue.Error("explaining "+t.question.Name, &t.err)
	select {
	case v.slots <- struct{}{}: // so that pages cannot flood the plugins below
		defer func() { <-v.slots }()
	case <-time.After(askWait):
		t.err = errBelow
		return
	}
	q := t.question
	t.answer.blind = !q.Resolver.HasIngress()
	t.answer.msg, t.answer.elsewhere = q.AskBelow(context.Background(), q.message())
}

// complete gives an answer to the callers that wait for it, and keeps it for others, unless it is too long or Forget was
// called meanwhile.
func (v *Source) complete(t *cachedAnswer) {
	t.at, t.records = time.Now(), t.answer.records()
	v.mu.Lock()
	defer v.mu.Unlock()
	defer close(t.done)
	switch {
	case v.answers[t.question] != t:
		return
	case t.records > maxRecords:
		delete(v.answers, t.question)
		return
	}
	for v.records+t.records > maxRecords {
		v.dropOldest()
	}
	v.kept, v.records = append(v.kept, t), v.records+t.records
	if len(v.kept) == 1 {
		v.dropAfter(reuseFor)
	}
}

// dropOldest drops the oldest answer that is kept. The caller holds mu.
func (v *Source) dropOldest() {
	t := v.kept[0]
	v.kept[0] = nil
	v.kept, v.records = v.kept[1:], v.records-t.records
	if v.answers[t.question] == t { // and not one that was asked for after it
		delete(v.answers, t.question)
	}
}

// dropAfter sets the timer that drops old answers. It runs only while there are some. The caller holds mu.
func (v *Source) dropAfter(d time.Duration) {
	if v.timer == nil {
		v.timer = time.AfterFunc(d, v.dropStale)
		return
	}
	v.timer.Reset(d)
}

// dropStale drops the answers that are too old to be used.
func (v *Source) dropStale() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for len(v.kept) > 0 {
		if left := reuseFor - time.Since(v.kept[0].at); left > 0 {
			v.dropAfter(left)
			return
		}
		v.dropOldest()
	}
	v.kept = nil // with its memory
}

// dropAll drops all answers, also those to come once they are given to the callers that wait for them.
func (v *Source) dropAll() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.answers)
	v.kept, v.records = nil, 0
	if v.timer != nil {
		v.timer.Stop()
	}
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

// records is how many records an answer has, and addresses in hints: the measure of the memory that it takes. An answer
// counts itself, so one without a record does, too.
func (s *belowAnswer) records() int {
	n := 1 + len(s.elsewhere)
	if s.msg == nil {
		return n
	}
	for _, section := range [][]dns.RR{s.msg.Answer, s.msg.Ns, s.msg.Extra} {
		n += len(section)
		for _, rr := range section {
			answer.EachHint(rr, func(netip.Addr) { n++ })
		}
	}
	return n
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
