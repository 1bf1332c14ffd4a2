package pool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/history"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// lineOf reads the timeline of an address as the status page does, and all that was recorded.
func lineOf(t *testing.T, p *Pool, a netip.Addr) (*history.Line, history.Reading) {
	t.Helper()
	var shot status.Snapshot
	if err := p.Do(context.Background(), func(v View) {
		for shard, more := 0, true; more; {
			shard, more = v.Rows(shard, &shot)
		}
	}); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(shot.Targets, func(x status.Target) bool { return x.Address.Addr() == a })
	if i < 0 {
		t.Fatalf("%s is not watched", a)
	}
	r, err := p.History(context.Background(), []any{shot.Targets[i].Handle})
	if err != nil {
		t.Fatal(err)
	}
	return r.Lines[0], r
}

// checkLines fails unless each line has the state that queries see, and the whole is the sum of them: a target that is watched at two
// paces for a while counts once.
func checkLines(t *testing.T, p *Pool) {
	t.Helper()
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() {
		var want [3]uint32
		now, counted := clock.At(time.Now()), make(map[string]bool)
		for _, m := range p.monitors {
			track := history.TrackOf(m.line.Copy(), history.Hour, now.Add(time.Second))
			got := track.Runs[len(track.Runs)-1].State
			if state := m.state().String(); got != state && got != "mixed" {
				t.Errorf("%s is %s, and its line says %s", m.entry.Target, state, got)
			}
			if key := fmt.Sprint(m.check.withoutPace, m.entry.Target.Addr, m.owner, m.group.Zones); !counted[key] {
				counted[key] = true
				want[lineStates[m.state()]]++
			}
		}
		var r history.Reading
		p.book.Read(&r, now)
		steps, _ := r.Whole.Steps(history.Hour, now)
		last := steps[len(steps)-1]
		if got := [3]uint32{last.Unknown, last.Up, last.Down}; got != want {
			t.Errorf("the whole has %v, want %v", got, want)
		}
	})
}

// The timeline of a target says when it went down, how often and for how long, also of hours in which it was not read (B117).
func TestTimelineOfATarget(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s, a := testStanza("tcp://:80", n, pooltest.Pace), pooltest.Addr(1)
		begin(p, s)
		p.Record(true)
		pass(10*time.Minute, s, a)
		n.Kill(a)
		pass(4*time.Minute, s, a)
		n.Revive(a)
		pass(6*time.Minute, s, a)
		line, r := lineOf(t, p, a)
		sum := history.TrackOf(line, history.Hour, r.At).Summary
		if sum.Transitions != 2 || sum.More || sum.Longest < 220 || sum.Longest > 270 || sum.Known < 19*60 || sum.Known > 21*60 {
			t.Errorf("%+v", sum)
		}
		if l := history.LatencyOf(r.At, line); l.Median <= 0 || l.P99 < l.Median {
			t.Errorf("latency %+v", l)
		}
		pass(5*time.Hour, s, a)
		line, r = lineOf(t, p, a)
		day, hour := history.TrackOf(line, history.Day, r.At).Summary, history.TrackOf(line, history.Hour, r.At).Summary
		if day.Transitions != 2 || day.Longest < 210 || day.Longest > 280 || hour.Transitions != 0 || hour.Down != 0 || *hour.Share != 1 {
			t.Errorf("after hours: %+v in the day, %+v in the hour", day, hour)
		}
		checkLines(t, p)
	})
}

