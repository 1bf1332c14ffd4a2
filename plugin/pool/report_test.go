package pool

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/state"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// agentStanza is a stanza whose one check asks an agent.
func agentStanza(n Prober, pace verdict.Pace) *stanza {
	s := testStanza("agent://:80", n, pace)
	s.checks[0].reports, s.checks[0].agent = true, true
	return s
}

// weigherStanza is a stanza whose one check reports weights, and no more.
func weigherStanza(n Prober, pace verdict.Pace) *stanza {
	s := testStanza("http://:80 weight_header X", n, pace)
	s.checks[0].reports = true
	return s
}

func says(word string) report.Report {
	r := report.Report{Decides: true}
	switch word {
	case "ready", "drain", "maint":
		r.Admin = word
	default:
		r.Health = word
	}
	return r
}

func weighs(percent uint8) report.Report { return report.Report{HasWeight: true, Weight: percent} }

// An agent takes its backend out and brings it back at once, whatever rise and fall are. Since its next word may do that, no
// verdict holds for longer than one wait (B100).
func TestAgentActsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		log := pooltest.Logged(t)
		a := pooltest.Addr(1)
		pace := pooltest.Pace
		pace.Rise, pace.Fall = 5, 5
		s := agentStanza(n, pace)
		begin(p, s)
		n.Say(says("up"), a)
		pass(time.Minute, s, a)
		if v := verdictOf(s, a); v.State != verdict.Up || v.Holds > pace.Interval || v.Holds < pace.Interval*8/10 {
			t.Fatalf("%+v", v)
		}
		var want []string // in the log
		for _, tc := range []struct {
			say  report.Report
			want string
			log  string
		}{
			{says("maint"), "down backend says maint", "is down by agent://:80: backend says maint"},
			{says("up"), "down backend says maint", ""},
			{says("ready"), "up", "is up by agent://:80"},
			{says("drain"), "up drained", "is drained by agent://:80: backend says drain"},
			{says("up"), "up drained", ""},
			{says("ready"), "up", "is drained no longer by agent://:80"},
			{report.Report{Decides: true, Health: "fail", Reason: `"disk"`}, `down backend says fail: "disk"`, `is down by agent://:80: backend says fail: "disk"`},
			{report.Report{Decides: true}, `down backend says fail: "disk"`, ""},
			{says("up"), "up", "is up by agent://:80"},
		} {
			n.Say(tc.say, a)
			if tc.log != "" {
				want = append(want, tc.log)
			}
			pass(pace.Interval+time.Second, s, a)
			v := verdictOf(s, a)
			got := strings.TrimSpace(v.State.String() + " " + v.Reason)
			if v.Brief().Drained() {
				got += " drained"
			}
			if got != tc.want || v.Holds > pace.Interval {
				t.Errorf("after %+v: %s, holds %s, want %s", tc.say, got, v.Holds, tc.want)
			}
		}
		synctest.Wait()
		for line := range strings.Lines(log.String()) {
			if len(want) == 0 || !strings.HasSuffix(line, " 10.0.0.1:80 "+want[0]+"\n") {
				t.Errorf("the log has %q, want %q", line, want)
				break
			}
			want = want[1:]
		}
		if len(want) > 0 {
			t.Errorf("the log lacks %q", want)
		}
	})
}

// When all agents say at once that their backends are down, that is no sign that our own network is lost (B56, B100).
func TestAgentsAreNotIsolation(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		var all []netip.Addr
		for i := range 30 {
			all = append(all, pooltest.Addr(i))
		}
		pace := pooltest.Pace
		pace.Fall = 1
		s := agentStanza(n, pace)
		begin(p, s)
		pass(time.Minute, s, all...)
		n.Say(says("down"), all...)
		pass(pooltest.Pace.Interval+time.Second, s, all...)
		for _, a := range all {
			if v := verdictOf(s, a); v.State != verdict.Down {
				t.Fatalf("%s is %s", a, v.State)
			}
		}
		if testutil.ToFloat64(metrics.Isolated) != 0 {
			t.Error("isolated")
		}
	})
}

