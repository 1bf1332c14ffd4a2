//go:build linux

package node

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// besideOverlay is what a user would write for a CoreDNS beside that of the cluster. The kubelet probes readiness every
// second, so that a rollout takes seconds.
const besideOverlay = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [MANIFESTS/WHICH]
images: [{name: registry.example.org/coredns-multivalue, newName: test.invalid/coredns, newTag: "TAG"}]
patches:
- patch: |
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: coredns, namespace: multivalue}
    spec: {template: {spec: {containers: [{name: coredns, readinessProbe: {periodSeconds: 1}}]}}}
`

// applyDirectory installs the manifests in a directory.
func (w *way) applyDirectory(name string) {
	w.Helper()
	w.kubectl("apply", "-k", file(name))
	w.kubectl("-n", w.namespace, "rollout", "status", "deployment/"+w.deployment, "--timeout=120s")
}

// besides installs one of the overlays with a Service of its own, and waits for these answers. The end of the test deletes
// it.
func (s *scene) besides(which string, want ...string) *way {
	s.Helper()
	for _, tag := range []string{"1", "2"} {
		if err := writeKustomization(which+tag, strings.NewReplacer("WHICH", which, "TAG", tag).Replace(besideOverlay)+s.config("base")); err != nil {
			s.Fatal(err)
		}
	}
	w := &way{scene: s, namespace: "multivalue", deployment: "coredns", selector: "app=multivalue-coredns"}
	s.Cleanup(func() { s.kubectl("delete", "-k", file(which+"1"), "--timeout=90s") })
	began := time.Now()
	w.applyDirectory(which + "1")
	s.server = s.kubectl("-n", "multivalue", "get", "service", "coredns", "-o=jsonpath={.spec.clusterIP}")
	w.upgrade = func() { w.applyDirectory(which + "2") }
	w.rollback, w.notes = w.undo, s.docs
	return w.installed(began, want...)
}

// undo is how a rollout is undone without Helm.
func (w *way) undo() {
	w.kubectl("-n", w.namespace, "rollout", "undo", "deployment/"+w.deployment)
}

func besideByKustomize(s *scene) *way { return s.besides("base", addresses(s.members()...)...) }

// withoutDNS removes the DNS of the cluster until the end of the test.
func (s *scene) withoutDNS() {
	s.Helper()
	s.Cleanup(func() {
		s.kubectl("apply", "-k", file("overlay1"))
		s.rolledOut()
		s.comesTo("kubernetes.default", "198.51.100.1")
	})
	s.kubectl("delete", "-k", file("overlay1"), "--timeout=90s")
}

func clusterDNSByKustomize(s *scene) *way {
	s.withoutDNS()
	w := &way{scene: s, namespace: "kube-system", deployment: "coredns", selector: "app=multivalue-coredns"}
	began := time.Now()
	w.applyDirectory("overlay1")
	w.upgrade = func() { w.applyDirectory("overlay2") }
	w.rollback, w.notes = w.undo, s.docs
	return w.installed(began, addresses(s.members()...)...)
}

const existingOverlay = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [MANIFESTS/existing]
images: [{name: registry.example.org/coredns-multivalue, newName: test.invalid/coredns, newTag: "TAG"}]
`

// existingByKustomize changes the DNS that kubeadm made, as the manifests describe: the image, then the Corefile. The way
// back is the Corefile and then the image.
func existingByKustomize(s *scene) *way {
	s.kubeadm()
	s.addsAStanza()
	w := &way{scene: s, namespace: "kube-system", deployment: "coredns", selector: "k8s-app=kube-dns"}
	for _, tag := range []string{"1", "2"} {
		if err := writeKustomization("existing"+tag, strings.ReplaceAll(existingOverlay, "TAG", tag)); err != nil {
			s.Fatal(err)
		}
	}
	image := func(tag string) {
		s.kubectl("apply", "--server-side", "--force-conflicts", "-k", file("existing"+tag))
		s.rolledOut()
	}
	before, old := s.kubectl("-n", "kube-system", "get", "configmap", "coredns", "-o=jsonpath={.data.Corefile}"), w.pods("kube-system", w.selector)
	began := time.Now()
	image("1")
	s.eventually(func() bool { return s.gone("kube-system", old) }, func() string { return "the old Pods do not end" })
	s.applyOnServer(s.manifest("existing/config.yaml", "            dry_run\n", "            "+strings.ReplaceAll(pace, "        ", "            ")+"\n",
		"10.244.0.0/16 fd00:10:244::/56", "203.0.113.0/24 2001:db8:2::/64", " reload\n", " reload 2s 1s\n", "ttl 30", "ttl 5"))
	w.reloaded(1)
	s.Cleanup(func() {
		s.applyOnServer(configMap("coredns", before))
		w.reloaded(1)
		s.kubectl("-n", "kube-system", "rollout", "undo", "deployment/coredns", "--to-revision=1")
		s.rolledOut()
		w.isOfKubeadm()
	})
	w.upgrade = func() { image("2") }
	w.rollback, w.notes = w.undo, s.docs
	return w.installed(began, addresses(s.members()...)...)
}

