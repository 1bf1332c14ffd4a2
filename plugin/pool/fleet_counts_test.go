package pool

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
)

// Whatever happens, the counts are those of the monitors that there are.
func TestFleetCounts(t *testing.T) {
	withMembers(t, 5, func(t *testing.T, w *fleetWorld) {
		rng := rand.New(rand.NewPCG(1, 2))
		all := addrs(0, 12)
		for step := range 30 {
			m := w.members[rng.IntN(len(w.members))]
			switch rng.IntN(6) {
			case 0:
				m.network.Kill(all[rng.IntN(len(all))])
			case 1:
				m.network.Revive(all...)
			case 2:
				w.net.Cut(map[string]int{"m0": rng.IntN(2), "m1": rng.IntN(2)})
			case 3:
				m.pool.JoinFleet(nil)
				m.engine.Leave()
			case 4:
				m.on(all[0], func(p *Pool, x *monitor) {
					if x != nil {
						p.forget(x, time.Now())
					}
				})
			case 5:
				g := candidateOf(m.pool, m.stanza)
				m.pool.Confirm(g)
				m.pool.Leave(m.gen)
				m.gen = g
			}
			m.look(all[rng.IntN(len(all))])
			pooltest.Elapse(time.Duration(rng.IntN(20)) * time.Second)
			for _, m := range w.members {
				m.on(all[0], func(p *Pool, _ *monitor) { checkCounts(t, fmt.Sprint(step, m.name), p) })
				if m.pool.member == nil {
					m.engine = w.net.Open(fmt.Sprint(m.name, "-", step), "")
					m.pool.JoinFleet(m.engine)
				}
			}
		}
	})
}

// checkCounts compares the counts of a member with what is so.
func checkCounts(t *testing.T, when string, p *Pool) {
	f := p.member
	if f == nil {
		return
	}
	counted := &member{}
	lent, wanted := 0, 0
	for _, m := range p.monitors {
		s := m.shared
		if s == nil {
			t.Errorf("%s: a target is not shared", when)
			continue
		}
		counted.tally(s, 1)
		if m.listens() {
			counted.listening++
		}
		if s.is(markLent) {
			lent++
		}
		if s.ballot.Lent() {
			wanted++
		}
		if m.position == parked || m.listens() && m.position >= 0 {
			t.Errorf("%s: %s is %s and at %d", when, m.entry.Target, s.role, m.position)
		}
	}
	if counted.roles != f.roles || counted.thin != f.thin || counted.contradicted != f.contradicted || counted.listening != f.listening || wanted != f.wants.Targets() {
		t.Errorf("%s: %v, %d thin, %d odd, %d left to others, %d wanted; counted %v, %d, %d, %d, %d", when, f.roles, f.thin, f.contradicted, f.listening,
			f.wants.Targets(), counted.roles, counted.thin, counted.contradicted, counted.listening, wanted)
	}
	for _, g := range p.generations {
		for _, group := range g.groups {
			if group.lent != lent {
				t.Errorf("%s: %d of the stanza are watched for others, counted %d", when, group.lent, lent)
			}
		}
	}
	for m := range f.transits {
		if m.removed || m.shared == nil {
			t.Errorf("%s: a target that is gone is in transition", when)
		}
	}
}
