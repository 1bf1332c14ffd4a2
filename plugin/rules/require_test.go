package rules

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// requiring returns a stanza with one check for each network, which answers it. It runs in a pool until the test
// ends.
func requiring(t *testing.T, require answer.Quorum, networks ...*pooltest.FakeNetwork) *Stanza {
	c := &corefile.Config{Zones: []string{"example.org."}, Require: require, Pace: pooltest.Pace, MaxTargets: 65536, Types: answer.DefaultTypes}
	for i := range networks {
		c.Checks = append(c.Checks, checkOf(fmt.Sprintf("tcp://:%d", 80+i)))
	}
	s := NewStanza(c, func(x *check.Check) pool.CheckSpec { return pool.NewCheckSpec(x).WithProber(networks[x.Port()-80]) })
	p, g := pool.New(), new(pool.Generation)
	p.AddGroup(g, s.Group)
	p.Join(g)
	p.Confirm(g)
	t.Cleanup(func() { p.Leave(g) })
	return s
}

// askFor lets time pass while queries look up addresses every second.
func askFor(d time.Duration, s *Stanza, numbers ...int) {
	for end := time.Now().Add(d); time.Now().Before(end); pooltest.Elapse(time.Second) {
		for _, i := range numbers {
			look(s, owner, pooltest.Addr(i), 0, 30)
		}
	}
}

// Of three checks, each address fails as many as its number says (B45).
func TestRequire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		networks := []*pooltest.FakeNetwork{pooltest.NewNetwork(), pooltest.NewNetwork(), pooltest.NewNetwork()}
		s := requiring(t, answer.Quorum{}, networks...)
		for fails := range 4 {
			for _, n := range networks[:fails] {
				n.Kill(pooltest.Addr(fails))
			}
		}
		askFor(30*time.Second, s, 0, 1, 2, 3)
		for need, good := range map[int]int{0: 0, 1: 2, 2: 1} {
			s.Need = need
			for fails := range 4 {
				want := verdict.Up
				if fails > good {
					want = verdict.Down
				}
				if got := look(s, owner, pooltest.Addr(fails), 0, 30).State(); got != want {
					t.Errorf("need %d, %d fail: %s, want %s", need, fails, got, want)
				}
			}
			if s.Need > 0 && look(s, owner, pooltest.Addr(9), 0, 30).State() != verdict.Unknown {
				t.Errorf("need %d: an address that was never probed is not unknown", need)
			}
		}
		if allocs := testing.AllocsPerRun(100, func() { look(s, owner, pooltest.Addr(1), 0, 30) }); allocs != 0 {
			t.Errorf("%v allocations", allocs)
		}
	})
}

// An address that does not pass yet is probed by every check, including the checks that are not required.
func TestRequireAsksAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, other := pooltest.NewNetwork(), pooltest.NewNetwork()
		s := requiring(t, answer.Quorum{Count: 1}, n, other)
		askFor(30*time.Second, s, 1)
		if n.Asked(pooltest.Addr(1)) == 0 || other.Asked(pooltest.Addr(1)) == 0 {
			t.Errorf("probed %d and %d times", n.Asked(pooltest.Addr(1)), other.Asked(pooltest.Addr(1)))
		}
	})
}
