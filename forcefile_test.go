package multivalue

import (
	"bytes"
	"fmt"
	stdlog "log"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/network"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// forcing is a generation with one stanza, which has joined, and whose first reading is over.
func forcing(p *pool, n *pooltest.FakeNetwork, path string) (*parsedStanza, *generation) {
	s, g := testStanza("tcp://:80", n, pooltest.Pace), new(generation)
	s.forced = g.force(path, p)
	g.add(s, p)
	g.awaitForced()
	p.join(g)
	return s, g
}

// watched is forcing, with the generation confirmed, and the first look of the watcher over.
func watched(p *pool, n *pooltest.FakeNetwork, path string) (*parsedStanza, *generation) {
	s, g := forcing(p, n, path)
	p.confirm(g)
	synctest.Wait()
	return s, g
}

// edits counts them, so that no two leave a file with the same time: two in the same tick of the clock look alike.
var edits int64

// edit writes a file in place.
func edit(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	edits++
	touch(t, path, edits)
}

func touch(t *testing.T, path string, second int64) {
	t.Helper()
	if err := os.Chtimes(path, time.Time{}, time.Unix(1e9+second, 0)); err != nil {
		t.Fatal(err)
	}
}

// states is what addresses of the tests count as to a query, in a word each.
func states(s *parsedStanza, numbers ...int) string {
	var words []string
	for _, i := range numbers {
		v := s.Look(owner, pooltest.Addr(i), 0, 30)
		word := v.State().String()
		if v.Drained() {
			word = "drained"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// ordered is what is in force for them, without a query.
func ordered(s *parsedStanza, numbers ...int) string {
	var words []string
	for _, i := range numbers {
		words = append(words, [...]string{"none", "up", "down", "drain"}[s.forced.orders.Load().of(pooltest.Addr(i))])
	}
	return strings.Join(words, " ")
}

// inForce is what the metrics show: what is forced up, down and drained, and the broken files.
func inForce() string {
	return fmt.Sprint(testutil.ToFloat64(forced[forceUp]), testutil.ToFloat64(forced[forceDown]), testutil.ToFloat64(forced[forceDrain]), testutil.ToFloat64(metrics.ForceBroken))
}

func wantInForce(t *testing.T, when, want string) {
	t.Helper()
	if got := inForce(); got != want {
		t.Errorf("%s: %s in force, want %s", when, got, want)
	}
}

// Forced states stand before what is measured, which goes on beneath them (B55).
func TestForced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		edit(t, path, "up 10.0.0.1\ndown 10.0.0.2\ndrain 10.0.0.3")
		s, _ := watched(p, n, path)
		n.Kill(pooltest.Addr(1))
		if got := states(s, 1, 2, 3, 4); got != "up down drained unknown" {
			t.Errorf("at first: %s", got)
		}
		pass(30*time.Second, s, pooltest.Addr(1), pooltest.Addr(2), pooltest.Addr(3), pooltest.Addr(4))
		if got := states(s, 1, 2, 3, 4); got != "up down drained up" {
			t.Errorf("after the first verdicts: %s", got)
		}
		n.Kill(pooltest.Addr(3))
		pass(30*time.Second, s, pooltest.Addr(1), pooltest.Addr(2), pooltest.Addr(3))
		if got := states(s, 3); got != "down" {
			t.Errorf("drained, and measured down: %s", got)
		}
		edit(t, path, "# nothing")
		pooltest.Elapse(forceTick)
		if got := states(s, 1, 2, 3, 4); got != "down up down up" {
			t.Errorf("measured beneath: %s", got)
		}
	})
}

// Also addresses outside within are forced, and not probed for that; a set of one goes out whatever is forced, and all_down
// decides about one whose addresses are all forced down (B9, B55).
func TestForcedAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		edit(t, path, "down 192.0.2.1 10.0.0.0/8\nup 10.0.0.2")
		s, g := forcing(p, n, path)
		forZone(s, "example.org.")
		s.within = network.List{network.New(netip.MustParsePrefix("10.0.0.0/8"))}
		s.rule.Policy = answer.Policy{Limit: 8, MinUp: answer.Quorum{Count: 1}, AllDown: answer.NoData}
		g.learners = append(g.learners, newBlock([]*parsedStanza{s}).learner)
		p.confirm(g)
		h := Multivalue{Next: zoneOf(records(
			"www.example.org. 30 IN A 192.0.2.1", "www.example.org. 30 IN A 10.0.0.1", "www.example.org. 30 IN A 10.0.0.2",
			"lone.example.org. 30 IN A 10.0.0.3",
			"gone.example.org. 30 IN A 10.0.0.3", "gone.example.org. 30 IN A 192.0.2.1")...), block: g.learners[0].block}
		ask := func(name string) string {
			m, _ := serve(t, h, query(name, dns.TypeA))
			return addressesOf(m)
		}
		if got := ask("www.example.org."); got != "10.0.0.2" {
			t.Errorf("the answer has %q", got)
		}
		if got := ask("gone.example.org.") + ask("lone.example.org."); got != "" {
			t.Errorf("with all_down nodata, %q", got)
		}
		s.rule.Policy.AllDown = answer.Serve
		if got := ask("gone.example.org.") + " " + ask("lone.example.org."); got != "10.0.0.3 192.0.2.1 10.0.0.3" {
			t.Errorf("with all_down serve, %q", got)
		}
		pooltest.Elapse(30 * time.Second)
		if n.Asked(netip.MustParseAddr("192.0.2.1")) != 0 || n.Asked(pooltest.Addr(1)) == 0 {
			t.Error("what is forced is not probed, or what lies outside within is")
		}
	})
}

