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
	"github.com/coredns-multivalue/multivalue/plugin/lookup"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/file"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

const (
	// readyWait is how long readiness waits for first verdicts at pooltest.Pace, as the manual says: 3 x 2 s + 2 s.
	readyWait = 8 * time.Second
	// maxRequests is how many unknown questions of one answer the resolver accepts.
	maxRequests = 32
	// poolInbox is how many new targets may wait for the pool.
	poolInbox = 4096
	// preloadEvery is how often a preloaded zone is read again, as the manual says.
	preloadEvery = time.Minute
)

// changing is a zone that changes, and that counts the questions it gets.
type changing struct {
	mu    sync.Mutex
	rrs   []dns.RR
	asked map[lookup.Question]int
	fails bool
}

func changingZone(rrs ...dns.RR) *changing {
	return &changing{rrs: rrs, asked: make(map[lookup.Question]int)}
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
	return z.asked[lookup.Question{Name: name, Type: qtype}]
}

func (z *changing) Name() string { return "changing" }

func (z *changing) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	z.mu.Lock()
	rrs, fails := z.rrs, z.fails
	z.asked[lookup.Question{Name: strings.ToLower(r.Question[0].Name), Type: r.Question[0].Qtype}]++
	z.mu.Unlock()
	if fails {
		return dns.RcodeServerFailure, nil
	}
	return zoneOf(rrs...).ServeDNS(ctx, w, r)
}

// service is an SRV set of two hosts without their addresses, as *minimal* leaves it.
var service = []dns.RR{
	test.SRV("_x._tcp.example.org. 30 IN SRV 1 1 8001 a.example.org."),
	test.SRV("_x._tcp.example.org. 30 IN SRV 1 1 8002 b.example.org."),
}

// hostsOf returns the SRV record and the A records of its hosts a, b and so on, with a TTL of 30 s.
func hostsOf(addrs ...int) []dns.RR {
	rrs := slices.Clone(service)
	for i, n := range addrs {
		rrs = append(rrs, test.A(fmt.Sprintf("%c.example.org. 30 IN A %s", 'a'+i, pooltest.Addr(n))))
	}
	return rrs
}

func srvStanza(n *pooltest.FakeNetwork) *stanza { return srvStanzaOf("tcp://", n) }

func srvStanzaOf(url string, n *pooltest.FakeNetwork) *stanza {
	s := forZone(testStanza(url, n, pooltest.Pace), "example.org.")
	s.Rule.Types = answer.TypesOf(dns.TypeSRV)
	s.Rule.Policy.MinUp.Count = 1
	return s
}

func targetsOf(m *dns.Msg) string {
	var got []string
	for _, rr := range m.Answer {
		got = append(got, rr.(*dns.SRV).Target)
	}
	return strings.Join(got, " ")
}

// The plugins below are asked for hosts without glue, and are asked again when the TTL expires (B15, B16, T27).
func TestLearnsHosts(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		z := changingZone(hostsOf(1, 2)...)
		h := serving(p, z, srvStanza(n))
		n.Kill(pooltest.Addr(1))
		if m, _ := serve(t, h, query("_x._tcp.example.org.", dns.TypeSRV)); len(m.Answer) != 2 {
			t.Errorf("before anything is known: %s", targetsOf(m))
		}
		if m := keepAsking(t, h, 30*time.Second, "_x._tcp.example.org.", dns.TypeSRV); targetsOf(m) != "b.example.org." {
			t.Errorf("with a dead: %s", targetsOf(m))
		}
		z.set(hostsOf(3, 1)...) // a moves to the address that is up, b to the one that is down
		if m := keepAsking(t, h, 90*time.Second, "_x._tcp.example.org.", dns.TypeSRV); targetsOf(m) != "a.example.org." {
			t.Errorf("after the hosts moved: %s", targetsOf(m))
		}
		if got := z.count("a.example.org.", dns.TypeA); got < 3 || got > 8 {
			t.Errorf("queried %d times for a host with a TTL of 30 s in two minutes", got)
		}
		z.fail(true) // the known addresses stay
		h.block.Resolver.Start()
		keepAsking(t, h, time.Second, "_x._tcp.example.org.", dns.TypeSRV)
		if r, _ := h.block.Resolver.Get(lookup.Question{Name: "a.example.org.", Type: dns.TypeA}); r == nil || len(r.Addresses) != 1 {
			t.Errorf("addresses of the host after a failure: %v", r)
		}
	})
}

