package force

import (
	"bytes"
	"fmt"
	"io/fs"
	stdlog "log"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/follow"
	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/internal/watchfile"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// The times by which files are followed (internal/follow), and how long a start and a stop wait for them.
const (
	checkEvery  = time.Second
	rereadEvery = 30 * time.Second
	settleTime  = 100 * time.Millisecond
	readWait    = 2 * time.Second
	stuckAfter  = 10 * time.Second
)

// corefile is a Corefile that names one file.
type corefile struct {
	*Files
	file *File
}

// corefiles are those of the test that runs.
var corefiles []corefile

// opened is a Corefile whose file has been read for the first time.
func opened(w *Watcher, path string) corefile {
	c := corefile{Files: w.Files()}
	c.file = c.Open(path)
	c.AwaitRead()
	corefiles = append(corefiles, c)
	return c
}

// watched is a Corefile whose servers run, after the first check of its file.
func watched(w *Watcher, path string) corefile {
	c := opened(w, path)
	c.Watch()
	synctest.Wait()
	return c
}

// stop is the end of a Corefile.
func (c corefile) stop() {
	c.Release()
	c.AwaitReleased()
}

// inBubble runs a test in fake time. Files that are still monitored at the end are released.
func inBubble(t *testing.T, f func(t *testing.T, w *Watcher)) {
	synctest.Test(t, func(t *testing.T) {
		corefiles = nil
		f(t, new(Watcher))
		for _, c := range corefiles {
			c.stop()
		}
	})
}

// ordered lists the states in force for addresses of the tests, one word each.
func ordered(c corefile, numbers ...int) string {
	var words []string
	for _, i := range numbers {
		words = append(words, [...]string{"none", "up", "down", "drain"}[c.file.Value().For(pooltest.Addr(i))])
	}
	return strings.Join(words, " ")
}

// inForce returns what the metrics show: the numbers of networks forced up, down and drained, and of broken files.
func inForce() string {
	return fmt.Sprint(testutil.ToFloat64(gauges[Up]), testutil.ToFloat64(gauges[Down]), testutil.ToFloat64(gauges[Drain]), testutil.ToFloat64(metrics.Force.Broken))
}

func wantInForce(t *testing.T, when, want string) {
	t.Helper()
	if got := inForce(); got != want {
		t.Errorf("%s: %s in force, want %s", when, got, want)
	}
}

// A file is read again within a second of a change, however the change is made (B55).
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
	inBubble(t, func(t *testing.T, w *Watcher) {
		c := watched(w, path)
		var last time.Time // the modification time of the file that others imitate
		for _, step := range []struct {
			what   string
			change func()
			want   string // the states of the first two addresses
			counts string
		}{
			{"there is no file", func() {}, "none none", "0 0 0 0"},
			{"it is written", func() { pooltest.Edit(t, path, "down 10.0.0.1") }, "down none", "0 1 0 0"},
			{"it is edited, and as long as before", func() { last = pooltest.Edit(t, path, "down 10.0.0.2") }, "none down", "0 1 0 0"},
			{"it is longer, and has the same time", func() { pooltest.Edit(t, path, "down 10.0.0.0/24"); pooltest.Touch(t, path, last) }, "down down", "0 1 0 0"},
			{"another takes its place, with the same time and size", func() {
				pooltest.Edit(t, path+"2", "drain 10.0.0.0/8")
				pooltest.Touch(t, path+"2", last)
				move("forced2", "forced")
			}, "drain drain", "0 0 1 0"},
			{"it is broken", func() { pooltest.Edit(t, path, "up 10.0.0.1\ndwon 10.0.0.2") }, "drain drain", "0 0 1 1"},
			{"it is broken in another way", func() { pooltest.Edit(t, path, "up 10.0.0.1\ndown 10.0.0.2/8") }, "drain drain", "0 0 1 1"},
			{"it is as it was before", func() { pooltest.Edit(t, path, "drain 10.0.0.0/8") }, "drain drain", "0 0 1 0"},
			{"it is broken, and then deleted", func() { pooltest.Edit(t, path, "x"); pooltest.Elapse(checkEvery); os.Remove(path) }, "none none", "0 0 0 0"},
			{"it is a directory", func() { os.Mkdir(path, 0o700) }, "none none", "0 0 0 1"},
			{"it is a link into a directory that is itself one, as in Kubernetes", func() {
				os.Remove(path)
				for i, text := range []string{"down 10.0.0.1", "down 10.0.0.2"} {
					os.Mkdir(filepath.Join(dir, fmt.Sprint("..", i)), 0o700)
					pooltest.Edit(t, filepath.Join(dir, fmt.Sprint("..", i), "forced"), text)
				}
				link("..0")
				os.Symlink("..data/forced", path)
			}, "down none", "0 1 0 0"},
			{"the directory is replaced", func() { link("..1") }, "none down", "0 1 0 0"},
			{"the link leads nowhere", func() { os.Remove(filepath.Join(dir, "..data")) }, "none none", "0 0 0 0"},
			{"it is too large", func() { os.Remove(path); pooltest.Edit(t, path, strings.Repeat("#", maxSize+1)) }, "none none", "0 0 0 1"},
			{"it is as large as it may be", func() { pooltest.Edit(t, path, "up 10.0.0.1"+strings.Repeat("\n", maxSize-11)) }, "up none", "1 0 0 0"},
			{"it is empty", func() { pooltest.Edit(t, path, "") }, "none none", "0 0 0 0"},
		} {
			step.change()
			pooltest.Elapse(checkEvery)
			if got := ordered(c, 1, 2); got != step.want {
				t.Errorf("%s: %s, want %s", step.what, got, step.want)
			}
			wantInForce(t, step.what, step.counts)
		}
	})
	wantInForce(t, "after the stop", "0 0 0 0")
}