// A file is read again within a second of a change, however that comes about (B55).
func TestForceFileIsWatched(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "forced")
	move := func(from, to string) {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to string) {
		if err := os.Symlink(to, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		move("..data_tmp", "..data")
	}
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		s, _ := watched(p, n, path)
		for _, step := range []struct {
			what   string
			change func()
			want   string // of the first two addresses
			counts string
		}{
			{"there is no file", func() {}, "none none", "0 0 0 0"},
			{"it is written", func() { edit(t, path, "down 10.0.0.1") }, "down none", "0 1 0 0"},
			{"it is edited, and as long as before", func() { edit(t, path, "down 10.0.0.2") }, "none down", "0 1 0 0"},
			{"it is longer, and has the same time", func() { edit(t, path, "down 10.0.0.0/24"); touch(t, path, edits-1) }, "down down", "0 1 0 0"},
			{"another takes its place, with the same time and size", func() {
				edit(t, path+"2", "drain 10.0.0.0/8")
				touch(t, path+"2", edits-2)
				move("forced2", "forced")
			}, "drain drain", "0 0 1 0"},
			{"it is broken", func() { edit(t, path, "up 10.0.0.1\ndwon 10.0.0.2") }, "drain drain", "0 0 1 1"},
			{"it is broken in another way", func() { edit(t, path, "up 10.0.0.1\ndown 10.0.0.2/8") }, "drain drain", "0 0 1 1"},
			{"it is as it was before", func() { edit(t, path, "drain 10.0.0.0/8") }, "drain drain", "0 0 1 0"},
			{"it is broken, and then deleted", func() { edit(t, path, "x"); pooltest.Elapse(forceTick); os.Remove(path) }, "none none", "0 0 0 0"},
			{"it is a directory", func() { os.Mkdir(path, 0o700) }, "none none", "0 0 0 1"},
			{"it is a link into a directory that is itself one, as in Kubernetes", func() {
				os.Remove(path)
				for i, text := range []string{"down 10.0.0.1", "down 10.0.0.2"} {
					os.Mkdir(filepath.Join(dir, fmt.Sprint("..", i)), 0o700)
					edit(t, filepath.Join(dir, fmt.Sprint("..", i), "forced"), text)
				}
				link("..0")
				os.Symlink("..data/forced", path)
			}, "down none", "0 1 0 0"},
			{"the directory is replaced", func() { link("..1") }, "none down", "0 1 0 0"},
			{"the link leads nowhere", func() { os.Remove(filepath.Join(dir, "..data")) }, "none none", "0 0 0 0"},
			{"it is too large", func() { os.Remove(path); edit(t, path, strings.Repeat("#", maxForceFile+1)) }, "none none", "0 0 0 1"},
			{"it is as large as it may be", func() { edit(t, path, "up 10.0.0.1"+strings.Repeat("\n", maxForceFile-11)) }, "up none", "1 0 0 0"},
			{"it is empty", func() { edit(t, path, "") }, "none none", "0 0 0 0"},
		} {
			step.change()
			pooltest.Elapse(forceTick)
			if got := ordered(s, 1, 2); got != step.want {
				t.Errorf("%s: %s, want %s", step.what, got, step.want)
			}
			wantInForce(t, step.what, step.counts)
		}
	})
	wantInForce(t, "after the stop", "0 0 0 0")
}

