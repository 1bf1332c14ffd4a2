package pool

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/state"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// fleetWorld is several pools that are members of one fleet, in fake time.
type fleetWorld struct {
	t       *testing.T
	net     *pooltest.Fleet
	members []*fleetServer
	panics  float64 // how many a test causes
}

// fleetServer is one member. Each has a network of its own, so that a test can count its probes, and cut it off.
type fleetServer struct {
	name    string
	network *pooltest.FakeNetwork
	pool    *Pool
	stanza  *stanza
	engine  *pooltest.FleetMember
	gen     *Generation
	world   *fleetWorld
	began   time.Time
	earlier map[state.Key]state.Record // what the state file says when it starts
}

var sharedTerms = fleet.Defaults()

// sharedStanza is a stanza whose check is shared.
func sharedStanza(n Prober, terms fleet.Terms) *stanza {
	spec := CheckSpec{prober: n, Name: "tcp", withoutPace: verdict.Identify("tcp", 0), port: 80}
	spec.Share(terms)
	return newStanza(spec, pooltest.Pace)
}

// withMembers runs a test with so many members.
func withMembers(t *testing.T, members int, f func(t *testing.T, w *fleetWorld)) {
	w := new(fleetWorld)
	before := testutil.ToFloat64(metrics.Panics)
	defer func() {
		if n := testutil.ToFloat64(metrics.Panics) - before; n != w.panics {
			t.Errorf("the pools have panicked %v times", n)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		w.t, w.net = t, &pooltest.Fleet{Delay: time.Millisecond}
		for i := range members {
			w.start(fmt.Sprint("m", i))
		}
		defer func() {
			for _, m := range w.members {
				m.stop()
			}
		}()
		pooltest.Elapse(15 * time.Second) // until they have met, and may have seats
		f(t, w)
	})
}

// start adds a member, or starts one again.
func (w *fleetWorld) start(name string) *fleetServer {
	m := &fleetServer{name: name, network: pooltest.NewNetwork(), world: w}
	for _, o := range w.members { // the same targets are dead for all
		o.network.Do(func() {
			for a, dead := range o.network.Dead {
				m.network.Dead[a] = dead
			}
		})
	}
	m.run()
	w.members = append(w.members, m)
	return m
}

func (m *fleetServer) run() {
	m.pool, m.stanza, m.engine = New(), sharedStanza(m.network, sharedTerms), m.world.net.Open(m.name, "")
	m.began = time.Now()
	m.pool.Restore(m.earlier)
	m.gen = new(Generation)
	m.pool.AddGroup(m.gen, &m.stanza.Group)
	m.pool.Join(m.gen)
	m.pool.Confirm(m.gen)
	m.pool.JoinFleet(m.engine)
}

// stop ends a member as a shutdown does: it leaves the fleet.
func (m *fleetServer) stop() {
	if m.gen == nil {
		return
	}
	m.pool.Leave(m.gen)
	m.engine.Leave()
	m.gen = nil
}

// kill ends it without a word.
func (m *fleetServer) kill() {
	m.engine.Kill()
	m.pool.Leave(m.gen)
	m.gen = nil
}

func (m *fleetServer) look(a netip.Addr) verdict.State {
	return m.stanza.Look(owner, a, 0, 30).State()
}

// role is what the member does about a target.
func (m *fleetServer) role(a netip.Addr) (role fleet.Role, probes bool) {
	t := verdict.Target{Identity: m.stanza.checks[0].identity, Addr: netip.AddrPortFrom(a, 80)}
	m.pool.life.Lock()
	defer m.pool.life.Unlock()
	m.pool.do(func() {
		if x := m.pool.find(&t, m.stanza.checks[0].seed); x != nil && x.shared != nil {
			role, probes = x.shared.role, x.shared.is(markProbes)
		}
	})
	return role, probes
}

// members is how many members are there for this one.
func (m *fleetServer) members() (n int) {
	m.pool.life.Lock()
	defer m.pool.life.Unlock()
	m.pool.do(func() { n = m.pool.member.roster.Present() })
	return n
}

func (w *fleetWorld) live() (all []*fleetServer) {
	for _, m := range w.members {
		if m.gen != nil {
			all = append(all, m)
		}
	}
	return all
}