// An agent that is not there changes nothing, is not asked more often for it, and is logged as one line a minute (B100).
func TestSilentAgentIsNotHurried(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		log := pooltest.Logged(t)
		a := pooltest.Addr(1)
		s := agentStanza(n, pooltest.Pace)
		begin(p, s)
		n.Say(says("drain"), a)
		pass(time.Minute, s, a)
		n.Do(func() { n.Broken = fmt.Errorf("%w: %w: connection refused", check.ErrAbstain, check.ErrSilent) })
		pass(time.Second*20, s, a)
		before := n.Asked(a)
		pass(10*pooltest.Pace.Interval, s, a)
		if asked := n.Asked(a) - before; asked < 9 || asked > 12 {
			t.Errorf("asked %d times in ten intervals", asked)
		}
		if v := verdictOf(s, a); v.State != verdict.Up || !v.Brief().Drained() {
			t.Errorf("%+v", v)
		}
		if lines := pooltest.CountLines(log, "keeps its state"); lines < 1 || lines > 3 {
			t.Errorf("%d lines in two minutes", lines)
		}
		b := pooltest.Addr(2)
		pass(time.Minute, s, b)
		if asked := n.Asked(b); asked > 12 {
			t.Errorf("an agent that was never there was asked %d times in a minute", asked)
		}
		if stateOf(s, b) != verdict.Unknown {
			t.Error("silence has decided something")
		}
	})
}

// What a backend says that makes no sense is logged once for each kind, and changes nothing.
func TestOddReportsAreLoggedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		log := pooltest.Logged(t)
		a := pooltest.Addr(1)
		s := agentStanza(n, pooltest.Pace)
		begin(p, s)
		n.Say(report.Report{Decides: true, Odd: `an unknown word "x"`, OddKind: report.OddWord}, a)
		pass(5*time.Minute, s, a)
		if stateOf(s, a) != verdict.Unknown {
			t.Error("what no agent says proves something")
		}
		n.Say(report.Report{Decides: true, HasWeight: true, Weight: 100, Odd: "a weight over 100 %", OddKind: report.OddExcess}, a)
		pass(5*time.Minute, s, a)
		for _, words := range []string{`10.0.0.1:80 has an unknown word "x"`, "a weight over 100 %"} {
			if n := pooltest.CountLines(log, words); n != 1 {
				t.Errorf("%d lines with %s: %s", n, words, log)
			}
		}
		if stateOf(s, a) != verdict.Up {
			t.Error("it is not up")
		}
	})
}

// The gauges have the least and the sum of what targets that are up want, by check, and end with the last of them (B101).
func TestReportedWeightGauges(t *testing.T) {
	gauge := func(s *stanza, of string) float64 {
		return testutil.ToFloat64(metrics.ReportedWeight.WithLabelValues(s.checks[0].Name, of))
	}
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		a, b, c := pooltest.Addr(1), pooltest.Addr(2), pooltest.Addr(3)
		s := weigherStanza(n, pooltest.Pace)
		g := begin(p, s)
		n.Say(weighs(70), a)
		n.Say(weighs(40), b)
		n.Say(weighs(0), c)
		expect := func(when string, least, sum float64) {
			t.Helper()
			pass(time.Minute, s, a, b, c)
			if got, all := gauge(s, "least"), gauge(s, "sum"); got != least || all != sum {
				t.Errorf("%s: least %v and sum %v, want %v and %v", when, got, all, least, sum)
			}
		}
		expect("at first", 0, 110)
		n.Say(weighs(100), c)
		expect("with all of c", 40, 210)
		n.Say(report.Report{HasWeight: true, Weight: 90, Admin: "drain"}, c)
		expect("with c drained", 0, 110)
		n.Say(report.Report{HasWeight: true, Weight: 100, Admin: "ready"}, c)
		expect("with c ready", 40, 210)
		n.Kill(b)
		expect("with b dead", 70, 170)
		n.Revive(b)
		expect("with b back", 40, 210)
		other := pooltest.Pace
		other.Interval = 20 * time.Second
		s2 := weigherStanza(n, other)
		g2 := begin(p, s2)
		p.Leave(g)
		s = s2
		expect("after a reload with another pace", 40, 210)
		n.Say(weighs(10), a)
		expect("and a change", 10, 150)
		p.Leave(g2)
		if n := testutil.CollectAndCount(metrics.ReportedWeight); n != 0 {
			t.Errorf("%d series without a check", n)
		}
	})
}

