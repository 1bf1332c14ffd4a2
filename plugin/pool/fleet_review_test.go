package pool

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// on runs f on the loop of a member, with the monitor of a target; nil if there is none.
func (m *fleetServer) on(a netip.Addr, f func(p *Pool, x *monitor)) {
	t := verdict.Target{Identity: m.stanza.checks[0].identity, Addr: netip.AddrPortFrom(a, 80)}
	m.pool.life.Lock()
	defer m.pool.life.Unlock()
	m.pool.do(func() { f(m.pool, m.pool.find(&t, m.stanza.checks[0].seed)) })
}

// What is taken from the inbox makes room, also if some is left, and who is there has room when votes have none.
func TestInboxRoom(t *testing.T) {
	b := &inbox{ready: make(chan struct{}, 1)}
	batch := make([]byte, 1<<10)
	for range 3 * eventsAtOnce {
		b.Said("a", 1, batch)
	}
	if events, more := b.some(); len(events) != eventsAtOnce || !more || b.size != 2*eventsAtOnce<<10 {
		t.Errorf("%d events, %d bytes are left", len(events), b.size)
	}
	for range maxInbox >> 10 {
		b.Said("a", 1, batch)
	}
	if len(b.lost) != 1 || b.size > maxInbox {
		t.Errorf("%v are lost, %d bytes are kept", b.lost, b.size)
	}
	b = &inbox{ready: make(chan struct{}, 1)}
	for range maxEvents {
		b.Said("b", 1, []byte{1})
	}
	b.Met(fleet.Member{Name: "c"})
	if len(b.lost) != 1 || len(b.events) != maxEvents/2+1 {
		t.Errorf("%v are lost, %d events are kept", b.lost, len(b.events))
	}
}

// That something was lost is noted between what came before and what comes after.
func TestInboxLost(t *testing.T) {
	b := &inbox{ready: make(chan struct{}, 1)}
	for len(b.lost) == 0 {
		b.Said("a", 7, make([]byte, 1<<20))
	}
	before := len(b.events)
	b.size = 0
	b.Heard("a", 7, false)
	if len(b.events) != before+2 || len(b.lost) != 0 {
		t.Fatalf("%d events after %d, %v are lost", len(b.events), before, b.lost)
	}
	f := &member{roster: fleet.NewRoster(fleet.Member{Name: "self"}, time.Now())}
	stream := f.roster.Meet(fleet.Member{Name: "a", Epoch: 7}, time.Now())
	b.events[before].run(f, time.Now())
	if got := f.roster.StreamOf("a", 7); got == stream || !f.lost {
		t.Error("the votes before are not void")
	}
}

// A beat wakes the loop if it is news, and is there at the next look if not.
func TestInboxNews(t *testing.T) {
	ready := make(chan struct{}, 1)
	b := &inbox{ready: ready}
	for i, step := range []struct {
		tell func()
		news bool
	}{
		{func() { b.Heard("a", 1, false) }, true},
		{func() { b.Heard("a", 1, false) }, false},
		{func() { b.Heard("b", 1, false) }, true},
		{func() { b.Heard("a", 1, true) }, true},
		{func() { b.Heard("a", 1, true) }, false},
		{func() { b.Heard("a", 2, true) }, true},
		{func() { b.Heard("b", 1, false) }, false},
		{func() { b.Silent("a") }, true},
		{func() { b.Heard("a", 2, true) }, true},
		{func() { b.Left("a") }, true},
		{func() { b.Heard("a", 2, true) }, true},
	} {
		step.tell()
		if news := len(ready) == 1; news != step.news {
			t.Errorf("step %d: the loop is woken: %t, want %t", i, news, step.news)
		} else if news {
			<-ready
		}
		if events, more := b.some(); len(events) != 1 || more {
			t.Errorf("step %d: %d events", i, len(events))
		}
	}
}

// What else was told is not lost with a panic, and the counts begin again.
func TestFleetPanic(t *testing.T) {
	withMembers(t, 3, func(t *testing.T, w *fleetWorld) {
		w.panics = 1
		a := pooltest.Addr(1)
		w.ask(time.Minute, a)
		m := w.members[0]
		m.on(a, func(p *Pool, _ *monitor) {
			p.member.thin, p.member.listening = 5, 5
			p.member.inbox.put("x", 1, 0, func(*member, time.Time) { panic("test") })
			p.member.inbox.Met(fleet.Member{Name: "x", Epoch: 1, Groups: p.member.announced})
		})
		pooltest.Elapse(2 * time.Second)
		m.on(a, func(p *Pool, _ *monitor) {
			if f := p.member; f.roster.StreamOf("x", 1) == 0 || f.thin > 1 || f.listening > 1 { // a target may be watched again
				t.Errorf("a member is not known, or %d are thin and %d left to others", f.thin, f.listening)
			}
		})
		w.ask(time.Minute, a)
		w.all(verdict.Up, a)
	})
}