// ask has all live members asked for targets, once a minute for so long.
func (w *fleetWorld) ask(d time.Duration, addrs ...netip.Addr) {
	for end := time.Now().Add(d); ; {
		for _, m := range w.live() {
			for _, a := range addrs {
				m.look(a)
			}
		}
		left := time.Until(end)
		pooltest.Elapse(min(left, time.Minute))
		if left <= time.Minute {
			return
		}
	}
}

// probes counts how often a target is probed by all in some time, in which it is asked for.
func (w *fleetWorld) probes(d time.Duration, a netip.Addr) (n int) {
	for _, m := range w.members {
		m.network.Forget()
	}
	w.ask(d, a)
	for _, m := range w.members {
		n += m.network.Asked(a)
	}
	return n
}

func (w *fleetWorld) set(f func(n *pooltest.FakeNetwork, addrs ...netip.Addr), addrs ...netip.Addr) {
	for _, m := range w.members {
		f(m.network, addrs...)
	}
}

// all fails unless every live member that has been asked believes that.
func (w *fleetWorld) all(want verdict.State, a netip.Addr) {
	w.t.Helper()
	for _, m := range w.live() {
		if got := m.look(a); got != want {
			w.t.Errorf("%s believes that %s is %s, want %s", m.name, a, got, want)
		}
	}
}

// However many members there are, each target is probed by three (B104).
func TestFleetSharesProbes(t *testing.T) {
	for _, members := range []int{2, 5, 10} {
		withMembers(t, members, func(t *testing.T, w *fleetWorld) {
			for i := range 20 {
				w.ask(time.Second, pooltest.Addr(i))
			}
			w.ask(time.Minute, pooltest.Addr(0))
			for i := range 5 {
				k := min(3, members)
				if n := w.probes(100*time.Second, pooltest.Addr(i)); n < 10*k || n > 12*k {
					t.Errorf("%d members probe %s %d times in ten intervals, want %d", members, pooltest.Addr(i), n, 10*k)
				}
			}
		})
	}
}

// A target that dies is out everywhere as soon as with one server, and it comes back (B105).
func TestFleetDecides(t *testing.T) {
	withMembers(t, 5, func(t *testing.T, w *fleetWorld) {
		a, b := pooltest.Addr(1), pooltest.Addr(2)
		w.ask(2*time.Minute, a, b)
		w.all(verdict.Up, a)
		w.set((*pooltest.FakeNetwork).Kill, a)
		pooltest.Elapse(pooltest.Pace.Bound() + 100*time.Millisecond)
		w.all(verdict.Down, a)
		w.all(verdict.Up, b)
		w.set((*pooltest.FakeNetwork).Revive, a)
		pooltest.Elapse(pooltest.Pace.Bound())
		w.all(verdict.Up, a)
	})
}

// While one vantage point of three finds a target up, it is up (B105, B111).
func TestFleetOneVoteKeepsATarget(t *testing.T) {
	withMembers(t, 3, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(time.Minute, a)
		w.members[0].network.Kill(a)
		w.members[1].network.Kill(a)
		w.ask(2*time.Minute, a)
		w.all(verdict.Up, a)
		w.members[2].network.Kill(a)
		w.ask(time.Minute, a)
		w.all(verdict.Down, a)
	})
}

// A newcomer answers by what the others know, a round trip after the first query (B106).
func TestFleetNewcomer(t *testing.T) {
	withMembers(t, 5, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.set((*pooltest.FakeNetwork).Kill, a)
		w.ask(2*time.Minute, a)
		w.all(verdict.Down, a)
		m := w.start("new")
		for range 200 { // it is asked as soon as it has met the others
			if m.members() == 6 {
				break
			}
			pooltest.Elapse(10 * time.Millisecond)
		}
		pooltest.Elapse(tickEvery)
		if got := m.look(a); got != verdict.Unknown {
			t.Fatalf("the newcomer believes %s before it has asked", got)
		}
		pooltest.Elapse(20 * time.Millisecond)
		if got := m.look(a); got != verdict.Down {
			t.Errorf("the newcomer believes %s, want down", got)
		}
		pooltest.Elapse(5 * time.Second)
		if n := m.network.Asked(a); n > 0 {
			t.Errorf("the newcomer has probed %d times", n)
		}
	})
}

