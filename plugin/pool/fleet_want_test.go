package pool

import (
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
)

// What is wanted is said again before the vantage points let it become idle, if no last call comes. One that another member has
// answered spares that up to the next one.
func TestFleetRenewsWhatItWants(t *testing.T) {
	withMembers(t, 3, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(time.Minute, a)
		var said time.Time
		asking, other := w.members[0], w.members[1]
		asking.on(a, func(p *Pool, x *monitor) {
			said = time.Now()
			x.shared.told = 0
			p.tend(x, said)
			if got, want := x.shared.told-seconds(said), uint32((keepUnasked-renewBefore)/time.Second); got != want {
				t.Errorf("a want is said again after %d seconds, and not after %d", got, want)
			}
		})
		pooltest.Elapse(time.Second)
		other.on(a, func(_ *Pool, x *monitor) {
			if left := x.shared.ballot.Wanted(seconds(time.Now())); left < keepUnasked-2*time.Second || left > keepUnasked {
				t.Errorf("the target is wanted for %s", left)
			}
		})
		asking.on(a, func(p *Pool, x *monitor) {
			now := time.Now()
			p.member.hearCall(fleet.Call{Target: x.fleetTarget(), Answered: true}, now)
			spared := uint32((keepUnasked - fleet.LastCallBefore) / time.Second)
			if got := x.shared.told - seconds(now); got != spared {
				t.Errorf("after a last call that was answered, a want is said after %d seconds, and not after %d", got, spared)
			}
			later := now.Add(keepUnasked - fleet.LastCallBefore)
			p.tend(x, later.Add(-time.Second))
			if x.shared.told > seconds(later) {
				t.Error("it is said before")
			}
			p.tend(x, later)
			if x.shared.told <= seconds(later) {
				t.Error("it is never said again")
			}
		})
	})
}
