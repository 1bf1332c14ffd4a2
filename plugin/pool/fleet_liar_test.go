package pool

import (
	"net/netip"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// unhearing is a member that hears nothing of what the others say.
type unhearing struct{ fleet.Listener }

func (unhearing) Met(fleet.Member)            {}
func (unhearing) Left(string)                 {}
func (unhearing) Heard(string, uint64, bool)  {}
func (unhearing) Silent(string)               {}
func (unhearing) Restarted(string, uint64)    {}
func (unhearing) Said(string, uint64, []byte) {}

// A member that gives its seat away and takes it back all the time has no other one probe faster than at its pace: a living target
// once in an interval, and one in doubt once in a fast interval (B109, B111).
func TestFleetSeatThatComesAndGoes(t *testing.T) {
	for _, every := range []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, time.Second, 3 * time.Second} {
		withMembers(t, 3, func(t *testing.T, w *fleetWorld) {
			liar := w.net.Open("liar", "")
			defer liar.Leave()
			liar.Start(fleet.Groups{sharedGroup(w): {}}, unhearing{})
			liesFor := func(d time.Duration, state func(n int) verdict.State) {
				n := 0
				for end := time.Now().Add(d); time.Now().Before(end); n++ {
					var all []fleet.Vote
					for i := range 20 {
						all = append(all, fleet.Vote{Target: sharedTarget(w, i), State: state(n)})
					}
					liar.Turn(false)
					liar.Say(all)
					w.ask(every, addrs(0, 20)...)
				}
			}
			w.set((*pooltest.FakeNetwork).Kill, addrs(0, 10)...)
			liesFor(time.Minute, func(int) verdict.State { return verdict.Up })
			for _, m := range w.members {
				m.network.Forget()
			}
			liesFor(100*time.Second, func(n int) verdict.State { return []verdict.State{verdict.Unchecked, verdict.Up}[n%2] })
			// Of a dead target the liar says that it is up, so it is in doubt all the time.
			const dead, living = 55, 12
			most := map[int]int{}
			for _, m := range w.members {
				for i, a := range addrs(0, 20) {
					limit := living
					if i < 10 {
						limit = dead
					}
					most[limit] = max(most[limit], m.network.Asked(a))
				}
			}
			t.Logf("every %s: probes of a member in ten intervals by limit: %v", every, most)
			for limit, n := range most {
				if n > limit {
					t.Errorf("every %s: a member probes a target up to %d times in ten intervals, want at most %d", every, n, limit)
				}
			}
		})
	}
}

// A member that hears no vote any more, or whose last probe failed, does not rest for a whole interval (B107).
func TestFleetRestsNoLongerThanItMay(t *testing.T) {
	withMembers(t, 3, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(time.Minute, a)
		w.members[0].on(a, func(_ *Pool, m *monitor) {
			for _, c := range []struct {
				votes, fails uint8
				want         time.Duration
			}{{2, 0, pooltest.Pace.Interval}, {2, 1, pooltest.Pace.Fast}, {0, 0, pooltest.Pace.Fast}} {
				x := *m
				x.shared = &shared{votes: c.votes, fails: c.fails}
				if got := x.spared(); got != c.want {
					t.Errorf("with %d votes and %d failures it rests for %s, want %s", c.votes, c.fails, got, c.want)
				}
			}
		})
	})
}

// sharedGroup is the group that all members share.
func sharedGroup(w *fleetWorld) fleet.Group { return w.members[0].stanza.checks[0].fleetGroup }

// sharedTarget is a target by its number, as members name it.
func sharedTarget(w *fleetWorld, i int) (t fleet.Target) {
	return fleet.Target{Group: sharedGroup(w), Addr: netip.AddrPortFrom(pooltest.Addr(i), 80)}
}
