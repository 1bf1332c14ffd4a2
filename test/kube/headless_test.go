//go:build linux

package kube

import (
	"slices"
	"strings"
	"testing"
)

// These are typical endpoints: one host with addresses of both families, two of one family, and one that is not
// ready.
func cart() []string {
	return []string{
		headless("cart"),
		slice("cart", "cart-4", "192.0.2.11 a", "192.0.2.12", "(192.0.2.13)"),
		slice("cart", "cart-6", "2001:db8::11 a", "2001:db8::12"),
	}
}

var cartHosts = []string{"192.0.2.11", "192.0.2.12", "192.0.2.13", "2001:db8::11", "2001:db8::12"}

// Addresses and named ports of a headless Service leave the answers when their backend stops, and return with it. An
// endpoint's own name keeps its address. For endpoints that are up, the answers are those of Kubernetes (B79).
func TestHeadless(t *testing.T) {
	s := newScene(t)
	s.serve(cartHosts...)
	s.apply(cart()...)
	s.start("")
	s.comesTo("cart", "A", "192.0.2.11", "192.0.2.12")
	s.comesTo("cart", "AAAA", "2001:db8::11", "2001:db8::12")
	s.comesTo("_http._tcp.cart", "SRV", "a:8080", "192-0-2-12:8080", "2001-db8--12:8080")
	s.settled("cart", 4, 0)

	s.stop("192.0.2.12", "2001:db8::11")
	s.leavesTo("cart", "A", "192.0.2.11")
	s.leavesTo("cart", "AAAA", "2001:db8::12")
	s.leavesTo("_http._tcp.cart", "SRV", "a:8080", "2001-db8--12:8080")
	s.glue("_http._tcp.cart", "192.0.2.11", "2001:db8::12")
	s.comesTo("a.cart", "A", "192.0.2.11")
	s.comesTo("a.cart", "AAAA", "2001:db8::11")
	s.comesTo("192-0-2-12.cart", "A", "192.0.2.12")

	s.stop("192.0.2.11")
	s.leavesTo("_http._tcp.cart", "SRV", "2001-db8--12:8080")
	s.serve("192.0.2.11", "192.0.2.12", "2001:db8::11")
	s.leavesTo("cart", "A", "192.0.2.11", "192.0.2.12")
	s.leavesTo("_http._tcp.cart", "SRV", "a:8080", "192-0-2-12:8080", "2001-db8--12:8080")

	s.apply(slice("cart", "cart-4", "192.0.2.11 a", "(192.0.2.12)", "192.0.2.13"))
	s.comesTo("cart", "A", "192.0.2.11", "192.0.2.13")
}

// An SRV record leaves with the port that it names, and no other record does.
func TestNamedPort(t *testing.T) {
	s := newScene(t)
	s.serve("192.0.2.11", "192.0.2.12", "192.0.2.11:9090", "192.0.2.12:9090")
	s.apply(headless("cart"), slice("cart", "cart-4", "192.0.2.11", "192.0.2.12"))
	s.start("}\n    multivalue _admin._tcp.cart.NS.svc.cluster.local {\n check tcp://\n types SRV\n within 192.0.2.0/24\n " + pace)
	s.comesTo("_admin._tcp.cart", "SRV", "192-0-2-11:9090", "192-0-2-12:9090")
	s.stop("192.0.2.12:9090")
	s.leavesTo("_admin._tcp.cart", "SRV", "192-0-2-11:9090")
	s.comesTo("_http._tcp.cart", "SRV", "192-0-2-11:8080", "192-0-2-12:8080")
	s.comesTo("cart", "A", "192.0.2.11", "192.0.2.12")
	s.serve("192.0.2.12:9090")
	s.leavesTo("_admin._tcp.cart", "SRV", "192-0-2-11:9090", "192-0-2-12:9090")
}

// glue waits until these addresses are in the additional section.
func (s *scene) glue(name string, want ...string) {
	s.Helper()
	var got []string
	s.eventually(patience, func() bool {
		got = data(s.ask(name, "SRV").Extra)
		slices.Sort(got)
		return slices.Equal(got, want)
	}, func() string { return "the additional section has " + strings.Join(got, " ") })
}
