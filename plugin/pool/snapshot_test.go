package pool

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// Peek returns the same as Look in every state, but it sends nothing to the pool, and the target does not count as
// asked for.
func TestPeek(t *testing.T) {
	for name, change := range map[string]func(*CheckSpec){
		"a port":   func(*CheckSpec) {},
		"no ports": func(c *CheckSpec) { c.port, c.portNamed = 0, true },
		"nowhere":  func(c *CheckSpec) { c.port = 0 },
		"an owner": func(c *CheckSpec) { c.forOwner = func(string) Prober { return nil } },
	} {
		t.Run(name, func(t *testing.T) { peekAndLook(t, change) })
	}
}

func peekAndLook(t *testing.T, change func(*CheckSpec)) {
	s := upTable(8)
	other := s.checks[0]
	change(&other)
	random := rand.New(rand.NewPCG(1, 2))
	measured := []verdict.State{verdict.Unknown, verdict.Up, verdict.Down}
	for range 500 {
		addr := netip.AddrPortFrom(pooltest.Addr(random.IntN(12)), 0)
		c := []*CheckSpec{&s.checks[0], &other}[random.IntN(2)]
		s.full.Store(random.IntN(2) == 0)
		s.pool.full.Store(random.IntN(4) == 0)
		k, _ := c.Key(owner, addr)
		if e := s.pool.table.Find(&k.Target, table.Hash(&k.Target, k.seed)); e != nil {
			e.Store(verdict.Verdict{State: measured[random.IntN(3)], Holds: time.Minute})
			e.Join(1, 0, 1, 1)
			for x := range e.Members() {
				x.Rest()
				if s.Peek(k); x.TakeAsked() {
					t.Fatal("Peek counts as a query")
				}
				e.Quit(x)
			}
		}
		waiting := s.Backlog()
		got := s.Peek(k)
		if s.Backlog() != waiting {
			t.Fatal("Peek adds a target")
		}
		if want := s.Group.Look(c, s.Open(owner, dns.TypeA), addr.Addr(), 0, 30); got != want {
			t.Fatalf("%s: peeked as %x, looked up as %x", addr.Addr(), got, want)
		}
	}
}

// The data for the status page is recorded while the page is on, and dropped when it is turned off.
func TestRecord(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		kept := func() (histories, changes int) {
			p.life.Lock()
			defer p.life.Unlock()
			p.do(func() {
				for _, w := range p.monitors {
					if w.history != nil {
						histories++
					}
				}
				changes = len(p.changes)
			})
			return histories, changes
		}
		watch := func() string {
			n.Kill(pooltest.Addr(1))
			pass(time.Minute, s, pooltest.Addr(1), pooltest.Addr(2))
			n.Revive(pooltest.Addr(1))
			pass(time.Minute, s, pooltest.Addr(1), pooltest.Addr(2))
			return fmt.Sprint(kept())
		}
		if got := watch(); got != "0 0" {
			t.Errorf("%s histories and changes without a page", got)
		}
		p.Record(true)
		if got := watch(); got != "2 2" {
			t.Errorf("%s histories and changes, want 2 2", got)
		}
		p.Record(false)
		if got := fmt.Sprint(kept()); got != "0 0" {
			t.Errorf("%s histories and changes when the page is turned off", got)
		}
		if got := watch(); got != "0 0" {
			t.Errorf("%s histories and changes after the page was turned off", got)
		}
	})
}

// BenchmarkRows measures a turn of the loop that shows some of many targets.
func BenchmarkRows(b *testing.B) {
	p := New()
	s := testStanza("tcp://:80", pooltest.NewNetwork(), pooltest.Pace)
	candidateOf(p, s)
	for i := range 100_000 {
		t := verdict.Target{Identity: s.checks[0].identity, Addr: netip.AddrPortFrom(pooltest.Addr(i), 80)}
		p.addMonitor(t, p.checks[t.Identity], &s.Group, owner, nil, time.Now()).entry.Store(verdict.Verdict{State: verdict.Up, Holds: 13 * time.Second})
	}
	shot := new(status.Snapshot)
	shard := 0
	for b.Loop() {
		if shard >= table.Shards {
			shard, shot.Targets = 0, shot.Targets[:0]
		}
		shard, _ = View{p}.Rows(shard, shot)
	}
}
