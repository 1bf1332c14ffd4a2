//go:build linux

package kube

import (
	"encoding/base64"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const (
	chart  = "../../deploy/helm/multivalue"
	golden = "testdata/chart/"
)

var (
	helmProgram = os.Getenv("MULTIVALUE_KUBE_HELM")
	update      = flag.Bool("update", false, "write what the chart renders into testdata/chart")
)

// helm runs Helm with all rights, and returns what it prints, or its error.
func helm(t testing.TB, args ...string) (string, error) {
	t.Helper()
	c := exec.Command(helmProgram, args...)
	c.Env = append(os.Environ(), "KUBECONFIG="+cluster.file("admin"), "HELM_CACHE_HOME="+cluster.file("helm"),
		"HELM_CONFIG_HOME="+cluster.file("helm"), "HELM_DATA_HOME="+cluster.file("helm"))
	out, err := c.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = errors.New(string(failed.Stderr))
	}
	return string(out), err
}

// mustHelm is helm where an error ends the test.
func mustHelm(t testing.TB, args ...string) string {
	t.Helper()
	out, err := helm(t, args...)
	if err != nil {
		t.Fatalf("helm %q: %v", args, err)
	}
	return out
}

// cases are the names of the sets of values.
func cases(t *testing.T) (names []string) {
	t.Helper()
	all, err := filepath.Glob(golden + "*.values.yaml")
	if err != nil || len(all) < 10 {
		t.Fatalf("%d sets of values, %v", len(all), err)
	}
	for _, path := range all {
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".values.yaml"))
	}
	return names
}

func TestChartLint(t *testing.T) {
	for _, args := range append([]string{""}, cases(t)...) { // also as it is
		command := []string{"lint", "--strict", chart}
		if args != "" {
			command = append(command, "-f", golden+args+".values.yaml")
		}
		if out := mustHelm(t, command...); !strings.Contains(out, "1 chart(s) linted, 0 chart(s) failed") {
			t.Error(out)
		}
	}
}

// What the chart renders is in files, so that each change of it shows. Run with -update, and read the difference.
func TestChartGolden(t *testing.T) {
	for _, name := range cases(t) {
		text := mustHelm(t, "template", "multivalue", chart, "-n", "dns", "-f", golden+name+".values.yaml")
		same(t, name, text)
	}
}

// same compares a text with a golden file, without what is different each time, or is elsewhere.
func same(t *testing.T, name, text string) {
	t.Helper()
	text = regexp.MustCompile(`\b[0-9]+\.[0-9]+\.[0-9]+("?\n)`).ReplaceAllStringFunc(text, func(s string) string {
		return strings.Replace(s, chartVersion(t), "VERSION", 1)
	})
	text = regexp.MustCompile(`fleet\.key: (\S{60})\n`).ReplaceAllString(text, "fleet.key: KEY\n")
	text = regexp.MustCompile(`(?s)\n  # Alerts for multivalue.*?\n---`).ReplaceAllString(text, "\n  # the rules\n---")
	text = regexp.MustCompile(`(?s)\n    \{\n     "title".*?\n    \}\n`).ReplaceAllString(text, "\n    the dashboard\n")
	path := golden + name + ".yaml"
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, want := strings.Split(text, "\n"), strings.Split(readFile(t, path), "\n")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Errorf("%s: line %d differs (run with -update, and look at the difference):\n%s\nwant\n%s", path, i+1,
				strings.Join(got[min(i, len(got)):min(i+8, len(got))], "\n"), strings.Join(want[min(i, len(want)):min(i+8, len(want))], "\n"))
			return
		}
	}
}

func chartVersion(t *testing.T) string {
	t.Helper()
	return regexp.MustCompile(`(?m)^version: (\S+)$`).FindStringSubmatch(readFile(t, chart+"/Chart.yaml"))[1]
}

// object is a part of an object in YAML or JSON.
type object = map[string]any

