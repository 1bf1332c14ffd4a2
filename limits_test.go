package multivalue

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/follow"
	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/annotation"
	"github.com/coredns-multivalue/multivalue/plugin/check"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// A query does not wait while the locks of the life cycle are held and the pool's loop is stuck: not for a target in
// the table, not for an unknown one, and not through the whole handler (B67).
func TestLookTakesNoLock(t *testing.T) {
	p, n := newProcess(), pooltest.NewNetwork()
	s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
	h := serving(p, zoneOf(www...), s)
	serve(t, h, query("www.example.org.", dns.TypeA))
	for deadline := time.Now().Add(time.Minute); targetsIn(p) < 2; time.Sleep(time.Millisecond) { // the loop does not announce it
		if time.Now().After(deadline) {
			t.Fatalf("%d targets a minute after the query, want 2", targetsIn(p))
		}
	}
	g := begun[p][0]
	delete(begun, p)
	stuck, free := make(chan struct{}), make(chan struct{})
	p.mu.Lock()
	updated := make(chan struct{})
	go func() { // the function holds the pool's lock and stops the loop
		defer close(updated)
		p.pool.Update(&g.pool, func() bool { close(stuck); <-free; return false })
	}()
	<-stuck
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(t, h, query("www.example.org.", dns.TypeA))
		p.ready(time.Now())
		for i := range 2 * poolInbox {
			s.Look(owner, pooltest.Addr(i), 0, 30)
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("a query waits")
	}
	close(free)
	p.mu.Unlock()
	<-done
	<-updated
	p.end(g)
}

// The log says once a minute that unhealthy addresses are served, as long as they are, and not once for each answer
// (B76).
func TestFailOpenIsLoggedAgain(t *testing.T) {
	text := pooltest.Logged(t)
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.Rule.Policy.MinUp.Count = 1
		n.Kill(pooltest.Addr(1), pooltest.Addr(2))
		h := serving(p, zoneOf(www...), s)
		keepAsking(t, h, 30*time.Second, "www.example.org.", dns.TypeA)
		text.Reset()
		keepAsking(t, h, 10*time.Minute, "www.example.org.", dns.TypeA)
		if got := pooltest.CountLines(text, "www.example.org.: 2 of 2 addresses are down, serving 2 (all_down"); got < 9 || got > 11 {
			t.Errorf("%d lines in ten minutes:\n%s", got, text)
		}
		text.Reset()
		n.Revive(pooltest.Addr(1), pooltest.Addr(2))
		keepAsking(t, h, 5*time.Minute, "www.example.org.", dns.TypeA)
		if got := pooltest.CountLines(text, "addresses are down, serving"); got > 1 {
			t.Errorf("%d lines after they came back:\n%s", got, text)
		}
	})
}

// One answer that leads to very many hosts makes the resolver accept 32 questions. The next query continues with the
// rest.
func TestQuestionsOfAnAnswerAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		var hosts []dns.RR
		for i := range 100 {
			hosts = append(hosts, test.SRV(fmt.Sprintf("_x._tcp.example.org. 30 IN SRV 1 1 8001 h%d.example.org.", i)))
		}
		h := serving(p, zoneOf(hosts...), srvStanza(n))
		for i := 1; i <= 3; i++ {
			serve(t, h, query("_x._tcp.example.org.", dns.TypeSRV))
			synctest.Wait()
			if got := h.block.Resolver.Known(); got != i*32 {
				t.Errorf("%d questions after %d answers, want 32 for each", got, i)
			}
		}
	})
}

// stopsWithin is the time that the manual promises (B71).
const stopsWithin = 2 * time.Second

// deaf is a check, a plugin and a cluster that ignore the end of their context. They continue until the test releases
// them.
type deaf struct {
	free  chan struct{}
	mu    sync.Mutex
	asked map[string]bool // names of questions
}

func (d *deaf) Probe(context.Context, netip.AddrPort) error { <-d.free; return nil }

func (d *deaf) ServeDNS(_ context.Context, _ dns.ResponseWriter, r *dns.Msg) (int, error) {
	d.mu.Lock()
	d.asked[r.Question[0].Name] = true
	d.mu.Unlock()
	<-d.free
	return dns.RcodeServerFailure, nil
}

func (d *deaf) Name() string { return "deaf" }

func (d *deaf) Zones(plugin.Handler) ([]string, bool)              { return nil, false }
func (d *deaf) Cluster(string, string) (annotation.Cluster, error) { return d, nil }

func (d *deaf) Follow(context.Context, func(map[string]string) map[string]string) error {
	<-d.free
	return nil
}

// indifferent is a stanza that judges no Service.
type indifferent struct{}

func (indifferent) Judges(string) bool                 { return false }
func (indifferent) Current() map[string]*check.Check   { return nil }
func (indifferent) Apply(map[string]*check.Check) bool { return false }

// A stop does not wait for a plugin below that holds up the questions of many server blocks. Together they have the
// time of one block, even if probes and other parts of a generation hang as well (B71).
func TestStopBesideADeafPlugin(t *testing.T) {
	text := pooltest.Logged(t)
	inBubble(t, func(t *testing.T, p *process, _ *pooltest.FakeNetwork) {
		never := &deaf{free: make(chan struct{}), asked: make(map[string]bool)}
		g := p.newGeneration()
		var stanzas []*stanza
		for i := range 8 {
			s := forZone(testStanza("tcp://:80", never, pooltest.Pace), fmt.Sprintf("z%d.example.org.", i))
			s.config.Watch = []string{"www." + s.config.Zones[0]}
			addBlock(g, never, s)
			stanzas = append(stanzas, s)
		}
		if err := g.followers.Subscribe(annotation.At{}, never, indifferent{}); err != nil {
			t.Fatal(err)
		}
		if err := p.join(g); err != nil {
			t.Fatal(err)
		}
		p.confirm(g)
		for _, s := range stanzas {
			lookAll(s, addrs(0, 5))
		}
		pooltest.Elapse(pooltest.Pace.Fast + time.Second)
		for _, s := range stanzas {
			if name := s.config.Watch[0]; !never.asked[name] {
				t.Errorf("no question for %s is under way", name)
			}
		}
		began := time.Now()
		p.end(g)
		if took := time.Since(began) + follow.StopWait; took > stopsWithin { // reading a file of forced states may hang as well
			t.Errorf("the stop takes up to %s", took)
		}
		if got := pooltest.CountLines(text, "annotations are still followed"); got != 1 {
			t.Errorf("%d lines say that annotations are still followed:\n%s", got, text)
		}
		close(never.free)
	})
}