// rowsOf lists all targets as the status page shows them.
func rowsOf(p *process) []status.Target {
	var shot status.Snapshot
	for shard, more := 0, true; more; {
		if err := p.pool.Do(context.Background(), func(v pool.View) { shard, more = v.Rows(shard, &shot) }); err != nil {
			panic(err)
		}
	}
	return shot.Targets
}

// An SRV record's own port is probed, unless the check has one (B15).
func TestPortOfTheRecord(t *testing.T) {
	for url, want := range map[string]string{"tcp://": "10.0.0.1:8001 10.0.0.2:8002", "tcp://:99": "10.0.0.1:99 10.0.0.2:99"} {
		inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
			h := serving(p, changingZone(hostsOf(1, 2)...), srvStanzaOf(url, n))
			keepAsking(t, h, 5*time.Second, "_x._tcp.example.org.", dns.TypeSRV)
			var got []string
			for _, row := range rowsOf(p) {
				got = append(got, row.Address.String())
			}
			if slices.Sort(got); strings.Join(got, " ") != want {
				t.Errorf("%s: watched %v, want %s", url, got, want)
			}
		})
	}
}

// If neither the check nor the record has a port, the address is served without a probe.
func TestNoPortAnywhere(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := srvStanza(n)
		s.Rule.Types = answer.DefaultTypes
		h := serving(p, zoneOf(www...), s)
		m := keepAsking(t, h, 30*time.Second, "www.example.org.", dns.TypeA)
		if addressesOf(m) != "10.0.0.1 10.0.0.2" || n.Asked(pooltest.Addr(1)) != 0 || targetsIn(p) != 0 {
			t.Errorf("answer %s, %d probes, %d watches", addressesOf(m), n.Asked(pooltest.Addr(1)), targetsIn(p))
		}
	})
}

// The SOA record is taken from the denial for the owner, and looked up again as it ages (B31).
func TestSOAIsRenewed(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.Rule.Policy.AllDown = answer.NoData
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
		h.block.Resolver.SetNext(next)
		if m := keepAsking(t, h, 20*time.Second, "www.example.org.", dns.TypeA); serial(m) != 1 {
			t.Errorf("serial %d before the minimum TTL of 60 s has passed", serial(m))
		}
		if m := keepAsking(t, h, 30*time.Second, "www.example.org.", dns.TypeA); serial(m) != 2 {
			t.Errorf("serial %d after it has", serial(m))
		}
	})
}

// A reload keeps the known replies, and asks for them again (B69).
func TestReloadKeepsReplies(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		z := changingZone(hostsOf(1, 2)...)
		h := serving(p, z, srvStanza(n))
		n.Kill(pooltest.Addr(1))
		keepAsking(t, h, 30*time.Second, "_x._tcp.example.org.", dns.TypeSRV)
		g, b := blockOf(p, z, srvStanza(n))
		if got := b.Resolver.Known(); got != 4 {
			t.Fatalf("%d questions were adopted, want 4", got)
		}
		if r := b.Resolver.Peek(lookup.Question{Name: "b.example.org.", Type: dns.TypeA}); r == nil || len(r.Addresses) != 1 || r.Addresses[0] != pooltest.Addr(2) {
			t.Errorf("addresses of b: %v", r)
		}
		h.block.Resolver.Close()
		before := z.count("b.example.org.", dns.TypeA)
		if err := p.join(g); err != nil {
			t.Fatal(err)
		}
		p.confirm(g)
		pooltest.Elapse(2 * time.Second)
		if got := z.count("b.example.org.", dns.TypeA) - before; got != 1 {
			t.Errorf("b was looked up %d times after the reload, want once", got)
		}
		if !b.Resolver.NeedsIngress() {
			t.Error("after the reload, the resolver does not need a query to learn its listener")
		}
		if p.resolver("") != b.Resolver {
			t.Error("the next reload does not find the replies of this one")
		}
		twins, _ := blockOf(p, z, srvStanza(n))
		addBlock(twins, z, srvStanza(n))
		if err := p.join(twins); err != nil {
			t.Fatal(err)
		}
		p.confirm(twins)
		if p.resolver("") != nil {
			t.Error("one of two blocks with the same keys but different views is adopted")
		}
	})
}

