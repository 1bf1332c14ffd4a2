//go:build linux

package node

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// Our manifests make a cluster's DNS: Pods find each other, the API and names outside the cluster by their own
// resolv.conf, through the Service's address, over both families. CoreDNS does not run as root. It has one capability, a read-only
// file system, and only the read rights that it needs, and it stays within its limits (B82).
func TestClusterDNS(t *testing.T) {
	s := newScene(t)
	config := s.page(s.client(), ":8080/resolv.conf")
	for _, line := range []string{"search shop.svc.cluster.local svc.cluster.local cluster.local", "nameserver 198.51.100.10", "options ndots:5"} {
		if !strings.Contains(config, line) {
			t.Errorf("no %q in\n%s", line, config)
		}
	}
	s.backends(2)
	s.comesTo("kubernetes.default", "198.51.100.1")
	s.comesTo("www.example.org", "192.0.2.80")

	pods := s.pods("kube-system", "app=multivalue-coredns")
	if len(pods) != 2 {
		t.Fatalf("%d CoreDNS run, want two", len(pods))
	}
	for _, p := range pods {
		s.isConfined(s.process(p))
	}
	for _, what := range []string{"services", "endpointslices.discovery.k8s.io", "namespaces", "pods"} {
		s.may("list", what, "yes")
		s.may("watch", what, "yes")
	}
	for _, verb := range []string{"get", "list", "create"} {
		s.may(verb, "secrets", "no")
		s.may(verb, "configmaps", "no")
	}
	s.may("delete", "pods", "no")
}

// may checks that the API allows CoreDNS something, or denies it.
func (s *scene) may(verb, what, want string) {
	s.Helper()
	out, _ := kubectl("", "auth", "can-i", verb, what, "--all-namespaces", "--as=system:serviceaccount:kube-system:coredns")
	if strings.TrimSpace(out) != want {
		s.Errorf("CoreDNS may %s %s: %q, want %s", verb, what, out, want)
	}
}

// isConfined checks that a process is confined as the manifests say.
func (s *scene) isConfined(pid int) {
	s.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		s.Fatal(err)
	}
	for _, line := range []string{"Uid:\t65532\t65532\t65532\t65532", "Gid:\t65532\t65532\t65532\t65532", "NoNewPrivs:\t1", "Seccomp:\t2",
		"CapEff:\t0000000000000400", "CapBnd:\t0000000000000400"} { // only cap_net_bind_service
		if !strings.Contains(string(status), line+"\n") {
			s.Errorf("no %q in\n%s", line, status)
		}
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", pid))
	if err != nil {
		s.Fatal(err)
	}
	root := strings.Fields(string(mounts))
	if root[1] != "/" || !slices.Contains(strings.Split(root[3], ","), "ro") {
		s.Errorf("the root file system is writable: %s", root[:4])
	}
	groups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	_, group, _ := strings.Cut(string(groups), ":memory:")
	group, _, _ = strings.Cut(group, "\n")
	limit, err := os.ReadFile(controllers + "/memory" + group + "/memory.limit_in_bytes")
	if strings.TrimSpace(string(limit)) != fmt.Sprint(256<<20) {
		s.Errorf("the memory limit is %q, %v", limit, err)
	}
}

// A program that hangs still accepts connections, and Kubernetes still reports it as ready, because it has no
// readiness probe. The program leaves the answers within the bound, over both families, and comes back when it
// answers again. kubectl shows this in the log of the Pods (B83).
func TestHangingPod(t *testing.T) {
	s := newScene(t)
	pods := s.backends(3)
	s.judged()

	s.hangs(pods[0])
	took := s.comesTo(s.service, addresses(pods[1:]...)...)
	t.Logf("a Pod that hangs is out of the answers after %s; the manual promises %s", took.Round(100*time.Millisecond), bound)
	if took > soon {
		t.Errorf("the Pod left the answers after %s", took)
	}
	ready := s.kubectl("-n", namespace, "get", "pod", pods[0].name, `-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
	if ready != "True" {
		t.Errorf("Kubernetes has detected it too: Ready is %s", ready)
	}
	s.says(pods[0].addresses[0] + ":8080 is down after 3 failures of http://:8080/healthz")

	s.goesOn(pods[0])
	s.comesTo(s.service, addresses(pods...)...)
	s.says(pods[0].addresses[0] + ":8080 is up after 2 successes of http://:8080/healthz")
}

// A Pod that dies is replaced, and the answers follow: the new address is there at once, not yet checked, and the old
// one is gone.
func TestDeletedPod(t *testing.T) {
	s := newScene(t)
	pods := s.backends(2)
	s.kubectl("-n", namespace, "delete", "pod", pods[0].name, "--wait=false")
	s.eventually(func() bool {
		now := s.members()
		return len(now) == 2 && !slices.ContainsFunc(now, func(p pod) bool { return p.name == pods[0].name || len(p.addresses) < 2 })
	}, func() string { return "the Pod is not replaced" })
	s.comesTo(s.service, addresses(s.members()...)...)
}

// judged waits until each CoreDNS has probed the Pods of its Service and has no unknown target.
func (s *scene) judged() {
	s.Helper()
	page := ""
	for range 20 { // which CoreDNS gets a query is random, for each family separately, and each must learn both
		s.lookup(s.service)
	}
	s.eventually(func() bool {
		for _, p := range s.pods("kube-system", "app=multivalue-coredns") {
			s.lookup(s.service) // by a random one of the two
			page = s.page(p, ":9153/metrics")
			if !strings.Contains(page, `coredns_multivalue_targets{state="unknown"} 0`) || strings.Contains(page, `coredns_multivalue_targets{state="up"} 0`) {
				return false
			}
		}
		return true
	}, func() string { return "not all targets are judged:\n" + page })
}

// says waits until the log of each CoreDNS has a text.
func (s *scene) says(text string) {
	s.Helper()
	for _, p := range s.pods("kube-system", "app=multivalue-coredns") {
		s.eventually(func() bool { return strings.Contains(s.kubectl("-n", "kube-system", "logs", p.name), text) },
			func() string { return fmt.Sprintf("the log of %s has no %q", p.name, text) })
	}
}