// reload gives a member a new generation, which is confirmed only some time after the old one has left.
func (m *fleetServer) reload(between time.Duration) {
	stanza := sharedStanza(m.network, sharedTerms)
	gen := new(Generation)
	m.pool.AddGroup(gen, &stanza.Group)
	m.pool.Join(gen)
	m.pool.Leave(m.gen)
	pooltest.Elapse(between)
	m.pool.Confirm(gen)
	m.pool.JoinFleet(m.engine)
	m.stanza, m.gen = stanza, gen
}

// A reload changes nothing for the fleet, however long it takes: no seat moves, and nothing is probed that others probe (B110).
func TestFleetReload(t *testing.T) {
	withMembers(t, 5, func(t *testing.T, w *fleetWorld) {
		all := addrs(0, 20)
		w.ask(2*time.Minute, all...)
		m := w.members[0]
		m.network.Forget()
		for _, between := range []time.Duration{0, time.Second, 5 * time.Second} {
			m.reload(between)
			w.ask(20*time.Second, all...)
		}
		probing := 0
		for _, a := range all {
			role, probes := m.role(a)
			if seat := role == fleet.Seat; probes != seat || (m.network.Asked(a) > 0) != seat {
				t.Errorf("%s: the role is %s, and it was probed %d times", a, role, m.network.Asked(a))
			} else if seat {
				probing++
			}
		}
		if probing == 0 || probing == len(all) {
			t.Errorf("the member has %d of %d seats", probing, len(all))
		}
		for _, a := range all { // nor have the others taken its seats
			seats := 0
			for _, m := range w.members {
				if role, probes := m.role(a); role == fleet.Seat && probes {
					seats++
				}
			}
			if seats != 3 {
				t.Errorf("%d members probe %s", seats, a)
			}
		}
	})
}

// What the fleet says stands before what an earlier process believed (B88, B106).
func TestFleetStandsBeforeTheStateFile(t *testing.T) {
	withMembers(t, 4, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.set((*pooltest.FakeNetwork).Kill, a)
		w.ask(2*time.Minute, a)
		m := w.members[0]
		m.stop()
		pooltest.Elapse(10 * time.Second)
		m.earlier = map[state.Key]state.Record{
			m.stanza.checks[0].stateKey(netip.AddrPortFrom(a, 80), owner): {State: verdict.Up, Since: time.Now().Add(-time.Hour), At: time.Now().Add(-time.Minute)},
		}
		m.run()
		pooltest.Elapse(3 * time.Second)
		m.network.Forget()
		if got := m.look(a); got != verdict.Up {
			t.Fatalf("%s before it has asked, and the file says up", got)
		}
		pooltest.Elapse(20 * time.Millisecond)
		if got, n := m.look(a), m.network.Asked(a); got != verdict.Down || n > 0 {
			t.Errorf("%s, after %d probes: the fleet says down", got, n)
		}
	})
}

// Members that start together, and vote before all have met, soon have all votes (B104, B106).
func TestFleetStartsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fleetWorld{t: t, net: &pooltest.Fleet{Delay: time.Millisecond}}
		all := addrs(0, 40)
		for i := range 12 {
			m := w.start(fmt.Sprint("m", i))
			for _, a := range all {
				m.look(a)
			}
			pooltest.Elapse(300 * time.Millisecond)
		}
		defer func() {
			for _, m := range w.members {
				m.stop()
			}
		}()
		w.ask(45*time.Second, all...)
		for _, m := range w.members {
			for _, a := range all {
				m.on(a, func(_ *Pool, x *monitor) {
					if x.shared.votes != 3 {
						t.Errorf("%s has %d votes on %s, as %s", m.name, x.shared.votes, a, x.shared.role)
					}
				})
			}
		}
	})
}

