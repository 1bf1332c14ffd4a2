//go:build linux

package kube

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// usual is the usual Corefile of a cluster, with the plugin in it.
const usual = `
. {
    bind 127.0.0.1
    errors
    health 127.0.0.1:8081
    ready 127.0.0.1:8181
    prometheus 127.0.0.1:9153
    autopath @kubernetes
    multivalue cluster.local example.org {
        check http://:8080/healthz
        PACE
        types A AAAA SRV
        within 192.0.2.0/24
        MORE
    }
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig CONFIG
        pods verified
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    forward . 192.0.2.53
    cache 30
    loop
    reload 2s 1s
    loadbalance
}
`

// client is a Pod. autopath finds the search path by its address.
const client = `apiVersion: v1
kind: Pod
metadata:
  name: client
spec: {containers: [{name: it, image: it}]}`

const clientStatus = `apiVersion: v1
kind: Pod
metadata:
  name: client
status: {phase: Running, podIP: 192.0.2.200, podIPs: [{ip: 192.0.2.200}]}`

// With autopath, cache, loadbalance, ready and reload, dead addresses are in no answer, neither from the cache nor at
// the end of a search path. The order of addresses changes, and a reload loses no query and no verdict.
func TestUsualCorefile(t *testing.T) {
	s := newScene(t)
	hosts := []string{"192.0.2.21", "192.0.2.22", "192.0.2.23"}
	s.serve(hosts...)
	s.upstream()
	s.apply(headless("cart"), slice("cart", "cart-4", hosts...), client)
	cluster.applyStatus(s, s.namespace, clientStatus)
	s.run(s.configure(usual, ""))
	s.comesTo("cart", "A", hosts...)
	s.settled("cart", 3, 0)
	s.page("127.0.0.1:8181/ready")
	s.page("127.0.0.1:8081/health")
	s.comesTo("21.2.0.192.in-addr.arpa.", "PTR", s.full("192-0-2-21.cart"))

	hits := s.metric("coredns_cache_hits_total", `type="success"`)
	s.stop("192.0.2.22")
	s.leavesTo("cart", "A", "192.0.2.21", "192.0.2.23")
	if s.metric("coredns_cache_hits_total", `type="success"`) == hits {
		t.Error("no answer came from the cache")
	}
	s.searches("www.example.org", "192.0.2.21", "192.0.2.23", "198.18.0.9")
	s.shuffles("cart")
	s.reloads()
}

// searches checks that a name with the search domain of a client in the cluster leads to the addresses.
func (s *scene) searches(name string, want ...string) {
	s.Helper()
	var got []string
	s.eventually(soon, func() bool {
		reply := s.askBy(question{from: "192.0.2.200"}, name, "A")
		got = data(reply.Answer)
		slices.Sort(got)
		return slices.Equal(got, append(slices.Clone(want), name+"."))
	}, func() string { return fmt.Sprintf("at the end of the search path is %q", got) })
	if got := s.data(name, "A"); !slices.Equal(got, []string{"NXDOMAIN, truncated false"}) {
		s.Errorf("a client that is not a Pod finds %q there", got)
	}
}

// shuffles checks that the addresses change their order.
func (s *scene) shuffles(name string) {
	s.Helper()
	first := make(map[string]bool)
	s.eventually(patience, func() bool {
		first[data(s.ask(name, "A").Answer)[0]] = true
		return len(first) == 2
	}, func() string { return fmt.Sprintf("the first address is always %v", first) })
}

// reloads edits the Corefile while clients ask. One address is dead at that time.
func (s *scene) reloads() {
	s.Helper()
	l := s.load(2, "cart", func(_ time.Time, data []string) error {
		if slices.Contains(data, "192.0.2.22") {
			return fmt.Errorf("dead addresses are back: %s", data)
		}
		return nil
	})
	s.configure(usual, "limit 1")
	s.eventually(patience, func() bool { return len(s.data("cart", "A")) == 1 }, func() string { return "the new Corefile has no effect" })
	s.page("127.0.0.1:8181/ready")
	s.configure(usual, "limit 1\n nonsense")
	s.eventually(patience, func() bool { return s.output.count("nonsense") > 0 }, func() string { return "the log does not report the mistake" })
	s.configure(usual, "")
	s.comesTo("cart", "A", "192.0.2.21", "192.0.2.23")
	l.ends()
}