// A file that was changed a moment ago is left until the next look: it may be written still (B55).
func TestForceFileSettles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		edit(t, path, "down 10.0.0.1")
		s, _ := watched(p, n, path)
		pooltest.Elapse(10*forceTick - forceSettle/2)
		edit(t, path, "")
		if err := os.Chtimes(path, time.Time{}, time.Now()); err != nil {
			t.Fatal(err)
		}
		pooltest.Elapse(forceSettle)
		if got := ordered(s, 1); got != "down" {
			t.Errorf("at once: %s", got)
		}
		pooltest.Elapse(forceTick)
		if got := ordered(s, 1); got != "none" {
			t.Errorf("a second later: %s", got)
		}
	})
}

// What looks unchanged is read again every half a minute, and no sooner (B55).
func TestForceFileIsReread(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		edit(t, path, "down 10.0.0.1")
		s, _ := watched(p, n, path)
		edit(t, path, "down 10.0.0.2")
		touch(t, path, edits-1)
		pooltest.Elapse(forceReread - 2*forceTick)
		if got := ordered(s, 1, 2); got != "down none" {
			t.Errorf("it was read though nothing seems to have changed: %s", got)
		}
		pooltest.Elapse(3 * forceTick)
		if got := ordered(s, 1, 2); got != "none down" {
			t.Errorf("after half a minute: %s", got)
		}
	})
}

// saidOfForce is what the log gets meanwhile that is about forced states.
func saidOfForce(f func()) string {
	var text bytes.Buffer
	before := stdlog.Writer()
	stdlog.SetOutput(&text)
	defer stdlog.SetOutput(before)
	f()
	var said []string
	for line := range strings.Lines(text.String()) {
		if level, line, ok := strings.Cut(line, " plugin/multivalue: force: "); ok {
			said = append(said, level[strings.LastIndexByte(level, '['):]+" "+line)
		}
	}
	return strings.Join(said, "")
}

// One line says what each content comes to, however often that is read, and over reloads (B55).
func TestForceFileIsSaidOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "forced")
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		var g *generation
		got := saidOfForce(func() {
			_, g = watched(p, n, path)
			for _, text := range []string{"down 10.0.0.1 10.0.0.2\nup 10.0.0.3", "dwon 10.0.0.1", "dwon 10.0.0.2", "drain 10.0.0.0/8"} {
				edit(t, path, text)
				pooltest.Elapse(forceTick)
				touch(t, path, 0)
				pooltest.Elapse(2 * forceReread)
			}
			_, next := forcing(p, n, path)
			p.leave(g)
			p.confirm(next)
			synctest.Wait()
			os.Remove(path)
			os.Mkdir(path, 0o700)
			pooltest.Elapse(5 * forceTick)
			os.Remove(path)
			pooltest.Elapse(2 * forceReread)
		})
		want := `[INFO] there is no DIR/forced, so that nothing is forced by it
[INFO] DIR/forced has 1 up, 2 down, 0 drain
[ERROR] DIR/forced:1: unknown state "dwon": did you mean "down"?; what was in force stays
[ERROR] DIR/forced:1: unknown state "dwon": did you mean "down"?; what was in force stays
[INFO] DIR/forced has 0 up, 0 down, 1 drain
[ERROR] DIR/forced is no regular file; what was in force stays
[INFO] there is no DIR/forced, so that nothing is forced by it
`
		if got = strings.ReplaceAll(got, dir, "DIR"); got != want {
			t.Errorf("the log has\n%swant\n%s", got, want)
		}
	})
}