// When another member begins or ceases to be heard, votes that are missing are asked for soon, however long they did not come (B106).
func TestFleetAsksAgain(t *testing.T) {
	withMembers(t, 4, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(time.Minute, a)
		looks := func() (n uint8) {
			w.members[0].on(a, func(_ *Pool, x *monitor) { n = x.shared.passes })
			return n
		}
		w.members[0].on(a, func(_ *Pool, x *monitor) { x.shared.passes = 100 })
		pooltest.Elapse(2 * time.Second)
		if n := looks(); n < 100 {
			t.Fatalf("%d looks, and nothing has changed", n)
		}
		var silent string
		for _, m := range w.members[1:] {
			if role, _ := m.role(a); role != fleet.Seat {
				silent = m.name // no seat moves because of it
			}
		}
		if silent == "" { // it is the first one that has no seat
			silent = w.members[1].name
		}
		w.net.Cut(map[string]int{silent: 1})
		pooltest.Elapse(5 * time.Second)
		if n := looks(); n > 10 {
			t.Errorf("%d looks after a member has fallen silent", n)
		}
	})
}

// A vote that is taken back before this process has found out anything leaves the state as it is (B107).
func TestFleetVoteIsTakenBack(t *testing.T) {
	withMembers(t, 2, func(t *testing.T, w *fleetWorld) {
		for i, state := range []verdict.State{verdict.Up, verdict.Down} {
			a := pooltest.Addr(i)
			m, other := w.members[0], w.members[1].engine.Self()
			m.network.Slow(time.Minute, a) // nothing is known of it here
			m.look(a)
			synctest.Wait()
			m.on(a, func(p *Pool, x *monitor) {
				from := p.member.roster.StreamOf(other.Name, other.Epoch)
				vote := fleet.Vote{Target: x.fleetTarget(), State: state, Reason: "refused"}
				p.member.hearVote(from, &vote, time.Now())
				if x.state() != state {
					t.Fatalf("%s by a vote for %s", x.state(), state)
				}
				vote.State = verdict.Unknown
				p.member.hearVote(from, &vote, time.Now())
				if brief, _ := x.entry.Load(); x.state() != state || brief.State() != state || x.machine.State() != state {
					t.Errorf("%s, %s and %s after the vote for %s was taken back", x.state(), brief.State(), x.machine.State(), state)
				}
				if reason := x.verdict().Reason; (reason != "") != (state == verdict.Down) {
					t.Errorf("%s because of %q, after the vote was taken back", state, reason)
				}
			})
		}
	})
}

// When nearly all targets die, members that find nothing up any more do not doubt what others confirm (B107, B108).
func TestFleetMassDeath(t *testing.T) {
	withMembers(t, 10, func(t *testing.T, w *fleetWorld) {
		all := addrs(0, 80)
		w.ask(2*time.Minute, all...)
		w.set((*pooltest.FakeNetwork).Kill, all[6:]...)
		pooltest.Elapse(pooltest.Pace.Bound() + 5*time.Second)
		isolated := 0
		for _, m := range w.members {
			if err := m.pool.Do(t.Context(), func(v View) {
				if v.Isolated() {
					isolated++
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%d members are isolated", isolated)
		for i, a := range all {
			if i < 6 {
				w.all(verdict.Up, a)
			} else {
				w.all(verdict.Down, a)
			}
		}
	})
}

// When members die, others take their seats within 15 seconds. The last one probes for itself (B104, B107).
func TestFleetDeaths(t *testing.T) {
	withMembers(t, 5, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(2*time.Minute, a)
		for left := 4; left > 0; left-- {
			for _, m := range w.live() { // one that has a seat, if there is one
				if role, _ := m.role(a); role == fleet.Seat {
					m.kill()
					break
				}
			}
			w.ask(15*time.Second, a)
			probing := 0
			for _, m := range w.live() {
				if _, probes := m.role(a); probes {
					probing++
				}
			}
			if probing != min(3, left) {
				t.Errorf("%d of %d members probe", probing, left)
			}
			w.all(verdict.Up, a)
		}
		w.set((*pooltest.FakeNetwork).Kill, a)
		pooltest.Elapse(pooltest.Pace.Bound() + 100*time.Millisecond)
		w.all(verdict.Down, a)
	})
}

// A target that dies together with all its vantage points is out four seconds later than with one server (B107).
func TestFleetSilence(t *testing.T) {
	withMembers(t, 6, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(2*time.Minute, a)
		w.set((*pooltest.FakeNetwork).Kill, a)
		for _, m := range w.live() {
			if role, _ := m.role(a); role == fleet.Seat {
				m.kill()
			}
		}
		pace := pooltest.Pace
		pooltest.Elapse(4*time.Second + pace.Fast + time.Duration(pace.Fall-1)*pace.Fast + 2*tickEvery)
		w.all(verdict.Down, a)
		if len(w.live()) != 3 {
			t.Errorf("%d members are left", len(w.live()))
		}
	})
}

// A member whose loop does not turn has no say, although its engine does (B107, B108).
func TestFleetHungMember(t *testing.T) {
	withMembers(t, 3, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(time.Minute, a)
		hung := w.members[0]
		release := make(chan struct{})
		hung.pool.calls <- func() { <-release }
		w.members = w.members[1:]
		w.set((*pooltest.FakeNetwork).Kill, a)
		pooltest.Elapse(pooltest.Pace.Bound() + 100*time.Millisecond)
		w.all(verdict.Down, a)
		w.set((*pooltest.FakeNetwork).Revive, a)
		pooltest.Elapse(time.Minute)
		close(release)
		w.members = append(w.members, hung)
		pooltest.Elapse(time.Second)
		w.all(verdict.Up, a)
	})
}

// What is asked for here is not counted as another member's any longer.
func TestFleetLentIsOwn(t *testing.T) {
	withMembers(t, 3, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.members[0].look(a)
		pooltest.Elapse(5 * time.Second)
		lent := func() (n int) {
			for _, m := range w.members[1:] {
				m.pool.life.Lock()
				m.pool.do(func() { n += m.stanza.lent })
				m.pool.life.Unlock()
			}
			return n
		}
		if lent() != 2 {
			t.Fatalf("%d targets are another member's", lent())
		}
		w.ask(time.Second, a)
		if lent() != 0 {
			t.Errorf("%d targets are another member's, although they are asked for here", lent())
		}
	})
}

