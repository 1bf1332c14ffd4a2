package pool

import (
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// A member that has lost its seat keeps its vote until those who have the seats have voted. One that cannot probe is not relieved
// before its time (B104).
func TestFleetSeatIsKeptUntilRelieved(t *testing.T) {
	withMembers(t, 4, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(time.Minute, a)
		var seated, spare *fleetServer
		for _, m := range w.members {
			if role, _ := m.role(a); role == fleet.Seat {
				seated = m
			} else {
				spare = m
			}
		}
		self := seated.engine.Self()
		spare.on(a, func(p *Pool, x *monitor) { // it has had a seat a moment ago
			now := time.Now()
			says := func(from fleet.Stream, state verdict.State) {
				x.shared.ballot.Put(x.check.seats, from, &fleet.Vote{Target: x.fleetTarget(), State: state}, now, time.Minute)
			}
			successor := p.member.roster.StreamOf(self.Name, self.Epoch)
			ends := func(refused bool) bool {
				says(p.member.roster.Own(), verdict.Up)
				x.shared.set(markVoted, true)
				p.advance(x, &transit{until: clock.At(now.Add(time.Minute)), refused: refused}, now)
				return !x.shared.is(markVoted)
			}
			says(successor, verdict.Unknown)
			if ends(false) {
				t.Error("it gives up its vote before its successor has voted")
			}
			says(successor, verdict.Up)
			if ends(true) {
				t.Error("it takes its seat again before its time")
			}
			if !ends(false) {
				t.Error("it keeps its vote although its successor has voted")
			}
		})
	})
}
