package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const forcing = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org {
        reload 0
    }
    multivalue {
        QUICK
        force DIR/forced
    }
}`

// moveTo replaces a file with a new file that has the text.
func (s *scene) moveTo(name, text string) {
	s.Helper()
	s.file(name+".new", text)
	if err := os.Rename(filepath.Join(s.dir, name+".new"), filepath.Join(s.dir, name)); err != nil {
		s.Fatal(err)
	}
}

// forced waits until the metrics show these numbers of targets forced up, down and drained, and of broken files.
func (s *scene) forced(up, down, drain, broken int) {
	s.Helper()
	want := [...]float64{float64(up), float64(down), float64(drain), float64(broken)}
	var got [4]float64
	s.eventually(func() bool {
		for i, state := range []string{"up", "down", "drain"} {
			got[i] = metric("coredns_multivalue_forced", "state="+state)
		}
		got[3] = metric("coredns_multivalue_force_broken")
		return got == want
	}, func() string { return fmt.Sprintf("the counts are %v, want %v", got, want) })
}

// The states in a file apply when the file appears, is edited, broken, repaired and deleted, while probing continues
// (B55).
func TestForcedServers(t *testing.T) {
	s := newScene(t, 11, 12, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13\n_http._tcp SRV 10 5 80 a\n_http._tcp SRV 10 5 80 b\na A 127.0.0.11\nb A 127.0.0.12")
	v := s.serve(strings.Replace(forcing, "QUICK", "QUICK\n types A SRV", 1))
	v.comesTo("www.example.org A", "11 12 13")
	v.settled(3, 0)
	s.moveTo("forced", "down 127.0.0.11")
	v.comesTo("www.example.org A", "12 13")
	v.settled(3, 0)
	v.eventually(func() bool { return len(v.ask("_http._tcp.example.org SRV").Answer) == 1 },
		func() string { return "the record of a host that is forced down stays" })
	s.file("forced", "drain 127.0.0.12/31 # and 13") // written in place
	v.comesTo("www.example.org A", "11")
	s.kill(11, 13)
	v.comesTo("www.example.org A", "12")
	s.start(11)
	v.comesTo("www.example.org A", "11")
	s.moveTo("forced", "up 127.0.0.13\nup 127.0.0.14")
	v.comesTo("www.example.org A", "11 12 13")
	s.forced(2, 0, 0, 0)
	s.moveTo("forced", "up 127.0.0.13\ndwon 127.0.0.11")
	s.forced(2, 0, 0, 1)
	if got := members(v.ask("www.example.org A")); got != "11 12 13" {
		t.Errorf("with a broken file, the answer has %q, want the same as before", got)
	}
	s.moveTo("forced", "down 127.0.0.12")
	v.comesTo("www.example.org A", "11")
	s.forced(0, 1, 0, 0)
	if err := os.Remove(filepath.Join(s.dir, "forced")); err != nil {
		t.Fatal(err)
	}
	v.comesTo("www.example.org A", "11 12")
	s.forced(0, 0, 0, 0)
}

// States from a ConfigMap apply. A ConfigMap is a directory of symbolic links that lead through one link, which the
// kubelet replaces; the path is below root. A large file, which takes time to read, applies from the first answer on
// (B55).
func TestForcedByAConfigMap(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	mount := func(version, text string) {
		if err := os.Mkdir(filepath.Join(s.dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		s.file(version+"/forced", text)
		if err := os.Symlink(version, filepath.Join(s.dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(s.dir, "..data_tmp"), filepath.Join(s.dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	lines := 1 << 17
	if raced {
		lines = 1 << 14 // a start waits two seconds for the file, and no longer
	}
	var large strings.Builder
	for i := range lines {
		fmt.Fprintf(&large, "up 10.%d.%d.%d\n", i>>16, i>>8&0xff, i&0xff)
	}
	mount("..1", large.String()+"down 127.0.0.11")
	if err := os.Symlink("..data/forced", filepath.Join(s.dir, "forced")); err != nil {
		t.Fatal(err)
	}
	v := s.serve(replace(forcing, "bind 127.0.0.1", "bind 127.0.0.1\n root DIR", "force DIR/forced", "force forced"))
	if got := members(v.ask("www.example.org A")); got != "12" {
		t.Errorf("the first answer has %q, want 12", got)
	}
	mount("..2", "down 127.0.0.12")
	if err := os.RemoveAll(filepath.Join(s.dir, "..1")); err != nil {
		t.Fatal(err)
	}
	v.comesTo("www.example.org A", "11")
}

// Reloads, successful or failed, keep the forced states, even if the file is broken in the meantime, and leak
// nothing. A server starts even if the file is broken (B55, B69, B70).
func TestForcedOverReloads(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	s.file("forced", "down 127.0.0.11\nbroken")
	v := s.serve(forcing)
	s.forced(0, 0, 0, 1)
	if got := members(v.ask("www.example.org A")); got != "11 12" {
		t.Errorf("started with a broken file, the answer has %q, want all", got)
	}
	s.moveTo("forced", "down 127.0.0.11")
	v.comesTo("www.example.org A", "12")
	s.moveTo("forced", "down 127.0.0.12\nbroken")
	s.forced(0, 1, 0, 1)
	before := takeCensus()
	failing := strings.Replace(forcing, "example.org:0", "example.org:"+busyPort(t), 1)
	for range 5 {
		v.mustReload(forcing)
		if got := members(v.ask("www.example.org A")); got != "12" {
			t.Fatalf("after a reload, the answer has %q, want 12", got)
		}
		if err := v.reload(failing); err == nil {
			t.Fatal("the reload did not fail")
		}
		s.forced(0, 1, 0, 1)
	}
	if !before.comesBack() {
		t.Errorf("%+v before, %+v after", before, takeCensus())
	}
	s.moveTo("forced", "drain 127.0.0.12")
	v.comesTo("www.example.org A", "11")
	v.mustReload(strings.Replace(forcing, "force DIR/forced", "", 1))
	v.comesTo("www.example.org A", "11 12")
	s.forced(0, 0, 0, 0)
}

// A line with an end counts until then. The page, the JSON and explanations show its end and its reason (B103).
func TestForcedUntil(t *testing.T) {
	s := newScene(t, 11, 12)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	v, base := s.shown(strings.Replace(forcing, "QUICK", "QUICK\n status 127.0.0.1:STATUS", 1))
	v.comesTo("www.example.org A", "11 12")
	v.settled(2, 0)
	end := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	s.moveTo("forced", "down 127.0.0.12 until "+end.Format(time.RFC3339)+" # new <disk>")
	v.comesTo("www.example.org A", "11")
	var page struct {
		Targets []struct {
			Address string
			Forced  string
			Reason  string    `json:"forced_reason"`
			Until   time.Time `json:"forced_until"`
		}
	}
	s.json(base+"/v1/targets?address=127.0.0.12", &page)
	if len(page.Targets) != 1 || page.Targets[0].Forced != "down" || page.Targets[0].Reason != "new <disk>" || !page.Targets[0].Until.Equal(end) {
		t.Errorf("%+v, want down until %s", page, end)
	}
	if got, want := s.explain(base, "www.example.org A").brief(), `forced down until `+end.Format(time.RFC3339)+` ("new <disk>")`; !strings.Contains(got, want) {
		t.Errorf("%s lacks %s", got, want)
	}
	if _, html := s.get(base + "/"); !strings.Contains(html, "forced down</span> <small>until <time") || !strings.Contains(html, "“new &lt;disk&gt;”") {
		t.Errorf("the page lacks the end or the reason:\n%s", html)
	}
	end = time.Now().Add(3 * time.Second).UTC().Truncate(time.Second) // the file is not changed again
	s.moveTo("forced", "down 127.0.0.12 until "+end.Format(time.RFC3339))
	v.comesTo("www.example.org A", "11 12")
	if time.Now().Before(end) {
		t.Error("the line has ended before its time")
	}
	v.forced(0, 0, 0, 0)
}
