package multivalue

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/network"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/file"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// changing is a zone that changes, and counts what it is asked.
type changing struct {
	mu    sync.Mutex
	rrs   []dns.RR
	asked map[question]int
	fails bool
}

func changingZone(rrs ...dns.RR) *changing {
	return &changing{rrs: rrs, asked: make(map[question]int)}
}

func (z *changing) set(rrs ...dns.RR) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.rrs = rrs
}

func (z *changing) fail(fails bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.fails = fails
}

func (z *changing) count(name string, qtype uint16) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked[question{name, qtype}]
}

func (z *changing) Name() string { return "changing" }

func (z *changing) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	z.mu.Lock()
	rrs, fails := z.rrs, z.fails
	z.asked[question{strings.ToLower(r.Question[0].Name), r.Question[0].Qtype}]++
	z.mu.Unlock()
	if fails {
		return dns.RcodeServerFailure, nil
	}
	return zoneOf(rrs...).ServeDNS(ctx, w, r)
}

// service is an SRV set of two hosts, which the zone has apart from their addresses, as minimal leaves it.
var service = []dns.RR{
	test.SRV("_x._tcp.example.org. 30 IN SRV 1 1 8001 a.example.org."),
	test.SRV("_x._tcp.example.org. 30 IN SRV 1 1 8002 b.example.org."),
}

// hostsOf are A records for hosts a, b and so on, with a TTL of 30 s.
func hostsOf(addrs ...int) []dns.RR {
	rrs := slices.Clone(service)
	for i, n := range addrs {
		rrs = append(rrs, test.A(fmt.Sprintf("%c.example.org. 30 IN A %s", 'a'+i, pooltest.Addr(n))))
	}
	return rrs
}

func srvStanza(n *pooltest.FakeNetwork) *parsedStanza {
	s := forZone(testStanza("tcp://", n, pooltest.Pace), "example.org.")
	s.checks[0].port = 0
	s.rule.Types = answer.TypesOf(dns.TypeSRV)
	s.rule.Policy.MinUp.Count = 1
	return s
}

func targetsOf(m *dns.Msg) string {
	var got []string
	for _, rr := range m.Answer {
		got = append(got, rr.(*dns.SRV).Target)
	}
	return strings.Join(got, " ")
}

// keepAsking asks once a second for a while, and returns the last answer.
func keepAsking(t *testing.T, h plugin.Handler, d time.Duration, name string, qtype uint16) *dns.Msg {
	t.Helper()
	var m *dns.Msg
	for end := time.Now().Add(d); time.Now().Before(end); {
		m, _ = serve(t, h, query(name, qtype))
		pooltest.Elapse(time.Second)
	}
	return m
}

// Hosts without glue are asked of the plugins below, and asked again as their TTL runs out (B15, B16, T27).
func TestLearnsHosts(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		z := changingZone(hostsOf(1, 2)...)
		h := serving(p, z, srvStanza(n))
		n.Kill(pooltest.Addr(1))
		if m, _ := serve(t, h, query("_x._tcp.example.org.", dns.TypeSRV)); len(m.Answer) != 2 {
			t.Errorf("before anything is known: %s", targetsOf(m))
		}
		if m := keepAsking(t, h, 30*time.Second, "_x._tcp.example.org.", dns.TypeSRV); targetsOf(m) != "b.example.org." {
			t.Errorf("with a dead: %s", targetsOf(m))
		}
		z.set(hostsOf(3, 1)...) // a moves to a living address, b to the dead one
		if m := keepAsking(t, h, 90*time.Second, "_x._tcp.example.org.", dns.TypeSRV); targetsOf(m) != "a.example.org." {
			t.Errorf("after the hosts moved: %s", targetsOf(m))
		}
		if got := z.count("a.example.org.", dns.TypeA); got < 3 || got > 8 {
			t.Errorf("asked %d times for a host with a TTL of 30 s in two minutes", got)
		}
		z.fail(true) // what is known stays
		h.block.learner.start(nil)
		keepAsking(t, h, time.Second, "_x._tcp.example.org.", dns.TypeSRV)
		if r, _ := h.block.learner.find(question{"a.example.org.", dns.TypeA}); r == nil || len(r.addrs) != 1 {
			t.Errorf("known of the host after a failure: %v", r)
		}
	})
}