// The addresses at the end of an alias into a foreign zone count only if within allows probing them (B60).
func TestForeignHosts(t *testing.T) {
	for confined, want := range map[bool]int{false: 0, true: 1} {
		inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
			s := srvStanza(n)
			if confined {
				s.Within = network.List{network.New(netip.MustParsePrefix("10.0.0.0/8"))}
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
				t.Errorf("within %t: the foreign address was probed %d times", confined, n.Asked(pooltest.Addr(66)))
			}
		})
	}
}

// Hosts that cannot be looked up do not keep later hosts from being judged.
func TestFailingHostsDoNotStarveOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		var set []dns.RR
		for i := range 2 * maxRequests {
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
		if strings.Contains(targetsOf(m), " a.example.org.") || len(m.Answer) != 2*maxRequests+1 {
			t.Errorf("%d records, want all but that of a: %s", len(m.Answer), targetsOf(m))
		}
	})
}

// A panic in a plugin below costs one answer, and nothing else.
func TestResolverSurvives(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		z := changingZone(hostsOf(1, 2)...)
		h := serving(p, z, srvStanza(n))
		var broken plugin.Handler = plugin.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) { panic("a fault") })
		h.block.Resolver.SetNext(broken)
		n.Kill(pooltest.Addr(1))
		if m := keepAsking(t, h, 20*time.Second, "_x._tcp.example.org.", dns.TypeSRV); len(m.Answer) != 2 {
			t.Errorf("while look-ups fail: %s", targetsOf(m))
		}
		h.block.Resolver.SetNext(z)
		if m := keepAsking(t, h, 40*time.Second, "_x._tcp.example.org.", dns.TypeSRV); targetsOf(m) != "b.example.org." {
			t.Errorf("after that: %s", targetsOf(m))
		}
	})
}

// Preloaded names are judged before the first query, and stay known without one (B59, B62, B68).
func TestWatch(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.Rule.Policy.MinUp.Count = 1
		s.config.Watch = []string{"www.example.org."}
		n.Kill(pooltest.Addr(1))
		h := serving(p, zoneOf(www...), s)
		if p.ready(time.Now()) {
			t.Error("ready before anything is known")
		}
		// A verdict takes three failures with two quarters of a fast interval between them, each of which may be a tenth
		// shorter: at least 0.9 s.
		pooltest.Elapse(850 * time.Millisecond)
		if p.ready(time.Now()) {
			t.Error("ready before the dead address has a verdict")
		}
		pooltest.Elapse(2500 * time.Millisecond)
		if !p.ready(time.Now()) {
			t.Error("not ready although all addresses have verdicts")
		}
		for _, d := range []time.Duration{10 * time.Second, 2 * time.Hour} {
			pooltest.Elapse(d)
			if m, _ := serve(t, h, query("www.example.org.", dns.TypeA)); addressesOf(m) != "10.0.0.2" {
				t.Errorf("after %s without a query: %s", d, addressesOf(m))
			}
		}
	})
}

