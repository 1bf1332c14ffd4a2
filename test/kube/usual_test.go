//go:build linux

package kube

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// usual is the Corefile that clusters have, with the plugin in it.
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

// client is a Pod, by whose address autopath finds the search path.
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

// Beside autopath, cache, loadbalance, ready and reload everything is as it should be: the dead are in no answer, be it out
// of the cache or at the end of a search path; the order changes; a reload loses no query and forgets no verdict.
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
		t.Error("no answer came out of the cache")
	}
	s.searches("www.example.org", "192.0.2.21", "192.0.2.23", "198.18.0.9")
	s.shuffles("cart")
	s.reloads()
}

// searches wants a name that a client in the cluster has put its search domain behind to lead to the addresses.
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
		s.Errorf("a client that is no Pod finds %q there", got)
	}
}

// shuffles wants the addresses to change places.
func (s *scene) shuffles(name string) {
	s.Helper()
	first := make(map[string]bool)
	s.eventually(patience, func() bool {
		first[data(s.ask(name, "A").Answer)[0]] = true
		return len(first) == 2
	}, func() string { return fmt.Sprintf("first is %v all the time", first) })
}

// reloads edits the Corefile while clients ask. One address is dead then.
func (s *scene) reloads() {
	s.Helper()
	l := s.load(2, "cart", func(_ time.Time, data []string) error {
		if slices.Contains(data, "192.0.2.22") {
			return fmt.Errorf("the dead are back: %s", data)
		}
		return nil
	})
	s.configure(usual, "limit 1")
	s.eventually(patience, func() bool { return len(s.data("cart", "A")) == 1 }, func() string { return "the new Corefile does nothing" })
	s.page("127.0.0.1:8181/ready")
	s.configure(usual, "limit 1\n nonsense")
	s.eventually(patience, func() bool { return s.output.count("nonsense") > 0 }, func() string { return "nobody complains" })
	s.configure(usual, "")
	s.comesTo("cart", "A", "192.0.2.21", "192.0.2.23")
	l.ends()
}
