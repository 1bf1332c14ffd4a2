package test

import (
	"fmt"
	"testing"
	"time"
)

const held = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        check tcp://:PORT hold
        interval 10s 100ms
        within 127.0.0.0/8
    }
}`

// With hold, a server that dies leaves the answers long before its next probe is due; when it is back it returns, and is held
// again. A stop lets all of them go (B53, B71).
func TestHeldServerLeavesAtOnce(t *testing.T) {
	s := newScene(t, 11, 12, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13")
	v := s.serve(held)
	v.comesTo("www.example.org A", "11 12 13")
	s.holds(3)
	killed := time.Now()
	s.kill(12)
	v.comesTo("www.example.org A", "11 13")
	if took := time.Since(killed); took > 3*time.Second {
		t.Errorf("it left only after %s", took)
	}
	s.holds(2)
	s.start(12)
	v.comesTo("www.example.org A", "11 12 13")
	s.holds(3)
	v.mustReload(held)
	s.holds(3)
	killed = time.Now()
	s.kill(11)
	v.comesTo("www.example.org A", "12 13")
	if took := time.Since(killed); took > 3*time.Second {
		t.Errorf("after a reload, it left only after %s", took)
	}
}

// holds waits until so many connections are kept.
func (s *scene) holds(n int) {
	s.Helper()
	const gauge = "coredns_multivalue_held_connections"
	s.eventually(func() bool { return int(metric(gauge)) == n },
		func() string { return fmt.Sprintf("%v connections are held, want %d", metric(gauge), n) })
}