// Timelines are kept over reloads, also of another pace and of a start that fails, and end with the target (B117).
func TestTimelineOverReloads(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s, a := testStanza("tcp://:80", n, pooltest.Pace), pooltest.Addr(1)
		g := begin(p, s)
		p.Record(true)
		n.Kill(a)
		pass(10*time.Minute, s, a)
		n.Revive(a)
		pass(time.Minute, s, a)
		for range 3 {
			s = testStanza("tcp://:80", n, pooltest.Pace)
			next := candidateOf(p, s)
			p.Confirm(next)
			p.Leave(g)
			g = next
			pass(time.Minute, s, a)
		}
		slower := pooltest.Pace
		slower.Interval = 30 * time.Second
		candidateOf(p, testStanza("tcp://:80", n, slower))
		checkLines(t, p)
		p.Abandon()
		checkLines(t, p)
		s = testStanza("tcp://:80", n, slower)
		next := candidateOf(p, s)
		checkLines(t, p)
		p.Confirm(next)
		p.Leave(g)
		pass(time.Minute, s, a)
		line, r := lineOf(t, p, a)
		if sum := history.TrackOf(line, history.Hour, r.At).Summary; sum.Transitions != 1 || sum.Longest < 580 || sum.Longest > 620 {
			t.Errorf("%+v", sum)
		}
		var kinds []history.Kind
		for _, e := range r.Events {
			kinds = append(kinds, e.Kind)
		}
		if want := []history.Kind{history.Began, history.Reloaded, history.Reloaded, history.Reloaded, history.Reloaded}; !slices.Equal(kinds, want) {
			t.Errorf("%v, want %v", kinds, want)
		}
		p.NoteEvent(history.Forced, "a file")
		synctest.Wait()
		if _, r = lineOf(t, p, a); r.Events[len(r.Events)-1].Text != "a file" {
			t.Errorf("%v", r.Events)
		}
		checkLines(t, p)
		abandon(s, owner)
		checkLines(t, p) // of no target
	})
}

// A target that is down while its pace changes is one target that is down, before the reload is over and after it, and also if the
// reload fails (B117).
func TestWholeOverReloads(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s, a := testStanza("tcp://:80", n, pooltest.Pace), pooltest.Addr(1)
		g := begin(p, s)
		p.Record(true)
		n.Kill(a)
		pass(2*time.Minute, s, a)
		one := func(when string) {
			t.Helper()
			line, r := lineOf(t, p, a)
			steps, _ := r.Whole.Steps(history.Hour, r.At.Add(time.Second))
			for _, c := range steps {
				if c.Most > 1 || c.Up+c.Down+c.Unknown > 1 {
					t.Fatalf("%s: %+v of one target", when, c)
				}
			}
			if last := steps[len(steps)-1]; last.Down != 1 {
				t.Errorf("%s: %+v", when, last)
			}
			if sum := history.TrackOf(line, history.Day, r.At).Summary; !line.HasDay() || sum.Longest < 100 {
				t.Errorf("%s: %+v", when, sum)
			}
		}
		slower := pooltest.Pace
		for i := range 3 {
			slower.Interval += 10 * time.Second
			candidateOf(p, testStanza("tcp://:80", n, slower))
			one("before a start that fails")
			p.Abandon()
			one("after it")
			s = testStanza("tcp://:80", n, slower)
			next := candidateOf(p, s)
			one(fmt.Sprint("before reload ", i))
			p.Confirm(next)
			pass(30*time.Second, s, a)
			one("before the close")
			p.Leave(g)
			g = next
			one("after the close")
			pass(time.Minute, s, a)
			one("later")
		}
		n.Revive(a)
		pass(2*time.Minute, s, a)
		checkLines(t, p)
		if _, r := lineOf(t, p, a); len(r.Events) != 4 {
			t.Errorf("%v", r.Events)
		}
	})
}

// Nothing is recorded while there is no status page, and what was recorded is dropped with it (B117).
func TestNoTimelineWithoutAPage(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s, a := testStanza("tcp://:80", n, pooltest.Pace), pooltest.Addr(1)
		begin(p, s)
		nothing := func(when string) {
			t.Helper()
			n.Kill(a)
			pass(time.Minute, s, a)
			n.Revive(a)
			pass(time.Minute, s, a)
			if line, r := lineOf(t, p, a); line != nil || r.Whole != nil || r.Events != nil {
				t.Errorf("%s: %v, %v, %v", when, line, r.Whole, r.Events)
			}
		}
		nothing("before")
		p.Record(true)
		pass(time.Minute, s, a)
		line, r := lineOf(t, p, a)
		if track := history.TrackOf(line, history.Hour, r.At); track.Summary.Known < 50 || track.Summary.Known > 71 || track.Runs[0].State != "unknown" {
			t.Errorf("the page has been there for a minute: %+v", track)
		}
		p.Record(false)
		nothing("after")
	})
}