// objects reads the objects in a text.
func objects(t testing.TB, text string) (all []object) {
	t.Helper()
	for part := range strings.SplitSeq("\n"+text, "\n---\n") {
		var o object
		if err := yaml.UnmarshalStrict([]byte(part), &o); err != nil {
			t.Fatalf("%v, in\n%s", err, part)
		}
		if o != nil {
			all = append(all, o)
		}
	}
	return all
}

// find returns the object of a kind and a name, or of the kind alone.
func find(t testing.TB, all []object, kind, name string) object {
	t.Helper()
	for _, o := range all {
		if o["kind"] == kind && (name == "" || at(o, "metadata", "name") == name) {
			return o
		}
	}
	t.Fatalf("no %s %s", kind, name)
	return nil
}

// at returns a field of an object, or nil.
func at(o any, path ...string) any {
	for _, name := range path {
		switch it := o.(type) {
		case object:
			o = it[name]
		case []any:
			o = it[0].(object)[name]
		default:
			return nil
		}
	}
	return o
}

// CoreDNS starts with the Corefile of each golden file, with the rights in that file, and answers. It warns of nothing.
func TestChartBoots(t *testing.T) {
	t.Setenv("POD_IP", "192.0.2.99")
	for _, name := range cases(t) {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			text := readFile(t, golden+name+".yaml")
			s.applyOnly(text, "ClusterRole")
			// The fleet has this member, and no other.
			cluster.apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: dns")
			cluster.apply(t, "dns", headless("multivalue-fleet")+"\n---\n"+slice("multivalue-fleet", "fleet-1", "192.0.2.99"))
			config := find(t, objects(t, text), "ConfigMap", "multivalue")
			s.run(s.here(at(config, "data", "Corefile").(string), "dns:multivalue"))
			s.comesTo("kubernetes.default", "A", "198.51.100.1")
			s.page("127.0.0.1:8181/ready")
			if s.output.count(`\[WARNING\]`) > s.output.count("it is looked up again") { // kubernetes may know it a moment later
				t.Error(s.output.String())
			}
		})
	}
}

// here writes a Corefile made for a Pod of an account with the addresses, the files and the kubeconfig that it has here.
func (s *scene) here(corefile, account string) (path string) {
	s.Helper()
	config := s.file("account", strings.Replace(cluster.config("admin"), "token: admin", `token: admin, as: "system:serviceaccount:`+account+`"`, 1))
	key := s.file("fleet.key", base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n")
	corefile = regexp.MustCompile(`kubernetes cluster.local [^{]*\{\n`).ReplaceAllString(corefile, "$0        kubeconfig CONFIG\n")
	corefile = strings.NewReplacer(
		"errors\n", "errors\n    bind 127.0.0.1\n",
		"health {\n        lameduck 5s\n    }\n", "", // it listens on 8080 on all addresses
		"topology kubernetes\n", "topology kubernetes CONFIG\n",
		"annotations\n", "annotations CONFIG\n",
		"/etc/coredns-fleet/fleet.key", key,
		"/var/lib/coredns", s.dir,
	).Replace(corefile)
	return s.file("Corefile", strings.ReplaceAll(corefile, "CONFIG", config))
}

// The Pods of the chart have the limits and the probes of those of deploy/kubernetes/base, in all sets of values.
func TestChartStrict(t *testing.T) {
	base := find(t, objects(t, readFile(t, deploy+"base/coredns.yaml")), "Deployment", "")
	path := []string{"spec", "template", "spec"}
	for _, name := range cases(t) {
		own := find(t, objects(t, readFile(t, golden+name+".yaml")), "Deployment", "")
		pod := at(own, append(path, "securityContext")...).(object)
		delete(pod, "fsGroup") // for the key of the fleet, and the state
		if want := at(base, append(path, "securityContext")...); !reflect.DeepEqual(any(pod), want) {
			t.Errorf("%s: the Pod has %v, want %v", name, pod, want)
		}
		for _, field := range []string{"securityContext", "args", "startupProbe", "livenessProbe", "readinessProbe"} {
			got, want := at(own, append(path, "containers", field)...), at(base, append(path, "containers", field)...)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: the container's %s is %v, want %v", name, field, got, want)
			}
		}
		if at(own, append(path, "dnsPolicy")...) != "Default" {
			t.Errorf("%s: CoreDNS would ask itself", name)
		}
	}
}

