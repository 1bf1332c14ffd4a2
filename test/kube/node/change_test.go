//go:build linux

package node

import (
	"fmt"
	"strings"
	"testing"
)

// When a ConfigMap is edited, the kubelet swaps a link and CoreDNS reloads: the new limit applies, and a Pod that
// hangs stays out of the answers. A Corefile with a mistake changes nothing, and the log reports the mistake. No
// query is lost (B69, B70).
func TestConfigMapEdit(t *testing.T) {
	s := newScene(t)
	pods := s.backends(3)
	s.judged()
	s.hangs(pods[0])
	s.says(pods[0].addresses[0] + ":8080 is down")
	s.says(pods[0].addresses[1] + "]:8080 is down")
	s.comesTo(s.service, addresses(pods[1:]...)...)
	s.load()

	s.configure(strings.Replace(original, "limit off", "limit 1", 1))
	s.reloaded(1)
	both := addresses(pods[1:]...)
	s.eventually(func() bool {
		got := strings.Fields(s.lookup(s.service))
		for _, address := range got {
			if !strings.Contains(strings.Join(both, " ")+" ", address+" ") {
				t.Fatalf("%s is not among %s", address, both)
			}
		}
		return len(got) == 2 // one of each family
	}, func() string { return "the new limit is not in effect" })

	s.apply(configMap("coredns", strings.Replace(original, "limit off", "limit nonsense", 1)))
	s.says(`invalid limit "nonsense": use a number from 1 to 65535, or off`)
	s.apply(configMap("coredns", original))
	s.comesTo(s.service, both...)
	if it, was := s.loaded()[pods[0].addresses[0]]; was {
		t.Errorf("%s, which hangs, was in %d answers", pods[0].addresses[0], it.count)
	}
}

// reloaded waits until each CoreDNS of the cluster's DNS has logged that many reloads.
func (s *scene) reloaded(times int) {
	s.Helper()
	w := &way{scene: s, namespace: "kube-system", selector: "app=multivalue-coredns"}
	w.reloaded(times)
}

func (w *way) reloaded(times int) {
	w.Helper()
	for _, p := range w.pods(w.namespace, w.selector) {
		w.eventually(func() bool {
			return strings.Count(w.kubectl("-n", w.namespace, "logs", p.name), "Reloading complete") >= times
		}, func() string { return fmt.Sprintf("%s does not reload", p.name) })
	}
}

// A Deployment replaces all CoreDNS, as for a new image, while Pods ask. The new ones get queries when they are
// ready, and the old ones answer until they get no more queries. No query is lost.
func TestRollingUpdate(t *testing.T) {
	s := newScene(t)
	s.backends(2)
	old := s.pods("kube-system", "app=multivalue-coredns")
	s.load()
	s.kubectl("-n", "kube-system", "rollout", "restart", "deployment/coredns")
	s.rolledOut()
	s.eventually(func() bool { return s.gone("kube-system", old) }, func() string { return "the old Pods do not end" })
	s.loaded()
	s.comesTo(s.service, addresses(s.members()...)...)
}

// gone reports whether none of these Pods is left.
func (s *scene) gone(namespace string, pods []pod) bool {
	s.Helper()
	all := s.kubectl("-n", namespace, "get", "pods", "-o=name")
	for _, p := range pods {
		if strings.Contains(all, p.name) {
			return false
		}
	}
	return true
}

func (s *scene) rolledOut() {
	s.Helper()
	s.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")
}

// If a Corefile with a mistake is rolled out in a new ConfigMap, the rollout stops at the first new Pod, which does
// not start, and the old ones keep serving. One command undoes it. No query is lost.
func TestBadRollout(t *testing.T) {
	s := newScene(t)
	s.backends(2)
	old := s.pods("kube-system", "app=multivalue-coredns")
	s.load()
	s.apply(configMap("mistaken", strings.Replace(original, "limit off", "limit nonsense", 1)))
	s.kubectl("-n", "kube-system", "patch", "deployment", "coredns", "-p",
		`{"spec": {"template": {"spec": {"volumes": [{"name": "config", "configMap": {"name": "mistaken"}}]}}}}`)
	t.Cleanup(func() { s.kubectl("-n", "kube-system", "delete", "configmap", "mistaken") })
	const failed = `-o=jsonpath={.items[*].status.containerStatuses[?(@.ready==false)].lastState.terminated.exitCode}`
	s.eventually(func() bool {
		return s.kubectl("-n", "kube-system", "get", "pods", "-l", "app=multivalue-coredns", failed) == "1"
	}, func() string { return "no Pod fails to start" })
	if now := s.kubectl("-n", "kube-system", "get", "deployment", "coredns", "-o=jsonpath={.status.readyReplicas} {.status.updatedReplicas}"); now != "2 1" {
		t.Errorf("ready and updated Pods: %s, want the two old ones and a new one that is not ready", now)
	}
	s.kubectl("-n", "kube-system", "rollout", "undo", "deployment/coredns")
	s.rolledOut()
	s.loaded()
	s.eventually(func() bool { return fmt.Sprint(s.pods("kube-system", "app=multivalue-coredns")) == fmt.Sprint(old) },
		func() string { return "the Pods are not the ones from before" })
}

// When nodes are drained, the budget lets one of two CoreDNS go at a time: the other must stay until there is a new
// one. No query is lost.
func TestEviction(t *testing.T) {
	s := newScene(t)
	s.backends(2)
	old := s.pods("kube-system", "app=multivalue-coredns")
	s.load()
	refused := make(chan error, len(old))
	for _, p := range old {
		go func() {
			_, err := kubectl(`{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "`+p.name+`", "namespace": "kube-system"}}`,
				"create", "--raw", "/api/v1/namespaces/kube-system/pods/"+p.name+"/eviction", "-f", "-")
			refused <- err
		}()
	}
	first, second := <-refused, <-refused
	if (first == nil) == (second == nil) || !strings.Contains(fmt.Sprint(first, second), "disruption budget") {
		t.Errorf("%v and %v, want one eviction to be refused because of the budget", first, second)
	}
	s.rolledOut()
	s.eventually(func() bool {
		now := s.pods("kube-system", "app=multivalue-coredns")
		return len(now) == 2 && fmt.Sprint(now) != fmt.Sprint(old)
	}, func() string { return "there are not two CoreDNS again" })
	s.loaded()
}
