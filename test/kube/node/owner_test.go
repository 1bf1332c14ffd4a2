//go:build linux

package node

import (
	"os"
	"strings"
	"testing"
)

// manifests is the directory of our manifests.
const manifests = "../../../deploy/kubernetes/"

// manifest returns one of them, with words replaced.
func (s *scene) manifest(name string, oldnew ...string) string {
	s.Helper()
	text, err := os.ReadFile(manifests + name)
	if err != nil {
		s.Fatal(err)
	}
	return strings.NewReplacer(oldnew...).Replace(string(text))
}

// In a Pod, CoreDNS finds the API by what every Pod gets, and for annotations it needs only the rights in their
// manifest. The Pods of a Service are probed as its owner's annotation says, and an Event reports what is wrong with
// it (B81).
func TestAnnotatedService(t *testing.T) {
	s := newScene(t)
	s.apply(s.manifest("components/annotations/rbac.yaml", "namespace: multivalue", "namespace: kube-system"))
	t.Cleanup(func() { s.kubectl("delete", "clusterrole,clusterrolebinding", "multivalue-annotations") })
	pods := s.backends(2)
	s.judged()
	s.configure(strings.Replace(original, "limit off", "limit off\n        annotations", 1))
	s.reloaded(1)
	s.load() // an address that no query asks for is not probed
	s.annotate("http://:8080/healthz status 404")
	for _, p := range pods {
		s.says(p.addresses[0] + ":8080 is down after 3 failures of http://:8080/healthz status 404: status 200")
	}
	s.loaded()                                  // all are down,
	s.comesTo(s.service, addresses(pods...)...) // so all are served

	s.annotate("http://:8080/healthz header Authorization secret")
	s.eventually(func() bool {
		return strings.Contains(s.kubectl("-n", namespace, "get", "events", "--field-selector=involvedObject.name="+s.service), "BadCheck")
	}, func() string { return "no Event reports the problem" })
	s.kubectl("-n", namespace, "annotate", "service", s.service, "coredns-multivalue.github.io/check-")
	s.comesTo(s.service, addresses(pods...)...)
}

func (s *scene) annotate(check string) {
	s.Helper()
	s.kubectl("-n", namespace, "annotate", "--overwrite", "service", s.service, "coredns-multivalue.github.io/check="+check)
}

// applyOnServer applies a manifest in the way that the manifests for an existing CoreDNS describe.
func (s *scene) applyOnServer(objects string) {
	s.Helper()
	if _, err := kubectl(objects, "apply", "--server-side", "--force-conflicts", "-f", "-"); err != nil {
		s.Fatal(err)
	}
}