// The rules and the dashboard in the chart are those of deploy.
func TestChartCopies(t *testing.T) {
	for copied, from := range map[string]string{"multivalue.rules.yaml": "prometheus", "multivalue.json": "grafana"} {
		if readFile(t, chart+"/files/"+copied) != readFile(t, "../../deploy/"+from+"/"+copied) {
			t.Errorf("deploy/helm/multivalue/files/%s is not that of deploy/%s: copy it", copied, from)
		}
	}
}

// Networks are accepted as long as all bits after their length are 0.
func TestChartNetworks(t *testing.T) {
	for _, network := range []string{"0.0.0.0/0", "128.0.0.0/1", "10.244.0.0/16", "192.0.2.254/31", "192.0.2.255/32", "::/0", "fd00::/8", "fd00::ff/128", "fd00::ff00/120"} {
		mustHelm(t, "template", "multivalue", chart, "-f", golden+"beside.values.yaml", "--set", "stanza.within={"+network+"}")
	}
}

// Names that look like numbers, or that a Service cannot have, give objects whose names and labels are strings, and the names of
// Services labels of DNS (RFC 1035).
func TestChartNames(t *testing.T) {
	for _, name := range []string{"123", "1e3", "my.dns", "2-multivalue", strings.Repeat("1", 53)} {
		text := mustHelm(t, "template", name, chart, "-n", "2024", "-f", golden+"beside.values.yaml", "--set", "fleet.enabled=true",
			"--set-string", "image.pullSecrets={123},priorityClassName=1,fleet.secret=456")
		for _, o := range objects(t, text) {
			meta := at(o, "metadata").(object)
			if got := meta["namespace"]; got != "2024" && !strings.HasPrefix(o["kind"].(string), "ClusterRole") {
				t.Errorf("%s: a %s is in the namespace %v", name, o["kind"], got)
			}
			if got := at(meta, "labels", "app.kubernetes.io/instance"); got != name {
				t.Errorf("%s: a %s is labelled with %v", name, o["kind"], got)
			}
			if !regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`).MatchString(meta["name"].(string)) {
				t.Errorf("%s: a %s has the name %v", name, o["kind"], meta["name"])
			}
		}
		pod := at(find(t, objects(t, text), "Deployment", ""), "spec", "template", "spec")
		for _, path := range [][]string{{"imagePullSecrets", "name"}, {"priorityClassName"}, {"serviceAccountName"}} {
			if _, is := at(pod, path...).(string); !is {
				t.Errorf("%s: %v is %v", name, path, at(pod, path...))
			}
		}
		if !strings.Contains(text, `secretName: "456"`) {
			t.Errorf("%s: the key of the fleet is not in the Secret 456", name)
		}
	}
}

// Values that cannot be meant are refused, with a message that says what to do.
func TestChartRefuses(t *testing.T) {
	for _, c := range []struct{ set, want string }{
		{"image.repository=", "image.repository is empty: name the registry and the repository of your image, such as registry.example.org/coredns-multivalue"},
		{"stanza.zones=", "stanza.zones is empty: name the zones whose answers are judged, such as shop.svc.cluster.local"},
		{"stanza.checks=", "stanza.checks is empty: say how to check an address, such as http://:8080/healthz"},
		{"stanza.within=", "stanza.within is empty: name the networks of your Pods, such as 10.244.0.0/16"},
		{"stanza.within={10.244.0.0}", "at '/stanza/within/0': '10.244.0.0' does not match pattern"},
		{"stanza.within={10.244.0.0/33}", "at '/stanza/within/0': '10.244.0.0/33' does not match pattern"},
		{"stanza.within={fd00::/129}", "at '/stanza/within/0': 'fd00::/129' does not match pattern"},
		{"stanza.within={10.1.0.0/16,10.1.0.0/16}", "at '/stanza/within': items at 0 and 1 are equal"},
		{"stanza.within={10.244.1.0/16}", "stanza.within has 10.244.1.0/16, with bits set after its length: use 10.244.0.0/16"},
		{"stanza.within={10.0.0.0/8,255.255.255.255/1}", "stanza.within has 255.255.255.255/1, with bits set after its length: use 128.0.0.0/1"},
		{"stanza.within={fd00:10::1/64}", "stanza.within has fd00:10::1/64, with bits set after its length: use fd00:10::0/64"},
		{"mode=besides", "at '/mode': value must be one of 'beside', 'cluster-dns', 'existing'"},
		{"replica=3", "additional properties 'replica' not allowed"},
		{"stanza.dry_run=true", "at '/stanza': additional properties 'dry_run' not allowed"},
		{"replicas=0", "at '/replicas': minimum: got 0, want 1"},
		{"mode=cluster-dns", "service.clusterIP is empty: cluster-dns needs the address that kubelets give to Pods (clusterDNS), such as 10.96.0.10"},
		{"mode=cluster-dns,service.clusterIP=10.96.0.10,service.type=NodePort", "service.type must be ClusterIP with cluster-dns: Pods reach it by its address"},
		{"fleet.enabled=true,fleet.lines=vantage 5\n  listen :7946", "fleet.lines has listen: the members of the chart find each other on port 9254, which its Service and its NetworkPolicy name, so remove that line"},
		{"service.loadBalancerSourceRanges={192.0.2.0/24}", "service.loadBalancerSourceRanges is for service.type LoadBalancer alone"},
		{"stanza.checks={grpc://x/y}", `the check "grpc://x/y" names no port: add the ports that CoreDNS probes to networkPolicy.backendPorts`},
		{"networkPolicy.backendPorts={http}", "at '/networkPolicy/backendPorts/0': got string, want integer"},
		{"corefile=x", "corefile has no health on port 8080, which the kubelet asks whether a Pod lives: add a line with health to a server block"},
		{"corefile=health localhost:8080\nready", "corefile has no health on port 8080"},
		{"corefile=health :8081\nready", "corefile has no health on port 8080"},
		{"corefile=# health\nready", "corefile has no health on port 8080"},
		{"corefile=health {\n}\n", "corefile has no ready on port 8181, which the kubelet asks whether a Pod may get queries: add a line with ready to a server block"},
		{"corefile=health {\n}\nready :8182", "corefile has no ready on port 8181"},
		{"corefile=x,stanza.checks=", "networkPolicy.backendPorts is empty, and so is stanza.checks: name the ports that CoreDNS probes, or set networkPolicy.enabled=false"},
		{"corefile=x,stanza.within=", "stanza.within is empty: name the networks that the NetworkPolicy lets CoreDNS probe, or set networkPolicy.enabled=false"},
		{"topology.select=random", "at '/topology/select': value must be one of 'nearest', 'nearest client'"},
		{"image.digest=sha256:1", "at '/image/digest': 'sha256:1' does not match pattern"},
		{"existing.step=all", "at '/existing/step': value must be one of 'before', 'image', 'corefile'"},
		{"mode=existing", "there is no Deployment coredns in the namespace default: install into the namespace of the CoreDNS that is there"},
		{"mode=existing,priorityClassName=high", "are not for the mode existing: change them in the Deployment that is there"},
	} {
		set := "--set"
		if strings.HasSuffix(c.set, "=") || strings.Contains(c.set, "=,") {
			set, c.set = "--set-json", regexp.MustCompile(`=($|,)`).ReplaceAllString(c.set, "=null$1")
			c.set = regexp.MustCompile(`=x\b`).ReplaceAllString(c.set, `="health\nready"`)
		}
		_, err := helm(t, "template", "multivalue", chart, "-f", golden+"beside.values.yaml", set, c.set)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.set, err, c.want)
		}
	}
}
