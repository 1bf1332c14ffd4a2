package test

import (
	"net"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// busyPort is a port that another listener holds as long as the test runs.
func busyPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// sturdy is classic with a zone file that is not read again. For a zone file that is, the file plugin starts a
// goroutine even if the reload then fails, and never ends it.
var sturdy = strings.Replace(classic, "file DIR/example.org", "file DIR/example.org {\n reload 0\n }", 1)

// brokenCorefiles cannot be started, each for a different reason. Each of them would add a new check.
func brokenCorefiles(t *testing.T) map[string]string {
	edited := strings.Replace(sturdy, "QUICK", "QUICK\n check tcp://:PORT", 1)
	return map[string]string{
		"a brace is missing in a later block":      edited + "\nexample.net:0 {\n",
		"an unknown plugin in a later block":       edited + "\nexample.net:0 {\n nosuchplugin\n}",
		"multivalue refuses its stanza":            strings.Replace(edited, "QUICK", "QUICK\n rise 0", 1),
		"multivalue refuses a later block":         edited + "\nexample.net:0 {\n bind 127.0.0.1\n multivalue\n}",
		"a plugin that is set up later refuses":    strings.Replace(edited, "bind", "forward\n bind", 1),
		"multivalue refuses its neighbour":         replace(edited, "within 127.0.0.0/8", "", "QUICK", "check tcp://:PORT", "bind", "forward . 127.0.0.1:9\n bind"),
		"the port is in use":                       strings.Replace(edited, "example.org:0", "example.org:"+busyPort(t), 1),
		"the pace was edited, and the port in use": replace(sturdy, "QUICK", "check http://:PORT/\n interval 250ms 100ms\n within 127.0.0.0/8", "example.org:0", "example.org:"+busyPort(t)),
	}
}

// A reload that fails, in multivalue or elsewhere, leaves the old server probing and answering, and leaks nothing.
// The next good reload takes over from it (B70, T35).
func TestFailedReloadLeavesTheOldServer(t *testing.T) {
	for name, broken := range brokenCorefiles(t) {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 11, 12, 13)
			s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13\nwww A 127.0.0.14")
			v := s.serve(sturdy)
			v.comesTo("www.example.org A", "11 12 13")
			v.settled(3, 1)
			before := takeCensus()
			for range 3 {
				if err := v.reload(broken); err == nil {
					t.Fatal("the reload did not fail")
				}
				if got := members(v.ask("www.example.org A")); got != "11 12 13" {
					t.Fatalf("after the failed reload, the answer has %q, want the same as before", got)
				}
				if failed := testutil.ToFloat64(metrics.ReloadFailed); failed != 1 {
					t.Errorf("reload_failed is %v after a failed reload", failed)
				}
			}
			v.settled(3, 1)
			if !before.comesBack() {
				t.Errorf("%+v before, %+v after", before, takeCensus())
			}
			s.kill(12)
			v.comesTo("www.example.org A", "11 13")
			v.mustReload(sturdy)
			if failed := testutil.ToFloat64(metrics.ReloadFailed); failed != 0 {
				t.Errorf("reload_failed is %v after a good reload", failed)
			}
			if got := members(v.ask("www.example.org A")); got != "11 13" {
				t.Errorf("after a good reload, the answer has %q, want 11 13 at once", got)
			}
			s.start(12)
			v.comesTo("www.example.org A", "11 12 13")
			if err := v.reload(broken); err == nil {
				t.Fatal("the reload did not fail")
			}
			v.mustReload("example.org:0 {\n bind 127.0.0.1\n file DIR/example.org {\n reload 0\n }\n}")
			if failed := testutil.ToFloat64(metrics.ReloadFailed); failed != 0 {
				t.Errorf("reload_failed is %v after a reload to a Corefile without multivalue", failed)
			}
		})
	}
}

// The checks of a reload that failed are never run (B70).
func TestFailedReloadProbesNothing(t *testing.T) {
	s := newScene(t, 11, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13")
	v := s.serve(calm)
	v.comesTo("www.example.org A", "11 13")
	v.settled(2, 1)
	port := busyPort(t)
	for range 3 {
		broken := replace(calm, "file DIR/example.org", "file DIR/example.org {\n reload 0\n }", "CALM", "check http://:PORT/\n interval 300ms 100ms\n within 127.0.0.0/8", "example.org:0", "example.org:"+port)
		if err := v.reload(broken); err == nil {
			t.Fatal("the reload did not fail")
		}
	}
	s.notAsked(11)
	s.notAsked(13)
}
