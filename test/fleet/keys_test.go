//go:build linux

package fleet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Servers exchange their key one after the other, in three steps, and nothing is lost in any of them. A file that is cut short or gone
// leaves the keys in force, and one that all can read is warned of. A server that has missed the exchange is alone, says so, and
// answers as well as one without a fleet (B108, B110).
func TestKeysAreExchanged(t *testing.T) {
	t.Parallel()
	s := newScene(t, 11, 12, 13, 14)
	was, next := newKey(), newKey()
	put := func(p *server, lines ...string) {
		p.file("key"+string(rune('0'+p.n)), strings.Join(lines, "\n")+"\n")
	}
	for n := 1; n <= 4; n++ {
		put(&server{scene: s, n: n}, was)
		s.launch(n, "KEY", "DIR/keyNUMBER")
	}
	s.settle()
	s.shared(patience, 3)
	s.backends[14].turn(stalls)
	s.serves(bound+slack, 11, 12, 13)
	l := s.load()
	l.expects([]int{11, 12, 13}, []int{14})
	before := s.probers(window)
	all := s.live()
	steps := [][]string{{was, next}, {next, was}, {next}}
	for i, lines := range steps {
		for _, p := range all {
			if i == len(steps)-1 && p.n == 4 {
				continue // it keeps both
			}
			put(p, lines...)
			p.says("has another content", i+1)
			for _, o := range all {
				o.hears(slack, 3)
				if n := o.metric("fleet_dropped_total", `"seal"`); n > 0 {
					t.Errorf("step %d at server %d: server %d could not open %v messages", i+1, p.n, o.n, n)
				}
			}
		}
	}
	s.probedBy(slack, "the same as before", func(n int, who []int) bool { return len(who) == len(before[n]) })

	p := all[0]
	put(p, next[:20])
	p.says("the keys from before stay in force", 1)
	if err := os.Remove(filepath.Join(s.dir, "key1")); err != nil {
		t.Fatal(err)
	}
	p.says("does not exist", 1)
	s.passes(lapse + 2*tick)
	for _, o := range all { // one that is not heard any more is never heard again
		o.hears(slack, 3)
	}
	put(p, next, was)
	if err := os.Chmod(filepath.Join(s.dir, "key1"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.says("every user of this machine can read", 1)
	if log := p.output.String(); strings.Contains(log, next[:12]) || strings.Contains(log, was[:12]) {
		t.Error("a key is in the log")
	}

	lost := all[3]
	put(lost, was) // and server 1 has it, but does not seal with it
	lost.hears(patience, 0)
	lost.says("is sealed with no key of this server", 1)
	s.probedBy(reseated+slack, "three for all, and 4 for itself", func(_ int, who []int) bool { return len(who) == 4 })
	s.backends[13].turn(refuses)
	l.expects([]int{11, 12}, []int{14})
	s.serves(bound+lapse+slack, 11, 12)
}
