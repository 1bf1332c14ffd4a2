//go:build unix

package force

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/acting"
)

// change makes a change of what the file has now, and returns the text of the file.
func (e *Editor) change(t *testing.T, line string) (string, *acting.File, error) {
	t.Helper()
	shown, err := e.Show(t.Context())
	if err != nil {
		return "", nil, err
	}
	made, err := e.Change(t.Context(), shown.ETag, asked(line))
	text, _ := os.ReadFile(e.path)
	return string(text), made, err
}

// refused reports whether an error is a refusal of a kind that says these words.
func refused(err error, kind acting.Kind, words string) bool {
	refusal, ok := errors.AsType[*acting.Refusal](err)
	return ok && refusal.Kind == kind && strings.Contains(err.Error(), words)
}

// A file that does not exist is made. One that does keeps its mode, its owner, and the links that lead to it (B118).
func TestEditorReplaces(t *testing.T) {
	dir := t.TempDir()
	e := new(Watcher).Editor(filepath.Join(dir, "forced"))
	text, made, err := e.change(t, "drain 192.0.2.1")
	if info, e := os.Stat(filepath.Join(dir, "forced")); err != nil || e != nil || text != "drain 192.0.2.1\n" || info.Mode() != newMode || !made.Writable {
		t.Fatalf("%q %v %+v %v", text, info, made, err)
	}
	real := filepath.Join(dir, "real")
	if err := errors.Join(os.Rename(e.path, real), os.Chmod(real, 0o460), os.Symlink("real", e.path), os.Link(real, real+"2")); err != nil {
		t.Fatal(err)
	}
	wantOwner := uint32(os.Geteuid())
	if os.Geteuid() == 0 {
		wantOwner = 12345
		if err := os.Chown(real, 12345, 54321); err != nil {
			t.Fatal(err)
		}
	}
	text, _, err = e.change(t, "down 192.0.2.2 # a")
	info, _ := os.Stat(real)
	if to, e := os.Readlink(e.path); err != nil || e != nil || to != "real" || text != "drain 192.0.2.1\ndown 192.0.2.2 # a\n" || info.Mode() != 0o460 || info.Sys().(*syscall.Stat_t).Uid != wantOwner {
		t.Errorf("%q, %v, link to %s, %v", text, info, to, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 3 {
		t.Errorf("left behind: %v", entries)
	}
}

// What cannot be changed is refused with the remedy, and stays as it is (B118).
func TestEditorRefuses(t *testing.T) {
	for what, tc := range map[string]struct {
		make  func(dir string) error
		words string
	}{
		"a ConfigMap": {func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/..2026_11_30", 0o700), os.Symlink("..2026_11_30", dir+"/..data"), os.WriteFile(dir+"/..data/forced", []byte("up 192.0.2.9\n"), 0o600), os.Symlink("..data/forced", dir+"/forced"))
		}, "mounted ConfigMap, which would overwrite a change: edit the ConfigMap"},
		"a link to nowhere": {func(dir string) error { return os.Symlink("nowhere", dir+"/forced") }, "leads nowhere"},
		"a directory":       {func(dir string) error { return os.Mkdir(dir+"/forced", 0o700) }, "not a regular file"},
		"a broken file": {func(dir string) error {
			return os.WriteFile(dir+"/forced", []byte("up 192.0.2.9\ndwon 192.0.2.8"), 0o600)
		}, `forced:2: unknown state "dwon"`},
		"a large file": {func(dir string) error {
			return os.WriteFile(dir+"/forced", bytes.Repeat([]byte("#"), maxSize+1), 0o600)
		}, "larger than 4194304 bytes"},
		"a full file": {func(dir string) error {
			return os.WriteFile(dir+"/forced", bytes.Repeat([]byte("\n"), maxSize-5), 0o600)
		}, "would be larger than 4194304 bytes"},
		"no directory":      {func(dir string) error { return os.Remove(dir) }, "does not exist: make it"},
		"in the way":        {func(dir string) error { return os.Mkdir(dir+"/.forced.multivalue-tmp", 0o700) }, "is in the way: remove it"},
		"a link in the way": {func(dir string) error { return os.Symlink(dir+"/other", dir+"/.forced.multivalue-tmp") }, "is in the way: remove it"},
	} {
		dir := t.TempDir()
		if err := tc.make(dir); err != nil {
			t.Fatal(err)
		}
		e := new(Watcher).Editor(dir + "/forced")
		before, _ := os.ReadFile(e.path)
		if _, _, err := e.change(t, "drain 192.0.2.1"); !refused(err, acting.Unchangeable, tc.words) {
			t.Errorf("%s: %v, want %s", what, err, tc.words)
		}
		if after, _ := os.ReadFile(e.path); !bytes.Equal(before, after) {
			t.Errorf("%s: the file has changed", what)
		}
	}
}

// A file that is broken is not in force, and is not shown as if it were. It is when it is mended (B118).
func TestEditorShowsABrokenFile(t *testing.T) {
	e := new(Watcher).Editor(filepath.Join(t.TempDir(), "forced"))
	for _, broken := range []bool{false, true, false, true} {
		text := "up 192.0.2.9\n"
		if broken {
			text += "dwon 192.0.2.8\n"
		}
		pooltest.Edit(t, e.path, text)
		shown, err := e.Show(t.Context())
		if err != nil || shown.Writable == broken || (len(shown.Lines) == 0) != broken || strings.Contains(shown.ReadOnly, `forced:2: unknown state "dwon"`) != broken {
			t.Errorf("broken %t: %+v, %v", broken, shown, err)
		}
	}
}

// A list of a large file is short and says how much it leaves out. The tag is of all of it, and so are the notes (B118).
func TestEditorOfALargeFile(t *testing.T) {
	e := new(Watcher).Editor(filepath.Join(t.TempDir(), "forced"))
	var text strings.Builder
	for i := range 2500 {
		fmt.Fprintf(&text, "# a\ndown 10.0.%d.%d\n", i/250, i%250)
	}
	pooltest.Edit(t, e.path, text.String())
	shown, err := e.Show(t.Context())
	if err != nil || len(shown.Lines) != 1000 || shown.MoreLines != 1500 || shown.Lines[999].Line != 2000 || shown.ETag != etagOf([]byte(text.String())) {
		t.Fatalf("%d lines and %d more, %v", len(shown.Lines), shown.MoreLines, err)
	}
	shown, err = e.Change(t.Context(), shown.ETag, asked("up 10.0.9.0/24 # a"))
	if err != nil || shown.MoreLines != 1501 || len(shown.Notes) != maxNotes+1 || shown.Notes[0] != "10.0.9.0 stays forced down, by line 4502: the smaller network wins" || shown.Made.Reason != "a" {
		t.Errorf("%d more, %q, made %+v, %v", shown.MoreLines, shown.Notes, shown.Made, err)
	}
	pooltest.Edit(t, e.path, "down 192.0.2.1\ndown"+strings.Repeat(" 192.0.2.2", maxNetworks)+"\ndown 192.0.2.3\n")
	if shown, err = e.Show(t.Context()); err != nil || len(shown.Lines) != 1 || shown.MoreLines != 2 {
		t.Errorf("of long lines: %d and %d more, %v", len(shown.Lines), shown.MoreLines, err)
	}
}

// What is released is told if no line names it: it is mistyped, or released already (B118).
func TestEditorReleasesNothing(t *testing.T) {
	e := new(Watcher).Editor(filepath.Join(t.TempDir(), "forced"))
	pooltest.Edit(t, e.path, "drain 192.0.2.1 192.0.2.2\n")
	text, made, err := e.change(t, "release 192.0.2.1 192.0.2.200")
	if err != nil || text != "drain 192.0.2.2\n" || !slices.Equal(made.Notes, []string{"no line names 192.0.2.200"}) {
		t.Errorf("%q, %+v, %v", text, made, err)
	}
	if _, made, err = e.change(t, "drain 192.0.2.3"); err != nil || len(made.Notes) != 0 {
		t.Errorf("%+v, %v", made, err)
	}
}

// A change of content that is not there any more is refused, also if it went away between the look at it and the rename (B118).
func TestEditorNoticesOthers(t *testing.T) {
	w := new(Watcher)
	e := w.Editor(filepath.Join(t.TempDir(), "forced"))
	if w.Editor(e.path) != e {
		t.Fatal("a second editor of the same file would not wait for the first")
	}
	none, _ := e.Show(t.Context())
	if _, _, err := e.change(t, "drain 192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{none.ETag, `"x"`, "", "*"} {
		if _, err := e.Change(t.Context(), tag, asked("up 192.0.2.2")); !refused(err, acting.Stale, "has changed meanwhile") {
			t.Errorf("%s: %v", tag, err)
		}
	}
	for what, meanwhile := range map[string]func() error{
		"written in place": func() error { return os.WriteFile(e.path, []byte("drain 192.0.2.3\n"), 0o600) },
		"replaced by the same": func() error {
			return errors.Join(os.WriteFile(e.path+"2", []byte("drain 192.0.2.1\n"), 0o600), os.Rename(e.path+"2", e.path))
		},
		"removed":                    func() error { return os.Remove(e.path) },
		"moved":                      func() error { return errors.Join(os.Rename(e.path, e.path+"3"), os.Symlink(e.path+"3", e.path)) },
		"another process writes too": func() error { return os.WriteFile(e.path, nil, 0o600) },
	} {
		os.Remove(e.path)
		if err := os.WriteFile(e.path, []byte("drain 192.0.2.1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := e.open()
		if err := errors.Join(err, meanwhile()); err != nil {
			t.Fatal(err)
		}
		want, _ := os.ReadFile(e.path)
		if err := f.replace(t.Context(), []byte("ours"), func() error { return nil }); !refused(err, acting.Stale, "has changed meanwhile") {
			t.Errorf("%s: %v", what, err)
		}
		if got, _ := os.ReadFile(e.path); !bytes.Equal(got, want) {
			t.Errorf("%s: the file has %q", what, got)
		}
		if _, err := os.Lstat(f.temporary()); err == nil {
			t.Errorf("%s: a temporary file is left", what)
		}
	}
}

// Of many changes at once, each is made once, or is told that it came too late (B118).
func TestEditorTakesTurns(t *testing.T) {
	e := new(Watcher).Editor(filepath.Join(t.TempDir(), "forced"))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := 0; n < 4; {
				shown, err := e.Show(t.Context())
				if err == nil {
					_, err = e.Change(t.Context(), shown.ETag, asked(fmt.Sprintf("drain 10.0.%d.%d", i, n)))
				}
				switch {
				case err == nil:
					n++
				case !refused(err, acting.Stale, ""):
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	text, _ := os.ReadFile(e.path)
	if n := bytes.Count(text, []byte("drain 10.0.")); n != 32 {
		t.Errorf("%d changes are in the file, want 32:\n%s", n, text)
	}
}

// Two processes that change one file at the same time, each with an editor of its own, lose none of their changes, and neither has a
// failure other than that it came too late (B118).
func TestEditorsOfTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	const each = 200
	var all sync.WaitGroup
	for i := range 2 {
		e := new(Watcher).Editor(path)
		all.Go(func() {
			for n := 0; n < each; {
				shown, err := e.Show(t.Context())
				if err == nil {
					_, err = e.Change(t.Context(), shown.ETag, asked(fmt.Sprintf("drain 10.%d.0.%d", i, n)))
				}
				switch {
				case err == nil:
					n++
				case !refused(err, acting.Stale, ""):
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if text, _ := os.ReadFile(path); bytes.Count(text, []byte("drain 10.")) != 2*each {
		t.Errorf("%d changes are in the file, want %d", bytes.Count(text, []byte("drain 10.")), 2*each)
	}
}

// A lock that another process keeps is not waited for without end, and nothing is changed (B118).
func TestEditorWaitsForALock(t *testing.T) {
	e := new(Watcher).Editor(filepath.Join(t.TempDir(), "forced"))
	unlock, err := lock(t.Context(), filepath.Dir(e.path))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := e.Change(ctx, `"none"`, asked("drain 192.0.2.1")); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("without the lock: %v", err)
	}
	unlock()
	if text, _, err := e.change(t, "drain 192.0.2.2"); err != nil || text != "drain 192.0.2.2\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// A client may go at any moment. A change that failed for it is not in the file, neither then nor later, and one that did not is (B118).
func TestEditorLosesItsClient(t *testing.T) {
	e := new(Watcher).Editor(filepath.Join(t.TempDir(), "forced"))
	began := time.Now()
	if _, _, err := e.change(t, "down 192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	usual, made := time.Since(began), 0
	for n := range 200 {
		line := fmt.Sprintf("drain 10.0.0.%d", n)
		shown, err := e.Show(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		end := time.AfterFunc(rand.N(usual), cancel)
		_, failed := e.Change(ctx, shown.ETag, asked(line))
		end.Stop()
		cancel()
		if _, err := e.Show(t.Context()); err != nil { // when what goes on alone has ended
			t.Fatal(err)
		}
		text, _ := os.ReadFile(e.path)
		if has := strings.Contains(string(text), line+"\n"); has != (failed == nil) {
			t.Errorf("%s: in the file: %t, error %v", line, has, failed)
		}
		if failed == nil {
			made++
		}
	}
	t.Logf("%d of 200 were made", made)
}

// A change is in force when it returns, although the file was changed a moment ago (B118).
func TestEditorPutsIntoForce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, w *Watcher) {
		c := watched(w, path)
		for _, line := range []string{"drain 10.0.0.1", "down 10.0.0.1", "release 10.0.0.1"} {
			began := time.Now()
			if _, _, err := w.Editor(path).change(t, line); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"drain": "drain", "down": "down", "release": "none"}[strings.Fields(line)[0]]
			if got := ordered(c, 1); got != want || time.Since(began) != 0 {
				t.Errorf("%s: %s after %s", line, got, time.Since(began))
			}
		}
		c.stop()
		synctest.Wait()
		began := time.Now()
		if _, _, err := w.Editor(path).change(t, "up 10.0.0.1"); err != nil || time.Since(began) != 0 {
			t.Errorf("a file that is not watched: %v after %s", err, time.Since(began))
		}
	})
}

// A process that is killed at any time leaves a whole file, and the next change works (B118).
func TestEditorIsKilled(t *testing.T) {
	const variable = "MULTIVALUE_TEST_EDITS"
	if path := os.Getenv(variable); path != "" {
		e := new(Watcher).Editor(path)
		for i := 0; ; i++ {
			if _, _, err := e.change(t, fmt.Sprintf("%s 10.0.0.0/8 # %s", [...]string{"up", "down"}[i%2], strings.Repeat("x", 100))); err != nil {
				t.Fatal(err)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "forced")
	foreign := strings.Repeat("drain 192.0.2.1 # foreign\n", 20_000)
	pooltest.Edit(t, path, foreign)
	left := 0
	temporary := filepath.Join(filepath.Dir(path), ".forced.multivalue-tmp")
	for i := range 8 {
		child := exec.Command(os.Args[0], "-test.run=^TestEditorIsKilled$")
		child.Env = append(os.Environ(), variable+"="+path)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Stat(path)
		deadline := time.Now().Add(time.Minute)
		for now := before; os.SameFile(now, before); now, _ = os.Stat(path) { // it has begun
			stillWaits(t, child, deadline)
			time.Sleep(time.Millisecond)
		}
		for _, err := os.Lstat(temporary); i%2 == 0 && err != nil; _, err = os.Lstat(temporary) { // and is in the middle of it
			stillWaits(t, child, deadline)
		}
		_ = child.Process.Kill()
		_ = child.Wait()
		text, err := os.ReadFile(path)
		if rest, whole := strings.CutPrefix(string(text), foreign); err != nil || !whole || !slices.Contains([]int{117, 119}, len(rest)) || !strings.HasSuffix(rest, "x\n") {
			t.Fatalf("%d bytes, whole %t, then %q, %v", len(text), whole, rest, err)
		}
		if _, err := os.Lstat(temporary); err == nil {
			left++
		}
		if _, _, err := new(Watcher).Editor(path).change(t, "release 10.0.0.0/8"); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of 8 left a temporary file", left)
}

// stillWaits ends the test if a process has not done what is waited for by a deadline.
func stillWaits(t *testing.T, child *exec.Cmd, deadline time.Time) {
	t.Helper()
	if time.Now().After(deadline) {
		_ = child.Process.Kill()
		t.Fatalf("the process does not edit the file: %v", child.Wait())
	}
}