// A file that was changed a moment ago is read at the next check, because it may still be being written (B55).
func TestForceFileSettles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, w *Watcher) {
		pooltest.Edit(t, path, "down 10.0.0.1")
		c := watched(w, path)
		pooltest.Elapse(10*checkEvery - settleTime/2)
		pooltest.Edit(t, path, "")
		if err := os.Chtimes(path, time.Time{}, time.Now()); err != nil {
			t.Fatal(err)
		}
		pooltest.Elapse(settleTime)
		if got := ordered(c, 1); got != "down" {
			t.Errorf("at once: %s", got)
		}
		pooltest.Elapse(checkEvery)
		if got := ordered(c, 1); got != "none" {
			t.Errorf("a second later: %s", got)
		}
	})
}

// A file that looks unchanged is read again every half minute, and not sooner (B55).
func TestForceFileIsReread(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, w *Watcher) {
		modified := pooltest.Edit(t, path, "down 10.0.0.1")
		c := watched(w, path)
		pooltest.Edit(t, path, "down 10.0.0.2")
		pooltest.Touch(t, path, modified)
		pooltest.Elapse(28 * time.Second)
		if got := ordered(c, 1, 2); got != "down none" {
			t.Errorf("the file was read, although it looks unchanged: %s", got)
		}
		pooltest.Elapse(3 * time.Second)
		if got := ordered(c, 1, 2); got != "none down" {
			t.Errorf("after half a minute: %s", got)
		}
	})
}

// logged returns the log lines about forced states that a function causes.
func logged(f func()) string {
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

// Each content of a file is logged in one line, however often the file is read, and across reloads (B55).
func TestForceFileIsLoggedOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "forced")
	inBubble(t, func(t *testing.T, w *Watcher) {
		var c corefile
		got := logged(func() {
			c = watched(w, path)
			for _, text := range []string{"down 10.0.0.1 10.0.0.2\nup 10.0.0.3", "dwon 10.0.0.1", "dwon 10.0.0.2", "drain 10.0.0.0/8"} {
				pooltest.Edit(t, path, text)
				pooltest.Elapse(checkEvery)
				pooltest.Touch(t, path, time.Unix(1e9, 0))
				pooltest.Elapse(2 * rereadEvery)
			}
			next := opened(w, path)
			c.stop()
			next.Watch()
			synctest.Wait()
			os.Remove(path)
			os.Mkdir(path, 0o700)
			pooltest.Elapse(5 * checkEvery)
			os.Remove(path)
			pooltest.Elapse(2 * rereadEvery)
		})
		want := `[INFO] DIR/forced does not exist, so it forces nothing
[INFO] DIR/forced has 1 up, 2 down, 0 drain
[ERROR] DIR/forced:1: unknown state "dwon": did you mean "down"?; what was in force before stays in force
[ERROR] DIR/forced:1: unknown state "dwon": did you mean "down"?; what was in force before stays in force
[INFO] DIR/forced has 0 up, 0 down, 1 drain
[ERROR] open DIR/forced: not a regular file; what was in force before stays in force
[INFO] DIR/forced does not exist, so it forces nothing
`
		if got = strings.ReplaceAll(got, dir, "DIR"); got != want {
			t.Errorf("the log has\n%swant\n%s", got, want)
		}
	})
}