// The lines follow what queries see, whatever happens to the targets of a fleet (B117).
func TestTimelineInAFleet(t *testing.T) {
	withMembers(t, 4, func(t *testing.T, w *fleetWorld) {
		for _, m := range w.members {
			m.pool.Record(true)
		}
		random := rand.New(rand.NewPCG(1, 2))
		var all []netip.Addr
		for i := range 12 {
			all = append(all, pooltest.Addr(i))
		}
		for range 12 {
			if a := all[random.IntN(len(all))]; random.IntN(2) == 0 {
				w.set((*pooltest.FakeNetwork).Kill, a)
			} else {
				w.set((*pooltest.FakeNetwork).Revive, a)
			}
			w.ask(40*time.Second, all...)
			for _, m := range w.live() {
				checkLines(t, m.pool)
			}
		}
		w.members[3].kill()
		w.ask(2*time.Minute, all...)
		m := w.members[0]
		checkLines(t, m.pool)
		if _, r := lineOf(t, m.pool, all[0]); !slices.ContainsFunc(r.Events, func(e history.Event) bool { return e.Kind == history.Fleet && len(e.Text) > 4 && e.Text[:2] == "m3" }) {
			t.Errorf("the member that died is not among the events: %v", r.Events)
		}
		m.pool.JoinFleet(nil)
		checkLines(t, m.pool)
	})
}

// A row of a snapshot whose target is watched no longer has no timeline.
func TestTimelineOfAGoneTarget(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		p.Record(true)
		pass(time.Minute, s, pooltest.Addr(1))
		var shot status.Snapshot
		_ = p.Do(context.Background(), func(v View) {
			for shard, more := 0, true; more; {
				shard, more = v.Rows(shard, &shot)
			}
		})
		abandon(s, owner)
		r, err := p.History(context.Background(), []any{shot.Targets[0].Handle, nil})
		if err != nil || r.Lines[0] != nil || r.Lines[1] != nil {
			t.Errorf("%v, %v: a target that is gone has a timeline", r.Lines, err)
		}
	})
}

// BenchmarkSettle measures what the result of a probe costs that changes nothing, with a status page and without, and a change of
// state: compare the three of one run.
func BenchmarkSettle(b *testing.B) {
	for _, tc := range []struct {
		name    string
		record  bool
		changes bool
	}{{"no page", false, false}, {"page", true, false}, {"no page, changes", false, true}, {"page, changes", true, true}} {
		b.Run(tc.name, func(b *testing.B) {
			p := New()
			pace := pooltest.Pace
			pace.Rise, pace.Fall = 1, 1
			s := testStanza("tcp://:80", pooltest.NewNetwork(), pace)
			candidateOf(p, s)
			p.Record(tc.record)
			t := verdict.Target{Identity: s.checks[0].identity, Addr: netip.AddrPortFrom(pooltest.Addr(1), 80)}
			now := time.Now()
			m := p.addMonitor(t, p.checks[t.Identity], &s.Group, owner, nil, now)
			p.transitions.second, p.transitions.lines = now.Add(100_000*time.Hour), linesASecond // the log is not what is measured
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				now = now.Add(10 * time.Second)
				r := probeResult{monitor: m, took: 3 * time.Millisecond}
				if tc.changes && i%2 == 0 {
					r.err = pooltest.ErrRefused
				}
				m.position, m.lane = probing, calm
				m.started = clock.At(now)
				p.schedule.remove(m)
				p.settle(r, now)
				p.schedule.remove(m)
			}
		})
	}
}
