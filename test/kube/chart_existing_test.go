//go:build linux

package kube

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// usualCorefile is what kubeadm writes.
const usualCorefile = `.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
`

const (
	kubeSystem     = "kube-system"
	theDeployment  = "/apis/apps/v1/namespaces/kube-system/deployments/coredns"
	theConfig      = "/api/v1/namespaces/kube-system/configmaps/coredns"
	theOther       = "/api/v1/namespaces/kube-system/configmaps/multivalue-before"
	theImage       = "registry.k8s.io/coredns/coredns:v1.14.2"
	theFleetSecret = "/api/v1/namespaces/kube-system/secrets/multivalue-fleet"
)

// existing is a cluster with the CoreDNS of kubeadm, and a release that changes it.
type existing struct {
	*release
	before object // the spec of the Deployment
}

func newExisting(t *testing.T) *existing {
	t.Helper()
	s := newScene(t)
	e := &existing{release: &release{scene: s, namespace: kubeSystem, flags: []string{"--take-ownership", "--force-conflicts", "--set", "mode=existing"}}}
	cluster.apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: "+kubeSystem)
	config := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: coredns, namespace: kube-system}\ndata:\n  Corefile: |\n    " +
		strings.TrimSpace(strings.ReplaceAll(usualCorefile, "\n", "\n    ")) + "\n"
	e.clear() // of what other tests left
	t.Cleanup(e.clear)
	for path, text := range map[string]string{theDeployment: kubeadm, theConfig: config} {
		if _, err := cluster.do(http.MethodPatch, path+"?fieldManager=kubeadm", text); err != nil {
			t.Fatal(err)
		}
	}
	e.before = read(t, theDeployment)["spec"].(object)
	return e
}

// clear deletes the DNS of the cluster.
func (e *existing) clear() {
	for _, path := range []string{theDeployment, theConfig, theOther, theFleetSecret, "/api/v1/namespaces/kube-system/services/multivalue-fleet"} {
		if read(e, path) != nil {
			cluster.delete(e, path)
		}
	}
}

