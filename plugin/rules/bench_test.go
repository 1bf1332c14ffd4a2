package rules

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/force"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/state"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// owner is the name of the set that the tests' addresses are in.
const owner = "www.example.org."

// quick is a pace whose first probe comes at once, and whose next one comes after the test.
var quick = verdict.Pace{Interval: time.Hour, Fast: time.Millisecond, Timeout: time.Second, Rise: 2, Fall: 3}

// checkOf is a valid check.
func checkOf(url string, options ...check.Option) *check.Check {
	c, err := check.New(url, options...)
	if err != nil {
		panic(err)
	}
	return c
}

// benchStanza returns a stanza with one check of a network in which everything is up.
func benchStanza(c *check.Check) *Stanza {
	n := pooltest.NewNetwork()
	return NewStanza(&corefile.Config{
		Zones: []string{"example.org."}, Checks: []*check.Check{c}, Pace: quick, MaxTargets: 65536, Types: answer.DefaultTypes,
		Within: network.List{network.New(netip.MustParsePrefix("10.0.0.0/8"))},
	}, func(c *check.Check) pool.CheckSpec { return pool.NewCheckSpec(c).WithProber(n) })
}

// upStanza returns a stanza of a pool that has stopped. Its table keeps n addresses that are up.
func upStanza(tb testing.TB, n int, c *check.Check) *Stanza {
	tb.Helper()
	s, p, g := benchStanza(c), pool.New(), new(pool.Generation)
	p.AddGroup(g, s.Group)
	p.Join(g)
	p.Confirm(g)
	for from := 0; from < n; from += 1000 { // the pool's inbox is limited, and so are the targets of one name
		awaitUp(tb, s, nameOf(from), from, min(n, from+1000))
	}
	p.Leave(g)
	return s
}

// nameOf is the name of an address in upStanza.
func nameOf(i int) string {
	if i < 1000 {
		return owner
	}
	return fmt.Sprintf("%d.%s", i-i%1000, owner)
}

// look looks up an address as a query does, except that what it teaches is not rationed.
func look(s *Stanza, owner string, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	at := s.Open(owner, dns.TypeA)
	at.Ahead = true
	return s.Look(at, addr, port, ttl)
}

// awaitUp looks addresses up until all of them are up.
func awaitUp(tb testing.TB, s *Stanza, name string, from, to int) {
	tb.Helper()
	deadline := time.Now().Add(time.Minute)
	for missing := to; missing > 0; time.Sleep(time.Millisecond) {
		missing = 0
		for i := from; i < to; i++ {
			if look(s, name, pooltest.Addr(i), 0, 30).State() != verdict.Up {
				missing++
			}
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%d of the addresses from %d to %d are not up after a minute", missing, from, to)
		}
	}
}

// BenchmarkLook measures one look-up of one address, in a small and a large table.
func BenchmarkLook(b *testing.B) {
	for _, n := range []int{8, 20_000} {
		b.Run(fmt.Sprintf("%d targets", n), func(b *testing.B) {
			s := upStanza(b, n, checkOf("tcp://:80"))
			var sets []verdict.RecordSet
			for i := 0; i < n; i += 1000 {
				sets = append(sets, s.Open(nameOf(i), dns.TypeA))
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if s.Look(sets[i%n/1000], pooltest.Addr(i%n), 0, 30).State() != verdict.Up {
					b.Fatal("not in the table")
				}
			}
		})
	}
}

// BenchmarkOpen measures what each set costs beside the look-ups of its addresses.
func BenchmarkOpen(b *testing.B) {
	s := upStanza(b, 20_000, checkOf("tcp://:80"))
	b.ReportAllocs()
	for b.Loop() {
		s.Open(owner, dns.TypeA)
	}
}

