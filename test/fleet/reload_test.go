//go:build linux

package fleet

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// While one server reloads again and again, the seats stay where they are, and no target is left alone or probed by too many. Reloads
// that fail change nothing: what they would share is not asked for by anyone, and a place that they took for the fleet is free
// again (B69, B70, B110).
func TestReloadsKeepMembership(t *testing.T) {
	t.Parallel()
	s := fleetOf(t, 5, []int{11, 12, 13, 14, 15, 16, 17, 18})
	s.backends[14].turn(stalls)
	s.serves(bound+slack, 11, 12, 13, 15, 16, 17, 18)
	l := s.load()
	l.expects([]int{11, 12, 13, 15, 16, 17, 18}, []int{14})
	s.undisturbed(s.reloadsAgain)
	if len(s.paths("/more")) > 0 {
		t.Error("what a reload that failed would ask was asked")
	}
}

// reloadsAgain has a server reload, and try to. It returns what has changed by that.
func (s *scene) reloadsAgain() (complaint string) {
	s.Helper()
	before := s.probers(window)
	p, from := s.servers[s.servingLeast()], time.Now()
	sent := p.metric("fleet_votes_total", "sent")
	for i := range 3 {
		p.reload("MORE", fmt.Sprint("max_targets ", 100+i))
		s.passes(interval)
	}
	s.failedReloads(p)
	s.passes(2 * interval)
	r := s.rates(from, time.Now())
	s.Log(r)
	if r.crowded(5) || r.longest > 2*interval+slack/4 || r.perInterval < 2.3 || r.perInterval > 3.8 {
		complaint += fmt.Sprintf("%s, want 3, at most 5, and never none\n", r)
	}
	for n, who := range s.probers(time.Since(from)) {
		if !slices.Equal(who, before[n]) {
			complaint += fmt.Sprintf("backend %d is probed by %v, and was by %v before; server %d reloads\n", n, who, before[n], p.n)
		}
	}
	for _, o := range s.live() {
		if n := o.peers(); n != 4 {
			complaint += fmt.Sprintf("server %d hears %d members, want 4\n", o.n, n)
		}
	}
	if again := p.metric("fleet_votes_total", "sent"); again > sent+40 {
		complaint += fmt.Sprintf("%v votes were said over reloads that change nothing\n", again-sent)
	}
	return complaint
}

// servingMost is the server with the most seats, and servingLeast the one with the fewest: with eight targets or more, it has not all.
func (s *scene) servingMost() int  { return s.byService(func(n, best int) bool { return n > best }) }
func (s *scene) servingLeast() int { return s.byService(func(n, best int) bool { return n < best }) }

func (s *scene) byService(better func(n, best int) bool) (best int) {
	count := make(map[int]int)
	for _, who := range s.probers(window) {
		for _, n := range who {
			count[n]++
		}
	}
	for _, p := range s.live() {
		if best == 0 || better(count[p.n], count[best]) {
			best = p.n
		}
	}
	return best
}

// paths are the servers that have asked for a path.
func (s *scene) paths(path string) (all []int) {
	for _, b := range s.backends {
		for _, v := range b.visits(time.Time{}, time.Time{}) {
			if v.path == path && !slices.Contains(all, v.by) {
				all = append(all, v.by)
			}
		}
	}
	slices.Sort(all)
	return all
}

// failedReloads has a server try Corefiles that cannot run, each of which would share another check, too.
func (s *scene) failedReloads(p *server) {
	s.Helper()
	busy, err := net.Listen("tcp4", fmt.Sprintf("127.8.0.%d:0", p.n))
	if err != nil {
		s.Fatal(err)
	}
	defer busy.Close()
	_, busyPort, _ := net.SplitHostPort(busy.Addr().String())
	free := fmt.Sprintf("127.8.0.%d:%d", p.n, s.freePort())
	more := "check http://:BACKEND/ header X-Server NUMBER\n check http://:BACKEND/more header X-Server NUMBER"
	taken := "example.net:" + busyPort + " {\n bind 127.8.0.NUMBER\n erratic\n}\n"
	for what, change := range map[string]struct {
		edits []string
		extra string
	}{
		"a brace is missing":                     {[]string{"CHECK", more}, "example.net {\n"},
		"the port of the servers is taken":       {[]string{"CHECK", more}, taken},
		"the fleet would move, and a port taken": {[]string{"CHECK", more, "listen 127.8.0.NUMBER:FLEET", "listen " + free}, taken},
		"the port of the fleet is taken":         {[]string{"CHECK", more, "listen 127.8.0.NUMBER:FLEET", "listen 127.8.0.NUMBER:" + busyPort}, ""},
		"the key is gone, and the fleet another": {[]string{"CHECK", more, "KEY", "DIR/nokey", "INNER", "name other"}, taken},
	} {
		failed := p.output.Count("[ERROR] SIGUSR1")
		p.extra = change.extra
		p.edit(change.edits...)
		p.signal(syscall.SIGUSR1)
		p.eventually(patience, func() bool { return p.output.Count("[ERROR] SIGUSR1") > failed },
			func() string { return what + ": the reload does not fail:\n" + p.output.String() })
		s.eventually(tick, func() bool {
			l, err := net.Listen("tcp4", free)
			if err == nil {
				l.Close()
			}
			return err == nil
		}, func() string { return what + ": a place that the failed reload wanted is still taken" })
		if what == "the port of the fleet is taken" && !strings.Contains(p.output.String(), "another program listens on 127.8.0.") {
			s.Errorf("%s:\n%s", what, p.output.String())
		}
	}
	p.extra = ""
}