// rollsOut acts as the controller and the kubelets: all Pods are of this generation, and ready.
func (e *existing) rollsOut() {
	e.Helper()
	generation := at(read(e, theDeployment), "metadata", "generation").(float64)
	cluster.applyStatus(e, "", strings.NewReplacer("GENERATION", string(rune('0'+int(generation)))).Replace(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: coredns
  namespace: kube-system
status: {observedGeneration: GENERATION, replicas: 3, updatedReplicas: 3, readyReplicas: 3, availableReplicas: 3}`))
}

// runs requires the image and the Corefile of the cluster's DNS. The rest of the Deployment stays as it was.
func (e *existing) runs(image string, judged bool) {
	e.Helper()
	now := read(e, theDeployment)["spec"].(object)
	if got := at(now, "template", "spec", "containers", "image"); got != image {
		e.Errorf("the image is %s, want %s", got, image)
	}
	at(now, "template", "spec", "containers").([]any)[0].(object)["image"] = theImage
	if !reflect.DeepEqual(now, e.before) {
		e.Errorf("the Deployment has\n%v, want\n%v", now, e.before)
	}
	corefile := at(read(e, theConfig), "data", "Corefile").(string)
	from, to := strings.Index(corefile, "    multivalue "), strings.Index(corefile, "    kubernetes ")
	if (from >= 0) != judged {
		e.Errorf("the Corefile is\n%s", corefile)
	}
	if judged {
		corefile = corefile[:from] + corefile[to:]
	}
	if strings.TrimSpace(corefile) != strings.TrimSpace(usualCorefile) || !judged && corefile != usualCorefile {
		e.Errorf("what is left of the Corefile is\n%s", corefile)
	}
}

// The CoreDNS that is there gets another image and then another Corefile, and both back in the reverse order. No other order is
// possible, no step changes anything else, and neither a rollback nor an uninstall touches the DNS of the cluster (B82).
func TestChartExisting(t *testing.T) {
	e := newExisting(t)
	image := "registry.example.org/coredns-multivalue:" + chartVersion(t)
	all := []string{theDeployment, theConfig, theOther}
	step := func(name string) string { return "existing.step=" + name }

	e.rollsOut() // all Pods are ready, of before
	flags := e.flags
	e.flags = flags[2:]
	e.refuses("exists and cannot be imported into the current release", all, "beside")
	e.flags = flags[1:]
	e.refuses("exists and cannot be imported into the current release", all, "beside")
	e.flags = append([]string{flags[0]}, flags[2:]...)
	if _, err := e.install("beside"); err == nil || !strings.Contains(err.Error(), `conflict with "kubeadm"`) {
		t.Errorf("without --force-conflicts: %v", err)
	}
	e.runs(theImage, false)
	e.flags = flags
	e.refuses("not all Pods run "+image+" yet", all, "beside", step("corefile"))

	notes := e.mustInstall("beside") // the image
	e.runs(image, false)
	e.refuses("not all Pods run "+image+" yet", all, "beside", step("corefile"))
	e.rollsOut()
	e.follows(notes, "existing.step=corefile")
	e.runs(image, true)
	same(t, "existing", mustHelm(t, "get", "manifest", "multivalue", "-n", kubeSystem))
	e.refuses("at '/replicas': minimum: got 0, want 1", all, "beside", step("corefile"), "replicas=0")
	e.refuses("the Corefile still has multivalue, which the image of before refuses", all, "beside", step("before"))

	e.mustInstall("beside", step("corefile"), "image.tag=next", "stanza.dryRun=false") // a new version needs no step back
	e.runs("registry.example.org/coredns-multivalue:next", true)
	mustHelm(t, "rollback", "multivalue", "2", "-n", kubeSystem, "--force-conflicts") // to the image alone; 1 is the failed one
	e.runs(image, false)
	e.rollsOut()
	e.mustInstall("beside", step("corefile"))
	e.mustInstall("beside", step("corefile"), "image.repository=other.example.org/coredns")
	e.runs("other.example.org/coredns:"+chartVersion(t), true)

	e.mustInstall("beside")
	e.runs(image, false)
	e.mustInstall("beside", step("before"))
	e.runs(theImage, false)
	e.refuses("this release has the mode existing: uninstall it first", all, "beside", "mode=beside")
	mustHelm(t, "uninstall", "multivalue", "-n", kubeSystem)
	e.runs(theImage, false)
}

// An uninstall in the middle leaves the cluster with the DNS that it has, with everything that this needs. A new release goes on from
// there, and still knows the way back.
func TestChartExistingUninstalled(t *testing.T) {
	e := newExisting(t)
	fleet := []string{"fleet.enabled=true", "topology.enabled=true", "annotations.enabled=true"}
	with := func(name string) []string { return append([]string{"existing.step=" + name}, fleet...) }
	e.mustInstall("beside", with("image")...)
	e.rollsOut()
	e.mustInstall("beside", with("corefile")...)
	deployed := read(t, theDeployment)["spec"]
	volumes := at(deployed, "template", "spec", "volumes", "secret")
	if want := any(object{"secretName": "multivalue-fleet", "defaultMode": 288.0, "items": []any{object{"key": "fleet.key", "path": "fleet.key"}}}); !reflect.DeepEqual(volumes, want) {
		t.Errorf("the key of the fleet is at %v, want %v", volumes, want)
	}
	e.has("/api/v1/namespaces/kube-system/services/multivalue-fleet", object{"k8s-app": "kube-dns"}, "spec", "selector")
	e.has("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/multivalue-kube-system", "coredns", "subjects", "name")
	config, key := read(t, theConfig)["data"], at(read(t, theFleetSecret), "data")

	// As if another tool had replaced the objects: they do not say keep any more.
	for _, path := range []string{theDeployment, theConfig} {
		cluster.merge(t, path, `{"metadata": {"annotations": null, "labels": null}}`)
	}
	e.mustInstall("beside", with("corefile")...)
	for _, path := range []string{theDeployment, theConfig} {
		cluster.merge(t, path, `{"metadata": {"annotations": null, "labels": null}}`)
	}
	mustHelm(t, "uninstall", "multivalue", "-n", kubeSystem)
	for what, still := range map[string]bool{
		"the Deployment":         reflect.DeepEqual(read(t, theDeployment)["spec"], deployed),
		"the Corefile":           reflect.DeepEqual(read(t, theConfig)["data"], config),
		"the key":                reflect.DeepEqual(at(read(t, theFleetSecret), "data"), key),
		"the name of the fleet":  read(t, "/api/v1/namespaces/kube-system/services/multivalue-fleet") != nil,
		"the rights":             read(t, "/apis/rbac.authorization.k8s.io/v1/clusterroles/multivalue-kube-system") != nil,
		"the Corefile of before": at(read(t, theOther), "data", "Corefile") == usualCorefile,
	} {
		if !still {
			t.Errorf("an uninstall changes %s", what)
		}
	}

	e.mustInstall("beside", with("corefile")...)
	e.has(theDeployment, deployed, "spec")
	e.has(theFleetSecret, key, "data")
	e.mustInstall("beside", with("image")...)
	e.mustInstall("beside", with("before")...)
	e.runs(theImage, false)
	mustHelm(t, "uninstall", "multivalue", "-n", kubeSystem)
}

// After the mode existing, a release of the same name in another mode is installed and upgraded: what the mode existing saved stays in
// the cluster, and is not taken for the mode of the new release. That may be the DNS of the cluster, so no upgrade to the mode existing
// deletes it, and no advice is to uninstall it.
func TestChartAfterExisting(t *testing.T) {
	e := newExisting(t)
	e.mustInstall("beside")
	e.refuses("this release has the mode existing: uninstall it first", []string{theDeployment, theConfig, theOther}, "beside", "mode=beside")
	mustHelm(t, "uninstall", "multivalue", "-n", kubeSystem)
	for _, r := range []*release{
		{scene: e.scene, namespace: kubeSystem},
		{scene: e.scene, namespace: kubeSystem, flags: []string{"--set", "mode=cluster-dns,service.clusterIP=198.51.100.10"}},
	} {
		r.mustInstall("beside")
		r.mustInstall("beside", "replicas=3")
		if read(t, theOther) == nil {
			t.Fatal("what was there before is not there any more")
		}
		e.refuses("this release has another mode than existing, and Helm would delete what that made", []string{theDeployment, theConfig, theOther}, "beside")
		e.refuses("this release has another mode than existing", []string{theDeployment, theConfig, theOther}, "beside", "existing.deployment=other")
		cluster.delete(t, "/api/v1/namespaces/kube-system/configmaps/multivalue") // by hand
		r.mustInstall("beside", "replicas=4")
		r.has("/apis/apps/v1/namespaces/kube-system/deployments/multivalue", 4.0, "spec", "replicas")
		mustHelm(t, "uninstall", "multivalue", "-n", kubeSystem)
	}
}

// What the chart cannot change safely is left alone, with a word on why.
func TestChartExistingRefuses(t *testing.T) {
	e := newExisting(t)
	all := []string{theDeployment, theConfig, theOther}
	e.refuses("the Deployment coredns has no container dns", all, "beside", "existing.container=dns")
	e.refuses("there is no Deployment dns in the namespace kube-system", all, "beside", "existing.deployment=dns")
	e.refuses("the ConfigMap dns in the namespace kube-system has no Corefile", all, "beside", "existing.configMap=dns")

	edit := func(corefile string) {
		t.Helper()
		cluster.apply(t, "", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: coredns\n  namespace: kube-system\ndata:\n  Corefile: "+corefile)
	}
	edit(`".:53 {\n    multivalue a {\n    }\n    kubernetes cluster.local\n}\n"`) // as with deploy/kubernetes/existing
	e.refuses("the Corefile in the ConfigMap coredns has multivalue, and not from this chart", all, "beside")

	edit(`".:53 {\n    kubernetes a.local\n}\n.:54 {\n    kubernetes b.local\n}\n"`)
	e.mustInstall("beside")
	e.refuses("existing.deployment was coredns: Helm would delete that one", all, "beside", "existing.deployment=other")
	e.rollsOut()
	e.refuses("the Corefile has 2 lines with kubernetes, so it is not clear where multivalue belongs: give the whole Corefile as corefile", all, "beside", "existing.step=corefile")
	e.refuses("corefile has no multivalue", all, "beside", "existing.step=corefile", "corefile=of my own")
	e.mustInstall("beside", "existing.step=corefile", "corefile=multivalue of my own")
	e.has(theConfig, "multivalue of my own", "data", "Corefile")
	mustHelm(t, "uninstall", "multivalue", "-n", kubeSystem)
}

// The stanza comes above the line with kubernetes, and not above copies of it in comments.
func TestChartExistingComments(t *testing.T) {
	e := newExisting(t)
	const before = ".:53 {\n    # was:\n    #    kubernetes cluster.local\n    kubernetes cluster.local\n    forward . 192.0.2.53\n}"
	cluster.merge(t, theConfig, fmt.Sprintf(`{"data": {"Corefile": %q}}`, before))
	e.mustInstall("beside")
	e.rollsOut()
	e.mustInstall("beside", "existing.step=corefile")
	corefile := at(read(t, theConfig), "data", "Corefile").(string)
	from, to := strings.Index(corefile, "    multivalue "), strings.LastIndex(corefile, "    kubernetes ")
	if from < 0 || corefile[:from]+corefile[to:] != before {
		t.Errorf("the Corefile is\n%s", corefile)
	}
	e.mustInstall("beside")
	e.has(theConfig, before, "data", "Corefile")
	mustHelm(t, "uninstall", "multivalue", "-n", kubeSystem)
}

// merge changes a part of an object, as a tool that does not apply does.
func (a *api) merge(t testing.TB, path, change string) {
	t.Helper()
	out, err := exec.Command(tool("kubectl"), "--kubeconfig", a.file("admin"), "patch", "--type=merge", "-n", kubeSystem,
		strings.TrimSuffix(filepath.Base(filepath.Dir(path)), "s")+"/"+filepath.Base(path), "-p", change).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
