//go:build linux

package kube

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// nodeIn makes a Node in a zone, with a network of Pods, until the test ends.
func (s *scene) nodeIn(name, zone, pods string) {
	s.Helper()
	s.moveNode(name, zone, pods)
	s.Cleanup(func() { cluster.delete(s, "/api/v1/nodes/"+name) })
}

// moveNode says in which zone a Node is from now on.
func (s *scene) moveNode(name, zone, pods string) {
	s.Helper()
	cluster.apply(s, "", fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata:\n  name: %s\n  labels: {topology.kubernetes.io/zone: %s}\nspec:\n  podCIDR: %s\n  podCIDRs: [%s]", name, zone, pods, pods))
}

// addressOf gives a Node an address of its own.
func (s *scene) addressOf(name, address string) {
	s.Helper()
	cluster.applyStatus(s, "", fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata:\n  name: %s\nstatus:\n  addresses: [{type: InternalIP, address: %s}]", name, address))
}

// zoned is an EndpointSlice whose endpoints have zones: ADDRESS ZONE.
func zoned(service, name string, endpoints ...string) string {
	var addresses []string
	for _, e := range endpoints {
		address, _, _ := strings.Cut(e, " ")
		addresses = append(addresses, address)
	}
	text := slice(service, name, addresses...)
	for _, e := range endpoints {
		address, zone, _ := strings.Cut(e, " ")
		text = strings.Replace(text, fmt.Sprintf("{addresses: [%q],", address), fmt.Sprintf("{addresses: [%q], zone: %s,", address, zone), 1)
	}
	return text
}

// nearest waits until a client has these addresses and no others.
func (s *scene) nearest(client, name string, want ...string) {
	s.Helper()
	var got []string
	s.eventually(max(soon, patience), func() bool {
		reply := s.askBy(question{from: client}, name, "A")
		if got = data(reply.Answer); reply.Rcode != dns.RcodeSuccess {
			got = []string{dns.RcodeToString[reply.Rcode]}
		}
		slices.Sort(got)
		return slices.Equal(got, want)
	}, func() string { return fmt.Sprintf("%s gets %q for %s, want %q", client, got, name, want) })
}

// Clients get the Pods of their own zone: by the network of their Node's Pods, by its address, and by what EndpointSlices say
// of Pods with addresses from elsewhere. It follows Nodes that come, go and change, with the rights for that alone. If no Pod of the zone is fit,
// they get those of others (B98).
func TestNearestZone(t *testing.T) {
	s := newScene(t)
	hosts := []string{"192.0.2.11", "192.0.2.12", "198.18.0.11", "198.18.0.12"}
	s.serve(hosts...)
	s.nodeIn("near", "a", "192.0.2.0/28")
	s.nodeIn("far", "b", "127.2.0.0/16")
	s.nodeIn("home", "a", "127.1.0.0/16")
	s.addressOf("far", "127.3.0.1")
	s.apply(headless("cart"), zoned("cart", "cart-4", "192.0.2.11 a", "192.0.2.12 a", "198.18.0.11 b", "198.18.0.12 b"))
	s.start("select nearest\n topology kubernetes " + s.rights("surveyor", "topology"))
	for _, at := range hosts { // until all are known to be well
		s.eventually(patience, func() bool { s.ask("cart", "A"); return s.asked(at) > 0 }, func() string { return at + " is not probed" })
	}
	s.nearest("127.1.0.1", "cart", "192.0.2.11", "192.0.2.12")
	s.nearest("127.2.0.1", "cart", "198.18.0.11", "198.18.0.12")
	s.nearest("127.3.0.1", "cart", "198.18.0.11", "198.18.0.12")

	s.stop("192.0.2.11")
	s.stop("192.0.2.12")
	s.nearest("127.1.0.1", "cart", "198.18.0.11", "198.18.0.12")
	s.serve("192.0.2.11", "192.0.2.12")
	s.nearest("127.1.0.1", "cart", "192.0.2.11", "192.0.2.12")

	cluster.delete(t, "/api/v1/nodes/home") // its Pods are in no zone
	s.nearest("127.1.0.1", "cart", hosts...)
	s.moveNode("home", "a", "127.1.0.0/16")
	s.nearest("127.1.0.1", "cart", "192.0.2.11", "192.0.2.12")
	s.moveNode("home", "b", "127.1.0.0/16") // its Pods are in the other zone now
	s.nearest("127.1.0.1", "cart", "198.18.0.11", "198.18.0.12")
	if s.output.count("topology: cannot") > 0 {
		t.Error("the log has a problem")
	}
}

// While the API is gone, the zones stay in force. When it is back, they are followed again, also by the next Corefile.
func TestNearestZoneOutage(t *testing.T) {
	s := newScene(t)
	s.serve("192.0.2.11", "198.18.0.11")
	s.nodeIn("near", "a", "192.0.2.0/28")
	s.nodeIn("home", "a", "127.1.0.0/16")
	s.nodeIn("far", "b", "198.18.0.0/24")
	s.apply(headless("cart"), slice("cart", "cart-4", "192.0.2.11", "198.18.0.11"))
	more := "select nearest\n topology kubernetes " + s.rights("surveyor", "topology")
	s.start(more)
	s.nearest("127.1.0.1", "cart", "192.0.2.11")

	cluster.server.kill()
	t.Cleanup(func() {
		if cluster.server.over() && t.Failed() { // the next test needs it
			_ = cluster.start()
		}
	})
	for _, kind := range []string{"Nodes", "EndpointSlices"} {
		s.eventually(patience, func() bool { return s.output.count("topology: cannot watch "+kind) == 1 }, func() string { return "the log does not report the outage" })
	}
	s.nearest("127.1.0.1", "cart", "192.0.2.11")
	if err := cluster.start(); err != nil {
		t.Fatal(err)
	}
	s.reload(more + "\n limit 4")
	s.nearest("127.1.0.1", "cart", "192.0.2.11")
	s.moveNode("home", "b", "127.1.0.0/16")
	s.eventually(4*patience, func() bool {
		return slices.Equal(data(s.askBy(question{from: "127.1.0.1"}, "cart", "A").Answer), []string{"198.18.0.11"})
	}, func() string { return "the zones are no longer followed" })
}

// The account has exactly the rights that zones need. Without those for EndpointSlices, what Nodes say is used alone.
func TestNearestZoneRights(t *testing.T) {
	s := newScene(t)
	s.rights("surveyor", "topology")
	var role struct{ Rules json.RawMessage }
	cluster.get(t, "/apis/rbac.authorization.k8s.io/v1/clusterroles/surveyor", &role)
	const want = `[{"verbs":["list","watch"],"apiGroups":[""],"resources":["nodes"]},{"verbs":["list","watch"],"apiGroups":["discovery.k8s.io"],"resources":["endpointslices"]}]`
	if got := string(role.Rules); got != want {
		t.Errorf("the rights are %s\nwant %s", got, want)
	}
	s.serve("192.0.2.11", "198.18.0.11")
	s.nodeIn("near", "a", "192.0.2.0/28")
	s.nodeIn("home", "a", "127.1.0.0/16")
	s.apply(headless("cart"), slice("cart", "cart-4", "192.0.2.11", "198.18.0.11"))
	s.start("select nearest\n topology kubernetes " + s.rights("surveyor", "topology", "nodes"))
	s.nearest("127.1.0.1", "cart", "192.0.2.11")
	if s.output.count("topology: cannot watch EndpointSlices.*forbidden") != 1 {
		t.Error("the log does not say which right is missing")
	}
}
