//go:build linux

package node

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// local is the address of the CoreDNS on each node. The init container that gives it to the node is not in these tests: its image comes
// from a registry.
const local = "169.254.20.10"

// fleetOverlay is what a user would write for three replicas and a CoreDNS on each node, beside the DNS of the cluster.
const fleetOverlay = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [MANIFESTS/nodelocal]
images: [{name: registry.example.org/coredns-multivalue, newName: test.invalid/coredns, newTag: "1"}]
patches:
- patch: |
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: coredns, namespace: multivalue}
    spec: {replicas: 3, template: {spec: {containers: [{name: coredns, readinessProbe: {periodSeconds: 1}}]}}}
- target: {kind: DaemonSet, name: coredns-local}
  patch: |
    - {op: remove, path: /spec/template/spec/initContainers}
`

// memberDNS is a fleet on the node.
type memberDNS struct {
	*scene
	members []string // where they answer: the replicas, and the one on the node
}

// startFleet applies the overlay, with the networks of this cluster and our pace, and without dry_run.
func startFleet(s *scene) *memberDNS {
	s.Helper()
	if err := writeKustomization("fleet", fleetOverlay+s.config("base")+s.config("nodelocal")); err != nil {
		s.Fatal(err)
	}
	s.ip("addr", "replace", local+"/32", "dev", "lo")
	s.Cleanup(func() {
		s.kubectl("delete", "-k", file("fleet"), "--timeout=90s")
		s.ip("addr", "del", local+"/32", "dev", "lo")
	})
	key := make([]byte, 32)
	rand.Read(key)
	s.kubectl("create", "namespace", "multivalue")
	s.kubectl("-n", "multivalue", "create", "secret", "generic", "coredns-fleet", "--from-literal=key="+base64.StdEncoding.EncodeToString(key))
	s.kubectl("apply", "-k", file("fleet"))
	m := &memberDNS{scene: s}
	m.rolledOut()
	return m
}

// config is a patch: a ConfigMap of the manifests with the networks of this cluster and our pace, and without dry_run.
func (s *scene) config(name string) string {
	s.Helper()
	return "- patch: |\n" + indent(s.manifest(name+"/config.yaml", "            dry_run\n", "", "within 10.244.0.0/16 fd00:10:244::/56",
		"|\n    within 203.0.113.0/24 2001:db8:2::/64\n    "+strings.ReplaceAll(pace, "        ", "    "),
		"10.96.0.10", "198.51.100.10", "ttl 30", "ttl 5", "cache 30", "cache 5"), "    ")
}

func (s *scene) ip(args ...string) {
	s.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		s.Fatalf("ip %q: %v: %s", args, err, out)
	}
}

// rolledOut waits until all members run.
func (m *memberDNS) rolledOut() {
	m.Helper()
	m.kubectl("-n", "multivalue", "rollout", "status", "deployment/coredns", "--timeout=120s")
	m.kubectl("-n", "multivalue", "rollout", "status", "daemonset/coredns-local", "--timeout=120s")
	m.members = []string{local}
	for _, p := range m.pods("multivalue", "app=multivalue-coredns") {
		m.members = append(m.members, p.addresses[0])
	}
}

// ask asks one member for the Service of the test.
func (m *memberDNS) ask(member string) ([]string, error) {
	client := dns.Client{Timeout: 5 * time.Second}
	reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(m.service+".shop.svc.cluster.local.", dns.TypeA), net.JoinHostPort(member, "53"))
	if err != nil {
		return nil, err
	}
	var all []string
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok {
			all = append(all, a.A.String())
		}
	}
	slices.Sort(all)
	return all, nil
}

// serve waits until all members have exactly these addresses.
func (m *memberDNS) serve(want ...string) {
	m.Helper()
	slices.Sort(want)
	for _, member := range m.members {
		var got []string
		var err error
		m.eventually(func() bool { got, err = m.ask(member); return slices.Equal(got, want) },
			func() string { return fmt.Sprintf("%s has %s (%v), want %s", member, got, err, want) })
	}
}

// probes is how often members have asked a Pod: the others that do are the two of the cluster's own DNS.
func (m *memberDNS) probes(p pod) (n int) {
	m.Helper()
	for line := range strings.Lines(m.page(p, ":8080/probes")) {
		host, count := "", 0
		_, _ = fmt.Sscan(line, &host, &count)
		if slices.Contains(m.members[1:], host) || host == "192.0.2.1" || host == "203.0.113.1" { // the last two are the node
			n += count
		}
	}
	return n
}

// probed waits until a Pod is asked about that many times an interval, which is a second.
func (m *memberDNS) probed(p pod, times float64) {
	m.Helper()
	var rate float64
	m.eventually(func() bool {
		before, began := m.probes(p), time.Now()
		for time.Since(began) < 4*time.Second {
			for _, member := range m.members {
				_, _ = m.ask(member)
			}
			time.Sleep(200 * time.Millisecond)
		}
		rate = float64(m.probes(p)-before) / time.Since(began).Seconds()
		return rate > times-0.75 && rate < times+0.75
	}, func() string {
		return fmt.Sprintf("%s is probed %.2f times an interval, want %.0f", p.name, rate, times)
	})
}

// Three replicas and a CoreDNS on the node, as the manifests have them, find each other, and three of them probe each Pod. A Pod that
// hangs is out of the answers of all four, and stays out while the replicas are replaced (B82, B104, B110).
func TestFleetOnTheNode(t *testing.T) {
	s := newScene(t)
	pods := s.backends(2)
	m := startFleet(s)
	m.serve(pods[0].addresses[0], pods[1].addresses[0])
	m.probed(pods[0], 3)

	s.hangs(pods[1])
	defer s.goesOn(pods[1])
	m.serve(pods[0].addresses[0])
	m.showsDown(pods[1], s.docs(), "multivalue", "daemonset/coredns-local", "9255")
	before := m.members
	s.kubectl("-n", "multivalue", "rollout", "restart", "deployment/coredns")
	m.eventually(func() bool { // the one on the node stays, and loses no verdict
		if got, err := m.ask(local); err != nil || !slices.Equal(got, []string{pods[0].addresses[0]}) {
			t.Fatalf("%s has %s, %v while the replicas are replaced", local, got, err)
		}
		_, waits := kubectl("", "-n", "multivalue", "rollout", "status", "deployment/coredns", "--timeout=1s")
		return waits == nil
	}, func() string { return "the replicas are not replaced" })
	m.rolledOut()
	if slices.Equal(m.members, before) {
		t.Error("no replica was replaced")
	}
	m.serve(pods[0].addresses[0])
	m.probed(pods[0], 3)
}