// An SRV record's own port is asked, unless the check has one (B15).
func TestPortOfTheRecord(t *testing.T) {
	for named, want := range map[bool]string{false: "10.0.0.1:8001 10.0.0.2:8002", true: "10.0.0.1:99 10.0.0.2:99"} {
		inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
			s := srvStanza(n)
			if s.checks[0].portNamed = named; named {
				s.checks[0].port = 99
			}
			h := serving(p, changingZone(hostsOf(1, 2)...), s)
			keepAsking(t, h, 5*time.Second, "_x._tcp.example.org.", dns.TypeSRV)
			var got []string
			p.life.Lock()
			defer p.life.Unlock()
			p.do(func() {
				for e := range p.monitors {
					got = append(got, e.Target.Addr.String())
				}
			})
			if slices.Sort(got); strings.Join(got, " ") != want {
				t.Errorf("port named %t: watched %v, want %s", named, got, want)
			}
		})
	}
}

// A check without a port has nothing to ask where the record names none: the address is served, and not probed.
func TestNoPortAnywhere(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := srvStanza(n)
		s.rule.Types = answer.DefaultTypes
		h := serving(p, zoneOf(www...), s)
		m := keepAsking(t, h, 30*time.Second, "www.example.org.", dns.TypeA)
		if addressesOf(m) != "10.0.0.1 10.0.0.2" || n.Asked(pooltest.Addr(1)) != 0 || sizeOf(p).watches != 0 {
			t.Errorf("answer %s, %d probes, %d watches", addressesOf(m), n.Asked(pooltest.Addr(1)), sizeOf(p).watches)
		}
	})
}

// The start of authority is learned from the denial for the owner, and renewed as it ages (B31).
func TestSOAIsRenewed(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.rule.Policy.AllDown = answer.NoData
		h := serving(p, zoneOf(www...), s)
		n.Kill(pooltest.Addr(1), pooltest.Addr(2))
		if m := keepAsking(t, h, 30*time.Second, "www.example.org.", dns.TypeA); len(m.Ns) != 1 {
			t.Fatalf("no denial:\n%s", m)
		}
		serial := func(m *dns.Msg) uint32 { return m.Ns[0].(*dns.SOA).Serial }
		var next plugin.Handler = plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			m := new(dns.Msg)
			m.SetReply(r)
			m.Ns = []dns.RR{test.SOA("example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 2 7200 3600 1209600 60")}
			return dns.RcodeSuccess, w.WriteMsg(m)
		})
		h.block.learner.next.Store(&next)
		if m := keepAsking(t, h, 20*time.Second, "www.example.org.", dns.TypeA); serial(m) != 1 {
			t.Errorf("serial %d before the minimum TTL of 60 s has passed", serial(m))
		}
		if m := keepAsking(t, h, 30*time.Second, "www.example.org.", dns.TypeA); serial(m) != 2 {
			t.Errorf("serial %d after it has", serial(m))
		}
	})
}

// A reload keeps what was learned, and asks for it again (B69).
func TestReloadKeepsLessons(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		z := changingZone(hostsOf(1, 2)...)
		h := serving(p, z, srvStanza(n))
		n.Kill(pooltest.Addr(1))
		keepAsking(t, h, 30*time.Second, "_x._tcp.example.org.", dns.TypeSRV)
		b := newBlock([]*parsedStanza{srvStanza(n)})
		b.learner.adopt(p.before(""))
		if got := len(b.learner.lessons()); got != 4 {
			t.Fatalf("%d lessons were adopted, want 4", got)
		}
		if r, _ := b.learner.find(question{"b.example.org.", dns.TypeA}); r == nil || len(r.addrs) != 1 || r.addrs[0] != pooltest.Addr(2) {
			t.Errorf("known of b: %v", r)
		}
		h.block.learner.close()
		before := z.count("b.example.org.", dns.TypeA)
		var next plugin.Handler = z
		b.learner.next.Store(&next)
		p.wake(&generation{stage: confirmed, learners: []*learner{b.learner}})
		pooltest.Elapse(2 * time.Second)
		if got := z.count("b.example.org.", dns.TypeA) - before; got != 1 {
			t.Errorf("b was asked for %d times after the reload, want once", got)
		}
		if !b.learner.lacksOrigin() {
			t.Error("no query is needed any more to learn where questions come in")
		}
		b.learner.close()
		one, other := newBlock([]*parsedStanza{srvStanza(n)}), newBlock([]*parsedStanza{srvStanza(n)})
		p.wake(&generation{stage: confirmed, learners: []*learner{one.learner, other.learner}})
		if p.before("") != nil {
			t.Error("of two blocks with the same keys, which views tell apart, one is adopted")
		}
	})
}