// The addresses of a watched name that is denied are forgotten like those that left a set which is looked at: with NXDOMAIN,
// with NODATA, and if the alias in its place leads to nothing. While it only fails they stay (B59, B85).
func TestWatchedNamesGone(t *testing.T) {
	soa := test.SOA("example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 1 7200 3600 1209600 60")
	alias := test.CNAME("www.example.org. 30 IN CNAME gone.example.org.")
	for what, tc := range map[string]struct {
		rcode      int
		answer, ns []dns.RR
		kept       int
	}{
		"nxdomain":         {dns.RcodeNameError, nil, []dns.RR{soa}, 0},
		"nodata":           {dns.RcodeSuccess, nil, []dns.RR{soa}, 0},
		"alias to nothing": {dns.RcodeNameError, []dns.RR{alias}, []dns.RR{soa}, 0},
		"referral":         {dns.RcodeSuccess, nil, []dns.RR{test.NS("example.org. 30 IN NS ns.example.org.")}, 2},
		"failure":          {dns.RcodeServerFailure, nil, nil, 2},
	} {
		inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
			var denied atomic.Bool
			there := zoneOf(www...)
			next := plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
				if !denied.Load() {
					return there.ServeDNS(ctx, w, r)
				}
				m := new(dns.Msg)
				m.SetRcode(r, tc.rcode)
				m.Answer, m.Ns = tc.answer, tc.ns
				return tc.rcode, w.WriteMsg(m)
			})
			s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
			s.config.Watch = []string{"www.example.org."}
			serving(p, next, s)
			pooltest.Elapse(2 * time.Hour)
			if got := targetsIn(p); got != 2 {
				t.Fatalf("%s: %d targets before", what, got)
			}
			denied.Store(true)
			pooltest.Elapse(2 * time.Hour)
			if got := targetsIn(p); got != tc.kept {
				t.Errorf("%s: %d targets two hours later, want %d", what, got, tc.kept)
			}
		})
	}
}

// Names are preloaded with a policy that depends on the client, although no client has sent a query. This adds no
// question of its own.
func TestWatchBesideSelectClient(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.Rule.Policy = answer.Policy{Limit: 1, MinUp: answer.Quorum{Count: 1}, Client: true, AllDown: answer.NoData}
		s.config.Watch = []string{"www.example.org."}
		h := serving(p, zoneOf(www...), s)
		pooltest.Elapse(30 * time.Second)
		if n.Asked(pooltest.Addr(1)) == 0 || n.Asked(pooltest.Addr(2)) == 0 {
			t.Errorf("probed %d and %d times", n.Asked(pooltest.Addr(1)), n.Asked(pooltest.Addr(2)))
		}
		if got := h.block.Resolver.Known(); got != 4 {
			t.Errorf("%d questions, want only the 4 types of the preloaded name", got)
		}
	})
}

// A server that was ready stays ready through a reload that preloads more names, although no probe of their addresses
// has ended (B68).
func TestReadinessDoesNotFlicker(t *testing.T) {
	text := pooltest.Logged(t)
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		n.Swallow(pooltest.Addr(1), pooltest.Addr(2))
		pace := pooltest.Pace
		pace.Fast = pace.Interval // so that no address that is down has a verdict while readiness might wait
		watching := func(names ...string) *stanza {
			s := forZone(testStanza("tcp://:80", n, pace), "example.org.")
			s.config.Watch = names
			return s
		}
		serving(p, zoneOf(hostsOf(3)...), watching("a.example.org."))
		for !p.ready(time.Now()) {
			pooltest.Elapse(10 * time.Millisecond)
		}
		before := begun[p][0]
		serving(p, zoneOf(append(hostsOf(3), www...)...), watching("a.example.org.", "www.example.org."))
		for range 2 * readyWait / (100 * time.Millisecond) {
			if !p.ready(time.Now()) {
				t.Fatal("not ready after a reload")
			}
			pooltest.Elapse(100 * time.Millisecond)
		}
		p.end(before)
		if !p.ready(time.Now()) || n.Asked(pooltest.Addr(1)) == 0 {
			t.Errorf("not ready after the old servers have stopped, with %d probes of the new name", n.Asked(pooltest.Addr(1)))
		}
	})
	if strings.Contains(text.String(), "readiness") {
		t.Errorf("the log says that readiness waited through the reload:\n%s", text)
	}
}

