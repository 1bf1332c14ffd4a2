package multivalue

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/state"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// keeping returns a running generation with one stanza that keeps its verdicts in a file.
func keeping(t *testing.T, p *process, n *pooltest.FakeNetwork, path string) (*stanza, *generation) {
	t.Helper()
	s := testStanza("tcp://:80", n, pooltest.Pace)
	g, _ := blockOf(p, nil, s)
	if err := g.nameState("", path, "Corefile:3"); err != nil {
		t.Fatal(err)
	}
	if err := p.join(g); err != nil {
		t.Fatal(err)
	}
	p.confirm(g)
	return s, g
}

// restarted runs f in a process that starts with that file.
func restarted(t *testing.T, n *pooltest.FakeNetwork, path string, f func(s *stanza)) {
	t.Helper()
	p := newProcess()
	s, g := keeping(t, p, n, path)
	f(s)
	p.end(g)
	delete(begun, p)
}

// copyOf copies a file, as another process would find it if this one were killed now.
func copyOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(copied, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return copied
}

// A process that starts again begins with the verdicts of the one before, idle targets' too: after a stop with all of them,
// after a kill with those of the last minute. They are probed at once (B88).
func TestStateOverARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s, g := keeping(t, p, n, path)
		n.Kill(pooltest.Addr(1), pooltest.Addr(4))
		s.Look("quiet.example.org.", pooltest.Addr(4), 0, 30) // and never again
		pooltest.Elapse(20 * time.Minute)
		pass(70*time.Second, s, pooltest.Addr(1), pooltest.Addr(2))
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v", info, err)
		}
		killed := copyOf(t, path)
		n.Kill(pooltest.Addr(2))
		pass(30*time.Second, s, pooltest.Addr(1), pooltest.Addr(2))
		p.end(g)
		for what, tc := range map[string]struct{ path, want string }{
			"killed":  {killed, "down up down"},
			"stopped": {path, "down down down"},
		} {
			restarted(t, n, copyOf(t, tc.path), func(s *stanza) {
				n.Forget()
				for _, query := range []string{"first", "second"} { // the first finds nothing in the pool
					if got := states(s, 1, 2, 4); got != tc.want {
						t.Errorf("%s, the %s query: %s, want %s", what, query, got, tc.want)
					}
					synctest.Wait()
				}
				pooltest.Elapse(time.Millisecond) // the second wait is drawn at random from zero on
				for _, i := range []int{1, 2, 4} {
					if got := n.Asked(pooltest.Addr(i)); got != 1 {
						t.Errorf("%s: %s was probed %d times at once", what, pooltest.Addr(i), got)
					}
				}
				n.Set(n.Dead, false, addrs(1, 5))
				pooltest.Elapse(15 * time.Second)
				if got := states(s, 1, 2, 4); got != "up up up" {
					t.Errorf("%s, and all answer again: %s", what, got)
				}
				n.Kill(pooltest.Addr(1), pooltest.Addr(2), pooltest.Addr(4))
			})
		}
		copied := copyOf(t, path)
		pooltest.Elapse(state.MaxAge)
		restarted(t, n, copied, func(s *stanza) {
			states(s, 1, 2)
			synctest.Wait()
			if got := states(s, 1, 2); got != "unknown unknown" {
				t.Errorf("ten minutes later: %s", got)
			}
		})
	})
}

// What is in the file is good for ten minutes after the last result, also for what is learned late, and also over several
// restarts in which nothing is probed (B88).
func TestStateGetsOld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		n.Kill(pooltest.Addr(1), pooltest.Addr(2))
		s, g := keeping(t, p, n, path)
		pass(30*time.Second, s, pooltest.Addr(1), pooltest.Addr(2))
		p.end(g)
		n.Do(func() { n.Broken = check.ErrAbstain })
		copied := copyOf(t, path)
		for restart := range 4 {
			restarted(t, n, path, func(s *stanza) {
				stateOf(s, pooltest.Addr(1))
				synctest.Wait()
				want := verdict.Down
				if restart == 3 {
					want = verdict.Unknown
				}
				if got := stateOf(s, pooltest.Addr(1)); got != want {
					t.Errorf("restart %d: %s, want %s", restart, got, want)
				}
				pooltest.Elapse(4 * time.Minute)
			})
		}
		restarted(t, n, copied, func(s *stanza) {
			pooltest.Elapse(11 * time.Minute)
			stateOf(s, pooltest.Addr(2))
			synctest.Wait()
			if got := stateOf(s, pooltest.Addr(2)); got != verdict.Unknown {
				t.Errorf("learned after eleven minutes: %s", got)
			}
		})
	})
}

