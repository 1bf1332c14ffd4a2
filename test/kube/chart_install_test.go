//go:build linux

package kube

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// monitoring are the kinds of the operator of Prometheus, as far as the chart needs them.
var monitoring = map[string]string{"servicemonitors": "ServiceMonitor", "prometheusrules": "PrometheusRule"}

// defineMonitoring makes the API know these kinds.
func defineMonitoring(t *testing.T) {
	t.Helper()
	for plural, kind := range monitoring {
		cluster.patch(t, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"+plural+".monitoring.coreos.com",
			`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: `+plural+`.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: {plural: `+plural+`, kind: `+kind+`}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}`)
	}
	s := &scene{TB: t}
	for plural := range monitoring {
		s.eventually(patience, func() bool {
			_, err := cluster.do(http.MethodGet, "/apis/monitoring.coreos.com/v1/namespaces/default/"+plural, "")
			return err == nil
		}, func() string { return plural + " are not served" })
	}
}

// read returns an object of the API, or nil if it does not exist.
func read(t testing.TB, path string) (o object) {
	t.Helper()
	text, err := cluster.do(http.MethodGet, path, "")
	switch {
	case err != nil && strings.Contains(err.Error(), ": 404 "):
		return nil
	case err == nil:
		err = json.Unmarshal(text, &o)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// post creates an object, and returns what the API makes of it.
func (a *api) post(path, text string) (o object, err error) {
	r, err := http.NewRequest(http.MethodPost, "https://127.0.0.1:6443"+path, strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer admin")
	r.Header.Set("Content-Type", "application/json")
	response, err := a.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return o, json.NewDecoder(response.Body).Decode(&o)
}

// release is an installed chart.
type release struct {
	*scene
	namespace string
	flags     []string
}

// install installs the chart, or upgrades it, with values in addition to those of a golden file.
func (r *release) install(values string, set ...string) (string, error) {
	r.Helper()
	args := append([]string{"upgrade", "--install", "multivalue", chart, "-n", r.namespace, "-f", golden + values + ".values.yaml"}, r.flags...)
	for _, one := range set {
		args = append(args, "--set", one)
	}
	return helm(r, args...)
}

func (r *release) mustInstall(values string, set ...string) string {
	r.Helper()
	out, err := r.install(values, set...)
	if err != nil {
		r.Fatal(err)
	}
	return out
}

// refuses requires that an upgrade fails with a message, and changes nothing: neither the objects nor the history.
func (r *release) refuses(want string, paths []string, values string, set ...string) {
	r.Helper()
	before := r.versions(paths)
	_, err := r.install(values, set...)
	if err == nil || !strings.Contains(err.Error(), want) {
		r.Errorf("%q: %v, want %q", set, err, want)
	}
	if after := r.versions(paths); !reflect.DeepEqual(before, after) {
		r.Errorf("%q changes %v to %v", set, before, after)
	}
}

// follows runs the command in the notes that sets a value.
func (r *release) follows(notes, set string) {
	r.Helper()
	for line := range strings.Lines(notes) {
		if strings.HasSuffix(line, "--set "+set+"\n") {
			mustHelm(r, strings.Fields(strings.Replace(line, "CHART", chart, 1))[1:]...)
			return
		}
	}
	r.Fatalf("no command sets %s in\n%s", set, notes)
}

// versions are the versions of objects, and of the release.
func (r *release) versions(paths []string) (all []any) {
	r.Helper()
	for _, path := range paths {
		all = append(all, at(read(r, path), "metadata", "resourceVersion"))
	}
	history, _ := helm(r, "history", "multivalue", "-n", r.namespace, "-o", "json")
	return append(all, history)
}

// allFeatures are the values of a release with everything that the chart has.
var allFeatures = []string{"stanza.within={192.0.2.0/24}", "fleet.enabled=true", "topology.enabled=true", "annotations.enabled=true", "status.enabled=true",
	"state.enabled=true", "prometheus.serviceMonitor.enabled=true", "prometheus.rule.enabled=true", "prometheus.dashboard.enabled=true"}

// The chart is installed with everything that it has, upgraded, refused, rolled back and uninstalled (B82).
func TestChartBeside(t *testing.T) {
	s := newScene(t)
	defineMonitoring(t)
	r := &release{scene: s, namespace: s.namespace}
	notes := r.mustInstall("beside", allFeatures...)
	for _, want := range []string{"rollout status deployment/multivalue", "port-forward deployment/multivalue 9253",
		"dig @multivalue." + s.namespace + ".svc.cluster.local SERVICE.shop.svc.cluster.local", "pod-security.kubernetes.io/enforce=restricted"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes do not have %q:\n%s", want, notes)
		}
	}
	core, apps := "/api/v1/namespaces/"+s.namespace, "/apis/apps/v1/namespaces/"+s.namespace
	secret, deployment := core+"/secrets/multivalue-fleet", apps+"/deployments/multivalue"
	key, _ := base64.StdEncoding.DecodeString(at(read(t, secret), "data", "fleet.key").(string))
	if raw, err := base64.StdEncoding.DecodeString(string(key)); err != nil || len(raw) != 32 {
		t.Errorf("the key is %q: %v", key, err)
	}
	r.monitored(core)
	r.isClosed()
	r.mayOnly("list services, list pods, list namespaces, list endpointslices, watch nodes, create events, patch events")
	r.runs(deployment)
	s.worksWith(at(read(t, core+"/configmaps/multivalue"), "data", "Corefile").(string), s.namespace+":multivalue")

	r.follows(notes, "stanza.dryRun=false")
	if corefile := at(read(t, core+"/configmaps/multivalue"), "data", "Corefile").(string); strings.Contains(corefile, "dry_run") || !strings.Contains(corefile, "fleet") {
		t.Errorf("the Corefile is\n%s", corefile)
	}
	r.mustInstall("beside", append(allFeatures, "replicas=3")...)
	r.has(deployment, 3.0, "spec", "replicas")
	r.has(secret, base64.StdEncoding.EncodeToString(key), "data", "fleet.key")
	all := []string{deployment, secret, core + "/configmaps/multivalue", core + "/services/multivalue", core + "/services/multivalue-fleet"}
	r.refuses("at '/replicas': minimum: got 0, want 1", all, "beside", append(allFeatures, "replicas=0")...)
	r.refuses("stanza.zones is empty", all, "beside", append(allFeatures, "stanza.zones=null")...)

	mustHelm(t, "rollback", "multivalue", "1", "-n", s.namespace)
	r.has(deployment, 2.0, "spec", "replicas")
	r.has(secret, base64.StdEncoding.EncodeToString(key), "data", "fleet.key")
	mustHelm(t, "uninstall", "multivalue", "-n", s.namespace)
	for _, path := range append(all, "/apis/rbac.authorization.k8s.io/v1/clusterroles/multivalue-"+s.namespace) {
		if read(t, path) != nil {
			t.Errorf("%s is still there", path)
		}
	}
}

// The strictest Pod Security level is advised only where it can keep no other Pod out, nor ours: not in the namespaces that a cluster
// begins with, and not with volumes of the user.
func TestChartNotes(t *testing.T) {
	for args, want := range map[string]bool{
		"-n dns": true, "-n kube-system": false, "-n default": false,
		"-n dns --set volumes[0].name=host,volumes[0].hostPath.path=/etc": false,
	} {
		command := append([]string{"install", "multivalue", chart, "--dry-run=client", "-f", golden + "beside.values.yaml"}, strings.Fields(args)...)
		_, notes, found := strings.Cut(mustHelm(t, command...), "\nNOTES:\n")
		if got := strings.Contains(notes, "enforce=restricted"); !found || got != want {
			t.Errorf("%s: the notes advise the level: %t, want %t:\n%s", args, got, want, notes)
		}
	}
}

// A Service that is reached from outside has no metrics: they are in one of their own, where Prometheus finds them. The notes warn of
// the open resolver.
func TestChartOutside(t *testing.T) {
	s := newScene(t)
	defineMonitoring(t)
	r := &release{scene: s, namespace: s.namespace}
	services, monitors := "/api/v1/namespaces/"+s.namespace+"/services/", "/apis/monitoring.coreos.com/v1/namespaces/"+s.namespace+"/servicemonitors/"
	for kind, set := range map[string][]string{
		"ClusterIP": nil, "NodePort": nil, "LoadBalancer": {"service.loadBalancerSourceRanges={192.0.2.0/24}"},
	} {
		notes := r.mustInstall("beside", append(set, "service.type="+kind, "prometheus.serviceMonitor.enabled=true")...)
		with, without := read(t, services+"multivalue-metrics"), read(t, services+"multivalue")
		if kind == "ClusterIP" {
			with, without = without, nil
		}
		if text := fmt.Sprint(without); strings.Contains(text, "9153") {
			t.Errorf("%s: metrics are outside: %s", kind, text)
		}
		if text := fmt.Sprint(at(with, "spec")); !strings.Contains(text, "port:9153") || !strings.Contains(text, "type:ClusterIP") || at(with, "metadata", "annotations", "prometheus.io/port") != "9153" {
			t.Errorf("%s: the metrics are not inside: %v", kind, with)
		}
		for name, value := range at(read(t, monitors+"multivalue"), "spec", "selector", "matchLabels").(object) {
			if got := at(with, "metadata", "labels", name); got != value {
				t.Errorf("%s: the ServiceMonitor wants %s=%s, and the Service of the metrics has %v", kind, name, value, got)
			}
		}
		if strings.Contains(notes, "WARNING: its Service has the type "+kind) != (kind != "ClusterIP") {
			t.Errorf("%s: the notes are\n%s", kind, notes)
		}
		mustHelm(t, "uninstall", "multivalue", "-n", s.namespace)
	}
}

// has requires a field of an object in the API.
func (r *release) has(path string, want any, field ...string) {
	r.Helper()
	if got := at(read(r, path), field...); !reflect.DeepEqual(got, want) {
		r.Errorf("%s of %s is %v, want %v", strings.Join(field, "."), path, got, want)
	}
}

// monitored checks what the operator of Prometheus and Grafana find.
func (r *release) monitored(core string) {
	r.Helper()
	var rules object
	if err := yaml.Unmarshal([]byte(readFile(r, "../../deploy/prometheus/multivalue.rules.yaml")), &rules); err != nil {
		r.Fatal(err)
	}
	custom := "/apis/monitoring.coreos.com/v1/namespaces/" + r.namespace
	r.has(custom+"/prometheusrules/multivalue", rules, "spec")
	r.has(core+"/configmaps/multivalue-dashboard", readFile(r, "../../deploy/grafana/multivalue.json"), "data", "multivalue.json")
	r.has(core+"/configmaps/multivalue-dashboard", "1", "metadata", "labels", "grafana_dashboard")
	r.has(core+"/services/multivalue", "true", "metadata", "annotations", "prometheus.io/scrape")
	labels := at(read(r, core+"/services/multivalue"), "metadata", "labels").(object)
	for name, value := range at(read(r, custom+"/servicemonitors/multivalue"), "spec", "selector", "matchLabels").(object) {
		if labels[name] != value {
			r.Errorf("the ServiceMonitor wants %s=%s, and the Service has %v", name, value, labels)
		}
		if at(read(r, core+"/services/multivalue-fleet"), "metadata", "labels", "app.kubernetes.io/component") == labels["app.kubernetes.io/component"] {
			r.Error("the ServiceMonitor selects the Service of the fleet, too")
		}
	}
}

// isClosed checks the policy: members of the fleet, and no others, reach its port, and CoreDNS probes only inside within.
func (r *release) isClosed() {
	r.Helper()
	spec := read(r, "/apis/networking.k8s.io/v1/namespaces/"+r.namespace+"/networkpolicies/multivalue")["spec"].(object)
	own := at(spec, "podSelector")
	for direction, peers := range map[string]string{"ingress": "from", "egress": "to"} {
		found := 0
		for _, rule := range spec[direction].([]any) {
			if at(rule, "ports", "port") == 9254.0 {
				found++
				if want := []any{object{"podSelector": own}}; !reflect.DeepEqual(at(rule, peers), any(want)) || len(at(rule, "ports").([]any)) != 2 {
					r.Errorf("the %s of the fleet is %v", direction, rule)
				}
			}
			if direction == "egress" && at(rule, "ports", "port") == 8080.0 {
				found++
				if want := []any{object{"ipBlock": object{"cidr": "192.0.2.0/24"}}}; !reflect.DeepEqual(at(rule, peers), any(want)) {
					r.Errorf("CoreDNS may probe %v", rule)
				}
			}
		}
		if want := map[string]int{"ingress": 1, "egress": 2}[direction]; found != want {
			r.Errorf("%d rules of %s, want %d", found, direction, want)
		}
	}
	pod := at(read(r, "/apis/apps/v1/namespaces/"+r.namespace+"/deployments/multivalue"), "spec", "template", "metadata", "labels").(object)
	for name, value := range at(own, "matchLabels").(object) {
		if pod[name] != value {
			r.Errorf("the policy is for Pods with %s=%s, and they have %v", name, value, pod)
		}
	}
}

// mayOnly requires what the account of the Pods may do with some kinds of objects, and that it may do nothing else with them.
func (r *release) mayOnly(rights string) {
	r.Helper()
	groups := map[string]string{"endpointslices": "discovery.k8s.io"}
	for _, kind := range []string{"services", "pods", "namespaces", "endpointslices", "nodes", "events", "secrets", "configmaps"} {
		for _, verb := range []string{"get", "list", "watch", "create", "patch", "update", "delete"} {
			review, err := cluster.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", fmt.Sprintf(`{"apiVersion": "authorization.k8s.io/v1",
				"kind": "SubjectAccessReview", "spec": {"user": "system:serviceaccount:%s:multivalue", "resourceAttributes":
				{"verb": %q, "group": %q, "resource": %q}}}`, r.namespace, verb, groups[kind], kind))
			if err != nil {
				r.Fatal(err)
			}
			want := strings.Contains(rights, verb+" "+kind) || (verb == "watch" || verb == "list") && regexp.MustCompile("(watch|list) "+kind).MatchString(rights)
			if got := at(review, "status", "allowed"); got != want {
				r.Errorf("the Pods may %s %s: %v, want %t", verb, kind, got, want)
			}
		}
	}
}

// runs requires that a Pod of a Deployment is accepted where Pod Security is strictest, and that the key of the fleet is for its group
// alone.
func (r *release) runs(deployment string) {
	r.Helper()
	cluster.apply(r, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: "+r.namespace+"\n  labels: {pod-security.kubernetes.io/enforce: restricted}")
	template := at(read(r, deployment), "spec", "template").(object)
	template["apiVersion"], template["kind"] = "v1", "Pod"
	template["metadata"].(object)["name"] = "one"
	text, err := yaml.Marshal(template)
	if err != nil {
		r.Fatal(err)
	}
	at := func(path string) string { return "/api/v1/namespaces/" + r.namespace + "/pods/" + path }
	if _, err := cluster.do(http.MethodPatch, at("one")+"?fieldManager=test", string(text)); err != nil {
		r.Error(err)
	}
	loose := strings.Replace(strings.Replace(string(text), "runAsNonRoot: true", "runAsNonRoot: false", 1), "name: one", "name: two", 1)
	if _, err := cluster.do(http.MethodPatch, at("two")+"?fieldManager=test", loose); err == nil || !strings.Contains(err.Error(), "restricted") {
		r.Errorf("Pod Security is not at work here: %v", err)
	}
	if !strings.Contains(string(text), "defaultMode: 288\n") || !strings.Contains(string(text), "fsGroup: 65532\n") {
		r.Errorf("the key of the fleet is for others, too:\n%s", text)
	}
}

// worksWith runs CoreDNS with the Corefile of a release and the rights of its account, and requires that it takes a dead address out
// once dry_run is gone.
func (s *scene) worksWith(corefile, account string) {
	s.Helper()
	s.Setenv("POD_IP", "192.0.2.99")
	cluster.apply(s, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop")
	own := *s
	own.namespace = "shop"
	defer own.forget()
	own.serve("192.0.2.11")
	own.apply(headless("cart"), slice("cart", "cart-4", "192.0.2.11", "192.0.2.12"))
	corefile = strings.Replace(corefile, "within 192.0.2.0/24", pace+"\n        within 192.0.2.0/24", 1)
	for _, dry := range []bool{true, false} {
		if !dry {
			corefile = strings.Replace(corefile, "dry_run", "", 1)
		}
		own.run(s.here(corefile, account))
		own.settled("cart", 1, 1)
		want := []string{"192.0.2.11", "192.0.2.12"}
		if !dry {
			want = want[:1]
		}
		own.comesTo("cart", "A", want...)
		if own.output.count("forbidden") > 0 {
			s.Error(own.output.String())
		}
		own.kill()
	}
	own.stop("192.0.2.11")
}

// As the DNS of a cluster, the Service has the name, the labels and the address that Pods and tools expect, over an upgrade.
func TestChartClusterDNS(t *testing.T) {
	s := newScene(t)
	cluster.apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: kube-system")
	r := &release{scene: s, namespace: "kube-system"}
	const service, deployment = "/api/v1/namespaces/kube-system/services/kube-dns", "/apis/apps/v1/namespaces/kube-system/deployments/multivalue"
	set := []string{"service.clusterIP=198.51.100.10"}

	cluster.apply(t, "kube-system", "apiVersion: v1\nkind: Service\nmetadata:\n  name: kube-dns\nspec:\n  ports: [{port: 53}]")
	r.refuses("exists and cannot be imported into the current release", []string{service, deployment}, "cluster-dns", set...)
	cluster.delete(t, service)

	if notes := r.mustInstall("cluster-dns", set...); !strings.Contains(notes, "no Pod resolves names") {
		t.Error(notes)
	}
	for range 2 {
		r.has(service, "198.51.100.10", "spec", "clusterIP")
		r.has(service, "kube-dns", "metadata", "labels", "k8s-app")
		r.has(service, "true", "metadata", "labels", "kubernetes.io/cluster-service")
		r.has(deployment, "system-cluster-critical", "spec", "template", "spec", "priorityClassName")
		r.has(deployment, "kube-dns", "spec", "template", "metadata", "labels", "k8s-app")
		r.mustInstall("cluster-dns", append(set, "replicas=3")...)
	}
	r.refuses("service.clusterIP is empty", []string{service, deployment}, "cluster-dns", "service.clusterIP=null")
	mustHelm(t, "rollback", "multivalue", "1", "-n", "kube-system")
	r.has(deployment, 2.0, "spec", "replicas")
	r.has(service, "198.51.100.10", "spec", "clusterIP")
	mustHelm(t, "uninstall", "multivalue", "-n", "kube-system")
	if read(t, service) != nil || read(t, deployment) != nil {
		t.Error("objects are still there")
	}
}