// The addresses at the end of an alias into somebody else's zone count only where within says what may be probed (B60).
func TestForeignHosts(t *testing.T) {
	for confined, want := range map[bool]int{false: 0, true: 1} {
		inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
			s := srvStanza(n)
			if confined {
				s.within = network.List{network.New(netip.MustParsePrefix("10.0.0.0/8"))}
				s.seal(pooltest.Pace)
			}
			var z plugin.Handler = plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
				if q := r.Question[0]; q.Name != "a.example.org." || q.Qtype != dns.TypeA {
					return zoneOf(service...).ServeDNS(ctx, w, r)
				}
				m := new(dns.Msg)
				m.SetReply(r)
				m.Answer = []dns.RR{test.CNAME("a.example.org. 30 IN CNAME lb.example.net."), test.A("lb.example.net. 30 IN A 10.0.0.66")}
				return dns.RcodeSuccess, w.WriteMsg(m)
			})
			h := serving(p, z, s)
			keepAsking(t, h, 30*time.Second, "_x._tcp.example.org.", dns.TypeSRV)
			if got := min(1, n.Asked(pooltest.Addr(66))); got != want {
				t.Errorf("within %t: the foreign address was asked %d times", confined, n.Asked(pooltest.Addr(66)))
			}
		})
	}
}

// Watching works beside a policy that lets clients choose, of which there is none here, and brings in no question of its own.
func TestWatchBesideSelectClient(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.rule.Policy = answer.Policy{Limit: 1, MinUp: answer.Quorum{Count: 1}, Client: true, AllDown: answer.NoData}
		s.watch = []string{"www.example.org."}
		h := serving(p, zoneOf(www...), s)
		pooltest.Elapse(30 * time.Second)
		if n.Asked(pooltest.Addr(1)) == 0 || n.Asked(pooltest.Addr(2)) == 0 {
			t.Errorf("asked %d and %d times", n.Asked(pooltest.Addr(1)), n.Asked(pooltest.Addr(2)))
		}
		if got := len(h.block.learner.lessons()); got != 4 {
			t.Errorf("%d lessons, want the 4 types of the watched name alone", got)
		}
	})
}

// A question that fails is asked again only when somebody still wants to know.
func TestFailedQuestionsRest(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		z := changingZone(hostsOf(1, 2)...)
		h := serving(p, z, srvStanza(n))
		z.fail(true)
		q := question{"a.example.org.", dns.TypeA}
		h.block.learner.want(q)
		h.block.learner.start(nil)
		pooltest.Elapse(5 * time.Minute)
		if got := z.count("a.example.org.", dns.TypeA); got != 1 {
			t.Errorf("asked %d times for one query", got)
		}
		for range 60 {
			if _, found := h.block.learner.find(q); !found {
				h.block.learner.want(q)
			}
			pooltest.Elapse(time.Second)
		}
		if got := z.count("a.example.org.", dns.TypeA); got < 9 || got > 14 {
			t.Errorf("asked %d times in a minute of queries, want one in five seconds", got)
		}
	})
}

// What nobody asks for any longer is forgotten, and there is a cap on all of it (B61).
func TestLearnerForgets(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		z := changingZone(hostsOf(1, 2)...)
		h := serving(p, z, srvStanza(n))
		l := h.block.learner
		keepAsking(t, h, 10*time.Second, "_x._tcp.example.org.", dns.TypeSRV)
		if got := len(l.lessons()); got != 4 {
			t.Errorf("%d lessons, want 4: two hosts, two families", got)
		}
		before := z.count("a.example.org.", dns.TypeA)
		pooltest.Elapse(keepLesson - time.Minute)
		if got := z.count("a.example.org.", dns.TypeA) - before; got > 1 {
			t.Errorf("asked %d times while nobody wanted to know", got)
		}
		pooltest.Elapse(2 * time.Minute)
		if got := len(l.lessons()); got != 0 {
			t.Errorf("%d lessons after a while", got)
		}
		for i := range maxLessons + 100 {
			l.want(question{fmt.Sprintf("h%d.example.org.", i), dns.TypeA})
			if i%50 == 0 {
				pooltest.Elapse(time.Second)
			}
		}
		pooltest.Elapse(time.Minute)
		if got := len(l.lessons()); got != maxLessons {
			t.Errorf("%d lessons, want %d", got, maxLessons)
		}
	})
}

// A plugin below that panics costs an answer, and nothing else.
func TestLearnerSurvives(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		z := changingZone(hostsOf(1, 2)...)
		h := serving(p, z, srvStanza(n))
		var broken plugin.Handler = plugin.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) { panic("a fault") })
		working := h.block.learner.next.Swap(&broken)
		n.Kill(pooltest.Addr(1))
		if m := keepAsking(t, h, 20*time.Second, "_x._tcp.example.org.", dns.TypeSRV); len(m.Answer) != 2 {
			t.Errorf("while nothing can be learned: %s", targetsOf(m))
		}
		h.block.learner.next.Store(working)
		if m := keepAsking(t, h, 40*time.Second, "_x._tcp.example.org.", dns.TypeSRV); targetsOf(m) != "b.example.org." {
			t.Errorf("after that: %s", targetsOf(m))
		}
	})
}