// A member that says far too much has no walk over all targets made for each of its messages.
func TestFleetFloodIsCheap(t *testing.T) {
	withMembers(t, 2, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(time.Minute, a)
		m := w.members[0]
		m.on(a, func(p *Pool, x *monitor) {
			x.shared.passes = 5
			for range 3 {
				p.member.lose("m1", w.members[1].engine.Self().Epoch, time.Now())
			}
			if x.shared.passes != 5 {
				t.Error("all targets are gone through at once")
			}
			p.member.refoldVotesOf(nil, time.Now())
			if x.shared.passes != 0 || p.member.lost {
				t.Error("those who have not voted are not asked")
			}
		})
	})
}

// What this process says is bounded, whatever it is, and what could not be said is said later.
func TestFleetPace(t *testing.T) {
	withMembers(t, 3, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(time.Minute, a)
		m := w.members[0]
		m.on(a, func(p *Pool, x *monitor) {
			now := time.Now()
			x.shared.told = 0
			p.member.roster.Admit(p.member.self, 1<<20, now)
			p.wantAll(x, now)
			if x.shared.told != 0 {
				t.Error("a want that is not said is noted as said")
			}
			p.tend(x, now.Add(time.Second))
			if x.shared.told == 0 {
				t.Error("it is not said later")
			}
			x.shared.set(markCalled, true)
			p.member.roster.Admit(p.member.self, 1<<20, now.Add(time.Second))
			p.wantAll(x, now.Add(time.Second+600*time.Microsecond)) // there is room for one thing
			if !x.shared.is(markCalled) {
				t.Error("a last call is answered without room for it")
			}
		})
	})
}

// A last call is answered twice: what is said once may be lost.
func TestFleetCallIsAnsweredTwice(t *testing.T) {
	withMembers(t, 3, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(time.Minute, a)
		m := w.members[0]
		m.on(a, func(p *Pool, x *monitor) {
			at := seconds(time.Now())
			p.member.hearCall(fleet.Call{Target: x.fleetTarget()}, time.Now())
			p.wantAll(x, time.Now())
			if x.shared.is(markCalled) || x.shared.told >= at+uint32(fleet.LastCallBefore/time.Second) {
				t.Errorf("the next want comes after %d seconds", x.shared.told-at)
			}
			p.wantAll(x, time.Now())
			if x.shared.told < at+600 {
				t.Errorf("the want after that comes after %d seconds", x.shared.told-at)
			}
		})
	})
}

// What others ask to be repeated is bounded.
func TestFleetAnswersAreBounded(t *testing.T) {
	withMembers(t, 2, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(time.Minute, a)
		m := w.members[0]
		m.on(a, func(p *Pool, x *monitor) {
			for i := range maxAnswers + 10 {
				p.member.hearWant(fmt.Sprint("liar", i), 99, fleet.Want{Target: x.fleetTarget()}, time.Now())
			}
			if n := len(p.member.voice.answers); n != maxAnswers {
				t.Errorf("%d answers wait", n)
			}
			clear(p.member.voice.answers)
		})
	})
}

// A vantage point votes as its own probes have decided, also when a target becomes idle, and not as all votes together.
func TestFleetRestingVote(t *testing.T) {
	withMembers(t, 3, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(time.Minute, a)
		m := w.members[0]
		m.network.Kill(a)
		w.ask(time.Minute, a)
		w.all(verdict.Up, a)
		m.on(a, func(p *Pool, x *monitor) {
			p.rest(x, time.Now())
			if own, _ := x.shared.ballot.BriefOf(p.member.roster.Own()); own.State() != verdict.Down {
				t.Errorf("its vote is %s, although its probes fail", own.State())
			}
			p.wake(x, time.Now())
		})
	})
}

// A target that was watched for others alone is probed if it is asked for here, and no vote counts.
func TestFleetAloneAndAsked(t *testing.T) {
	withMembers(t, 4, func(t *testing.T, w *fleetWorld) {
		asking := w.members[0]
		// A target of which asking has a seat, and lent has none, but is told of it as a substitute.
		var a netip.Addr
		var lent *fleetServer
		for i := 1; lent == nil; i++ {
			a = pooltest.Addr(i)
			asking.look(a)
			pooltest.Elapse(20 * time.Second)
			for _, m := range w.members[1:] {
				if role, _ := m.role(a); role != fleet.Seat {
					lent = m
				}
			}
		}
		asking.on(a, func(_ *Pool, x *monitor) {
			asking.engine.Ask([]string{lent.name}, fleet.Want{Target: x.fleetTarget(), For: time.Hour})
		})
		pooltest.Elapse(10 * time.Second)
		w.net.Cut(map[string]int{lent.name: 1})
		pooltest.Elapse(6500 * time.Millisecond) // the others are silent, and not dead yet
		waits := func() (waits bool) {
			lent.on(a, func(p *Pool, x *monitor) { waits = p.member.transits[x] != nil })
			return waits
		}
		if role, probes := lent.role(a); role != fleet.Alone || probes || waits() {
			t.Fatalf("%s is %s and probes: %t", lent.name, role, probes)
		}
		lent.look(a)
		pooltest.Elapse(10 * time.Millisecond)
		if !waits() {
			t.Errorf("%s will not probe", lent.name)
		}
	})
}

