//go:build linux

package kube

import (
	"strings"
	"testing"
)

// A Service in a namespace without a stanza is served unchanged, and none of it is probed, whatever the query (B80).
func TestOtherNamespaces(t *testing.T) {
	s := newScene(t)
	s.serve("192.0.2.11", "192.0.2.12", "192.0.2.13")
	s.apply(headless("cart"), slice("cart", "cart-4", "192.0.2.11", "192.0.2.12"))
	cluster.apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: unnamed")
	t.Cleanup(func() { cluster.delete(t, "/apis/discovery.k8s.io/v1/namespaces/unnamed/endpointslices") })
	cluster.apply(t, "unnamed", headless("cart"))
	cluster.apply(t, "unnamed", slice("cart", "cart-4", "192.0.2.13", "192.0.2.14"))
	s.run(s.configure(strings.Replace(corefile, "multivalue {", "multivalue NS.svc.cluster.local {", 1), ""))
	s.comesTo("cart", "A", "192.0.2.11", "192.0.2.12")
	s.comesTo("cart.unnamed.svc.cluster.local.", "A", "192.0.2.13", "192.0.2.14") // the second one is dead
	s.comesTo("_http._tcp.cart.unnamed.svc.cluster.local.", "SRV", "192-0-2-13:8080", "192-0-2-14:8080")
	s.settled("cart", 2, 0)
	before := s.asked("192.0.2.11")
	s.eventually(patience, func() bool { return s.asked("192.0.2.11") > before+3 }, func() string { return "nothing is probed" })
	if n := s.asked("192.0.2.13"); n > 0 {
		t.Errorf("a backend of another namespace was probed %d times", n)
	}
	s.comesTo("cart.unnamed.svc.cluster.local.", "A", "192.0.2.13", "192.0.2.14")
}