// A member that has taken others for dead, time and again, agrees with them about the seats soon after it hears them.
func TestFleetAfterFalseDeaths(t *testing.T) {
	withMembers(t, 10, func(t *testing.T, w *fleetWorld) {
		all := addrs(0, 40)
		w.ask(time.Minute, all...)
		for range 4 {
			w.net.Cut(map[string]int{"m0": 1})
			w.ask(20*time.Second, all...)
			w.net.Cut(nil)
			w.ask(10*time.Second, all...)
		}
		w.ask(20*time.Second, all...)
		for _, a := range all {
			seats := 0
			for _, m := range w.members {
				if role, probes := m.role(a); role == fleet.Seat && probes {
					seats++
				} else if role == fleet.Alone {
					t.Errorf("%s is alone with %s", m.name, a)
				}
			}
			if seats != 3 {
				t.Errorf("%d members probe %s, want 3", seats, a)
			}
		}
	})
}

// A vantage point that cannot ask leaves its seat to another, and takes it again later (B104).
func TestFleetSeatThatCannotBeFilled(t *testing.T) {
	withMembers(t, 5, func(t *testing.T, w *fleetWorld) {
		a := pooltest.Addr(1)
		w.ask(time.Minute, a)
		var broken *fleetServer
		for _, m := range w.members {
			if role, _ := m.role(a); role == fleet.Seat {
				broken = m
			}
		}
		broken.network.Do(func() { broken.network.Broken = check.ErrAbstain })
		w.ask(50*time.Second, a)
		seats := 0
		for _, m := range w.members {
			if role, probes := m.role(a); role == fleet.Seat && probes && m != broken {
				seats++
			}
		}
		if role, probes := broken.role(a); seats != 3 || role != fleet.Heard || probes {
			t.Errorf("%d others have seats; the one that cannot ask is %s and probes: %t", seats, role, probes)
		}
		broken.network.Do(func() { broken.network.Broken = nil })
		w.ask(3*time.Minute, a)
		if role, probes := broken.role(a); role != fleet.Seat || !probes {
			t.Errorf("it is %s and probes: %t, after it can ask again", role, probes)
		}
		if n := w.probes(100*time.Second, a); n < 30 || n > 36 {
			t.Errorf("%d probes in ten intervals, want 30", n)
		}
	})
}

