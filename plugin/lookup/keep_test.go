package lookup

import (
	"context"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// A name that is kept is asked for at the start and again as its TTL runs out, without a query. Its answers are shown to the pool,
// and readiness does not wait for it (B102).
func TestKeep(t *testing.T) {
	z := hosts()
	inBubble(t, z, func(t *testing.T, l *Resolver) {
		b := l.host.(*block)
		b.unknown.Store(1)
		l.Watch([]Question{{"b.example.org.", dns.TypeA}}, time.Hour)
		l.Keep([]Question{{"a.example.org.", dns.TypeA}, {"a.example.org.", dns.TypeAAAA}})
		l.BeginWait(time.Now())
		l.Start()
		pooltest.Elapse(65 * time.Second)
		if got := z.count("a.example.org.", dns.TypeA); got != 3 {
			t.Errorf("asked %d times in 65 seconds for a TTL of 30", got)
		}
		if r := l.Peek(Question{"a.example.org.", dns.TypeA}); r == nil || r.TTL != 30 || r.Owner != "a.example.org." || len(r.Addresses) != 1 {
			t.Errorf("%+v", r)
		}
		if len(l.first.unknown) != 1 || l.first.unknown[Question{"b.example.org.", dns.TypeA}] == nil || b.judged.Load() < 4 {
			t.Errorf("readiness waits for %v; %d addresses were shown", l.first.unknown, b.judged.Load())
		}
	})
}

// theServer is a server that has another zone.
type theServer struct{ z *zone }

func (s theServer) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) {
	_, _ = s.z.ServeDNS(ctx, w, r)
}

// A name outside the server block that the plugins below do not have is asked of the whole server, which the first query shows. It
// is learned soon after that, and stays known while the look-up fails. Names inside are asked of the plugins below alone (B102).
func TestKeepAsksTheServer(t *testing.T) {
	other := &zone{asked: make(map[Question]int), records: records("www.example.net. 30 IN A 10.0.0.9")}
	inside := hosts()
	inside.fail(true)
	inBubble(t, inside, func(t *testing.T, l *Resolver) {
		q := Question{"www.example.net.", dns.TypeA}
		l.Keep([]Question{q, {"a.example.org.", dns.TypeA}})
		l.Start()
		pooltest.Elapse(10 * time.Minute)
		if r := l.Peek(q); r != nil || other.count(q.Name, q.Type) > 0 {
			t.Fatalf("before a query: %+v", r)
		}
		l.NoteIngress(context.WithValue(context.Background(), dnsserver.Key{}, theServer{other}))
		pooltest.Elapse(retryAfter + 2*tickEvery)
		if r := l.Peek(q); r == nil || len(r.Addresses) != 1 || !r.Foreign {
			t.Errorf("soon after the first query: %+v", r)
		}
		other.fail(true)
		pooltest.Elapse(10 * time.Minute)
		if r := l.Peek(q); r == nil || len(r.Addresses) != 1 {
			t.Errorf("while the look-up fails: %+v", r)
		}
		if got := other.count("a.example.org.", dns.TypeA); got > 0 {
			t.Errorf("the server was asked %d times for a name of the block", got)
		}
	})
}

func records(text string) []dns.RR { return []dns.RR{test.A(text)} }

// The TTL of a reply is the lowest on the way to the addresses, and their owner is the end of the aliases.
func TestReplyOfAliases(t *testing.T) {
	l := New(new(block))
	m := Question{"www.example.org.", dns.TypeA}.Message()
	m.Answer = []dns.RR{
		test.CNAME("www.example.org. 20 IN CNAME LB.example.org."), test.A("LB.example.org. 3600 IN A 10.0.0.1"), test.A("LB.example.org. 3600 IN A 10.0.0.2"),
	}
	r, keep := l.digest(Question{"www.example.org.", dns.TypeA}, m)
	if r == nil || r.TTL != 20 || r.Owner != "lb.example.org." || keep != 20*time.Second {
		t.Errorf("%+v, kept for %s", r, keep)
	}
	m.Answer = m.Answer[1:]
	if r, keep = l.digest(Question{"lb.example.org.", dns.TypeA}, m); r.TTL != 3600 || keep != maxKeep {
		t.Errorf("%+v, kept for %s", r, keep)
	}
}
