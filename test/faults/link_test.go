//go:build faults && linux

package faults

import (
	"net/netip"
	"testing"
)

// Addresses behind a link leave and come back with it, whichever end of the link goes down. No state gets stuck
// because of flapping or the order of events, and every query is answered.
func TestFlappingLink(t *testing.T) {
	n := newNeighbour(t)
	behind := []netip.Addr{netip.MustParseAddr("10.99.0.12"), netip.MustParseAddr("10.99.0.13")}
	s := newScene(t, quick, append(behind, loopback(11)))
	must(t, "addr add 10.99.0.1/24 dev near\nlink set near up\n", "ip", "-batch", "-")
	n.there(func() {
		must(t, "addr add 10.99.0.12/24 dev far\naddr add 10.99.0.13/24 dev far\nlink set far up\n", "ip", "-batch", "-")
		newFarm(t)
	})
	s.start()
	s.settled(3, 0)
	l := s.load(1, []netip.Addr{loopback(11)}, nil)
	ends := map[string]func(state string){
		"near": func(state string) { must(t, "", "ip", "link", "set", "near", state) },
		"far":  func(state string) { n.there(func() { must(t, "", "ip", "link", "set", "far", state) }) },
	}
	for _, turn := range ends {
		turn("down")
		s.comesTo("11")
		turn("up")
		s.comesTo("12 13 11")
	}
	enough := s.probedAgain(3, loopback(11))
	s.eventually(func() bool { // up and down, too fast for a verdict
		for _, turn := range ends {
			turn("down")
			turn("up")
		}
		return enough()
	}, func() string { return "probing has stopped" })
	s.comesTo("12 13 11")
	s.says("10.99.0.12:8080 is down after 3 failures of http://:8080/: connect: network unreachable", 1)
	s.says("10.99.0.12:8080 is down after 3 failures of http://:8080/: connect: timed out", 1)
	s.settled(3, 0)
	l.ends()
}