// A member that has lost its network believes the others, and its frozen votes keep no dead target in (B107, B111).
func TestFleetIsolatedMember(t *testing.T) {
	withMembers(t, 3, func(t *testing.T, w *fleetWorld) {
		all := addrs(0, 20)
		w.ask(2*time.Minute, all...)
		lost := w.members[0].network
		lost.Do(func() { lost.Broken = pooltest.ErrRefused })
		w.ask(15*time.Second, all...)
		isolated := false
		if err := w.members[0].pool.Do(t.Context(), func(v View) { isolated = v.Isolated() }); err != nil || !isolated {
			t.Fatalf("isolated: %t, %v", isolated, err)
		}
		dead := all[7]
		w.set((*pooltest.FakeNetwork).Kill, dead)
		pooltest.Elapse(pooltest.Pace.Bound() + time.Second)
		for _, a := range all {
			if a == dead {
				w.all(verdict.Down, a)
			} else {
				w.all(verdict.Up, a)
			}
		}
		w.ask(3*time.Minute, all...) // by now it does not take itself for isolated any more, and finds everything down
		for _, a := range all {
			if a != dead {
				w.all(verdict.Up, a)
			}
		}
	})
}

// When a member finds its network again, the votes that were frozen until then keep no dead target in (B107, B111).
func TestFleetIsolationEnds(t *testing.T) {
	withMembers(t, 3, func(t *testing.T, w *fleetWorld) {
		all := addrs(0, 20)
		w.ask(2*time.Minute, all...)
		lost, dead := w.members[0].network, all[7]
		lost.Do(func() { lost.Broken = pooltest.ErrRefused })
		w.ask(15*time.Second, all...)
		w.set((*pooltest.FakeNetwork).Kill, dead)
		w.ask(pooltest.Pace.Bound()+time.Second, all...)
		w.all(verdict.Down, dead)
		lost.Do(func() { lost.Broken = nil })
		for range 100 {
			w.ask(200*time.Millisecond, all...)
			w.all(verdict.Down, dead)
			w.all(verdict.Up, all[8])
		}
	})
}

// A member that has hung comes back with votes that are out of date. They count for no moment, neither where they say up nor where
// they say down (B107, B108).
func TestFleetStaleVotes(t *testing.T) {
	withMembers(t, 3, func(t *testing.T, w *fleetWorld) {
		dies, lives := pooltest.Addr(1), pooltest.Addr(2)
		w.ask(time.Minute, dies, lives)
		hung := w.members[0]
		for _, m := range w.members[1:] {
			m.network.Kill(dies)
		}
		w.ask(pooltest.Pace.Bound(), dies, lives)
		w.all(verdict.Up, dies) // by the vote of the one that is about to hang
		release := make(chan struct{})
		hung.pool.calls <- func() { <-release }
		w.members = w.members[1:]
		hung.network.Kill(dies)
		w.ask(6*time.Second, dies, lives)
		w.all(verdict.Down, dies)
		close(release)
		for range 100 {
			w.ask(100*time.Millisecond, dies, lives)
			w.all(verdict.Down, dies)
			w.all(verdict.Up, lives)
		}
		w.members = append(w.members, hung)
		w.ask(time.Minute, dies, lives)
		w.all(verdict.Down, dies)
		if role, probes := hung.role(dies); role != fleet.Seat || !probes || w.probes(100*time.Second, lives) < 30 {
			t.Errorf("the member that has hung is a %s, and probes: %t", role, probes)
		}
	})
}

// Each side of a cut is as good as alone after four seconds, and a fleet is one again afterwards (B107, B108).
func TestFleetPartition(t *testing.T) {
	withMembers(t, 5, func(t *testing.T, w *fleetWorld) {
		a, b := pooltest.Addr(1), pooltest.Addr(2)
		w.ask(2*time.Minute, a, b)
		w.net.Cut(map[string]int{"m0": 1, "m1": 1, "m2": 2, "m3": 2, "m4": 3})
		w.set((*pooltest.FakeNetwork).Kill, a)
		w.ask(pooltest.Pace.Bound()+4*time.Second+100*time.Millisecond, b)
		w.all(verdict.Down, a)
		w.all(verdict.Up, b)
		w.ask(time.Minute, a, b)
		if n := w.probes(100*time.Second, b); n < 50 || n > 60 {
			t.Errorf("three sides probe %d times in ten intervals, want 50", n)
		}
		w.net.Cut(nil)
		w.ask(2*time.Minute, a, b)
		if n := w.probes(100*time.Second, b); n < 30 || n > 36 {
			t.Errorf("the healed fleet probes %d times in ten intervals, want 30", n)
		}
		w.all(verdict.Down, a)
	})
}

