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

// Our manifests make a cluster's DNS: Pods find each other, the API and the world outside by their own resolv.conf, through
// the Service's address, over both families. CoreDNS is nobody, with one capability, on a file system that it cannot write
// to, and within its limits, and may read what it needs and nothing else (B82).
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

// may wants the API to allow CoreDNS something, or not to.
func (s *scene) may(verb, what, want string) {
	s.Helper()
	out, _ := kubectl("", "auth", "can-i", verb, what, "--all-namespaces", "--as=system:serviceaccount:kube-system:coredns")
	if strings.TrimSpace(out) != want {
		s.Errorf("CoreDNS may %s %s: %q, want %s", verb, what, out, want)
	}
}

// isConfined wants a process to be as the manifests say.
func (s *scene) isConfined(pid int) {
	s.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		s.Fatal(err)
	}
	for _, line := range []string{"Uid:\t65532\t65532\t65532\t65532", "Gid:\t65532\t65532\t65532\t65532", "NoNewPrivs:\t1", "Seccomp:\t2",
		"CapEff:\t0000000000000400", "CapBnd:\t0000000000000400"} { // cap_net_bind_service alone
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
		s.Errorf("the root can be written to: %s", root[:4])
	}
	groups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	_, group, _ := strings.Cut(string(groups), ":memory:")
	group, _, _ = strings.Cut(group, "\n")
	limit, err := os.ReadFile(controllers + "/memory" + group + "/memory.limit_in_bytes")
	if strings.TrimSpace(string(limit)) != fmt.Sprint(256<<20) {
		s.Errorf("the limit of memory is %q, %v", limit, err)
	}
}

// A program that hangs goes on accepting connections, and Kubernetes, which was not told to ask it, goes on calling it
// ready. It leaves the answers within the bound, over both families, and comes back when it answers again. The log of the
// Pods, as kubectl shows it, says so (B83).
func TestHangingPod(t *testing.T) {
	s := newScene(t)
	pods := s.backends(3)
	s.judged()

	s.hangs(pods[0])
	took := s.comesTo(s.service, addresses(pods[1:]...)...)
	t.Logf("a Pod that hangs is out of the answers after %s; the manual promises %s", took.Round(100*time.Millisecond), bound)
	if took > soon {
		t.Errorf("it took %s", took)
	}
	ready := s.kubectl("-n", namespace, "get", "pod", pods[0].name, `-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
	if ready != "True" {
		t.Errorf("Kubernetes has noticed: Ready is %s", ready)
	}
	s.says(pods[0].addresses[0] + ":8080 is down after 3 failures of http://:8080/healthz")

	s.goesOn(pods[0])
	s.comesTo(s.service, addresses(pods...)...)
	s.says(pods[0].addresses[0] + ":8080 is up after 2 successes of http://:8080/healthz")
}

// A Pod that dies is replaced, and the answers follow: the new address is there at once, unchecked as yet, and the old
// one is gone.
func TestDeletedPod(t *testing.T) {
	s := newScene(t)
	pods := s.backends(2)
	s.kubectl("-n", namespace, "delete", "pod", pods[0].name, "--wait=false")
	s.eventually(func() bool {
		now := s.members()
		return len(now) == 2 && !slices.ContainsFunc(now, func(p pod) bool { return p.name == pods[0].name || len(p.addresses) < 2 })
	}, func() string { return "nothing comes in its place" })
	s.comesTo(s.service, addresses(s.members()...)...)
}

// judged waits until each CoreDNS has probed the Pods that its Service has, and knows none that is unknown.
func (s *scene) judged() {
	s.Helper()
	page := ""
	for range 20 { // which CoreDNS gets a query is chance, for each family apart, and each has to learn both
		s.page(s.client(), ":8080/lookup?name="+s.service)
	}
	s.eventually(func() bool {
		for _, p := range s.pods("kube-system", "app=multivalue-coredns") {
			s.page(s.client(), ":8080/lookup?name="+s.service) // by chance this or the other
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
