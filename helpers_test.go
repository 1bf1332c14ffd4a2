package multivalue

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/rules"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

// owner is the name of the set that the tests' addresses are in.
const owner = "www.example.org."

// stanza is a stanza of a test, with the values that it was made from.
type stanza struct {
	*rules.Stanza
	config *corefile.Config
}

// testStanza returns a stanza for example.org. The network answers its one check.
func testStanza(url string, n pool.Prober, pace verdict.Pace) *stanza {
	c, err := check.New(url)
	if err != nil {
		panic(err)
	}
	return stanzaOf(&corefile.Config{
		At: "Corefile:1", Zones: []string{"example.org."}, Checks: []*check.Check{c}, Pace: pace, MaxTargets: 65536, Types: answer.DefaultTypes,
	}, n)
}

// stanzaOf returns a stanza. The network answers its checks, or the checks answer themselves if the network is nil.
func stanzaOf(c *corefile.Config, n pool.Prober) *stanza {
	return &stanza{Stanza: rules.NewStanza(c, answeredBy(n)), config: c}
}

func answeredBy(n pool.Prober) rules.NewSpec {
	if n == nil {
		return pool.NewCheckSpec
	}
	return func(c *check.Check) pool.CheckSpec { return pool.NewCheckSpec(c).WithProber(n) }
}

// forZone changes the zone of the stanza.
func forZone(s *stanza, zone string) *stanza {
	s.config.Zones, s.Group.Zones = []string{zone}, zone
	return s
}

// blockOf returns a generation that has not joined, with one block that has the stanzas in front of next.
func blockOf(p *process, next plugin.Handler, stanzas ...*stanza) (*generation, *rules.Block) {
	g := p.newGeneration()
	begun[p] = append(begun[p], g)
	return g, addBlock(g, next, stanzas...)
}

// addBlock adds a block to a generation.
func addBlock(g *generation, next plugin.Handler, stanzas ...*stanza) *rules.Block {
	var configs []*corefile.Config
	var all []*rules.Stanza
	for _, s := range stanzas {
		configs, all = append(configs, s.config), append(all, s.Stanza)
		g.process.pool.AddGroup(&g.pool, s.Group)
	}
	b := g.newBlock(nil, len(g.blocks), configs, all)
	if next != nil {
		b.Resolver.SetNext(next)
	}
	return b
}

// candidateOf returns a generation that has joined, and whose servers do not run yet.
func candidateOf(p *process, stanzas ...*stanza) *generation {
	g, _ := blockOf(p, nil, stanzas...)
	if err := p.join(g); err != nil {
		panic(err)
	}
	return g
}

// begin starts a generation with the stanzas.
func begin(p *process, stanzas ...*stanza) *generation {
	g := candidateOf(p, stanzas...)
	p.confirm(g)
	return g
}

// serving returns a running handler with the stanzas in front of next.
func serving(p *process, next plugin.Handler, stanzas ...*stanza) Multivalue {
	g, b := blockOf(p, next, stanzas...)
	if err := p.join(g); err != nil {
		panic(err)
	}
	p.confirm(g)
	return Multivalue{Next: next, block: b, process: p}
}

// begun holds the generations that the end of a bubble ends if the test has not.
var begun = make(map[*process][]*generation)

// inBubble runs a test in fake time and ends its generations.
func inBubble(t *testing.T, f func(t *testing.T, p *process, n *pooltest.FakeNetwork)) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess()
		defer func() {
			for _, g := range begun[p] {
				p.end(g)
			}
			delete(begun, p)
		}()
		f(t, p, pooltest.NewNetwork())
	})
}

// Look looks up an address as a query does, except that what it teaches is not rationed: most tests need many addresses at
// once.
func (s *stanza) Look(owner string, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	at := s.Open(owner, dns.TypeA)
	at.Ahead = true
	return s.Stanza.Look(at, addr, port, ttl)
}

// stateOf returns the state that a query sees.
func stateOf(s *stanza, a netip.Addr) verdict.State { return s.Look(owner, a, 0, 30).State() }

// targetsIn returns the number of targets in the pool.
func targetsIn(p *process) (n int) {
	if err := p.pool.Do(context.Background(), func(v pool.View) { n = v.Targets() }); err != nil {
		panic(err)
	}
	return n
}

// pass lets time pass while queries look up the addresses every second.
func pass(d time.Duration, s *stanza, addrs ...netip.Addr) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		for _, a := range addrs {
			s.Look(owner, a, 0, 30)
		}
		pooltest.Elapse(time.Second)
	}
}

// addrs returns the addresses from one number to another.
func addrs(from, to int) (all []netip.Addr) {
	for i := from; i < to; i++ {
		all = append(all, pooltest.Addr(i))
	}
	return all
}

// lookAll looks up each address once, and lets the pool add it.
func lookAll(s *stanza, addrs []netip.Addr) {
	for part := range slices.Chunk(addrs, 1000) { // the pool's inbox is bounded
		for _, a := range part {
			s.Look(owner, a, 0, 30)
		}
		synctest.Wait()
	}
}

// zoneOf answers every query with the records of its name and type, as a zone would.
func zoneOf(rrs ...dns.RR) plugin.Handler {
	return plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		m := new(dns.Msg)
		m.SetReply(r)
		for _, rr := range rrs {
			if h := rr.Header(); h.Rrtype == r.Question[0].Qtype && strings.EqualFold(h.Name, r.Question[0].Name) {
				m.Answer = append(m.Answer, rr)
			}
		}
		if len(m.Answer) == 0 {
			m.Ns = []dns.RR{test.SOA("example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 1 7200 3600 1209600 60")}
		}
		return dns.RcodeSuccess, w.WriteMsg(m)
	})
}

var www = []dns.RR{
	test.A("www.example.org. 30 IN A 10.0.0.1"),
	test.A("www.example.org. 30 IN A 10.0.0.2"),
}

// records reads records in zone-file text.
func records(texts ...string) (all []dns.RR) {
	for _, text := range texts {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		all = append(all, rr)
	}
	return all
}

func query(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	return m
}

// serve sends a query to the handler. It returns the reply, which is nil if none was written, and the code.
func serve(t *testing.T, h plugin.Handler, r *dns.Msg) (*dns.Msg, int) {
	t.Helper()
	w := dnstest.NewRecorder(&test.ResponseWriter{})
	code, err := h.ServeDNS(context.Background(), w, r)
	if err != nil {
		t.Fatal(err)
	}
	return w.Msg, code
}

// keepAsking sends a query once a second for a while, and returns the last answer.
func keepAsking(t *testing.T, h plugin.Handler, d time.Duration, name string, qtype uint16) *dns.Msg {
	t.Helper()
	var m *dns.Msg
	for end := time.Now().Add(d); time.Now().Before(end); {
		m, _ = serve(t, h, query(name, qtype))
		pooltest.Elapse(time.Second)
	}
	return m
}

func addressesOf(m *dns.Msg) string {
	var got []string
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			got = append(got, a.A.String())
		}
	}
	return strings.Join(got, " ")
}

// parseCorefile reads the stanzas of the server blocks in a Corefile.
func parseCorefile(text string) (all []*corefile.Config, err error) {
	blocks, err := caddyfile.Parse("Corefile", strings.NewReader(text), nil)
	if err != nil {
		return nil, err
	}
	for _, b := range blocks {
		configs, err := corefile.Parse(&caddy.Controller{Dispenser: caddyfile.NewDispenserTokens("Corefile", b.Tokens["multivalue"]), ServerBlockKeys: b.Keys})
		if err != nil {
			return nil, err
		}
		all = append(all, configs...)
	}
	return all, nil
}
