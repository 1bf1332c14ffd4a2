package pool

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// faulty is what the files of a check have for a fault. It changes while the pool runs.
type faulty struct{ text atomic.Value }

func (f *faulty) set(text string) { f.text.Store(text) }

// checkOf returns a stanza whose check has that fault.
func (f *faulty) checkOf(n Prober) *stanza {
	f.set("")
	s := testStanza("https://www.example.org", n, pooltest.Pace)
	s.checks[0].fault = func() string { return f.text.Load().(string) }
	return s
}

// The log says once when the files of a check cannot be used as they are now, once more when that is for another reason, and
// once when they can, also over a reload. No target changes its state for it (B95).
func TestFaultOfFilesIsLogged(t *testing.T) {
	text := pooltest.Logged(t)
	inBubble(t, func(t *testing.T, p *Pool, n *pooltest.FakeNetwork) {
		var first, second faulty
		s := first.checkOf(n)
		g := begin(p, s)
		says := func(want string, lines int) {
			t.Helper()
			pass(2*time.Minute, s, pooltest.Addr(1), pooltest.Addr(2))
			if got := pooltest.CountLines(text, want); got != lines || pooltest.CountLines(text, "key files") != lines {
				t.Errorf("%d lines with %q, want %d:\n%s", got, want, lines, text)
			}
			if got := stateOf(s, pooltest.Addr(1)); got != verdict.Up {
				t.Errorf("%s", got)
			}
			text.Reset()
		}
		says("key files", 0)
		first.set("private key does not match")
		says("https://www.example.org: its ca, cert and key files cannot be used as they are now, so the ones before stay in use: private key does not match", 1)
		says("key files", 0)
		first.set("no such file")
		says("no such file", 1)
		first.set("")
		says("https://www.example.org: its ca, cert and key files are used as they are now", 1)
		says("key files", 0)
		// A reload makes another check of the same line, and that one is probed from now on.
		first.set("stale")
		says("stale", 1)
		next := second.checkOf(n)
		begin(p, next)
		p.Leave(g)
		s = next
		says("are used as they are now", 1)
		second.set("broken")
		says("broken", 1)
		// One that comes and goes is not said again and again.
		for i := range 600 {
			second.set([]string{"", "broken"}[i%2])
			pass(time.Second, s, pooltest.Addr(1))
		}
		if got := pooltest.CountLines(text, "key files"); got < 1 || got > 11 {
			t.Errorf("%d lines in ten minutes", got)
		}
	})
}