// Watched names are judged before the first query, and stay known without one (B59, B62, B68).
func TestWatch(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.rule.Policy.MinUp.Count = 1
		s.watch = []string{"www.example.org."}
		n.Kill(pooltest.Addr(1))
		h := serving(p, zoneOf(www...), s)
		if !p.awaits(time.Now()) {
			t.Error("ready before anything is known")
		}
		// Its verdict takes three failures, two fast intervals apart, each of which may be a tenth shorter: 3.6 s at the least.
		const early = 3500 * time.Millisecond
		pooltest.Elapse(early)
		if !p.awaits(time.Now()) {
			t.Error("ready before the dead one has a verdict")
		}
		pooltest.Elapse(censusTakes - early + time.Millisecond)
		if p.awaits(time.Now()) {
			t.Error("not ready after five seconds")
		}
		for _, d := range []time.Duration{10 * time.Second, 2 * time.Hour} {
			pooltest.Elapse(d)
			if m, _ := serve(t, h, query("www.example.org.", dns.TypeA)); addressesOf(m) != "10.0.0.2" {
				t.Errorf("after %s without a query: %s", d, addressesOf(m))
			}
		}
	})
}

// A server that was ready stays so through a reload that watches more names, and none of the probes for those has an answer
// (B68).
func TestReadinessDoesNotFlicker(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		n.Swallow(pooltest.Addr(1), pooltest.Addr(2))
		watching := func(names ...string) *parsedStanza {
			s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
			s.watch = names
			return s
		}
		serving(p, zoneOf(hostsOf(3)...), watching("a.example.org."))
		for p.awaits(time.Now()) {
			pooltest.Elapse(10 * time.Millisecond)
		}
		before := p.generations[0]
		serving(p, zoneOf(append(hostsOf(3), www...)...), watching("a.example.org.", "www.example.org."))
		for range 2 * censusTakes / (100 * time.Millisecond) {
			if p.awaits(time.Now()) {
				t.Fatal("not ready after a reload")
			}
			pooltest.Elapse(100 * time.Millisecond)
		}
		if before != nil {
			before.end(p)
		}
		if p.awaits(time.Now()) || n.Asked(pooltest.Addr(1)) == 0 {
			t.Errorf("not ready once the old servers are gone, with %d probes of the new name", n.Asked(pooltest.Addr(1)))
		}
	})
}

// The learner has eight questions under way, by the manual, and asks the others when those are answered.
func TestQuestionsAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		h := serving(p, zoneOf(), srvStanza(n))
		var under, most, all atomic.Int32
		turn := make(chan struct{})
		var slow plugin.Handler = plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			now := under.Add(1)
			for before := most.Load(); now > before && !most.CompareAndSwap(before, now); before = most.Load() {
			}
			all.Add(1)
			defer under.Add(-1)
			<-turn
			return zoneOf().ServeDNS(ctx, w, r)
		})
		l := h.block.learner
		l.next.Store(&slow)
		l.start(nil)
		for i := range 40 {
			l.want(question{fmt.Sprintf("h%d.example.org.", i), dns.TypeA})
		}
		pooltest.Elapse(10 * time.Second) // each is given up after three, and holds its place
		if got := under.Load(); got != 8 || all.Load() != 8 {
			t.Errorf("%d of 40 questions are under way, want 8", got)
		}
		close(turn)
		pooltest.Elapse(10 * time.Second)
		if most.Load() != 8 || all.Load() != 40 {
			t.Errorf("%d of 40 questions were asked, up to %d at a time, want 8", all.Load(), most.Load())
		}
	})
}

// Readiness comes with the last first verdict, and waits for no name that does not exist (B68).
func TestCensus(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.watch = []string{"www.example.org.", "none.example.org."}
		serving(p, zoneOf(www...), s)
		began := time.Now()
		for p.awaits(time.Now()) {
			pooltest.Elapse(10 * time.Millisecond)
		}
		if took := time.Since(began); took > pooltest.Pace.Fast+200*time.Millisecond {
			t.Errorf("ready after %s, though every address answered within %s", took, pooltest.Pace.Fast)
		}
		if n.Asked(pooltest.Addr(1)) == 0 || n.Asked(pooltest.Addr(2)) == 0 {
			t.Error("ready, and an address was never asked")
		}
	})
}

// zoneFile is the file plugin with one zone.
func zoneFile(t *testing.T, serial int, records string) file.File {
	t.Helper()
	text := fmt.Sprintf("example.org. 300 IN SOA ns.example.org. hostmaster.example.org. %d 7200 3600 1209600 60\n%s", serial, records)
	z, err := file.Parse(strings.NewReader(text), "example.org.", "db.example.org", -1)
	if err != nil {
		t.Fatal(err)
	}
	return file.File{Zones: file.Zones{Z: map[string]*file.Zone{"example.org.": z}, Names: []string{"example.org."}}}
}

