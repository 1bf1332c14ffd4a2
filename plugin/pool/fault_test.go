package pool

import (
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// The log says once when the files of a check cannot be used as they are now, once more when that is for another reason, and
// once when they can. No target changes its state for it (B95).
func TestFaultOfFilesIsLogged(t *testing.T) {
	text := pooltest.Logged(t)
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		s := testStanza("https://www.example.org", n, pooltest.Pace)
		fault := ""
		s.checks[0].fault = func() string { return fault }
		g := begin(p, s)
		says := func(want string, lines int) {
			t.Helper()
			pass(2*time.Minute, s, pooltest.Addr(1), pooltest.Addr(2))
			if got := pooltest.CountLines(text, want); got != lines || pooltest.CountLines(text, "key files") != lines {
				t.Errorf("fault %q: %d lines with %q, want %d:\n%s", fault, got, want, lines, text)
			}
			if got := stateOf(s, pooltest.Addr(1)); got != verdict.Up {
				t.Errorf("fault %q: %s", fault, got)
			}
			text.Reset()
		}
		says("key files", 0)
		fault = "private key does not match"
		says("https://www.example.org: its ca, cert and key files cannot be used as they are now, so the ones before stay in use: private key does not match", 1)
		says("key files", 0)
		fault = "no such file"
		says("no such file", 1)
		fault = ""
		says("https://www.example.org: its ca, cert and key files are used as they are now", 1)
		says("key files", 0)
		// A reload makes another check of the same line, and that one is probed from now on.
		fault = "stale"
		says("stale", 1)
		next, fresh := testStanza("https://www.example.org", n, pooltest.Pace), ""
		next.checks[0].fault = func() string { return fresh }
		begin(p, next)
		p.Leave(g)
		s = next
		says("are used as they are now", 1)
		fresh = "broken"
		says("broken", 1)
		// One that comes and goes is not said again and again.
		for i := range 600 {
			fresh = []string{"", "broken"}[i%2]
			pass(time.Second, s, pooltest.Addr(1))
		}
		if got := pooltest.CountLines(text, "key files"); got < 1 || got > 11 {
			t.Errorf("%d lines in ten minutes", got)
		}
	})
}
