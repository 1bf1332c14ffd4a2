//go:build linux

package node

import (
	"fmt"
	"testing"
)

// The overlay for zones keeps a client to the Pods of its zone while one of them is healthy, and follows a Node that
// changes its zone. With one node, the other zone is that of an EndpointSlice (B98).
func TestZonesOnTheNode(t *testing.T) {
	s := newScene(t)
	const label = "topology.kubernetes.io/zone"
	zone := func(name string) { s.kubectl("label", "--overwrite", "node", "node", label+"="+name) }
	t.Cleanup(func() { s.kubectl("label", "node", "node", label+"-") })
	zone("a")
	if s.kubectl("get", "node", "node", "-o=jsonpath={.spec.podCIDRs}") == "" { // which can be set once
		s.kubectl("patch", "node", "node", "-p", `{"spec": {"podCIDR": "203.0.113.0/24", "podCIDRs": ["203.0.113.0/24", "2001:db8:2::/64"]}}`)
	}
	pods := s.deploy(2)
	s.apply(fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: shop}
spec: {clusterIP: None, ports: [{name: http, port: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-1, namespace: shop, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [%[2]q], zone: a}, {addresses: [%[3]q], zone: b}]
`, s.service, pods[0].addresses[0], pods[1].addresses[0]))
	t.Cleanup(func() { s.kubectl("-n", namespace, "delete", "service", s.service) }) // and its EndpointSlice with it
	near, far := pods[0].addresses[0], pods[1].addresses[0]
	w := s.besides("zones", near)

	w.hangs(pods[0])
	defer w.goesOn(pods[0])
	w.comesTo(w.service, far)
	w.goesOn(pods[0])
	w.comesTo(w.service, near)

	zone("b")
	w.comesTo(w.service, far)
	zone("a")
	w.comesTo(w.service, near)
}