// A target that only one member is asked for is probed by those who have its seats (B104).
func TestFleetWant(t *testing.T) {
	withMembers(t, 10, func(t *testing.T, w *fleetWorld) {
		asking := w.members[0]
		for i := range 10 {
			asking.look(pooltest.Addr(i))
		}
		pooltest.Elapse(30 * time.Second)
		for i := range 10 {
			a, seats := pooltest.Addr(i), 0
			for _, m := range w.members {
				if role, probes := m.role(a); role == fleet.Seat && probes && m.network.Asked(a) > 0 {
					seats++
				}
			}
			if role, _ := asking.role(a); seats != 3 || asking.look(a) != verdict.Up {
				t.Errorf("%d members have seats and probe %s, which the one that asks takes for %s (%s)", seats, a, asking.look(a), role)
			}
		}
		// It stays busy for as long as it is asked for there, and is idle for all afterwards.
		a := pooltest.Addr(3)
		for range 40 {
			asking.look(a)
			pooltest.Elapse(time.Minute)
		}
		w.set((*pooltest.FakeNetwork).Kill, a)
		pooltest.Elapse(pooltest.Pace.Bound() + 100*time.Millisecond)
		if got := asking.look(a); got != verdict.Down {
			t.Errorf("a target that is busy at one member is %s after its death", got)
		}
		w.set((*pooltest.FakeNetwork).Revive, a)
		pooltest.Elapse(time.Hour)
		w.set(func(n *pooltest.FakeNetwork, _ ...netip.Addr) { n.Forget() })
		pooltest.Elapse(1000 * time.Second)
		n := 0
		for _, m := range w.members {
			n += m.network.Asked(a)
		}
		if n < 30 || n > 40 { // the idle interval is 100 seconds
			t.Errorf("an idle target is probed %d times in ten idle intervals, want 30", n)
		}
	})
}

// In any sequence of deaths, restarts and cuts, a dead target is out within the bound and four seconds, and one that answers is
// not (B104 to B108).
func TestFleetOfPools(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { testFleetOfPools(t, rand.New(rand.NewPCG(seed, 7))) })
	}
}

func testFleetOfPools(t *testing.T, rng *rand.Rand) {
	withMembers(t, 3+rng.IntN(4), func(t *testing.T, w *fleetWorld) {
		w.net.Lossy = true
		all := addrs(0, 8)
		since := make(map[netip.Addr]time.Time) // when it died or began to answer
		dead := make(map[netip.Addr]bool)
		w.ask(time.Minute, all...)
		for step := range 60 {
			a := all[rng.IntN(len(all))]
			m := w.members[rng.IntN(len(w.members))]
			switch rng.IntN(6) {
			case 0, 1:
				if dead[a] = !dead[a]; dead[a] {
					w.set((*pooltest.FakeNetwork).Kill, a)
				} else {
					w.set((*pooltest.FakeNetwork).Revive, a)
				}
				since[a] = time.Now()
			case 2:
				switch {
				case m.gen == nil:
					m.run()
				case rng.IntN(2) == 0:
					m.stop()
				default:
					m.kill()
				}
			case 3:
				w.net.Cut(map[string]int{"m0": rng.IntN(3), "m1": rng.IntN(3), "m2": rng.IntN(2), "m3": rng.IntN(2)})
			case 4:
				w.net.Cut(nil)
			case 5:
				w.ask(time.Duration(rng.IntN(60))*time.Second, all...)
			}
			w.ask(time.Duration(1+rng.IntN(20))*time.Second, all...)
			bound := pooltest.Pace.Bound() + 4*time.Second + 100*time.Millisecond
			for _, m := range w.live() {
				for _, a := range all {
					got, late := m.look(a), time.Since(since[a]) > bound && time.Since(m.began) > bound
					if late && dead[a] != (got == verdict.Down) {
						t.Fatalf("step %d: %s believes that %s is %s for %s, dead %t", step, m.name, a, got, time.Since(since[a]), dead[a])
					}
				}
			}
		}
	})
}