// A server is ready when the last target has its first verdict, and does not wait for a name that does not exist
// (B68).
func TestFirstVerdicts(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.config.Watch = []string{"www.example.org.", "none.example.org."}
		serving(p, zoneOf(www...), s)
		began := time.Now()
		for !p.ready(time.Now()) {
			pooltest.Elapse(10 * time.Millisecond)
		}
		if took := time.Since(began); took > pooltest.Pace.Fast+200*time.Millisecond {
			t.Errorf("ready after %s, although every address answered within %s", took, pooltest.Pace.Fast)
		}
		if n.Asked(pooltest.Addr(1)) == 0 || n.Asked(pooltest.Addr(2)) == 0 {
			t.Error("ready, but one address was never probed")
		}
	})
}

// Readiness waits for the verdicts of dead addresses in a preloaded zone, and an address over the limit does not hold it
// back (B87).
func TestReadyAfterPreloading(t *testing.T) {
	for what, tc := range map[string]struct{ targets, verdicts int }{"all": {65536, 4}, "over the limit": {2, 2}} {
		inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
			s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
			s.config.Preload, s.Group.Max = true, tc.targets
			n.Kill(addrs(1, 5)...)
			preloading(t, p, zoneFile(t, 1, "www 30 IN A 10.0.0.1\nwww 30 IN A 10.0.0.2\nwww 30 IN A 10.0.0.3\nwww 30 IN A 10.0.0.4"), s)
			began := time.Now()
			for !p.ready(time.Now()) {
				pooltest.Elapse(10 * time.Millisecond)
			}
			down := 0
			for _, a := range addrs(1, 5) {
				if stateOf(s, a) == verdict.Down {
					down++
				}
			}
			if took := time.Since(began); down != tc.verdicts || took < 850*time.Millisecond || took >= readyWait {
				t.Errorf("%s: ready after %s, with %d verdicts, want %d", what, took, down, tc.verdicts)
			}
		})
	}
}

// Readiness waits no longer than fall x timeout + 2 s, or half a minute, for addresses that do not get a verdict, and for a
// zone that no plugin lists (B87). The longest of the stanzas counts.
func TestReadyWaitIsBounded(t *testing.T) {
	paces := map[time.Duration]verdict.Pace{
		8 * time.Second:  pooltest.Pace,
		30 * time.Second: {Interval: 10 * time.Second, Fast: 5 * time.Second, Timeout: 5 * time.Second, Rise: 2, Fall: 20},
	}
	stuck := func(n *pooltest.FakeNetwork, zone string, pace verdict.Pace) *stanza {
		pace.Interval, pace.Fast = time.Minute, time.Minute // a verdict takes longer than readiness waits
		s := forZone(testStanza("tcp://:80", n, pace), zone)
		s.config.Watch = []string{"www." + zone}
		return s
	}
	for want, pace := range paces {
		for what, zone := range map[string]string{"watch": "", "no zone": "none.example."} {
			inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
				n.Kill(pooltest.Addr(1), pooltest.Addr(2))
				s := stuck(n, "example.org.", pace)
				if zone != "" {
					s.config.Watch, s.config.Preload = nil, true
					forZone(s, zone)
				}
				quick := stuck(n, "sub.example.org.", verdict.Pace{Timeout: time.Second, Rise: 1, Fall: 1})
				preloading(t, p, zoneFile(t, 1, "www 30 IN A 10.0.0.1\nwww 30 IN A 10.0.0.2"), s, quick)
				pooltest.Elapse(want - 10*time.Millisecond)
				early := p.ready(time.Now())
				pooltest.Elapse(10 * time.Millisecond)
				if early || !p.ready(time.Now()) {
					t.Errorf("%s, at %s: readiness did not wait for exactly %s", what, pace, want)
				}
			})
		}
	}
}