// A server whose fleet is removed by a reload probes for itself, and the others take its seats. It comes back with the property, and
// a name that changes makes it another fleet (B110).
func TestReloadsChangeTheFleet(t *testing.T) {
	t.Parallel()
	s := fleetOf(t, 4, []int{11, 12, 13, 14})
	s.backends[14].turn(stalls)
	s.serves(bound+slack, 11, 12, 13)
	l := s.load()
	l.expects([]int{11, 12, 13}, []int{14})
	p := s.servers[4]
	apart := func(what string) {
		t.Helper()
		t.Logf("%s: after %s", what, s.probedBy(reseated+slack, "3 that share, and 4 for itself", func(_ int, who []int) bool { return slices.Equal(who, []int{1, 2, 3, 4}) }))
		for _, o := range s.live() {
			want := 2
			if o == p {
				want = 0
			}
			o.hears(patience, want)
		}
	}
	without := s.expandFleetAway()
	p.reload(without...)
	apart("without fleet")
	p.reload()
	s.joined(patience)
	s.shared(2*settling+slack, 3)
	p.reload("INNER", "name other")
	apart("with another name")
	p.reload("INNER", "name other\n site here") // it leaves that one, and is in it again at once
	apart("with another site")
}

// expandFleetAway are edits that leave out the property fleet.
func (s *scene) expandFleetAway() []string {
	_, block, _ := strings.Cut(corefile, "MORE\n")
	end := strings.Index(block, "}\n")
	return []string{block[:end+2], ""}
}

// Five servers that are started again, one after the other, stop in time, and nothing that they know is lost: no target is ever left
// alone, a dead one is in no answer, and what has changed while a server was away counts more than its file (B88, B110).
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	s := newScene(t, 11, 12, 13, 14)
	for n := 1; n <= 5; n++ {
		s.launch(n, "MORE", "state DIR/stateNUMBER")
	}
	s.settle()
	s.shared(patience, 3)
	s.backends[14].turn(stalls)
	s.serves(bound+slack, 11, 12, 13)
	l := s.load()
	l.expects([]int{11, 12, 13}, []int{14})
	from := time.Now()
	for n := 1; n <= 5; n++ {
		p := s.servers[n]
		began := time.Now()
		if took := p.stop() - s.halts.stalled(began, time.Now()); took > 2*time.Second+slack/4 {
			t.Errorf("server %d ends within %s", n, took)
		}
		s.live()[0].isLeft(3)
		p.run()
		p.await()
		l.join(p)
		s.joined(patience)
		s.passes(interval)
	}
	r := s.rates(from, time.Now())
	t.Log(r)
	if r.crowded(5) || r.longest > 2*interval+slack/4 {
		t.Errorf("%s, want at most 5, and never none", r)
	}
	// What changes while a server is away.
	p := s.servers[5]
	p.stop()
	l.expects([]int{11, 12}, nil)
	s.backends[13].turn(stalls)
	s.backends[14].turn(sound)
	s.serves(bound+lapse+slack, 11, 12, 14)
	l.expects([]int{11, 12}, nil)
	p.run()
	p.await()
	p.hears(patience, 4)
	// That it need not probe for this is shown in fake time (TestFleetStandsBeforeTheStateFile), where no machine is busy.
	p.eventually(patience, func() bool { return p.has(11, 12, 14) }, func() string { return "what the file says stands before what the fleet says" })
}