// A file that is broken at the start forces nothing, and is monitored until it is repaired (B55).
func TestForceBrokenAtTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, w *Watcher) {
		pooltest.Edit(t, path, "down 10.0.0.1\nsideways 10.0.0.2")
		c := watched(w, path)
		if got := ordered(c, 1, 2); got != "none none" {
			t.Errorf("broken: %s", got)
		}
		wantInForce(t, "broken", "0 0 0 1")
		pooltest.Edit(t, path, "down 10.0.0.1 10.0.0.2")
		pooltest.Elapse(checkEvery)
		if got := ordered(c, 1, 2); got != "down down" {
			t.Errorf("repaired: %s", got)
		}
	})
}

// After a reload, the states are in force from the first query on, even if the file was broken in the meantime. The
// old instance's states are shown once, and its monitors end (B55, B69).
func TestForceOverReloads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, w *Watcher) {
		pooltest.Edit(t, path, "down 10.0.0.1")
		running := watched(w, path)
		pooltest.Edit(t, path, "down 10.0.0.1\nbroken")
		pooltest.Elapse(checkEvery)
		for i := range 4 {
			next := opened(w, path)
			if got := ordered(next, 1); got != "down" {
				t.Fatalf("reload %d, before it is complete: %s", i, got)
			}
			wantInForce(t, "before it is over", "0 1 0 1")
			if i%2 == 0 {
				running.stop()
				next.Watch()
			} else {
				next.Watch()
				wantInForce(t, "with both", "0 1 0 1")
				running.stop()
			}
			pooltest.Elapse(checkEvery)
			wantInForce(t, "after it", "0 1 0 1")
			running = next
		}
		pooltest.Edit(t, path, "drain 10.0.0.1")
		pooltest.Elapse(checkEvery)
		wantInForce(t, "mended", "0 0 1 0")
		running.stop()
		wantInForce(t, "stopped", "0 0 0 0")
		pooltest.Edit(t, path, "down 10.0.0.1\nbroken")
		if got := ordered(opened(w, path), 1); got != "none" {
			t.Errorf("a new start has the states %s", got)
		}
	})
}

// A read that hangs delays the start and the stop only briefly, and no query (B55, B67, B71).
func TestForceFileHangs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := new(Watcher)
		gates := []chan struct{}{make(chan struct{}), make(chan struct{})} // of the first readings, and of the second ones
		w.files.Read = func(path string, limit int) ([]byte, fs.FileInfo, error) {
			text, info, err := watchfile.Read(path, limit)
			if strings.HasSuffix(path, "odd") {
				<-gates[len(text)%2]
			}
			return text, info, err
		}
		files, paths := w.Files(), make([]string, 20)
		edit := func(text string) {
			for _, path := range paths {
				pooltest.Edit(t, path, text)
			}
		}
		for i := range paths {
			paths[i] = filepath.Join(dir, fmt.Sprint(i, [...]string{"even", "odd"}[i%2]))
		}
		edit("down 10.0.0.1 ")
		for _, path := range paths {
			files.Open(path)
		}
		began := time.Now()
		log := logged(files.AwaitRead)
		if took := time.Since(began); took != readWait || strings.Count(log, "takes longer than 2s") != 10 {
			t.Errorf("the start waited for %s, want %s, and logged\n%s", took, readWait, log)
		}
		files.Watch()
		close(gates[0])
		pooltest.Elapse(checkEvery)
		edit("down 10.0.0.2")
		pooltest.Elapse(checkEvery)
		for i, path := range paths {
			if got := files.Open(path).Value().For(pooltest.Addr(2)) == Down; got != (i%2 == 0) {
				t.Errorf("%s is read: %t", filepath.Base(path), got)
			}
		}
		began = time.Now()
		corefile{Files: files}.stop()
		if took := time.Since(began); took != follow.StopWait {
			t.Errorf("the stop waited for %s, want %s", took, follow.StopWait)
		}
		close(gates[1])
	})
}

// A file that is read only after the start applies as soon as it is read.
func TestForceFileIsLate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, w *Watcher) {
		release := make(chan struct{})
		w.files.Read = func(path string, limit int) ([]byte, fs.FileInfo, error) {
			<-release
			return watchfile.Read(path, limit)
		}
		pooltest.Edit(t, path, "down 10.0.0.1")
		c := watched(w, path)
		pooltest.Elapse(time.Minute)
		if got := ordered(c, 1); got != "none" {
			t.Errorf("while the first reading hangs: %s", got)
		}
		close(release)
		synctest.Wait()
		if got := ordered(c, 1); got != "down" {
			t.Errorf("after it: %s", got)
		}
	})
}