// A zone that is preloaded is read again when its serial has changed; only what the stanza would judge is learned, no
// glue and no signed set, and it stays watched without a query (B59, B62).
func TestPreload(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "www.example.org.")
		s.preload = true
		b := newBlock([]*parsedStanza{s})
		f := zoneFile(t, 1, "www.example.org. 30 IN A 10.0.0.1\nwww.example.org. 30 IN A 10.0.0.2\n"+
			"sub.www.example.org. 30 IN NS ns.sub.www.example.org.\nns.sub.www.example.org. 30 IN A 10.0.0.4\nns.sub.www.example.org. 30 IN A 10.0.0.5\n"+
			"signed.www.example.org. 30 IN A 10.0.0.11\nsigned.www.example.org. 30 IN A 10.0.0.12\n"+
			"signed.www.example.org. 30 IN RRSIG A 13 4 30 20300101000000 20200101000000 1 example.org. AAAA\n"+
			"one.www.example.org. 30 IN A 10.0.0.7\nother.example.org. 30 IN A 10.0.0.8\nother.example.org. 30 IN A 10.0.0.9")
		if err := b.learner.list([]*parsedStanza{s}, []plugin.Handler{f}); err != nil {
			t.Fatal(err)
		}
		g := begin(p, s)
		g.learners = append(g.learners, b.learner)
		p.wake(g)
		pooltest.Elapse(2 * time.Hour)
		for i, want := range map[int]bool{1: true, 2: true, 4: false, 5: false, 11: false, 12: false, 7: false, 8: false, 9: false} {
			if got := n.Asked(pooltest.Addr(i)) > 700; got != want {
				t.Errorf("%s was asked %d times in two hours", pooltest.Addr(i), n.Asked(pooltest.Addr(i)))
			}
		}
		old, edited := f.Z["example.org."], zoneFile(t, 2, "www.example.org. 30 IN A 10.0.0.3\nwww.example.org. 30 IN A 10.0.0.2").Z["example.org."]
		old.Lock() // as file does when it reads a zone again
		old.Apex, old.Tree = edited.Apex, edited.Tree
		old.Unlock()
		pooltest.Elapse(preloadEvery + 10*time.Second)
		if n.Asked(pooltest.Addr(3)) == 0 {
			t.Error("the new address was not asked")
		}
		pooltest.Elapse(time.Hour)
		before := n.Asked(pooltest.Addr(1))
		pooltest.Elapse(time.Hour)
		if got := n.Asked(pooltest.Addr(1)) - before; got != 0 {
			t.Errorf("an address that left the zone was asked %d times", got)
		}
	})
}

// A zone with more addresses than the pool's inbox takes is learned to the last one in one go, at the pool's speed.
func TestPreloadOfALargeZone(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.preload = true
		b := newBlock([]*parsedStanza{s})
		const size = 4 * maxRequests
		var text strings.Builder
		for i := range size {
			fmt.Fprintf(&text, "www%d.example.org. 30 IN A %s\n", i/64, pooltest.Addr(i))
		}
		if err := b.learner.list([]*parsedStanza{s}, []plugin.Handler{zoneFile(t, 1, text.String())}); err != nil {
			t.Fatal(err)
		}
		g := begin(p, s)
		g.learners = append(g.learners, b.learner)
		p.wake(g)
		pooltest.Elapse(preloadEvery / 2)
		p.life.Lock()
		defer p.life.Unlock()
		p.do(func() {
			if len(p.monitors) != size {
				t.Errorf("%d of %d addresses are watched", len(p.monitors), size)
			}
		})
	})
}

// While the pool's inbox is full, preloading rests, and it ends when its learner does.
func TestPreloadRests(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.pool = p // which does not run, and so reads nothing
		for range preloadStep {
			p.requests <- targetRequest{}
		}
		x, quit, rested := &list{stanza: &s.stanza}, make(chan struct{}), make(chan bool, 1)
		for _, tc := range []struct {
			what string
			end  func()
			want bool
		}{
			{"the learner ends", func() { close(quit) }, false},
			{"there is room", func() { <-p.requests }, true},
		} {
			go func() { rested <- x.rest(quit) }()
			pooltest.Elapse(time.Second)
			if len(rested) != 0 {
				t.Fatalf("it went on before %s", tc.what)
			}
			tc.end()
			if got := <-rested; got != tc.want {
				t.Errorf("%s: %t", tc.what, got)
			}
			quit = make(chan struct{})
		}
		for len(p.requests) > 0 {
			<-p.requests
		}
	})
}