// A vantage point that has no room for a target leaves its seat to another one, also if only one member is asked for it.
func TestFleetSeatWithoutRoom(t *testing.T) {
	withMembers(t, 6, func(t *testing.T, w *fleetWorld) {
		full := w.members[1]
		full.on(pooltest.Addr(0), func(_ *Pool, _ *monitor) { full.stanza.Group.Max = 0 })
		asking := w.members[0]
		for i := range 12 {
			asking.look(pooltest.Addr(i))
		}
		pooltest.Elapse(time.Minute)
		for i := range 12 {
			a := pooltest.Addr(i)
			for _, m := range w.live() {
				m.network.Forget()
			}
			pooltest.Elapse(30 * time.Second)
			probing := 0
			for _, m := range w.live() {
				if m.network.Asked(a) > 0 {
					probing++
				}
			}
			if probing != 3 {
				t.Errorf("%d members probe %s (%s has room for none)", probing, a, full.name)
			}
		}
	})
}

// withSecret is the stanza of a member with another secret in its check, which the text does not show.
func (m *fleetServer) withSecret(secret uint64) *stanza {
	spec := CheckSpec{prober: m.network, Name: "tcp", secret: secret, withoutPace: verdict.Identify("tcp", secret), port: 80}
	spec.Share(sharedTerms)
	return newStanza(spec, pooltest.Pace)
}

// A reload that changes a secret goes on to share the check: the Corefile that is about to stop gives way.
func TestFleetSecretChanges(t *testing.T) {
	withMembers(t, 2, func(t *testing.T, w *fleetWorld) {
		buf := pooltest.Logged(t)
		m := w.members[0]
		next := m.withSecret(1)
		g := candidateOf(m.pool, next)
		m.pool.Confirm(g)
		m.on(pooltest.Addr(0), func(p *Pool, _ *monitor) {
			if f := p.member; len(f.checks) != 1 || f.checks[next.checks[0].fleetGroup].identity != next.checks[0].identity || len(f.announced) != 1 {
				t.Errorf("%d checks are shared, %d announced", len(f.checks), len(f.announced))
			}
		})
		m.pool.Leave(m.gen)
		m.gen, m.stanza = g, next
		if buf.Len() > 0 {
			t.Errorf("logged: %s", buf)
		}
	})
}

// Two checks with one text and different secrets in one Corefile are not shared, which is said once.
func TestFleetTwins(t *testing.T) {
	withMembers(t, 2, func(t *testing.T, w *fleetWorld) {
		buf := pooltest.Logged(t)
		m := w.members[0]
		other := m.withSecret(1)
		g := candidateOf(m.pool, m.withSecret(0), other)
		m.pool.Confirm(g)
		m.pool.Leave(m.gen)
		m.gen = g
		for range 3 {
			m.pool.Update(g, func() bool { return true })
		}
		m.on(pooltest.Addr(0), func(p *Pool, _ *monitor) {
			if len(p.member.checks) != 0 || len(p.member.announced) != 0 {
				t.Errorf("%d checks are shared", len(p.member.checks))
			}
		})
		if n := strings.Count(buf.String(), "not shared"); n != 1 {
			t.Errorf("%d lines: %s", n, buf)
		}
	})
}

// A member cannot have one address asked for any number of names.
func TestFleetOwnersAreBounded(t *testing.T) {
	withMembers(t, 2, func(t *testing.T, w *fleetWorld) {
		m := w.members[0]
		s := m.withSecret(2)
		s.checks[0].forOwner = func(string) Prober { return m.network }
		g := candidateOf(m.pool, s)
		m.pool.Confirm(g)
		m.pool.Leave(m.gen)
		m.gen, m.stanza = g, s
		m.on(pooltest.Addr(0), func(p *Pool, _ *monitor) {
			for i := range maxOwners + 10 {
				target := fleet.Target{Group: s.checks[0].fleetGroup, Addr: netip.AddrPortFrom(pooltest.Addr(1), 80), Owner: fmt.Sprintf("n%d.example.org.", i)}
				p.member.hearWant("m1", p.member.roster.Own(), fleet.Want{Target: target, For: time.Hour}, time.Now())
			}
			if n := len(p.monitors); n != maxOwners {
				t.Errorf("%d targets are watched for others", n)
			}
		})
	})
}

// What votes say is fresh in the state file, however long nothing has changed.
func TestFleetStateFile(t *testing.T) {
	withMembers(t, 6, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(20*time.Minute, a)
		for _, m := range w.members {
			var before uint64
			m.on(a, func(p *Pool, _ *monitor) { before = View{p}.Settled() })
			pooltest.Elapse(10 * time.Second)
			m.on(a, func(p *Pool, x *monitor) {
				if r := x.stateRecord(x.verdict(), time.Now()); time.Since(r.At) > pooltest.Pace.Interval || (View{p}).Settled() == before {
					t.Errorf("%s, %s: the record is %s old", m.name, x.shared.role, time.Since(r.At))
				}
			})
		}
	})
}
