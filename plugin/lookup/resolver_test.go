package lookup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// block is a server block for example.org. The test sets the state of its pool.
type block struct {
	unknown, backlog atomic.Int32
	judged           atomic.Int32 // addresses that were shown to the pool

	mu     sync.Mutex
	absent []string // names and types of sets that were reported as gone
}

func (b *block) Owns(name string) bool                    { return dns.IsSubDomain("example.org.", name) }
func (b *block) Mark(ctx context.Context) context.Context { return ctx }
func (b *block) Backlog() int                             { return int(b.backlog.Load()) }

func (b *block) Judge(m *dns.Msg) int {
	b.judged.Add(int32(len(m.Answer)))
	return int(b.unknown.Load())
}

func (b *block) Sets(_ string, records []dns.RR) (sets []*dns.Msg) {
	for _, rr := range records[1:] { // each is a set of its own; the first is the SOA
		m := Question{rr.Header().Name, rr.Header().Rrtype}.Message()
		m.Answer = []dns.RR{rr}
		sets = append(sets, m)
	}
	return sets
}

func (b *block) Absent(q Question) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.absent = append(b.absent, q.Name+" "+dns.TypeToString[q.Type])
}

// gone lists what was reported as gone since the last call, sorted, each once.
func (b *block) gone() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	slices.Sort(b.absent)
	all := strings.Join(slices.Compact(b.absent), ", ")
	b.absent = nil
	return all
}

// zone is a plugin that answers from records, and counts the questions that it gets.
type zone struct {
	mu      sync.Mutex
	records []dns.RR
	asked   map[Question]int
	fails   bool
}

func (z *zone) fail(fails bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.fails = fails
}

func (z *zone) count(name string, qtype uint16) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked[Question{name, qtype}]
}

func (z *zone) Name() string { return "zone" }

func (z *zone) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	q := r.Question[0]
	z.asked[Question{strings.ToLower(q.Name), q.Qtype}]++
	if z.fails {
		return dns.RcodeServerFailure, nil
	}
	m := new(dns.Msg)
	m.SetReply(r)
	for _, rr := range z.records {
		if h := rr.Header(); h.Rrtype == q.Qtype && strings.EqualFold(h.Name, q.Name) {
			m.Answer = append(m.Answer, rr)
		}
	}
	if len(m.Answer) == 0 {
		m.Ns = []dns.RR{test.SOA("example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 1 7200 3600 1209600 60")}
	}
	return dns.RcodeSuccess, w.WriteMsg(m)
}

// hosts has two hosts with a TTL of 30 s.
func hosts() *zone {
	return &zone{asked: make(map[Question]int), records: []dns.RR{
		test.A("a.example.org. 30 IN A 10.0.0.1"), test.A("b.example.org. 30 IN A 10.0.0.2"),
	}}
}

// inBubble runs a test in fake time, with a resolver in front of a plugin, and closes the resolver.
func inBubble(t *testing.T, next plugin.Handler, f func(t *testing.T, l *Resolver)) {
	synctest.Test(t, func(t *testing.T) {
		l := New(new(block))
		l.SetNext(next)
		f(t, l)
		l.Close()
	})
}

// need looks a reply up, as an answer does that needs the question.
func need(l *Resolver, q Question) *Reply {
	r, taken := l.Get(q)
	if !taken {
		l.Request(q)
		l.Start()
	}
	return r
}

// keepNeeding looks the addresses of both hosts up once a second.
func keepNeeding(l *Resolver, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		for _, name := range []string{"a.example.org.", "b.example.org."} {
			need(l, Question{name, dns.TypeA})
			need(l, Question{name, dns.TypeAAAA})
		}
		pooltest.Elapse(time.Second)
	}
}

// A question that fails is asked again only while queries still need it.
func TestFailedQuestionsRest(t *testing.T) {
	z := hosts()
	inBubble(t, z, func(t *testing.T, l *Resolver) {
		z.fail(true)
		q := Question{"a.example.org.", dns.TypeA}
		l.Request(q)
		l.Start()
		pooltest.Elapse(5 * time.Minute)
		if got := z.count("a.example.org.", dns.TypeA); got != 1 {
			t.Errorf("asked %d times for one query", got)
		}
		for range 60 {
			need(l, q)
			pooltest.Elapse(time.Second)
		}
		if got := z.count("a.example.org.", dns.TypeA); got != 1+4 {
			t.Errorf("asked %d times in a minute of queries, want 4: after pauses of 5, 10 and 20 s", got-1)
		}
	})
}

