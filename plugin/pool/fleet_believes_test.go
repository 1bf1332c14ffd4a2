package pool

import (
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// A member whose votes are out of date says so before they count again: all of them after it has hung, and after it has doubted its own
// probes those that its last probes contradict (B107, B108, B111).
func TestFleetTakesBackWhatIsOutOfDate(t *testing.T) {
	withMembers(t, 3, func(t *testing.T, w *fleetWorld) {
		a, b := pooltest.Addr(1), pooltest.Addr(2)
		w.ask(time.Minute, a, b)
		w.members[0].on(a, func(p *Pool, fails *monitor) {
			var answers *monitor
			for _, m := range p.monitors {
				if m != fails {
					answers = m
				}
			}
			now := time.Now()
			p.isolation.mark(fails, stoppedAnswering)
			fails.shared.fails = 3
			if !p.believesItself(false, now) || !fails.shared.is(markVoted) {
				t.Error("it takes its votes back without a reason")
			}
			if p.believesItself(true, now) || p.believesItself(false, now) {
				t.Error("votes that its last probes contradict count before they are taken back")
			}
			if s := fails.shared; s.is(markVoted) || s.is(markProved) || s.fails != 0 || s.votes != 2 {
				t.Errorf("of what fails it has marks %b, %d failures and %d votes", s.marks, s.fails, s.votes)
			}
			if !answers.shared.is(markVoted) {
				t.Error("a vote is taken back that no probe contradicts")
			}
			p.speak(now)
			if !p.believesItself(false, now) {
				t.Error("votes do not count after what was wrong is taken back")
			}
			p.member.turned = now.Add(-time.Minute)
			if p.believesItself(false, now) || answers.shared.is(markVoted) {
				t.Error("votes count that are out of date")
			}
			p.speak(now)
			if !p.believesItself(false, now) {
				t.Error("votes never count again")
			}
			p.isolation.mark(fails, trusted)
		})
		w.ask(time.Minute, a, b)
		w.all(verdict.Up, a)
		w.members[0].on(a, func(_ *Pool, m *monitor) {
			if !m.shared.is(markVoted) || m.shared.votes != 3 {
				t.Errorf("%d votes count, and it has voted: %t", m.shared.votes, m.shared.is(markVoted))
			}
		})
	})
}

// Four different targets that others find down as well, while this process doubts its own probes, end the doubt, until a target answers
// (B107, B111).
func TestFleetConfirmsFailures(t *testing.T) {
	var i isolation
	all := make([]*monitor, isolatedOthers)
	for n := range all {
		all[n] = new(monitor)
		i.confirm(all[n])
	}
	if i.exhausted || i.confirmed != nil {
		t.Error("what fails without a doubt ends one")
	}
	i.since = time.Now()
	for range isolatedOthers {
		i.confirm(all[0])
	}
	for _, m := range all[:isolatedOthers-1] {
		i.confirm(m)
	}
	if i.since.IsZero() || i.exhausted {
		t.Error("too few targets end the doubt")
	}
	i.confirm(all[isolatedOthers-1])
	if !i.since.IsZero() || !i.exhausted {
		t.Errorf("the doubt lasts (%s), or comes back at once", i.since)
	}
	if i.answer(time.Now()); i.exhausted {
		t.Error("there is no doubt any more after an answer")
	}
}