// What a backend has said is kept over a reload, also with another pace, over a time in which no query asks, and over a restart
// (B100, B101).
func TestReportsAreKept(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		drained, out, half := pooltest.Addr(1), pooltest.Addr(2), pooltest.Addr(3)
		s := agentStanza(n, pooltest.Pace)
		g := begin(p, s)
		n.Say(report.Report{Decides: true, Admin: "drain", Reason: `"x"`}, drained)
		n.Say(says("maint"), out)
		n.Say(weighs(50), half)
		pass(time.Minute, s, drained, out, half)
		n.Say(report.Report{Decides: true}, drained, out, half) // from now on they say nothing of it
		expect := func(when string, s *stanza) {
			t.Helper()
			d, o, h := s.Look(owner, drained, 0, 30), s.Look(owner, out, 0, 30), s.Look(owner, half, 0, 30)
			if !d.Drained() || o.State() != verdict.Down || h.Weight() != 50 || h.State() != verdict.Up {
				t.Errorf("%s: drained %t, out %s, half %d%% %s", when, d.Drained(), o.State(), h.Weight(), h.State())
			}
		}
		expect("at first", s)
		pass(time.Minute, s, drained, out, half)
		expect("after answers without a word of it", s)
		pooltest.Elapse(2 * time.Hour)
		var idle bool
		p.Do(t.Context(), func(v View) {
			for i, more := 0, true; more; {
				var shot status.Snapshot
				i, more = v.Rows(i, &shot)
				for _, row := range shot.Targets {
					idle = idle || row.Idle
					if row.Address.Addr() == drained && (row.Said != `backend says drain: "x"` || !row.Drained || *row.Weight != 100) || row.Address.Addr() == half && *row.Weight != 50 {
						t.Errorf("%+v", row)
					}
				}
			}
		})
		if !idle {
			t.Error("no target has become idle")
		}
		expect("after two hours without a query", s)
		pass(time.Minute, s, drained, out, half)
		slower := pooltest.Pace
		slower.Interval = time.Minute
		s2 := agentStanza(n, slower)
		g2 := candidateOf(p, s2)
		expect("by the first query after a reload", s2)
		p.Confirm(g2)
		p.Leave(g)
		pass(time.Minute, s2, drained, out, half)
		expect("after a reload", s2)

		records := make(map[state.Key]state.Record)
		p.Do(t.Context(), func(v View) {
			for i, more := 0, true; more; {
				i, more = v.Records(i, func(k state.Key, r state.Record) { records[k] = r })
			}
		})
		p.Leave(g2)
		later := New()
		later.Restore(maps.Clone(records))
		s3 := agentStanza(n, slower)
		n.Do(func() { n.Broken = errors.New("gone") })
		g3 := candidateOf(later, s3)
		defer later.Leave(g3)
		expect("by the first query after a restart", s3)
		if h := s3.Look(owner, half, 0, 30).Holds(); h != 0 {
			t.Errorf("it holds for %d s, and the next word of the agent may come now", h)
		}
		later.Confirm(g3)
		pooltest.Elapse(time.Second)
		expect("when its target is watched", s3)
		n.Do(func() { n.Broken = nil })
		pass(3*time.Minute, s3, drained, out, half)
		expect("after probes", s3)
	})
}

// A check that reports nothing has no report, whatever its answer is: what is not used costs nothing.
func TestChecksWithoutReports(t *testing.T) {
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		a := pooltest.Addr(1)
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		n.Say(says("maint"), a)
		pass(time.Minute, s, a)
		if v := verdictOf(s, a); v.State != verdict.Up || v.Said != nil {
			t.Errorf("%+v", v)
		}
		p.Do(t.Context(), func(v View) {
			for e := range table.Shards {
				v.pool.table.Each(e, func(e *table.Entry) {
					if row := v.pool.monitors[e].row(); row.Weight != nil || row.Drained || row.Said != "" {
						t.Errorf("%+v", row)
					}
				})
			}
		})
	})
}

// When a thousand backends have themselves drained at once, the log names a few of them and counts the others, as it does with
// changes of state (B74, B100).
func TestLogOfManyDrains(t *testing.T) {
	text := pooltest.Logged(t)
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := agentStanza(n, verdict.Pace{Interval: 10 * time.Second, Fast: time.Second, Timeout: time.Second, Rise: 2, Fall: 3})
		begin(p, s)
		all := addrs(0, 1000)
		n.Say(says("ready"), all...)
		lookAll(s, all)
		pooltest.Elapse(time.Minute)
		text.Reset()
		n.Say(says("drain"), all...)
		pooltest.Elapse(20 * time.Second)
		synctest.Wait()
		named, summed := 0, 0
		for line := range strings.Lines(text.String()) {
			var count int
			_, after, sum := strings.Cut(line, "more state changes in the last second: ")
			switch {
			case sum:
				if _, err := fmt.Sscanf(after, "%d of agent://:80 are up (drained by themselves %d)", &count, new(int)); err != nil {
					t.Error(line)
				}
				summed += count
			case strings.Contains(line, "is drained by agent://:80: backend says drain"):
				named++
			default:
				t.Errorf("the log has %s", line)
			}
		}
		if named+summed != 1000 || summed == 0 || named > 15*linesASecond {
			t.Errorf("%d lines with names, and sums of %d", named, summed)
		}
	})
}