// The addresses of a host that no query needs are kept for a day, renewed now and then, and make room for others after ten
// minutes. The number of replies is limited (B61, B84).
func TestResolverForgets(t *testing.T) {
	z := hosts()
	inBubble(t, z, func(t *testing.T, l *Resolver) {
		keepNeeding(l, 10*time.Second)
		if got := len(l.entries()); got != 4 {
			t.Errorf("%d entries, want 4: two hosts, two families", got)
		}
		if r := l.Peek(Question{"b.example.org.", dns.TypeA}); r == nil || len(r.Addresses) != 1 || r.Addresses[0] != pooltest.Addr(2) {
			t.Errorf("addresses of b: %v", r)
		}
		before := z.count("a.example.org.", dns.TypeA)
		pooltest.Elapse(2 * time.Hour)
		if got := z.count("a.example.org.", dns.TypeA) - before; got < 20 || got > 25 {
			t.Errorf("asked %d times in two hours without a query, want once in five minutes", got)
		}
		if got := len(l.entries()); got != 4 {
			t.Errorf("%d entries after two hours, want 4", got)
		}
		pooltest.Elapse(23 * time.Hour)
		if got := len(l.entries()); got != 0 {
			t.Errorf("%d entries after a day", got)
		}
		for i := range maxEntries + 100 {
			l.Request(Question{fmt.Sprintf("h%d.example.org.", i), dns.TypeA})
			if i%50 == 0 {
				pooltest.Elapse(time.Second)
			}
		}
		pooltest.Elapse(time.Minute)
		if got := len(l.entries()); got != maxEntries {
			t.Errorf("%d entries, want %d", got, maxEntries)
		}
		late := Question{"late.example.org.", dns.TypeA}
		if l.Request(late); l.Peek(late) != nil {
			t.Error("a busy reply made room")
		}
		pooltest.Elapse(11 * time.Minute)
		need(l, Question{"h7.example.org.", dns.TypeA})
		l.Request(late)
		pooltest.Elapse(2 * time.Second)
		if got := len(l.entries()); got != maxEntries || l.Peek(late) == nil || l.Peek(Question{"h7.example.org.", dns.TypeA}) == nil {
			t.Errorf("%d entries, the new one %v, the busy one %v", got, l.Peek(late), l.Peek(Question{"h7.example.org.", dns.TypeA}))
		}
	})
}

// The resolver has at most eight questions under way, as the manual says, and six for names that are not watched. It
// asks the others when those are answered.
func TestQuestionsAtATime(t *testing.T) {
	for watched, want := range map[int]int32{0: 6, 1: 7, 10: 8} {
		var under, most, all atomic.Int32
		var turn chan struct{} // created in the bubble
		slow := plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			now := under.Add(1)
			for before := most.Load(); now > before && !most.CompareAndSwap(before, now); before = most.Load() {
			}
			all.Add(1)
			defer under.Add(-1)
			<-turn
			return hosts().ServeDNS(ctx, w, r)
		})
		inBubble(t, slow, func(t *testing.T, l *Resolver) {
			turn = make(chan struct{})
			for i := range watched {
				l.Watch([]Question{{fmt.Sprintf("w%d.example.org.", i), dns.TypeA}}, time.Second)
			}
			l.Start()
			for i := range 40 {
				l.Request(Question{fmt.Sprintf("h%d.example.org.", i), dns.TypeA})
			}
			pooltest.Elapse(10 * time.Second) // each is given up after three seconds, and keeps its place
			if got := under.Load(); got != want || all.Load() != want {
				t.Errorf("with %d watched names, %d of 40 questions are under way, want %d", watched, got, want)
			}
			close(turn)
			pooltest.Elapse(10 * time.Second)
			if most.Load() != want || all.Load() != 40+int32(watched) {
				t.Errorf("with %d watched names, %d questions were asked, up to %d at a time, want %d", watched, all.Load(), most.Load(), want)
			}
		})
	}
}