// A zone of serial 0 is read, and one that nobody lists is tried again less and less often, and keeps no other waiting.
func TestPreloadOfOddZones(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.zones = append(s.zones, "example.net.")
		s.preload = true
		b := newBlock([]*parsedStanza{s})
		f := zoneFile(t, 0, "www.example.org. 30 IN A 10.0.0.1\nwww.example.org. 30 IN A 10.0.0.2")
		asked := countedLister{f, new(int)}
		if err := b.learner.list([]*parsedStanza{s}, []plugin.Handler{asked}); err != nil {
			t.Fatal(err)
		}
		g := begin(p, s)
		g.learners = append(g.learners, b.learner)
		p.wake(g)
		pooltest.Elapse(time.Hour)
		if n.Asked(pooltest.Addr(1)) == 0 {
			t.Error("the zone with the serial 0 was not read")
		}
		if *asked.missed < 60 || *asked.missed > 80 {
			t.Errorf("asked %d times in an hour for a zone that is not there", *asked.missed)
		}
	})
}

// countedLister counts how often it is asked for the zone it does not have.
type countedLister struct {
	file.File
	missed *int
}

func (c countedLister) Transfer(zone string, serial uint32) (<-chan []dns.RR, error) {
	if zone == "example.net." {
		*c.missed++
	}
	return c.File.Transfer(zone, serial)
}

// Hosts of which nothing can be learned do not keep those behind them from being judged.
func TestFailingHostsStarveNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		var set []dns.RR
		for i := range 2 * maxWants {
			set = append(set, test.SRV(fmt.Sprintf("_x._tcp.example.org. 30 IN SRV 1 1 8000 fails%d.example.org.", i)))
		}
		set = append(set, service...)
		rrs := append(slices.Clone(set), hostsOf(1, 2)[len(service):]...)
		z := plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			if strings.HasPrefix(r.Question[0].Name, "fails") {
				return dns.RcodeServerFailure, nil
			}
			return zoneOf(rrs...).ServeDNS(ctx, w, r)
		})
		h := serving(p, z, srvStanza(n))
		n.Kill(pooltest.Addr(1))
		m := keepAsking(t, h, 2*time.Minute, "_x._tcp.example.org.", dns.TypeSRV)
		if strings.Contains(targetsOf(m), " a.example.org.") || len(m.Answer) != 2*maxWants+1 {
			t.Errorf("%d records, want all but that of a: %s", len(m.Answer), targetsOf(m))
		}
	})
}

// One name brings in only so many targets, however its addresses change (B61).
func TestCapOfAName(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		for i := range maxPerName + 200 {
			s.Look("WWW.example.org.", pooltest.Addr(i), 0, 30)
			if i%1000 == 0 {
				pooltest.Elapse(time.Second)
			}
		}
		pooltest.Elapse(time.Second)
		if got := sizeOf(p).watches; got != maxPerName {
			t.Errorf("%d targets, want %d", got, maxPerName)
		}
		s.Look("other.example.org.", pooltest.Addr(maxPerName+500), 0, 30)
		pooltest.Elapse(time.Second)
		if got := sizeOf(p).watches; got != maxPerName+1 {
			t.Errorf("%d targets with another name, want %d", got, maxPerName+1)
		}
		pooltest.Elapse(time.Hour)
		s.Look(owner, pooltest.Addr(1), 0, 30)
		pooltest.Elapse(time.Second)
		if got := sizeOf(p).watches; got != 1 {
			t.Errorf("%d targets after the others were forgotten, want 1", got)
		}
	})
}

// A revived address comes into samples little by little (warmup).
func TestWarmupByThePoolsClock(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		var rrs []dns.RR
		for i := range 4 {
			rrs = append(rrs, test.A(fmt.Sprintf("www.example.org. 30 IN A %s", pooltest.Addr(i))))
		}
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.rule.Policy = answer.Policy{Limit: 1, MinUp: answer.Quorum{Count: 1}, Warmup: 10 * time.Minute}
		s.seal(pooltest.Pace)
		h := serving(p, zoneOf(rrs...), s)
		share := func() float64 {
			hits := 0
			for range 2000 {
				if m, _ := serve(t, h, query("www.example.org.", dns.TypeA)); addressesOf(m) == pooltest.Addr(0).String() {
					hits++
				}
			}
			return float64(hits) / 2000
		}
		keepAsking(t, h, 11*time.Minute, "www.example.org.", dns.TypeA)
		n.Kill(pooltest.Addr(0))
		keepAsking(t, h, time.Minute, "www.example.org.", dns.TypeA)
		if got := share(); got != 0 {
			t.Errorf("share %.3f while dead", got)
		}
		n.Revive(pooltest.Addr(0))
		keepAsking(t, h, 30*time.Second, "www.example.org.", dns.TypeA)
		early := share()
		keepAsking(t, h, 5*time.Minute, "www.example.org.", dns.TypeA)
		half := share()
		keepAsking(t, h, 6*time.Minute, "www.example.org.", dns.TypeA)
		full := share()
		// Full is a quarter; half the weight of each of three others is a seventh.
		if early <= 0 || early > 0.04 || half < 0.10 || half > 0.19 || full < 0.21 || full > 0.29 {
			t.Errorf("share %.3f at first, %.3f at half time, %.3f in the end", early, half, full)
		}
	})
}

