package force

import (
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/internal/watchfile"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A line may have an end and a reason, and the smallest network decides about both, too (B103).
func TestLineParse(t *testing.T) {
	o, err := Parse([]byte(`
drain 10.0.0.0/24 10.1.0.1 until 2026-11-30T08:00:00+01:00   #  rack 4,	until Monday
drain 10.0.0.7
down  10.0.0.8   until 2026-11-30T08:00:00Z
up    10.0.0.9   # ` + strings.Repeat("ä", 150) + `
down  10.0.0.10  # a` + "\x00\x1b[31mb\xff\u202ec" + `
drain 10.0.0.11 until 2026-11-30T08:00:00Z # first
drain 10.0.0.11 until 2026-12-30T08:00:00Z # longest
drain 10.0.0.11 until 2026-10-30T08:00:00Z # shortest
drain 10.0.0.12 until 2026-11-30T08:00:00Z
drain 10.0.0.12 # for ever
drain 10.0.0.13 # for ever
drain 10.0.0.13 until 2026-11-30T08:00:00Z
`))
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"10.0.0.1":  `2 drain 10.0.0.0/24 10.1.0.1 ("rack 4, until Monday") 2026-11-30T07:00:00Z`,
		"10.1.0.1":  `2 drain 10.0.0.0/24 10.1.0.1 ("rack 4, until Monday") 2026-11-30T07:00:00Z`,
		"10.0.0.7":  "none",
		"10.0.0.8":  "4 down 10.0.0.8 2026-11-30T08:00:00Z",
		"10.0.0.9":  `5 up  ("` + strings.Repeat("ä", 100) + `")`,
		"10.0.0.10": `6 down  ("a[31mbc")`,
		"10.0.0.11": `8 drain 10.0.0.11 ("longest") 2026-12-30T08:00:00Z`,
		"10.0.0.12": `11 drain  ("for ever")`,
		"10.0.0.13": `12 drain  ("for ever")`,
		"10.0.2.1":  "none",
	} {
		got := "none"
		if l := o.Note(netip.MustParseAddr(addr)); l != nil {
			got = fmt.Sprint(l.Number, " ", l)
			if !l.Until.IsZero() {
				got += " " + l.Until.UTC().Format(time.RFC3339)
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

// A mistake in the end of a line is an error with the fix (B103, B78).
func TestLineParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"drain 10.0.0.1 until":                                     "1: use one time behind until, at the end of the line, such as until 2026-11-30T08:00:00+01:00",
		"drain 10.0.0.1 until # 2026-11-30T08:00:00Z":              "1: use one time behind until",
		"drain 10.0.0.1 until 2026-11-30 08:00":                    "1: use one time behind until",
		"drain until 2026-11-30T08:00:00Z 10.0.0.1":                "1: use one time behind until",
		"drain 10.0.0.1 until 2026-11-30T08:00:00Z until 2026":     "1: use one time behind until",
		"drain until 2026-11-30T08:00:00Z":                         "1: drain without an address",
		"drain 10.0.0.1 until 2026-11-30T08:00:00":                 `1: invalid time "2026-11-30T08:00:00": use a date, a time and its zone, such as`,
		"drain 10.0.0.1 until 2026-11-30":                          `1: invalid time "2026-11-30"`,
		"drain 10.0.0.1 until tomorrow":                            `1: invalid time "tomorrow"`,
		"drain 10.0.0.1 until 2026-02-30T08:00:00Z":                "1: invalid time",
		"drain 10.0.0.1 until " + strings.Repeat("9", 1<<20):       "1: invalid time",
		"drain 10.0.0.1 Until 2026-11-30T08:00:00Z":                `1: "Until" is neither an address nor a network`,
		"drain 10.0.0.1 until 2126-11-30T08:00:00Z\ndown 10.0.0.1": "2: 10.0.0.1/32 is down here, and drain on line 1",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 300 {
			t.Errorf("%.80q: error %.400v, want %s", text, err, want)
		}
	}
}

// stampIn is an instant some time from now, as a file has it.
func stampIn(d time.Duration) string { return time.Now().Add(d).Format(time.RFC3339) }

// A line counts until its time: then what a wider network says holds, and the metrics show it. The log says so five minutes before and
// at the end, once, also over a reload. What is over when the file is read is counted (B103).
func TestLineEnds(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "forced")
	inBubble(t, func(t *testing.T, w *Watcher) {
		began := time.Now()
		got := logged(func() {
			pooltest.Edit(t, path, "down 10.0.0.0/24\ndrain 10.0.0.1 10.0.0.2 until "+stampIn(time.Hour)+" # rack 4\nup 10.0.0.3 until "+stampIn(-time.Second))
			c := watched(w, path)
			step := func(what string, elapse time.Duration, want, counts string) {
				t.Helper()
				pooltest.Elapse(elapse)
				if got := ordered(c, 1, 2, 3); got != want {
					t.Errorf("%s: %s, want %s", what, got, want)
				}
				wantInForce(t, what, counts)
			}
			step("at first", 0, "drain drain down", "0 1 2 0")
			step("six minutes before", 54*time.Minute, "drain drain down", "0 1 2 0")
			step("four minutes before", 2*time.Minute, "drain drain down", "0 1 2 0")
			next := opened(w, path)
			next.Watch()
			c.stop()
			c = next
			step("after a reload", checkEvery, "drain drain down", "0 1 2 0")
			pooltest.Edit(t, path, "broken")
			step("while it is broken", time.Minute, "drain drain down", "0 1 2 1")
			step("a little before", time.Hour-2*time.Second-time.Since(began), "drain drain down", "0 1 2 1")
			step("at the end", 3*time.Second, "down down down", "0 1 0 1")
			step("long after", time.Hour, "down down down", "0 1 0 1")
		})
		end := began.Add(time.Hour).Format(time.RFC3339)
		want := `[INFO] DIR/forced has 0 up, 1 down, 2 drain; the time of 1 line is over
[INFO] DIR/forced:2: drain 10.0.0.1 10.0.0.2 ("rack 4") ends at ` + end + `
[ERROR] DIR/forced:1: unknown state "broken": use one of down, drain, up; what was in force before stays in force
[INFO] DIR/forced:2: drain 10.0.0.1 10.0.0.2 ("rack 4") has ended, at ` + end + `
`
		if got = strings.ReplaceAll(got, dir, "DIR"); got != want {
			t.Errorf("logged\n%swant\n%s", got, want)
		}
	})
}

// While the file system does not answer, lines end all the same, also in a Corefile that waits for it (B103).
func TestLineEndsWhileStuck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, w *Watcher) {
		var hangs atomic.Bool
		release := make(chan struct{})
		w.files.Read = func(path string, limit int) ([]byte, fs.FileInfo, error) {
			if hangs.Load() {
				<-release
			}
			return watchfile.Read(path, limit)
		}
		pooltest.Edit(t, path, "drain 10.0.0.1 until "+stampIn(2*time.Minute)+"\ndown 10.0.0.2")
		c := watched(w, path)
		hangs.Store(true)
		pooltest.Edit(t, path, "up 10.0.0.2")
		pooltest.Elapse(time.Minute)
		if got := testutil.ToFloat64(metrics.Force.Stuck); got != 1 {
			t.Fatalf("%v stuck, want 1", got)
		}
		next := opened(w, path)
		next.Watch()
		pooltest.Elapse(checkEvery)
		if got := ordered(c, 1, 2) + ", " + ordered(next, 1, 2); got != "drain down, drain down" {
			t.Errorf("before the end: %s", got)
		}
		pooltest.Elapse(time.Minute + 2*checkEvery)
		if got := ordered(c, 1, 2) + ", " + ordered(next, 1, 2); got != "none down, none down" {
			t.Errorf("after it: %s", got)
		}
		hangs.Store(false)
		close(release)
		c.stop()
		synctest.Wait()
	})
}