// There is one file for the process: another one is refused, with the lines of both (B88).
func TestOneStateFile(t *testing.T) {
	p := newProcess()
	g := p.newGeneration()
	dir := t.TempDir()
	if err := g.nameState(dir, "state", "Corefile:3"); err != nil {
		t.Fatal(err)
	}
	if err := g.nameState("", filepath.Join(dir, "state"), "Corefile:8"); err != nil {
		t.Errorf("the same file: %v", err)
	}
	err := g.nameState(dir, "other", "Corefile:13")
	if err == nil || !strings.HasPrefix(err.Error(), "Corefile:13 - ") || !strings.Contains(err.Error(), "Corefile:3 names "+filepath.Join(dir, "state")) {
		t.Errorf("another one: %v", err)
	}
}

// A file that cannot be used costs one line in the log, and the process starts as it would without: nothing is refused
// (B88).
func TestUnusableState(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for what, path := range map[string]string{
		"foreign": write("foreign", "example.org. IN SOA"), "cut": write("cut", "multivalue state 1\nt"),
		"newer": write("newer", "multivalue state 9\n"), "a directory": dir,
	} {
		t.Run(what, func(t *testing.T) {
			text := pooltest.Logged(t)
			inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
				s, _ := keeping(t, p, n, path)
				stateOf(s, pooltest.Addr(1))
				pooltest.Elapse(time.Second)
				if got := stateOf(s, pooltest.Addr(1)); got != verdict.Up {
					t.Errorf("an address is %s", got)
				}
				if got := pooltest.CountLines(text, "\n"); got != 1 || pooltest.CountLines(text, "starting without it") != 1 {
					t.Errorf("%d lines:\n%s", got, text)
				}
			})
		})
	}
}

// A file that cannot be written is logged once, and counted each time; once it can be, the log says so (B88).
func TestStateCannotBeSaved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	text := pooltest.Logged(t)
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		before := testutil.ToFloat64(metrics.State.Failures)
		s, _ := keeping(t, p, n, filepath.Join(dir, "state"))
		pass(time.Second, s, pooltest.Addr(1))
		if got := pooltest.CountLines(text, "no such file or directory: it cannot be saved"); got != 1 {
			t.Errorf("at the start %d lines:\n%s", got, text)
		}
		pass(5*time.Minute-time.Second, s, pooltest.Addr(1))
		if got := testutil.ToFloat64(metrics.State.Failures) - before; got < 4 || got > 5 {
			t.Errorf("%v failures in five minutes", got)
		}
		if got := pooltest.CountLines(text, "not saved"); got != 1 {
			t.Errorf("%d lines:\n%s", got, text)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute, s, pooltest.Addr(1))
		if got := pooltest.CountLines(text, "is saved again"); got != 1 {
			t.Errorf("%d lines:\n%s", got, text)
		}
	})
}

// Nothing is written while there are no results, nor after a reload that names no file; a reload that names another one moves
// to it (B88).
func TestStateIsSavedWhereTheCorefileSays(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	exists := func(path string) bool {
		_, err := os.Stat(path)
		return !errors.Is(err, os.ErrNotExist)
	}
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s, g := keeping(t, p, n, one)
		pooltest.Elapse(3 * time.Minute)
		if exists(one) {
			t.Error("saved without a result")
		}
		pass(90*time.Second, s, pooltest.Addr(1))
		if !exists(one) {
			t.Error("not saved")
		}
		if err := os.Remove(one); err != nil {
			t.Fatal(err)
		}
		s, next := keeping(t, p, n, two)
		p.end(g)
		pass(2*time.Minute, s, pooltest.Addr(1))
		if exists(one) || !exists(two) {
			t.Errorf("after a reload: one %t, two %t", exists(one), exists(two))
		}
		if err := os.Remove(two); err != nil {
			t.Fatal(err)
		}
		last := begin(p, testStanza("tcp://:80", n, pooltest.Pace))
		p.end(next)
		pooltest.Elapse(3 * time.Minute)
		p.end(last)
		if exists(one) || exists(two) {
			t.Errorf("after a reload without a file: one %t, two %t", exists(one), exists(two))
		}
	})
}