// The clock that queries read is never more than a second behind while something warms up, however seldom the pool probes.
func TestClockOfThePool(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.rule.Policy.Warmup = time.Minute
		s.seal(pooltest.Pace)
		begin(p, s)
		for range 20 {
			pooltest.Elapse(1700 * time.Millisecond)
			if late := time.Since(time.UnixMilli(int64(p.clock.Load()))); late > time.Second {
				t.Fatalf("the clock is %s behind", late)
			}
		}
	})
}

// client is a writer whose queries come from an address.
type client struct {
	test.ResponseWriter
	msg *dns.Msg
}

func (c *client) WriteMsg(m *dns.Msg) error { c.msg = m; return nil }

func withEDNS(r *dns.Msg, options ...dns.EDNS0) *dns.Msg {
	r.SetEdns0(1232, false)
	r.IsEdns0().Option = options
	return r
}

// exchangeOf asks as a client at ip does, and returns the OPT of the answer, and the answer.
func exchangeOf(t *testing.T, h plugin.Handler, ip string, r *dns.Msg) (*dns.OPT, *dns.Msg) {
	t.Helper()
	c := &client{ResponseWriter: test.ResponseWriter{RemoteIP: ip}}
	if _, err := h.ServeDNS(context.Background(), c, r); err != nil {
		t.Fatal(err)
	}
	return c.msg.IsEdns0(), c.msg
}

// manyStanza answers with 64 addresses, of which each client gets eight of its own.
func manyStanza(t *testing.T, p *pool, n *pooltest.FakeNetwork) plugin.Handler {
	var rrs []dns.RR
	for i := range 64 {
		rrs = append(rrs, test.A(fmt.Sprintf("www.example.org. 30 IN A %s", pooltest.Addr(i))))
	}
	s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
	s.rule.Policy = answer.Policy{Limit: 8, MinUp: answer.Quorum{Count: 1}, Client: true}
	s.seal(pooltest.Pace)
	h := serving(p, zoneOf(rrs...), s)
	keepAsking(t, h, 15*time.Second, "www.example.org.", dns.TypeA)
	return h
}

// A client's network keeps its addresses; the client subnet goes before the sender, and the answer says how much of it was
// used (B5, B6).
func TestSelectClient(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		h := manyStanza(t, p, n)
		subnet := func(ip string, bits uint8) *dns.EDNS0_SUBNET {
			a := netip.MustParseAddr(ip)
			family := uint16(1)
			if a.Is6() {
				family = 2
			}
			return &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: bits, Address: a.AsSlice()}
		}
		answerTo := func(ip string, options ...dns.EDNS0) string {
			_, m := exchangeOf(t, h, ip, withEDNS(query("www.example.org.", dns.TypeA), options...))
			return addressesOf(m)
		}
		one := answerTo("198.51.100.7")
		if got := answerTo("198.51.100.250"); got != one || strings.Count(one, " ") != 7 {
			t.Errorf("one network got\n%s and\n%s", one, got)
		}
		if answerTo("198.51.101.7") == one {
			t.Error("two networks got the same eight of 64")
		}
		if got := answerTo("203.0.113.1", subnet("198.51.100.0", 24)); got != one {
			t.Errorf("a resolver for the network got\n%s, want\n%s", got, one)
		}
		for _, tc := range []struct {
			subnet *dns.EDNS0_SUBNET
			scope  uint8
		}{{subnet("198.51.100.0", 24), 24}, {subnet("198.51.100.9", 32), 24}, {subnet("198.51.0.0", 16), 16}, {subnet("2001:db8::", 64), 56}, {subnet("0.0.0.0", 0), 0}} {
			r := withEDNS(query("www.example.org.", dns.TypeA), tc.subnet)
			opt, _ := exchangeOf(t, h, "203.0.113.1", r)
			if opt == nil || len(opt.Option) != 1 {
				t.Fatalf("%s: options %v", tc.subnet, opt)
			}
			back := opt.Option[0].(*dns.EDNS0_SUBNET)
			if back.SourceScope != tc.scope || back.SourceNetmask != tc.subnet.SourceNetmask || back.Family != tc.subnet.Family || !back.Address.Equal(tc.subnet.Address) {
				t.Errorf("%s: answered with %s, want the scope %d", tc.subnet, back, tc.scope)
			}
			if tc.subnet.SourceScope != 0 || r.IsEdns0() == opt {
				t.Error("the query was written to")
			}
		}
		if opt, _ := exchangeOf(t, h, "203.0.113.1", query("www.example.org.", dns.TypeA)); opt != nil {
			t.Error("an OPT for a client that sent none (RFC 6891)")
		}
	})
}

