//go:build linux

package kube

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const deploy = "../../deploy/kubernetes/"

// kustomized returns the result of a directory of the manifests.
func kustomized(t *testing.T, directory string) string {
	t.Helper()
	out, err := exec.Command(tool("kubectl"), "kustomize", deploy+directory).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The API accepts the manifests unchanged, and their Corefiles, with our networks, do what they are for (B82).
func TestManifests(t *testing.T) {
	for _, c := range []struct{ in, at string }{
		{kustomized(t, "base"), "/api/v1/namespaces/multivalue/configmaps/coredns"},
		{readFile(t, deploy+"existing/config.yaml"), "/api/v1/namespaces/kube-system/configmaps/coredns"},
	} {
		s := newScene(t)
		cluster.apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: kube-system")
		cluster.apply(t, "", c.in)
		var config struct{ Data map[string]string }
		cluster.get(t, c.at, &config)
		s.does(s.parts(config.Data))
	}
}

// parts writes the files that a Corefile of the manifests imports, as they are here, and returns the Corefile.
func (s *scene) parts(data map[string]string) (corefile string) {
	s.Helper()
	for name, text := range data {
		if name != "Corefile" {
			s.file(name, strings.NewReplacer("PACE", pace, "topology kubernetes", "topology kubernetes "+cluster.file("coredns")).Replace(ours(text)))
		}
	}
	return data["Corefile"]
}

// does checks that a Corefile of the manifests changes nothing as it is, and that it removes dead addresses without
// dry_run.
func (s *scene) does(corefile string) {
	s.Helper()
	cluster.apply(s, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop")
	s.namespace = "shop"
	defer s.forget() // not only at the end
	s.serve("192.0.2.11", "192.0.2.12")
	s.apply(headless("cart"), slice("cart", "cart-4", "192.0.2.11", "192.0.2.12"))
	s.run(s.configure(ours(corefile), ""))
	s.comesTo("cart", "A", "192.0.2.11", "192.0.2.12")
	s.settled("cart", 2, 0)
	s.page("127.0.0.1:8181/ready")
	s.stop("192.0.2.12")
	s.settled("cart", 1, 1)
	s.comesTo("cart", "A", "192.0.2.11", "192.0.2.12") // dry_run is set for all
	s.kill()

	s.run(s.configure(strings.Replace(ours(corefile), "dry_run", "", 1), ""))
	s.settled("cart", 1, 1)
	s.comesTo("cart", "A", "192.0.2.11")
	s.kill()
	s.stop("192.0.2.11")
}

// If multivalue is the cluster's own DNS, all objects are in kube-system, the Service has the name and the address
// that Pods expect, and the Pods run under the account that has the rights.
func TestManifestsForKubeDNS(t *testing.T) {
	newScene(t)
	all := strings.Replace(kustomized(t, "kube-dns"), "clusterIP: 10.96.0.10", "clusterIP: 198.51.100.10", 1)
	if strings.Contains(all, "namespace: multivalue") || strings.Contains(all, "kind: Namespace\n") {
		t.Errorf("an object is still in the namespace of the base:\n%s", all)
	}
	if strings.Contains(all, "\n  name: multivalue-coredns\n") {
		t.Errorf("its rights have the names of those of base, so what removes base takes them away:\n%s", all)
	}
	cluster.apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: kube-system")
	cluster.apply(t, "", all)
	var service struct{ Spec struct{ ClusterIP string } }
	cluster.get(t, "/api/v1/namespaces/kube-system/services/kube-dns", &service)
	var binding struct {
		Subjects []struct{ Name, Namespace string }
	}
	cluster.get(t, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/multivalue-kube-dns", &binding)
	if service.Spec.ClusterIP != "198.51.100.10" || len(binding.Subjects) != 1 || binding.Subjects[0].Namespace != "kube-system" {
		t.Errorf("%+v, %+v", service, binding)
	}
	cluster.delete(t, "/apis/apps/v1/namespaces/kube-system/deployments/coredns")
}

// kubeadm is the part of kubeadm's Deployment that the patch must not change.
const kubeadm = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: coredns
  namespace: kube-system
  labels: {k8s-app: kube-dns}
spec:
  replicas: 3
  selector: {matchLabels: {k8s-app: kube-dns}}
  template:
    metadata: {labels: {k8s-app: kube-dns}}
    spec:
      serviceAccountName: coredns
      containers:
      - name: coredns
        image: registry.k8s.io/coredns/coredns:v1.14.2
        args: [-conf, /etc/coredns/Corefile]
        resources: {limits: {memory: 170Mi}}
        readinessProbe: {httpGet: {path: /ready, port: 8181}}`

// An existing Deployment gets another image, and keeps the rest.
func TestManifestsForExisting(t *testing.T) {
	newScene(t)
	cluster.apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: kube-system")
	const at = "/apis/apps/v1/namespaces/kube-system/deployments/coredns"
	if _, err := cluster.do(http.MethodPatch, at+"?fieldManager=kubeadm", kubeadm); err != nil {
		t.Fatal(err)
	}
	var before, after struct{ Spec json.RawMessage }
	cluster.get(t, at, &before)
	cluster.apply(t, "", kustomized(t, "existing"))
	cluster.get(t, at, &after)
	want := strings.Replace(string(before.Spec), "registry.k8s.io/coredns/coredns:v1.14.2", "registry.example.org/coredns-multivalue:0.1.0", 1)
	if string(after.Spec) != want {
		t.Errorf("the Deployment is\n%s\nwant\n%s", after.Spec, want)
	}
	cluster.delete(t, at)
}

// If backends accept no traffic by default, a policy allows what CoreDNS needs, and admits CoreDNS to the backends:
// to the port of the check, in the networks of "within".
func TestManifestsOfPolicies(t *testing.T) {
	s := newScene(t)
	backends := strings.Replace(readFile(t, deploy+"backends.yaml"), "namespace: shop", "namespace: "+s.namespace, 1)
	cluster.apply(t, "", backends)
	base := kustomized(t, "base")
	cluster.apply(t, "", base)
	within := regexp.MustCompile(`within (.*)`).FindStringSubmatch(base)
	for _, network := range strings.Fields(within[1]) {
		if !strings.Contains(base, "cidr: "+network+"\n") {
			t.Errorf("the policy does not let CoreDNS out to %s", network)
		}
	}
	port := regexp.MustCompile(`check http://:(\d+)/`).FindStringSubmatch(base)[1]
	if !strings.Contains(backends, "port: "+port+",") || !strings.Contains(base[strings.Index(base, "  egress:"):], "port: "+port+"\n") {
		t.Errorf("a policy does not let port %s through", port)
	}
}

// The values for the Helm chart give the Corefile of the manifests.
func TestHelmValues(t *testing.T) {
	_, plugins, found := strings.Cut(readFile(t, "../../deploy/helm/values.yaml"), "\n  plugins:\n")
	if !found {
		t.Fatal("no plugins")
	}
	got := []string{".:53", "{"}
	open := ""
	for line := range strings.Lines(plugins) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch value = strings.Trim(value, `"`); key {
		case "- name":
			got, open = append(append(got, strings.Fields(open)...), value), ""
		case "parameters":
			got = append(got, strings.Fields(value)...)
		case "configBlock":
			got, open = append(got, "{"), "}"
		default:
			got = append(got, strings.Fields(line)...)
		}
	}
	_, corefile, _ := strings.Cut(readFile(t, deploy+"base/config.yaml"), "Corefile: |\n")
	corefile = strings.Replace(corefile, "import *.part", regexp.MustCompile(`networks.part: (.*)`).FindStringSubmatch(readFile(t, deploy+"base/config.yaml"))[1], 1)
	corefile = strings.Replace(corefile, "import order.conf", "loadbalance", 1)
	if want := strings.Fields(corefile); !slices.Equal(append(got, "}"), want) {
		t.Errorf("the values give %q,\nwant %q", got, want)
	}
}

// CoreDNS accepts the example in the manual, and the example works.
func TestManualExample(t *testing.T) {
	s := newScene(t)
	_, example, found := strings.Cut(readFile(t, "../../docs/manual.md"), "~~~ txt\ncluster.local {\n")
	example, _, ends := strings.Cut(example, "~~~\n")
	if !found || !ends {
		t.Fatal("the manual has no Corefile for cluster.local")
	}
	s.serve("192.0.2.11")
	s.apply(headless("cart"), slice("cart", "cart-4", "192.0.2.11", "192.0.2.12"))
	example = strings.NewReplacer("shop.svc", "NS.svc", "dry_run", "", "kubernetes cluster.local\n",
		"kubernetes cluster.local {\n        kubeconfig CONFIG\n    }\n    prometheus 127.0.0.1:9153\n").Replace(example)
	s.run(s.configure(ours("cluster.local {\n    errors\n"+example), ""))
	s.settled("cart", 1, 1)
	s.comesTo("cart", "A", "192.0.2.11")
}

// Behind the cache of a node, set up as the page on Kubernetes says, a verdict shows at once.
func TestNodeLocal(t *testing.T) {
	s := newScene(t)
	_, local, found := strings.Cut(readFile(t, "../../docs/kubernetes.md"), "~~~ txt\nshop.svc.cluster.local:53 {\n")
	local, _, ends := strings.Cut(local, "~~~\n")
	if !found || !ends {
		t.Fatal("the page has no Corefile for NodeLocal DNSCache")
	}
	s.serve("192.0.2.11", "192.0.2.12")
	s.apply(headless("cart"), slice("cart", "cart-4", "192.0.2.11", "192.0.2.12"))
	s.run(s.configure(strings.Replace(corefile, "kubeconfig CONFIG", "kubeconfig CONFIG\n        ttl 300", 1), ""))
	s.comesTo("cart", "A", "192.0.2.11", "192.0.2.12")
	local = strings.NewReplacer("bind 169.254.20.10 10.96.0.10", "bind 127.0.0.1", "__PILLAR__CLUSTER__DNS__", "127.0.0.1",
		"prometheus :9253", "prometheus 127.0.0.1:9253").Replace(local)
	s.program(s.file("local", s.namespace+".svc.cluster.local:54 {\n"+local))
	s.settled("cart", 2, 0)
	s.stop("192.0.2.12")
	s.eventually(soon, func() bool {
		return slices.Equal(data(s.askBy(question{server: "127.0.0.1:54"}, "cart", "A").Answer), []string{"192.0.2.11"})
	}, func() string { return "the dead addresses do not leave" })
}

// ours adapts a Corefile made for its own Pod to the address that it has here, and to our pace.
func ours(corefile string) string {
	return strings.NewReplacer(
		"errors\n", "errors\n    bind 127.0.0.1\n",
		"health {\n        lameduck 5s\n    }\n", "", // it listens on 8080 on all addresses
		"kubernetes cluster.local in-addr.arpa ip6.arpa {\n", "kubernetes cluster.local in-addr.arpa ip6.arpa {\n        kubeconfig CONFIG\n",
		"within 10.244.0.0/16 fd00:10:244::/56", "PACE\n        within 192.0.2.0/24",
	).Replace(corefile)
}