// Two checks with one text and different secrets are left out: what one is believed to be says nothing about the other, and no
// secret enters the file. A check with one secret is kept, without it (B88).
func TestStateOfSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	const secret = "tops3cret"
	checkWith := func(token string) *check.Check {
		c, err := check.New("http://:80/", check.Option{Name: "header", Values: []string{"X-Token", token}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for what, tc := range map[string]struct {
		checks []*check.Check
		want   verdict.State
	}{
		"one":             {[]*check.Check{checkWith(secret)}, verdict.Down},
		"two of one text": {[]*check.Check{checkWith(secret), checkWith("other")}, verdict.Unknown},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
				start := func(p *process) (*stanza, *generation) {
					s := stanzaOf(&corefile.Config{At: "Corefile:1", Zones: []string{"example.org."}, Checks: tc.checks, Pace: pooltest.Pace, MaxTargets: 8}, n)
					g, _ := blockOf(p, nil, s)
					if err := errors.Join(g.nameState("", path, "Corefile:3"), p.join(g)); err != nil {
						t.Fatal(err)
					}
					p.confirm(g)
					return s, g
				}
				n.Kill(pooltest.Addr(1))
				s, g := start(p)
				pass(30*time.Second, s, pooltest.Addr(1))
				p.end(g)
				text, err := os.ReadFile(path)
				if err != nil || strings.Contains(string(text), secret) {
					t.Errorf("%v: %q", err, text)
				}
				again := newProcess()
				s, g = start(again)
				stateOf(s, pooltest.Addr(1))
				synctest.Wait()
				if got := stateOf(s, pooltest.Addr(1)); got != tc.want {
					t.Errorf("after a restart: %s, want %s", got, tc.want)
				}
				again.end(g)
				delete(begun, again)
			})
		})
	}
}

// Two restarts in quick succession: what was not queried between them is still fresh, and must not be lost (B88).
func TestTwoRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s, g := keeping(t, p, n, path)
		n.Kill(pooltest.Addr(1), pooltest.Addr(2))
		pass(70*time.Second, s, pooltest.Addr(1), pooltest.Addr(2))
		p.end(g)
		before, _ := state.Read(path, time.Now())
		restarted(t, n, path, func(s *stanza) { // 2 is of a quiet name
			pass(20*time.Second, s, pooltest.Addr(1))
		})
		after, err := state.Read(path, time.Now())
		t.Logf("%d records before, %d after, %v", len(before), len(after), err)
		restarted(t, n, path, func(s *stanza) {
			states(s, 1, 2)
			synctest.Wait()
			if got := states(s, 1, 2); got != "down down" {
				t.Errorf("half a minute later: %s", got)
			}
		})
		restarted(t, n, path, func(*stanza) {})
		after, err = state.Read(path, time.Now())
		if len(after) == 0 {
			t.Errorf("after a restart without a query: %d records, %v", len(after), err)
		}
	})
}

// A state file that cannot be read at the start is told on the page until it is saved, since the server knows less than it might. One
// of another program is not replaced, so that stays (B75).
func TestUnreadStateIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s, g := keeping(t, p, n, path)
		pass(70*time.Second, s, pooltest.Addr(1), pooltest.Addr(2))
		p.end(g)
	})
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		text string
		kept bool
	}{"half of it": {string(text[:len(text)/2]), false}, "of another program": {"this is no state", true}, "whole": {string(text), false}} {
		pooltest.Edit(t, path, c.text)
		inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
			s, g := keeping(t, p, n, path)
			told := func() string {
				pooltest.Elapse(time.Second) // so that the snapshot is a new one
				shot, err := p.source.Snapshot(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return shot.Summary.StateUnread
			}
			got := told()
			if is := strings.HasPrefix(got, "state: "+path+": ") && strings.HasSuffix(got, ": starting without it"); is != (what != "whole") {
				t.Errorf("%s: the page says %q", what, got)
			}
			pass(70*time.Second, s, pooltest.Addr(1), pooltest.Addr(2))
			if got := told(); (got != "") != c.kept {
				t.Errorf("%s, and saved: %q", what, got)
			}
			p.end(g)
		})
	}
}
