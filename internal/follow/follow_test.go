package follow

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// word is what a file of the test says.
type word struct{ text string }

// plain is a kind of file that has to exist, that time does not change, and that has no metric for what is in force. Package
// force tests the other kind.
func plain() *Kind[word] {
	return &Kind[word]{
		Name: "test", Limit: 16, TooLarge: "use a shorter word",
		Parse: func(data []byte) (*word, error) {
			if text := string(data); !strings.Contains(text, "!") {
				return &word{text}, nil
			}
			return nil, errors.New("1: invalid word")
		},
		Say:    func(v *word) string { return "says " + v.text },
		Broken: prometheus.NewGauge(prometheus.GaugeOpts{Name: "broken"}), Stuck: prometheus.NewGauge(prometheus.GaugeOpts{Name: "stuck"}),
	}
}

// Whatever happens to a file that has to exist, what it said last stays in force, also over a reload; and the log says so once.
func TestFileThatHasToExist(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	said := pooltest.Logged(t)
	synctest.Test(t, func(t *testing.T) {
		w, kind := new(Watcher[word]), plain()
		files := w.Files(kind)
		f := files.Open(path)
		if f.Value() == nil || f.Value().text != "" {
			t.Error("something is in force before the file is read")
		}
		files.AwaitRead()
		files.Watch()
		for _, step := range []struct {
			what   string
			change func()
			want   string
			broken float64
			fault  string
		}{
			{"there is no file", func() {}, "", 1, path + ": no such file"},
			{"it is written", func() { pooltest.Edit(t, path, "one") }, "one", 0, ""},
			{"it is edited", func() { pooltest.Edit(t, path, "two") }, "two", 0, ""},
			{"it is gone", func() { os.Remove(path) }, "two", 1, path + ": no such file"},
			{"another Corefile has it", func() {
				next := w.Files(kind)
				if f = next.Open(path); f.Value().text != "two" {
					t.Errorf("the next Corefile begins with %q", f.Value().text)
				}
				next.AwaitRead()
				next.Watch()
				files.Release()
				files.AwaitReleased()
				files = next
			}, "two", 1, path + ": no such file"},
			{"it is as before", func() { pooltest.Edit(t, path, "two") }, "two", 0, ""},
			{"it is broken", func() { pooltest.Edit(t, path, "!") }, "two", 1, path + ":1: invalid word"},
			{"it is too large", func() { pooltest.Edit(t, path, strings.Repeat("x", 17)) }, "two", 1, path + " is larger than 16 bytes"},
			{"it is as large as it may be", func() { pooltest.Edit(t, path, strings.Repeat("x", 16)) }, strings.Repeat("x", 16), 0, ""},
		} {
			step.change()
			pooltest.Elapse(3 * rereadEvery)
			broken := 0.0
			w.All(func(v *word, fault string) {
				if !strings.Contains(fault, step.fault) || (fault == "") != (step.broken == 0) {
					t.Errorf("%s: %q, want %q", step.what, fault, step.fault)
				}
				if fault != "" {
					broken++
				}
				if v != f.Value() {
					t.Errorf("%s: %q is counted", step.what, v.text)
				}
			})
			if got := f.Value().text; got != step.want || broken != step.broken || testutil.ToFloat64(kind.Broken) != broken {
				t.Errorf("%s: %q is in force, and %v broken; want %q, and %v", step.what, got, broken, step.want, step.broken)
			}
		}
		files.Release()
		files.AwaitReleased()
		if n := testutil.ToFloat64(kind.Broken) + testutil.ToFloat64(kind.Stuck); n != 0 {
			t.Errorf("after the end, %v are broken or stuck", n)
		}
		w.All(func(*word, string) { t.Error("a file is watched after the end") })
	})
	// The second Corefile says again what is wrong.
	for words, want := range map[string]int{"no such file or directory; what was in force before stays in force": 3, "says one": 1, "says two": 2,
		"file:1: invalid word; what was in force": 1, "is larger than 16 bytes: use a shorter word; what was in force": 1} {
		if got := pooltest.CountLines(said, words); got != want {
			t.Errorf("%q is logged %d times, want %d:\n%s", words, got, want, said)
		}
	}
}

// Who wants to know is told when a file says something else than before, and not when it is read first, or refused.
func TestOnChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	pooltest.Edit(t, path, "one")
	synctest.Test(t, func(t *testing.T) {
		var told []string
		w, kind := &Watcher[word]{OnChange: func(path, what string) { told = append(told, filepath.Base(path)+" "+what) }}, plain()
		files := w.Files(kind)
		files.Open(path)
		files.AwaitRead()
		files.Watch()
		synctest.Wait()
		for _, text := range []string{"one", "two", "bad!", "three"} {
			pooltest.Edit(t, path, text)
			pooltest.Elapse(2 * checkEvery)
		}
		files.Release()
		files.AwaitReleased()
		synctest.Wait()
		if got := strings.Join(told, ", "); got != "file says two, file says three" {
			t.Errorf("told %q", got)
		}
	})
}
