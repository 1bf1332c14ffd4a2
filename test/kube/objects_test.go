//go:build linux

package kube

import (
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

// collections has the path in the API for objects of each kind. NS is replaced by the name of the namespace.
var collections = map[string]string{
	"Namespace":           "/api/v1/namespaces/",
	"Node":                "/api/v1/nodes/",
	"Pod":                 "/api/v1/namespaces/NS/pods/",
	"Service":             "/api/v1/namespaces/NS/services/",
	"ServiceAccount":      "/api/v1/namespaces/NS/serviceaccounts/",
	"ConfigMap":           "/api/v1/namespaces/NS/configmaps/",
	"Deployment":          "/apis/apps/v1/namespaces/NS/deployments/",
	"DaemonSet":           "/apis/apps/v1/namespaces/NS/daemonsets/",
	"EndpointSlice":       "/apis/discovery.k8s.io/v1/namespaces/NS/endpointslices/",
	"Lease":               "/apis/coordination.k8s.io/v1/namespaces/NS/leases/",
	"NetworkPolicy":       "/apis/networking.k8s.io/v1/namespaces/NS/networkpolicies/",
	"PodDisruptionBudget": "/apis/policy/v1/namespaces/NS/poddisruptionbudgets/",
	"ClusterRole":         "/apis/rbac.authorization.k8s.io/v1/clusterroles/",
	"ClusterRoleBinding":  "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/",
}

// apply creates or changes objects as written in YAML, with --- between them. The server checks them strictly. An
// object without a namespace is put into that of the scene.
func (a *api) apply(t testing.TB, namespace, text string) {
	t.Helper()
	for object := range strings.SplitSeq(text, "\n---\n") {
		a.patch(t, a.path(t, namespace, object), object)
	}
}

// applyStatus applies the status of an object, which is not written with the rest.
func (a *api) applyStatus(t testing.TB, namespace, object string) {
	t.Helper()
	a.patch(t, a.path(t, namespace, object)+"/status", object)
}

func (a *api) patch(t testing.TB, path, object string) {
	t.Helper()
	if _, err := a.do(http.MethodPatch, path+"?fieldManager=test&force=true&fieldValidation=Strict", object); err != nil {
		t.Fatalf("%v, for\n%s", err, object)
	}
}

// path returns where the API has an object.
func (a *api) path(t testing.TB, namespace, object string) string {
	t.Helper()
	word := func(expression string) string {
		if m := regexp.MustCompile(`(?m)^` + expression + `: (\S+)$`).FindStringSubmatch(object); m != nil {
			return m[1]
		}
		return ""
	}
	collection := collections[word("kind")]
	if collection == "" || word("  name") == "" {
		t.Fatalf("the object has an unknown kind or no name:\n%s", object)
	}
	if own := word("  namespace"); own != "" {
		namespace = own
	}
	return strings.Replace(collection, "NS", namespace, 1) + word("  name")
}

// headless returns a Service without its own address and without a selector: its endpoints are written by hand.
func headless(name string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Service
metadata:
  name: %s
spec:
  clusterIP: None
  ipFamilyPolicy: RequireDualStack
  ports: [{name: http, port: 8080}, {name: admin, port: 9090}]`, name)
}

// slice returns an EndpointSlice of a Service. An endpoint is an address, optionally followed by the name of a host.
// An endpoint in brackets is not ready.
func slice(service, name string, endpoints ...string) string {
	family, list := "IPv4", ""
	for _, e := range endpoints {
		inner := strings.Trim(e, "()")
		address, host, named := strings.Cut(inner, " ")
		if named {
			host = ", hostname: " + host
		}
		if netip.MustParseAddr(address).Is6() {
			family = "IPv6"
		}
		list += fmt.Sprintf("\n- {addresses: [%q], conditions: {ready: %t}%s}", address, inner == e, host)
	}
	return fmt.Sprintf(`apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: %s
  labels: {kubernetes.io/service-name: %s}
addressType: %s
ports: [{name: http, port: 8080}, {name: admin, port: 9090}]
endpoints:%s`, name, service, family, list)
}
