//go:build faults && linux

package fleet

import (
	"syscall"
	"testing"
	"time"
)

// Fifty servers probe each target three times an interval. Five that hang for a short time, and for long, cost probes and never an
// answer, and those that hang have no say when they come back. It takes some 4 GB of memory, and three minutes on two cores (B104,
// B107, B108).
func TestFaultFifty(t *testing.T) {
	s := newScene(t, list(11, 18)...)
	for n := 1; n <= 50; n++ {
		s.launch(n)
		if n%5 == 0 {
			s.servers[n].await()
		}
	}
	s.settle()
	s.shared(patience, 3)
	from := time.Now()
	s.passes(10 * interval)
	r := s.rates(from, time.Now())
	t.Log(r)
	if r.perInterval < 2.4 || r.perInterval > 3.7 {
		t.Errorf("%s, want 3", r)
	}
	x := &trial{scene: s, load: s.load(), t: t}
	for i, d := range []time.Duration{3 * time.Second, 8 * time.Second, time.Minute} {
		began := time.Now()
		for n := 41; n <= 45; n++ {
			s.servers[n].stopping.Store(true)
			s.servers[n].signal(syscall.SIGSTOP)
		}
		x.dies("as five stop", firstDead+i)
		if left := d - time.Since(began); left > 0 {
			s.passes(left)
		}
		for n := 41; n <= 45; n++ {
			s.servers[n].signal(syscall.SIGCONT)
		}
		s.passes(bound + lapse)
		for n := 41; n <= 45; n++ {
			s.servers[n].stopping.Store(false)
		}
		s.serves(bound+slack, append(list(11, lastLiving), list(firstDead+i+1, lastDead)...)...)
		t.Logf("after %s: one fleet again after %s", d, s.joined(45*time.Second+slack))
		t.Logf("after %s: three probe after %s", d, s.shared(2*settling+patience, 3))
	}
	x.end()
}