// zoneFile returns the file plugin with one zone.
func zoneFile(t *testing.T, serial int, records string) file.File {
	t.Helper()
	text := fmt.Sprintf("example.org. 300 IN SOA ns.example.org. hostmaster.example.org. %d 7200 3600 1209600 60\n%s", serial, records)
	z, err := file.Parse(strings.NewReader(text), "example.org.", "db.example.org", -1)
	if err != nil {
		t.Fatal(err)
	}
	return file.File{Zones: file.Zones{Z: map[string]*file.Zone{"example.org.": z}, Names: []string{"example.org."}}}
}

// preloading serves stanzas whose zones are preloaded from a plugin of their block.
func preloading(t *testing.T, p *process, source plugin.Handler, stanzas ...*stanza) {
	t.Helper()
	g, b := blockOf(p, source, stanzas...)
	c := chain{handlers: []plugin.Handler{source}}
	for _, s := range stanzas {
		c.configs = append(c.configs, s.config)
	}
	if err := c.preload(b); err != nil {
		t.Fatal(err)
	}
	if err := p.join(g); err != nil {
		t.Fatal(err)
	}
	p.confirm(g)
}

// A preloaded zone is read again when its serial has changed. Only records that the stanza would judge are added,
// without glue and signed sets, and the zone stays watched without a query (B59, B62).
func TestPreload(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "www.example.org.")
		s.config.Preload = true
		f := zoneFile(t, 1, "www.example.org. 30 IN A 10.0.0.1\nwww.example.org. 30 IN A 10.0.0.2\n"+
			"sub.www.example.org. 30 IN NS ns.sub.www.example.org.\nns.sub.www.example.org. 30 IN A 10.0.0.4\nns.sub.www.example.org. 30 IN A 10.0.0.5\n"+
			"signed.www.example.org. 30 IN A 10.0.0.11\nsigned.www.example.org. 30 IN A 10.0.0.12\n"+
			"signed.www.example.org. 30 IN RRSIG A 13 4 30 20300101000000 20200101000000 1 example.org. AAAA\n"+
			"one.www.example.org. 30 IN A 10.0.0.7\nother.example.org. 30 IN A 10.0.0.8\nother.example.org. 30 IN A 10.0.0.9")
		preloading(t, p, f, s)
		pooltest.Elapse(2 * time.Hour)
		for i, want := range map[int]bool{1: true, 2: true, 4: false, 5: false, 11: false, 12: false, 7: false, 8: false, 9: false} {
			if got := n.Asked(pooltest.Addr(i)) > 700; got != want {
				t.Errorf("%s was probed %d times in two hours", pooltest.Addr(i), n.Asked(pooltest.Addr(i)))
			}
		}
		old, edited := f.Z["example.org."], zoneFile(t, 2, "www.example.org. 30 IN A 10.0.0.3\nwww.example.org. 30 IN A 10.0.0.2").Z["example.org."]
		old.Lock() // as the file plugin does when it reads a zone again
		old.Apex, old.Tree = edited.Apex, edited.Tree
		old.Unlock()
		pooltest.Elapse(preloadEvery + 10*time.Second)
		if n.Asked(pooltest.Addr(3)) == 0 {
			t.Error("the new address was not probed")
		}
		pooltest.Elapse(time.Hour)
		before := n.Asked(pooltest.Addr(1))
		pooltest.Elapse(time.Hour)
		if got := n.Asked(pooltest.Addr(1)) - before; got != 0 {
			t.Errorf("an address that left the zone was probed %d times", got)
		}
	})
}

