//go:build linux

package kube

import (
	"testing"
	"time"
)

// The API server is killed. Names go on resolving, the dead leave the answers and return, and when the API is back, so is
// what it says. No query is lost meanwhile.
func TestOutage(t *testing.T) {
	s := newScene(t)
	s.serve(cartHosts...)
	s.apply(cart()...)
	s.start("")
	s.settled("cart", 4, 0)
	l := s.load(1, "cart", always("192.0.2.11"))

	cluster.server.kill()
	t.Cleanup(func() {
		if cluster.server.over() && t.Failed() { // the next test wants it
			_ = cluster.start()
		}
	})
	s.stop("192.0.2.12")
	s.leavesTo("cart", "A", "192.0.2.11")
	s.serve("192.0.2.12")
	s.leavesTo("cart", "A", "192.0.2.11", "192.0.2.12")
	s.comesTo("kubernetes.default", "A", "198.51.100.1")
	s.stop("192.0.2.12")
	s.leavesTo("cart", "A", "192.0.2.11")

	if err := cluster.start(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	s.apply(slice("cart", "cart-4", "192.0.2.11 a", "192.0.2.12", "192.0.2.13"))
	s.eventually(2*time.Minute, func() bool { return len(s.data("cart", "A")) == 2 }, // a watch waits longer and longer to try again
		func() string { return "the program does not come back to the API" })
	s.comesTo("cart", "A", "192.0.2.11", "192.0.2.13")
	t.Logf("a new endpoint is in the answers %s after the API was back", time.Since(back).Round(time.Millisecond))
	l.ends()
}