// A broken file at the start forces nothing, and is watched until it is mended (B55).
func TestForceBrokenAtTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		edit(t, path, "down 10.0.0.1\nsideways 10.0.0.2")
		s, _ := watched(p, n, path)
		if got := ordered(s, 1, 2); got != "none none" {
			t.Errorf("broken: %s", got)
		}
		wantInForce(t, "broken", "0 0 0 1")
		edit(t, path, "down 10.0.0.1 10.0.0.2")
		pooltest.Elapse(forceTick)
		if got := ordered(s, 1, 2); got != "down down" {
			t.Errorf("mended: %s", got)
		}
	})
}

// A reload has the states in force from the first query on, also those of a file that has been broken meanwhile; what the
// old instance had is shown once, and its watchers end (B55, B69).
func TestForceOverReloads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		edit(t, path, "down 10.0.0.1")
		_, g := watched(p, n, path)
		edit(t, path, "down 10.0.0.1\nbroken")
		pooltest.Elapse(forceTick)
		for i := range 4 {
			s, next := forcing(p, n, path)
			if got := ordered(s, 1); got != "down" {
				t.Fatalf("reload %d, before it is over: %s", i, got)
			}
			wantInForce(t, "before it is over", "0 1 0 1")
			if i%2 == 0 {
				p.leave(g)
				p.confirm(next)
			} else {
				p.confirm(next)
				wantInForce(t, "with both", "0 1 0 1")
				p.leave(g)
			}
			pooltest.Elapse(forceTick)
			wantInForce(t, "after it", "0 1 0 1")
			g = next
		}
		edit(t, path, "drain 10.0.0.1")
		pooltest.Elapse(forceTick)
		wantInForce(t, "mended", "0 0 1 0")
		p.leave(g)
		wantInForce(t, "stopped", "0 0 0 0")
		edit(t, path, "down 10.0.0.1\nbroken")
		s, _ := forcing(p, n, path)
		if got := ordered(s, 1); got != "none" {
			t.Errorf("a new start knows of %s", got)
		}
	})
}

// A start that fails watches nothing, and leaves nothing (B55, B70).
func TestForceOfAFailedReload(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "forced"), filepath.Join(dir, "other")
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		edit(t, path, "down 10.0.0.1")
		edit(t, other, "down 10.0.0.2")
		s, _ := watched(p, n, path)
		for range 5 {
			failed, next := forcing(p, n, other)
			next.force(path, p)
			pooltest.Elapse(forceTick)
			edit(t, other, "up 10.0.0.2")
			pooltest.Elapse(forceTick)
			if got := ordered(failed, 2); got != "down" {
				t.Errorf("a candidate watches its file: %s", got)
			}
			p.abandon()
			edit(t, other, "down 10.0.0.2")
		}
		wantInForce(t, "after the failures", "0 1 0 0")
		edit(t, path, "up 10.0.0.1")
		pooltest.Elapse(forceTick)
		if got := ordered(s, 1); got != "up" {
			t.Errorf("the old instance watches no more: %s", got)
		}
		if len(p.forced) != 1 {
			t.Errorf("%d files are watched, want 1", len(p.forced))
		}
	})
}