// isOfKubeadm requires that the DNS of the cluster is the one that kubeadm made, and answers.
func (w *way) isOfKubeadm() {
	w.Helper()
	if got := w.kubectl("-n", "kube-system", "get", "deployment", "coredns", "-o=jsonpath={.spec.template.spec.containers[*].image}"); got != plain {
		w.Errorf("on the way back the image is %s", got)
	}
	w.comesTo(w.service, addresses(w.members()...)...)
}

// release is the name of the chart where it is installed.
const release = "multivalue"

// printed is what Helm printed after the last step.
func (w *way) printed() string {
	out, err := w.helm("get", "notes", release, "-n", w.namespace)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// helm runs Helm as a user would.
func (s *scene) helm(args ...string) (string, error) {
	out, err := exec.Command(os.Getenv("MULTIVALUE_KUBE_HELM"), args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("helm %q: %w: %s", args, err, out)
	}
	return string(out), err
}

func (s *scene) mustHelm(args ...string) {
	s.Helper()
	if _, err := s.helm(args...); err != nil {
		s.Fatal(err)
	}
}

// chart installs the chart into a namespace, or upgrades it, with flags after those of this cluster.
func (s *scene) chart(namespace, tag string, flags ...string) (string, error) {
	return s.helm(append([]string{"upgrade", "--install", release, "../../../deploy/helm/multivalue", "-n", namespace, "--create-namespace",
		"--wait", "--timeout", "120s", "--set", "image.repository=test.invalid/coredns", "--set-string", "image.tag=" + tag,
		"--set", "stanza.zones={shop.svc.cluster.local}", "--set", "stanza.checks={http://:8080/healthz}",
		"--set", "stanza.within={203.0.113.0/24,2001:db8:2::/64}", "--set", "stanza.dryRun=false", "--set", "status.enabled=true",
		"--set-string", lines}, flags...)...)
}

// lines are more lines of the stanza.
var lines = "stanza.lines=types A AAAA SRV\nlimit off\n" + strings.ReplaceAll(pace, "        ", "")

// byChart installs the chart, in a mode that makes a Deployment. The end of the test uninstalls it.
func (s *scene) byChart(namespace string, flags ...string) *way {
	s.Helper()
	w := &way{scene: s, namespace: namespace, deployment: release, selector: "app.kubernetes.io/instance=" + release}
	s.Cleanup(func() { s.mustHelm("uninstall", release, "-n", namespace, "--wait") })
	tagged := func(tag string) {
		if _, err := s.chart(namespace, tag, flags...); err != nil {
			s.Fatal(err)
		}
	}
	began := time.Now()
	tagged("1")
	w.upgrade = func() { tagged("2") }
	w.rollback = func() { s.mustHelm("rollback", release, "1", "-n", namespace, "--wait") }
	w.notes = w.printed
	s.server = s.kubectl("-n", namespace, "get", "service", "-l", "app.kubernetes.io/component=dns", "-o=jsonpath={.items[*].spec.clusterIP}")
	return w.installed(began, addresses(s.members()...)...)
}

// besideByChart installs the chart into a namespace where Pod Security is strictest from the upgrade on, and tries an
// upgrade with a value that is refused after that. Its stanza watches the Service.
func besideByChart(s *scene) *way {
	s.Cleanup(func() { s.kubectl("delete", "namespace", "chart", "--timeout=90s") })
	w := s.byChart("chart", "--set-string", lines+"\nwatch "+s.service+".shop.svc.cluster.local")
	w.watches = true
	upgrade := w.upgrade
	w.upgrade = func() {
		s.kubectl("label", "namespace", "chart", "pod-security.kubernetes.io/enforce=restricted")
		upgrade()
		if _, err := s.chart("chart", "1", "--set", "replicas=0"); err == nil || !strings.Contains(err.Error(), "replicas") {
			s.Errorf("a value that cannot be meant: %v", err)
		}
	}
	return w
}

func clusterDNSByChart(s *scene) *way {
	s.withoutDNS()
	return s.byChart("kube-system", "--set", "mode=cluster-dns", "--set", "service.clusterIP=198.51.100.10")
}

// existingByChart changes the DNS that kubeadm made, in the steps of the chart, and all the way back at the end.
func existingByChart(s *scene) *way {
	s.kubeadm()
	w := &way{scene: s, namespace: "kube-system", deployment: "coredns", selector: "k8s-app=kube-dns"}
	step := func(tag, name string) {
		s.Helper()
		if _, err := s.chart("kube-system", tag, "--take-ownership", "--force-conflicts", "--set", "mode=existing", "--set", "existing.step="+name); err != nil {
			s.Fatal(err)
		}
	}
	old, began := w.pods("kube-system", w.selector), time.Now()
	step("1", "image")
	s.eventually(func() bool { return s.gone("kube-system", old) }, func() string { return "the old Pods do not end" })
	step("1", "corefile")
	s.Cleanup(func() {
		step("1", "image")
		w.reloaded(1)
		step("1", "before")
		s.mustHelm("uninstall", release, "-n", "kube-system", "--wait")
		s.kubectl("-n", "kube-system", "delete", "configmap", release+"-before")
		w.isOfKubeadm()
	})
	w.reloaded(1)
	w.upgrade = func() { step("2", "corefile") }
	w.rollback = func() { s.mustHelm("rollback", release, "2", "-n", "kube-system", "--force-conflicts", "--wait") }
	w.notes = w.printed
	return w.installed(began, addresses(s.members()...)...)
}