// The wall clock decides: what has ended counts again when the clock is set back before its end (B103).
func TestLineFollowsTheWallClock(t *testing.T) {
	o, err := Parse([]byte("drain 10.0.0.1 until 2026-11-30T08:00:00Z\ndown 10.0.0.2 until 2026-11-30T09:00:00Z"))
	if err != nil {
		t.Fatal(err)
	}
	counts := o
	for _, step := range []struct{ now, want string }{
		{"07:59:59", "drain down"}, {"08:00:00", "none down"}, {"09:00:00", "none none"}, {"08:30:00", "none down"}, {"07:00:00", "drain down"},
	} {
		now, err := time.Parse(time.RFC3339, "2026-11-30T"+step.now+"Z")
		if err != nil {
			t.Fatal(err)
		}
		counts = o.at(counts, now)
		if o.at(counts, now) != counts {
			t.Errorf("%s: copied again, although nothing has ended", step.now)
		}
		if got := ordered(corefile{file: Static(counts)}, 1, 2); got != step.want {
			t.Errorf("%s: %s, want %s", step.now, got, step.want)
		}
	}
}

// A line that has ended contradicts no other one, in whichever order they are (B103).
func TestEndedLineContradictsNothing(t *testing.T) {
	for _, text := range []string{
		"down 10.0.0.1 until 2020-01-01T00:00:00Z # disk\nup 10.0.0.1",
		"up 10.0.0.1\ndown 10.0.0.1 until 2020-01-01T00:00:00Z # disk",
	} {
		o, err := Parse([]byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if got := o.For(netip.MustParseAddr("10.0.0.1")); got != Up {
			t.Errorf("%q: the address is forced %q", text, got)
		}
	}
}
