package rules

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/force"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// weighing is a stanza with three checks, of which the first two report what their networks say. It runs in a pool until the
// test ends.
func weighing(t *testing.T, require answer.Quorum, networks ...*pooltest.FakeNetwork) *Stanza {
	header := check.Option{Name: "weight_header", Values: []string{"X-Weight"}}
	c := &corefile.Config{
		Zones: []string{"example.org."}, Require: require, Pace: pooltest.Pace, MaxTargets: 65536, Types: answer.DefaultTypes,
		Checks: []*check.Check{checkOf("http://:80/", header), checkOf("http://:81/", header), checkOf("tcp://:82")},
	}
	s := NewStanza(c, func(x *check.Check) pool.CheckSpec { return pool.NewCheckSpec(x).WithProber(networks[x.Port()-80]) })
	p, g := pool.New(), new(pool.Generation)
	p.AddGroup(g, s.Group)
	p.Join(g)
	p.Confirm(g)
	t.Cleanup(func() { p.Leave(g) })
	return s
}

// The least weight of several checks counts, also of one that is not needed, but not of one that is down (B101). A forced state
// comes before it.
func TestLeastWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := pooltest.NewNetwork(), pooltest.NewNetwork(), pooltest.NewNetwork()
		s := weighing(t, answer.Quorum{}, a, b, c)
		says := func(n *pooltest.FakeNetwork, percent uint8) {
			n.Say(report.Report{HasWeight: true, Weight: percent}, pooltest.Addr(1))
		}
		expect := func(when string, need int, weight uint8, drained bool) {
			t.Helper()
			s.Need = need
			v := look(s, owner, pooltest.Addr(1), 0, 30)
			if v.State() != verdict.Up || v.Weight() != weight || v.Drained() != drained {
				t.Errorf("%s, need %d: %s, %d%%, drained %t", when, need, v.State(), v.Weight(), v.Drained())
			}
			if allocs := testing.AllocsPerRun(10, func() { look(s, owner, pooltest.Addr(1), 0, 30) }); allocs != 0 {
				t.Errorf("%s: %v allocations", when, allocs)
			}
		}
		says(a, 70)
		says(b, 30)
		askFor(30*time.Second, s, 1)
		expect("both", 0, 30, false)
		expect("both", 1, 30, false)
		says(b, 0)
		askFor(30*time.Second, s, 1)
		expect("one wants nothing", 0, 0, true)
		expect("one wants nothing", 2, 0, true)
		b.Kill(pooltest.Addr(1))
		askFor(time.Minute, s, 1)
		expect("that one is down", 2, 70, false)
		for words, want := range map[string]string{"drain 10.0.0.1": "up 70% drained", "up 10.0.0.1": "up 100%", "down 10.0.0.1": "down 100%"} {
			forced, err := force.Parse([]byte(words))
			if err != nil {
				t.Fatal(err)
			}
			s.Forced = force.Static(forced)
			if got := describe(look(s, owner, pooltest.Addr(1), 0, 30)); got != want {
				t.Errorf("%s: %s, want %s", words, got, want)
			}
		}
	})
}

func describe(v verdict.Brief) string {
	text := v.State().String() + map[uint8]string{70: " 70%", 100: " 100%"}[v.Weight()]
	if v.Drained() {
		text += " drained"
	}
	return text
}

// A Service whose annotation names another check is drawn without weights, since that check reports none.
func TestAnnotatedWithoutWeights(t *testing.T) {
	c := &corefile.Config{Zones: []string{"example.org."}, Checks: []*check.Check{checkOf("agent://:81")}, Pace: pooltest.Pace, MaxTargets: 8, Policy: answer.Policy{Reports: true}}
	s := NewStanza(c, pool.NewCheckSpec)
	spec := pool.NewCheckSpec(checkOf("tcp://:80"))
	spec.SetPace(pooltest.Pace)
	if other := s.with(spec); !s.Rule.Policy.Reports || other.Rule.Policy.Reports {
		t.Errorf("reports %t, and with another check %t", s.Rule.Policy.Reports, other.Rule.Policy.Reports)
	}
}
