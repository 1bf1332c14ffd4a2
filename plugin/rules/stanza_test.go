package rules

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/force"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// An explanation sees an address as a query does, in every state and with every forced state, but adds no target to
// the pool. TestPeek in package pool tests each check.
func TestReadOnlyAgreesWithLook(t *testing.T) {
	for name, second := range map[string]*check.Check{
		"a port":   checkOf("tcp://:81"),
		"no ports": checkOf("icmp:"),
		"nowhere":  checkOf("tcp://"),
		"a weight": checkOf("http://:80/", check.Option{Name: "weight_header", Values: []string{"X-Weight"}}),
		"an agent": checkOf("agent://:81"),
		"an owner": checkOf("http://:80/", check.Option{Name: "host", Values: []string{"owner"}}),
	} {
		for _, limit := range []int{4, 65536} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { peekAndLook(t, second, limit) })
			})
		}
	}
}

// peekAndLook compares what a query and an explanation see while addresses come up, go down and are added. The limit
// may have room for all targets or not.
func peekAndLook(t *testing.T, second *check.Check, limit int) {
	networks := map[string]*pooltest.FakeNetwork{"tcp://:80": pooltest.NewNetwork(), second.String(): pooltest.NewNetwork()}
	s := NewStanza(&corefile.Config{
		Zones: []string{"example.org."}, Checks: []*check.Check{checkOf("tcp://:80"), second}, Pace: pooltest.Pace, MaxTargets: limit,
		Types: answer.DefaultTypes, Within: network.List{network.New(netip.MustParsePrefix("10.0.0.0/8"))},
	}, func(c *check.Check) pool.CheckSpec { return pool.NewCheckSpec(c).WithProber(networks[c.String()]) })
	p, g := pool.New(), new(pool.Generation)
	p.AddGroup(g, s.Group)
	p.Join(g)
	p.Confirm(g)
	defer p.Leave(g)
	random := rand.New(rand.NewPCG(1, 2))
	states := make(map[verdict.State]int)
	for n := range 500 {
		for _, network := range networks {
			for range 3 {
				network.Set(network.Dead, random.IntN(2) == 0, []netip.Addr{pooltest.Addr(random.IntN(12))})
				network.Say(report.Report{
					HasWeight: true, Weight: uint8(random.IntN(101)), Admin: []string{"ready", "drain", "maint"}[random.IntN(3)],
				}, pooltest.Addr(random.IntN(12)))
			}
		}
		pooltest.Elapse(3 * time.Second)
		addr := pooltest.Addr(random.IntN(12))
		if n%7 == 0 {
			addr = netip.MustParseAddr("192.0.2.1") // outside within
		}
		words := []string{"", "up 10.0.0.0/8", "down 10.0.0.0/9", "drain 10.0.0.0/8"}[random.IntN(4)]
		forced, err := force.Parse([]byte(words))
		if err != nil {
			t.Fatal(err)
		}
		s.Forced = force.Static(forced)
		s.Need = random.IntN(2)
		err = p.Do(context.Background(), func(pool.View) { // the pool adds nothing between the two
			waiting := p.Backlog()
			got := s.ReadOnly().Look(verdict.RecordSet{Owner: owner}, addr, 0, 30)
			if p.Backlog() != waiting {
				t.Error("an explanation adds a target")
			}
			if want := look(s, owner, addr, 0, 30); got != want {
				t.Errorf("%s, %q: explained as %x, looked up as %x", addr, words, got, want)
			}
			states[got.State()]++
		})
		if err != nil || t.Failed() {
			t.Fatal(err)
		}
	}
	if len(states) != 4 {
		t.Errorf("only these states came up: %v", states)
	}
}

// An address that only explanations look up is forgotten.
func TestReadOnlyLeavesNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := pooltest.NewNetwork()
		s := NewStanza(&corefile.Config{Zones: []string{"example.org."}, Checks: []*check.Check{checkOf("tcp://:80")}, Pace: pooltest.Pace, MaxTargets: 8},
			func(c *check.Check) pool.CheckSpec { return pool.NewCheckSpec(c).WithProber(n) })
		p, g := pool.New(), new(pool.Generation)
		p.AddGroup(g, s.Group)
		p.Join(g)
		p.Confirm(g)
		defer p.Leave(g)
		look(s, owner, pooltest.Addr(1), 0, 30)
		for range 25 * 60 {
			pooltest.Elapse(time.Minute)
			s.ReadOnly().Look(verdict.RecordSet{Owner: owner}, pooltest.Addr(1), 0, 30)
		}
		if err := p.Do(context.Background(), func(v pool.View) {
			if v.Targets() != 0 {
				t.Error("an address is still watched after a day in which no query asked for it")
			}
		}); err != nil {
			t.Error(err)
		}
	})
}