// Whoever answered us may have looked at more of the client's network than we did: the answer is good for no more
// (RFC 7871, section 7.2.1). His message is not written to.
func TestScopeOfTheUpstream(t *testing.T) {
	theirs := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 32, SourceScope: 32, Address: []byte{198, 51, 100, 7}}
	m := new(dns.Msg)
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = []dns.EDNS0{theirs}
	ours := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 32, SourceScope: 24, Address: []byte{198, 51, 100, 7}}
	out := withOptions(m, m, []dns.EDNS0{ours})
	got := out.IsEdns0().Option
	if len(got) != 1 || got[0].(*dns.EDNS0_SUBNET).SourceScope != 32 {
		t.Errorf("options %v, want the subnet once, with the scope 32", got)
	}
	if out == m || len(m.IsEdns0().Option) != 1 || m.IsEdns0().Option[0] != dns.EDNS0(theirs) {
		t.Error("the message from below was changed")
	}
}

// What a dry run decided is told to nobody, though an alias leads to it from a stanza that is none; and the other way round
// (B32, B57).
func TestExtendedErrorOfAnAlias(t *testing.T) {
	for dry, want := range map[bool]bool{true: false, false: true} {
		inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
			alias, end := forZone(testStanza("tcp://:80", n, pooltest.Pace), "shop.example.org."), forZone(testStanza("tcp://:80", n, pooltest.Pace), "www.example.org.")
			alias.rule.Policy.DryRun, end.rule.Policy.DryRun = !dry, dry
			h := serving(p, plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
				m := new(dns.Msg)
				m.SetReply(r)
				m.Answer = append([]dns.RR{test.CNAME("shop.example.org. 30 IN CNAME www.example.org.")}, www...)
				return dns.RcodeSuccess, w.WriteMsg(m)
			}), alias, end)
			n.Kill(pooltest.Addr(1), pooltest.Addr(2))
			keepAsking(t, h, 30*time.Second, "shop.example.org.", dns.TypeA)
			if opt, _ := exchangeOf(t, h, "203.0.113.1", withEDNS(query("shop.example.org.", dns.TypeA))); (opt != nil) != want {
				t.Errorf("the alias's target a dry run: %t, OPT %v", dry, opt)
			}
		})
	}
}

// An EDNS client is told when health was disregarded, or emptied the answer; nobody else is (B32).
func TestExtendedErrors(t *testing.T) {
	for policy, want := range map[answer.AllDown]string{answer.Serve: textOpen, answer.NoData: textClosed} {
		inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
			s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
			s.rule.Policy.AllDown = policy
			h := serving(p, zoneOf(www...), s)
			if opt, _ := exchangeOf(t, h, "203.0.113.1", withEDNS(query("www.example.org.", dns.TypeA))); opt != nil {
				t.Errorf("while all is well: %s", opt)
			}
			n.Kill(pooltest.Addr(1), pooltest.Addr(2))
			keepAsking(t, h, 30*time.Second, "www.example.org.", dns.TypeA)
			opt, m := exchangeOf(t, h, "203.0.113.1", withEDNS(query("www.example.org.", dns.TypeA)))
			if opt == nil || len(opt.Option) != 1 {
				t.Fatalf("no error in\n%s", m)
			}
			if ede := opt.Option[0].(*dns.EDNS0_EDE); ede.InfoCode != 0 || ede.ExtraText != want {
				t.Errorf("error %s, want %q", ede, want)
			}
			if opt, _ := exchangeOf(t, h, "203.0.113.1", query("www.example.org.", dns.TypeA)); opt != nil {
				t.Error("an OPT for a client that sent none (RFC 6891)")
			}
			s.rule.Policy.DryRun = true
			if opt, _ := exchangeOf(t, h, "203.0.113.1", withEDNS(query("www.example.org.", dns.TypeA))); opt != nil {
				t.Error("a dry run changed the answer")
			}
			s.rule.Policy.Client = true // for which an OPT may go out
			if opt, _ := exchangeOf(t, h, "203.0.113.1", withEDNS(query("www.example.org.", dns.TypeA))); opt != nil {
				t.Error("a dry run where the client chooses changed the answer")
			}
		})
	}
}