// A zone with more addresses than the pool's inbox holds is added completely in one pass, at the pool's speed.
func TestPreloadOfALargeZone(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.config.Preload = true
		const size = 4 * poolInbox
		var text strings.Builder
		for i := range size {
			fmt.Fprintf(&text, "www%d.example.org. 30 IN A %s\n", i/64, pooltest.Addr(i))
		}
		preloading(t, p, zoneFile(t, 1, text.String()), s)
		pooltest.Elapse(preloadEvery / 2)
		if got := targetsIn(p); got != size {
			t.Errorf("%d of %d addresses are watched", got, size)
		}
	})
}

// A zone with serial 0 is read. A zone that no plugin lists is tried at growing intervals, and delays no other zone.
func TestPreloadOfOddZones(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org.")
		s.config.Zones = append(s.config.Zones, "example.net.")
		s.config.Preload = true
		f := zoneFile(t, 0, "www.example.org. 30 IN A 10.0.0.1\nwww.example.org. 30 IN A 10.0.0.2")
		asked := countedLister{f, new(int)}
		preloading(t, p, asked, s)
		pooltest.Elapse(time.Hour)
		if n.Asked(pooltest.Addr(1)) == 0 {
			t.Error("the zone with the serial 0 was not read")
		}
		if *asked.missed < 60 || *asked.missed > 80 {
			t.Errorf("%d attempts in an hour for a missing zone, want 60 to 80", *asked.missed)
		}
	})
}

// countedLister counts how often it is asked for a zone that it does not have.
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

// The pool does not run before it knows what readiness waits for: once a server has said that it is ready, CoreDNS
// does not ask it again (B68).
func TestReadinessIsNotEarly(t *testing.T) {
	p, n := newProcess(), pooltest.NewNetwork()
	g := p.newGeneration()
	for i := range 200 { // enough blocks that going through all of them takes a while
		s := forZone(testStanza("tcp://:80", n, pooltest.Pace), fmt.Sprintf("z%d.example.org.", i))
		s.config.Watch = s.config.Zones
		addBlock(g, changingZone(), s)
	}
	never := make(chan struct{}) // the last block's questions get no reply, so readiness waits for its full time
	last := forZone(testStanza("tcp://:80", n, pooltest.Pace), "last.example.org.")
	last.config.Watch = last.config.Zones
	addBlock(g, plugin.HandlerFunc(func(ctx context.Context, _ dns.ResponseWriter, _ *dns.Msg) (int, error) {
		<-never
		return dns.RcodeServerFailure, nil
	}), last)
	if err := p.join(g); err != nil {
		t.Fatal(err)
	}
	confirmed := make(chan struct{})
	go func() { defer close(confirmed); p.confirm(g) }()
	for done := false; !done; {
		select {
		case <-confirmed:
			done = true
		default:
		}
		if p.ready(time.Now()) {
			t.Error("ready before anything is known")
			break
		}
	}
	<-confirmed
	close(never)
	p.end(g)
}

// The first question of a block's own has the server that its query came in on, which the plugins below need to follow
// aliases through the whole server.
func TestFirstQuestionHasTheServer(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		server := &dnsserver.Server{Addr: "dns://127.0.0.1:53"}
		var mu sync.Mutex
		var asked []any
		zone := zoneOf(records("example.org. 30 IN MX 10 mail.example.org.", "mail.example.org. 30 IN A 10.0.0.1")...)
		next := plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
			if r.Question[0].Qtype != dns.TypeMX {
				mu.Lock()
				asked = append(asked, ctx.Value(dnsserver.Key{}))
				mu.Unlock()
			}
			return zone.ServeDNS(ctx, w, r)
		})
		s := testStanza("tcp://:25", n, pooltest.Pace)
		s.Rule.Types = answer.TypesOf(dns.TypeMX)
		h := serving(p, next, s)
		if _, err := h.ServeDNS(context.WithValue(t.Context(), dnsserver.Key{}, server), &test.ResponseWriter{}, query("example.org.", dns.TypeMX)); err != nil {
			t.Fatal(err)
		}
		pooltest.Elapse(5 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(asked) == 0 || slices.Contains(asked, nil) {
			t.Errorf("asked with the servers %v", asked)
		}
	})
}