// BenchmarkLookOwner measures a look-up with a check for each owner. BenchmarkLookRequire measures one with three
// checks of which two must pass.
func BenchmarkLookOwner(b *testing.B) {
	s := upStanza(b, 8, checkOf("http://:80/", check.Option{Name: "host", Values: []string{"owner"}}))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if look(s, owner, pooltest.Addr(i%8), 0, 30).State() != verdict.Up {
			b.Fatal("not in the table")
		}
	}
}

func BenchmarkLookRequire(b *testing.B) {
	s := upStanza(b, 8, checkOf("tcp://:80"))
	s.checks, s.Need = append(s.checks, s.checks[0], s.checks[0]), 2
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if look(s, owner, pooltest.Addr(i%8), 0, 30).State() != verdict.Up {
			b.Fatal("not in the table")
		}
	}
}

// BenchmarkRuleOf measures finding the rule of a set, without annotations and with them.
func BenchmarkRuleOf(b *testing.B) {
	config := &corefile.Config{
		Zones: []string{"cluster.local."}, Checks: []*check.Check{checkOf("tcp://:80")}, Pace: quick, Types: answer.DefaultTypes, Annotations: new(corefile.Cluster),
	}
	annotated := NewStanza(config, pool.NewCheckSpec)
	block := NewBlock([]string{"cluster.local."}, []*corefile.Config{config}, []*Stanza{annotated})
	annotated.Overrides.SetZones(block, []string{"cluster.local."})
	annotated.Overrides.Apply(map[string]*check.Check{"cart.shop": checkOf("http://:1/")})
	const name = "_http._tcp.cart.shop.svc.cluster.local."
	if annotated.RuleFor(name) == &annotated.Rule {
		b.Fatal("the annotation has no effect")
	}
	for what, s := range map[string]*Stanza{"plain": benchStanza(checkOf("tcp://:80")), "annotated": annotated} {
		b.Run(what, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.RuleFor(name)
			}
		})
	}
}

// A look-up allocates nothing.
func TestLookAllocatesNothing(t *testing.T) {
	s := upStanza(t, 8, checkOf("tcp://:80"))
	if allocs := testing.AllocsPerRun(1000, func() { look(s, owner, pooltest.Addr(3), 0, 30) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// A look-up of a forced address allocates nothing.
func TestForcedLookAllocatesNothing(t *testing.T) {
	states, err := force.Parse([]byte("up 10.0.0.3\ndown 10.0.0.0/24\ndrain 10.0.0.0/8 2001:db8::/32"))
	if err != nil {
		t.Fatal(err)
	}
	s := upStanza(t, 8, checkOf("tcp://:80"))
	s.Force(force.Static(states))
	for i := range 8 {
		if allocs := testing.AllocsPerRun(1000, func() { look(s, owner, pooltest.Addr(i), 0, 30) }); allocs != 0 {
			t.Errorf("%v allocations", allocs)
		}
	}
	if look(s, owner, pooltest.Addr(3), 0, 30).State() != verdict.Up || look(s, owner, pooltest.Addr(4), 0, 30).State() != verdict.Down {
		t.Error("it is not forced")
	}
}

// A look-up of an address that an earlier process knew, and this one does not watch yet, allocates nothing.
func TestRestoredLookAllocatesNothing(t *testing.T) {
	s, p := benchStanza(checkOf("tcp://:80")), pool.New()
	known := state.Key{Check: "tcp://:80 " + quick.String(), Addr: netip.AddrPortFrom(pooltest.Addr(1), 80)}
	now := time.Now()
	p.Restore(map[state.Key]state.Record{known: {State: verdict.Down, Since: now.Add(-time.Minute), At: now.Add(-time.Second)}})
	p.AddGroup(new(pool.Generation), s.Group)
	if got := look(s, owner, pooltest.Addr(1), 0, 30); got.State() != verdict.Down {
		t.Errorf("it is %s", got.State())
	}
	if allocs := testing.AllocsPerRun(1000, func() { look(s, owner, pooltest.Addr(1), 0, 30) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
