package multivalue

import (
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

func TestQuorumOf(t *testing.T) {
	for _, tt := range []struct {
		q            answer.Quorum
		checks, want int
	}{
		{answer.Quorum{Count: 1}, 3, 1}, {answer.Quorum{Count: 4}, 3, 4}, {answer.Quorum{Percent: 50}, 3, 2},
		{answer.Quorum{Percent: 1}, 3, 1}, {answer.Quorum{Percent: 100}, 3, 3}, {answer.Quorum{Percent: 67}, 3, 3}, {answer.Quorum{Percent: 34}, 3, 2},
	} {
		if got := tt.q.Of(tt.checks); got != tt.want {
			t.Errorf("%+v of %d: %d, want %d", tt.q, tt.checks, got, tt.want)
		}
	}
}

// Three checks, of which each address fails as many as its number says (B45).
func TestRequire(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		networks := []*pooltest.FakeNetwork{n, pooltest.NewNetwork(), pooltest.NewNetwork()}
		s := testStanza("tcp://:80", n, pooltest.Pace)
		for i, url := range []string{"tcp://:81", "tcp://:82"} {
			s.checks = append(s.checks, testStanza(url, networks[i+1], pooltest.Pace).checks...)
		}
		s.seal(pooltest.Pace)
		begin(p, s)
		for fails := range 4 {
			for _, n := range networks[:fails] {
				n.Kill(pooltest.Addr(fails))
			}
		}
		pass(30*time.Second, s, pooltest.Addr(0), pooltest.Addr(1), pooltest.Addr(2), pooltest.Addr(3))
		for need, good := range map[int]int{0: 0, 1: 2, 2: 1} {
			s.need = need
			for fails := range 4 {
				want := verdict.Up
				if fails > good {
					want = verdict.Down
				}
				if got := state(s, pooltest.Addr(fails)); got != want {
					t.Errorf("need %d, %d fail: %s, want %s", need, fails, got, want)
				}
			}
			if s.need > 0 && s.Look(owner, pooltest.Addr(9), 0, 30).State() != verdict.Unknown {
				t.Errorf("need %d: what nobody has asked is not unknown", need)
			}
		}
		if allocs := testing.AllocsPerRun(100, func() { s.Look(owner, pooltest.Addr(1), 0, 30) }); allocs != 0 {
			t.Errorf("%v allocations", allocs)
		}
	})
}

// An address that does not pass yet is asked by every check, those that are not needed among them.
func TestRequireAsksAll(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		other := pooltest.NewNetwork()
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.checks = append(s.checks, testStanza("tcp://:81", other, pooltest.Pace).checks...)
		s.seal(pooltest.Pace)
		s.need = 1
		begin(p, s)
		pass(30*time.Second, s, pooltest.Addr(1))
		if n.Asked(pooltest.Addr(1)) == 0 || other.Asked(pooltest.Addr(1)) == 0 {
			t.Errorf("asked %d and %d times", n.Asked(pooltest.Addr(1)), other.Asked(pooltest.Addr(1)))
		}
	})
}
