//go:build faults && linux

package fleet

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	core "github.com/coredns-multivalue/multivalue/plugin/fleet"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// honest is how many vantage points of each backend are no liars, as a liar sees it.
func (l *liar) honest() map[int]int {
	groups, targets := l.groups(), l.targets()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.roster.Share(groups)
	all := make(map[int]int)
	for _, t := range targets {
		n := int(t.Addr.Addr().As4()[3])
		all[n] = 0
		for _, name := range l.roster.Seats(t.Group, 3, time.Now()).Others(t.Shard()) {
			for _, p := range l.scene.live() {
				if strings.HasPrefix(name, fmt.Sprintf("127.8.0.%d:", p.n)) {
					all[n]++
				}
			}
		}
	}
	return all
}

// each has each of some liars tell its own lie.
func each(liars []*liar, lie func(l *liar) func()) {
	for _, l := range liars {
		l.tells(lie(l))
	}
}

// toggles has a liar give its seats to the next member and take them back, all the time: each time another one has to begin to probe.
func (l *liar) toggles() func() {
	n := 0
	return func() {
		n++
		state := verdict.Unchecked
		if n%4 < 2 {
			state = verdict.Up
		}
		var all []core.Vote
		for _, t := range l.targets() {
			all = append(all, core.Vote{Target: t, State: state})
		}
		l.engine.Say(all)
	}
}

// A holder of the key that comes as twenty members takes most seats. It decides where it has all of a target, which is what the manual
// says of the key, and nowhere else. It cannot have anything probed that Corefiles do not name, nor faster than they say, nor fill the
// memory, nor keep servers from answering. When it has gone all is as before (B109, B111).
func TestFaultManyLiars(t *testing.T) {
	t.Parallel()
	const room, servers = 60, 4
	all := list(11, 30)
	s := fleetOf(t, servers, all, "MORE", fmt.Sprint("max_targets ", room), "within 127.0.0.0/8", "within 127.9.0.0/24")
	l := s.load()
	liars := s.newLiars(list(100, 119)...)
	each(liars, func(x *liar) func() { return x.votes(verdict.Up) })
	from := time.Now()
	var honest map[int]int
	s.probedBy(patience, "those of its vantage points that are no liars", func(n int, who []int) bool {
		honest = liars[0].honest()
		return len(who) == honest[n]
	})
	theirs := slices.DeleteFunc(slices.Clone(all), func(n int) bool { return honest[n] > 0 })
	others := slices.DeleteFunc(slices.Clone(all), func(n int) bool { return honest[n] == 0 })
	t.Logf("the liars have all seats for %v", theirs)
	if len(theirs) == 0 || len(others) == 0 {
		t.Fatal("the test says nothing, because the liars have all seats, or none")
	}

	t.Log("they say that all are down")
	l.expects(others, nil)
	each(liars, func(x *liar) func() { return x.votes(verdict.Down) })
	s.serves(slack, others...)
	s.passes(3 * interval)
	l.expects(others, theirs)
	s.passes(3 * interval)

	t.Log("they say that all are up")
	l.expects(others, nil)
	each(liars, func(x *liar) func() { return x.votes(verdict.Up) })
	s.serves(slack, all...)
	l.expects(all, nil)
	s.passes(3 * interval)
	if r := s.rates(from, time.Now()); r.crowded(servers) {
		t.Errorf("while they lie: %s, and there are %d servers", r, servers)
	}
	s.plague(liars, room)

	l.expects(others, nil)
	each(liars, func(x *liar) func() { return x.votes(verdict.Down) })
	s.serves(slack, others...)
	began := time.Now()
	for _, x := range liars {
		x.end()
	}
	s.serves(reseated+bound+slack, all...)
	l.expects(all, nil)
	s.joined(patience)
	s.shared(reseated+patience, 3)
	t.Logf("all is as before %s after they have gone", time.Since(began).Round(time.Millisecond))
	s.backends[11].turn(stalls)
	l.expects(all[1:], nil)
	s.serves(bound+slack, all[1:]...)
	l.end()
}

// plague has liars do what costs the others the most. Some of them do it at a time, as this machine has to serve both sides.
func (s *scene) plague(liars []*liar, room int) {
	s.Helper()
	stray := []*strayListener{s.stray(fmt.Sprintf("127.77.0.1:%d", s.backendPort)), s.stray(fmt.Sprintf("127.9.0.11:%d", s.freePort())),
		s.stray(fmt.Sprintf("127.8.0.1:%d", s.backendPort))}
	before := make(map[int]int)
	for _, p := range s.live() {
		before[p.n] = p.resident()
	}
	for _, x := range []struct {
		what string
		lie  func(l *liar) func()
		some int
	}{
		{"give seats away and take them back", (*liar).toggles, len(liars)},
		{"flood votes", (*liar).flood, 3},
		{"want 2^20 targets", func(l *liar) func() { return l.wantAll(stray) }, 3},
		{"talk garbage", func(l *liar) func() { return l.garbage(s) }, 3},
	} {
		s.Log("they " + x.what)
		from := time.Now()
		each(liars[:x.some], x.lie)
		s.passes(6 * interval)
		r := s.rates(from, time.Now())
		s.Logf("while they %s: %s", x.what, r)
		// However often seats move, no server probes a target more often than once in a fast interval.
		if limit := float64(len(s.live())) * float64(interval) / float64(fast); r.most > limit {
			s.Errorf("they %s: %s, want at most %.1f", x.what, r, limit)
		}
		for _, p := range s.live() {
			if now := p.resident(); now > before[p.n]+100 {
				s.Errorf("they %s: server %d has grown from %d to %d MB", x.what, p.n, before[p.n], now)
			}
			if n := p.metric("targets", ""); n > float64(room) {
				s.Errorf("they %s: server %d watches %v targets, and its Corefile allows %d", x.what, p.n, n, room)
			}
		}
		each(liars, func(l *liar) func() { return l.votes(verdict.Up) })
	}
	for _, b := range stray {
		if n := b.count(); n > 0 {
			s.Errorf("%s was probed %d times, which no Corefile names", b.l.Addr(), n)
		}
	}
}