// Watching begins with the first query that a new generation has to learn from, as probing does (B55).
func TestForceIsConfirmedByAQuery(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		begin(p, testStanza("tcp://:81", n, pooltest.Pace))
		s, _ := forcing(p, n, path)
		edit(t, path, "drain 10.0.0.1")
		s.Look(owner, pooltest.Addr(1), 0, 30)
		pooltest.Elapse(forceTick)
		if got := ordered(s, 1); got != "drain" {
			t.Errorf("%s", got)
		}
	})
}

// A file whose reading hangs holds up neither the start nor the stop for long, and no query (B55, B67, B71).
func TestForceFileHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, g := newPool(), &generation{files: make(map[string]*forceFile)}
		for i := range 20 {
			f := &forceFile{first: make(chan struct{}), ended: make(chan struct{}), stop: func() {}}
			f.orders.Store(new(orders))
			if i%2 == 0 {
				close(f.first)
				close(f.ended)
			}
			g.files[fmt.Sprint(i)] = f
		}
		began := time.Now()
		said := saidOfForce(g.awaitForced)
		if took := time.Since(began); took != forceStart || strings.Count(said, "takes longer than 2s to read") != 10 {
			t.Errorf("the start waited for %s, want %s, and said\n%s", took, forceStart, said)
		}
		began = time.Now()
		p.leave(g)
		if took := time.Since(began); took != forceStop {
			t.Errorf("the stop waited for %s, want %s", took, forceStop)
		}
	})
}

// A file that could not be read before the start was over is in force as soon as it is.
func TestForceFileIsLate(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		f := &forceFile{path: filepath.Join(t.TempDir(), "forced"), first: make(chan struct{})}
		f.orders.Store(new(orders))
		edit(t, f.path, "down 10.0.0.1")
		g := &generation{files: map[string]*forceFile{f.path: f}}
		s := testStanza("tcp://:80", n, pooltest.Pace)
		s.forced = f
		g.add(s, p)
		p.join(g)
		p.confirm(g)
		pooltest.Elapse(time.Minute)
		if got := ordered(s, 1); got != "none" {
			t.Errorf("while the first reading hangs: %s", got)
		}
		close(f.first)
		synctest.Wait()
		if got := ordered(s, 1); got != "down" {
			t.Errorf("after it: %s", got)
		}
	})
}

// Stanzas with the same file share it, and a relative path is below the root, as for the plugin file (B55).
func TestForceFilesAreShared(t *testing.T) {
	for _, tc := range []struct{ root, path, want string }{
		{"", "forced", "forced"},
		{"", "./a/../forced", "forced"},
		{"/etc/coredns", "forced", "/etc/coredns/forced"},
		{"/etc/coredns", "a//forced", "/etc/coredns/a/forced"},
		{"/etc/coredns", "/run/forced", "/run/forced"},
	} {
		if got := rooted(tc.root, tc.path); got != tc.want {
			t.Errorf("%s below %q: %s, want %s", tc.path, tc.root, got, tc.want)
		}
	}
	g, path := new(generation), filepath.Join(t.TempDir(), "forced")
	p := newPool()
	first, second, other := g.force(path, p), g.force(path, p), g.force(path+"2", p)
	if first != second || first == other {
		t.Error("a file is not shared, or another one is")
	}
	g.awaitForced()
}

// Looking up what is forced allocates nothing.
func TestForcedLookAllocatesNothing(t *testing.T) {
	s := upBoard(8)
	o, err := parseOrders([]byte("up 10.0.0.3\ndown 10.0.0.0/24\ndrain 10.0.0.0/8 2001:db8::/32"))
	if err != nil {
		t.Fatal(err)
	}
	s.forced = new(forceFile)
	s.forced.orders.Store(o)
	for i := range 8 {
		if allocs := testing.AllocsPerRun(1000, func() { s.Look(owner, pooltest.Addr(i), 0, 30) }); allocs != 0 {
			t.Errorf("%v allocations", allocs)
		}
	}
	if s.Look(owner, pooltest.Addr(3), 0, 30).State() != verdict.Up || s.Look(owner, pooltest.Addr(4), 0, 30).State() != verdict.Down {
		t.Error("it is not forced")
	}
}