// A check of a file that does not return is logged once and counted. What was in force stays in force, also over reloads,
// which do not add to what hangs; and when it returns, the file is watched as before (B55).
func TestForceFileIsStuck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	wantStuck := func(when string, want float64) {
		t.Helper()
		if got := testutil.ToFloat64(metrics.Force.Stuck); got != want {
			t.Errorf("%s: %v stuck, want %v", when, got, want)
		}
	}
	inBubble(t, func(t *testing.T, w *Watcher) {
		var hangs atomic.Bool
		var hanging atomic.Int64
		release := make(chan struct{})
		w.files.Read = func(path string, limit int) ([]byte, fs.FileInfo, error) {
			if hangs.Load() {
				hanging.Add(1)
				<-release
				hanging.Add(-1)
			}
			return watchfile.Read(path, limit)
		}
		pooltest.Edit(t, path, "down 10.0.0.1")
		running := watched(w, path)
		got := logged(func() {
			hangs.Store(true)
			pooltest.Edit(t, path, "drain 10.0.0.1")
			pooltest.Elapse(stuckAfter)
			wantStuck("after ten seconds", 0) // the next check was a moment later
			pooltest.Elapse(2 * time.Second)
			wantStuck("after twelve seconds", 1)
			pooltest.Elapse(time.Hour)
			for range 3 {
				next := opened(w, path)
				next.Watch()
				running.stop()
				running = next
				wantStuck("after a reload", 1)
				wantInForce(t, "after a reload", "0 1 0 0")
				pooltest.Elapse(time.Minute)
			}
			if n := hanging.Load(); n != 1 {
				t.Errorf("%d goroutines hang after three reloads, want 1", n)
			}
			hangs.Store(false)
			close(release)
			synctest.Wait()
			wantStuck("at the end", 0)
			wantInForce(t, "at the end", "0 0 1 0")
			pooltest.Edit(t, path, "up 10.0.0.1")
			pooltest.Elapse(checkEvery)
			wantInForce(t, "after an edit", "1 0 0 0")
		})
		late := "[ERROR] reading FILE takes longer than 2s; until it is read, what was in force before stays in force\n"
		want := "[WARNING] checking FILE takes longer than 10s; until that ends, what was in force before stays in force\n" + strings.Repeat(late, 3) +
			"[INFO] checking FILE ended after 3798 seconds; it is watched as before\n"
		said := strings.ReplaceAll(got, path, "FILE")
		got = ""
		for line := range strings.Lines(said) {
			if strings.Contains(line, "ing FILE ") {
				got += line
			}
		}
		if got != want {
			t.Errorf("the log has\n%swant\n%s", got, want)
		}
		running.stop()
		wantStuck("after the stop", 0)
	})
}

// A Corefile that ends while its file is stuck takes its share out of the metric, and one whose first reading hangs has one.
func TestForceFileIsStuckAtTheStart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *Watcher) {
		release := make(chan struct{})
		w.files.Read = func(path string, limit int) ([]byte, fs.FileInfo, error) {
			<-release
			return watchfile.Read(path, limit)
		}
		path := filepath.Join(t.TempDir(), "forced")
		pooltest.Edit(t, path, "down 10.0.0.1")
		c := watched(w, path)
		pooltest.Elapse(2 * stuckAfter)
		if got := testutil.ToFloat64(metrics.Force.Stuck); got != 1 {
			t.Errorf("%v stuck, want 1", got)
		}
		c.stop()
		if got := testutil.ToFloat64(metrics.Force.Stuck); got != 0 {
			t.Errorf("after the stop: %v stuck, want 0", got)
		}
		close(release)
	})
}

// Stanzas with the same file share it, and a relative path is below root, as in the file plugin (B55).
func TestForceFilesAreShared(t *testing.T) {
	for _, tc := range []struct{ root, path, want string }{
		{"", "forced", "forced"},
		{"", "./a/../forced", "forced"},
		{"/etc/coredns", "forced", "/etc/coredns/forced"},
		{"/etc/coredns", "a//forced", "/etc/coredns/a/forced"},
		{"/etc/coredns", "/run/forced", "/run/forced"},
	} {
		if got := Path(tc.root, tc.path); got != tc.want {
			t.Errorf("%s below %q: %s, want %s", tc.path, tc.root, got, tc.want)
		}
	}
	files, path := new(Watcher).Files(), filepath.Join(t.TempDir(), "forced")
	first, second, other := files.Open(path), files.Open(path), files.Open(path+"2")
	if first != second || first == other {
		t.Error("the same file is not shared, or different files are")
	}
	files.AwaitRead()
}
