//go:build linux

package kube

import (
	"net/http"
	"slices"
	"testing"
	"time"
)

// If the API server is killed, names keep resolving, and dead addresses leave the answers and return. When the API is
// back, its changes are followed again. No query is lost.
func TestOutage(t *testing.T) {
	s := newScene(t)
	s.serve(cartHosts...)
	s.apply(cart()...)
	s.start("")
	s.settled("cart", 4, 0)
	l := s.load(1, "cart", always("192.0.2.11"))

	cluster.server.kill()
	t.Cleanup(func() {
		if cluster.server.over() && t.Failed() { // the next test needs it
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
	s.eventually(2*time.Minute, func() bool { return len(s.data("cart", "A")) == 2 }, // a watch retries at growing intervals
		func() string { return "the program does not reconnect to the API" })
	s.comesTo("cart", "A", "192.0.2.11", "192.0.2.13")
	t.Logf("a new endpoint is in the answers %s after the API was back", time.Since(back).Round(time.Millisecond))
	l.ends()
}

// If CoreDNS starts before the API is available, as after the loss of a whole cluster, it answers SERVFAIL and is not
// ready until it knows the objects. Then it probes, and no healthy target is taken down.
func TestStartBeforeTheAPI(t *testing.T) {
	s := newScene(t)
	s.serve("192.0.2.11", "192.0.2.12")
	s.apply(headless("cart"), slice("cart", "cart-4", "192.0.2.11", "192.0.2.12"))
	cluster.server.kill()
	t.Cleanup(func() {
		if cluster.server.over() { // the next test needs it
			_ = cluster.start()
		}
	})
	s.run(s.configure(corefile, ""))
	if got := s.data("cart", "A"); !slices.Equal(got, []string{"SERVFAIL, truncated false"}) {
		t.Errorf("without the API cart has %q", got)
	}
	if response, err := http.Get("http://127.0.0.1:8181/ready"); err != nil || response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the program is ready without the API: %v, %v", response, err)
	} else {
		response.Body.Close()
	}
	if err := cluster.start(); err != nil {
		t.Fatal(err)
	}
	s.eventually(2*time.Minute, func() bool { return len(s.data("cart", "A")) == 2 }, // a watch retries at growing intervals
		func() string { return "the program does not connect to the API" })
	s.settled("cart", 2, 0)
	s.page("127.0.0.1:8181/ready")
	if down := s.metric("coredns_multivalue_transitions_total", `to="down"`); down > 0 {
		t.Errorf("%v targets were taken down", down)
	}
	s.stop("192.0.2.12")
	s.leavesTo("cart", "A", "192.0.2.11")
}
