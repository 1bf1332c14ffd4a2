//go:build linux

package kube

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// annotated is a Service whose owner names its check.
func annotated(service, text string) string {
	before, after, _ := strings.Cut(service, "\nspec:")
	return fmt.Sprintf("%s\n  annotations: {coredns-multivalue.github.io/check: %q}\nspec:%s", before, text, after)
}

// account makes a ServiceAccount that may do what the manifests for annotations allow and nothing else, or only that to
// which of their rules, and returns the kubeconfig file of it.
func (s *scene) account(name string, only ...string) string {
	s.Helper()
	s.Cleanup(func() { // other tests count annotations as well
		if _, err := cluster.do(http.MethodDelete, "/api/v1/namespaces/"+s.namespace+"/services", ""); err != nil {
			s.Error(err)
		}
	})
	text, err := os.ReadFile("../../deploy/kubernetes/rbac-annotations.yaml")
	if err != nil {
		s.Fatal(err)
	}
	role, binding, _ := strings.Cut(string(text), "\n---\n")
	if first, rest, found := strings.Cut(role, "\n- apiGroups"); len(only) > 0 && found {
		role = first
		for rule := range strings.SplitSeq(rest, "\n- apiGroups") {
			if slices.ContainsFunc(only, func(r string) bool { return strings.Contains(rule, "["+r+"]") }) {
				role += "\n- apiGroups" + rule
			}
		}
	}
	words := strings.NewReplacer("name: multivalue-annotations", "name: "+name, "name: coredns", "name: "+name)
	cluster.apply(s, "", words.Replace(role)+"\n---\n"+words.Replace(binding))
	return s.file(name, cluster.config(name))
}

// complaint is what an Event says.
type complaint struct {
	Type, Reason, Message, LastTimestamp string
	InvolvedObject                       struct{ Kind, UID string }
}

// complaints are the Events that tell the owner of a Service what is wrong.
func (s *scene) complaints(service string) (all []complaint) {
	s.Helper()
	var events struct{ Items []complaint }
	var object struct{ Metadata struct{ UID string } }
	cluster.get(s, "/api/v1/namespaces/"+s.namespace+"/events", &events)
	cluster.get(s, "/api/v1/namespaces/"+s.namespace+"/services/"+service, &object)
	for _, e := range events.Items {
		if about := e.InvolvedObject; e.Type == "Warning" && e.Reason == "BadCheck" && about.Kind == "Service" && about.UID == object.Metadata.UID {
			all = append(all, e)
		}
	}
	return all
}

// told waits until the owner of a Service has been told this.
func (s *scene) told(service, prefix string) {
	s.Helper()
	s.eventually(patience, func() bool {
		for _, c := range s.complaints(service) {
			if strings.HasPrefix(c.Message, prefix) {
				return true
			}
		}
		return false
	}, func() string { return fmt.Sprintf("the owner is told %v, and not %s", s.complaints(service), prefix) })
}

// heeded waits until so many annotations are counted as good and as bad.
func (s *scene) heeded(good, bad float64) {
	s.Helper()
	var now [2]float64
	s.eventually(patience, func() bool {
		now = [2]float64{s.metric("coredns_multivalue_annotations", `state="good"`), s.metric("coredns_multivalue_annotations", `state="bad"`)}
		return now == [2]float64{good, bad}
	}, func() string { return fmt.Sprintf("%v good and bad annotations, want %v and %v", now, good, bad) })
}

// The owner of a Service says how it is asked: by an annotation, whose edit and end take effect without a reload. One that
// is wrong makes an Event and is counted, and changes nothing. The account may do that and nothing else (B81).
func TestServiceAnnotation(t *testing.T) {
	s := newScene(t)
	hosts := []string{"192.0.2.11", "192.0.2.12"}
	s.serve(append(hosts, "192.0.2.11:9090")...)
	s.apply(headless("cart"), slice("cart", "cart-4", hosts...))
	s.apply(headless("till"), slice("till", "till-4", hosts...))
	s.start("annotations " + s.account("watcher"))
	s.comesTo("cart", "A", hosts...)
	s.settled("cart", 2, 0)
	s.heeded(0, 0)

	s.apply(annotated(headless("cart"), "http://:9090/healthz status 200-299"))
	s.comesTo("cart", "A", "192.0.2.11")
	s.comesTo("_http._tcp.cart", "SRV", "192-0-2-11:8080")
	s.comesTo("till", "A", hosts...)
	s.heeded(1, 0)
	if s.metric("coredns_multivalue_probes_total", `check="annotation",result="success"`) == 0 {
		t.Error("no probe of an annotation is counted")
	}

	for bad, complaint := range map[string]string{
		"http://:9090/?a=b":                    "query or fragment in the URL",
		"http://evil.example:8080/":            "host in the URL",
		"http://:8080/ header Authorization x": "invalid text after the URL",
	} {
		s.apply(annotated(headless("cart"), bad))
		s.told("cart", "annotation coredns-multivalue.github.io/check is ignored: "+complaint)
		s.heeded(0, 1)
		s.comesTo("cart", "A", "192.0.2.11")
	}

	s.apply(annotated(headless("cart"), "tcp://:8080"))
	s.comesTo("cart", "A", hosts...)
	s.stop("192.0.2.11")
	s.leavesTo("cart", "A", "192.0.2.12")
	s.serve("192.0.2.11")
	s.apply(annotated(headless("cart"), "http://:9090/"))
	s.comesTo("cart", "A", "192.0.2.11")

	before := s.asked("192.0.2.12")
	s.apply(headless("cart"))
	s.comesTo("cart", "A", hosts...)
	s.heeded(0, 0)
	s.eventually(patience, func() bool { return s.asked("192.0.2.12") > before }, func() string { return "the stanza's own check asks no more" })
	if s.output.count("Reloading") > 0 || s.output.count("annotations: ") > 0 {
		t.Error("the program reloaded, or complains")
	}
}

// Without the right to create Events, a line in the log says so, once; all else is the same.
func TestServiceAnnotationWithoutEvents(t *testing.T) {
	s := newScene(t)
	s.serve("192.0.2.11", "192.0.2.12", "192.0.2.12:9090")
	s.apply(headless("cart"), slice("cart", "cart-4", "192.0.2.11", "192.0.2.12"))
	s.start("annotations " + s.account("silent", "services"))
	for i := range 3 {
		s.apply(annotated(headless("cart"), fmt.Sprintf("nonsense %d", i)), annotated(headless("till"), fmt.Sprintf("body %d", i)))
		s.heeded(0, 2)
	}
	s.apply(annotated(headless("cart"), "http://:9090/"))
	s.heeded(1, 1)
	s.comesTo("cart", "A", "192.0.2.12")
	s.eventually(patience, func() bool { return s.output.count("cannot write Events.*forbidden") == 1 },
		func() string { return "the log does not say that the right is missing, or more than once" })
	if got := s.complaints("cart"); len(got) > 0 {
		t.Errorf("there are Events all the same: %v", got)
	}
}

// Whoever starts anew says of what is still wrong that it is, by the Event that is there.
func TestServiceAnnotationIsStillWrong(t *testing.T) {
	s := newScene(t)
	s.apply(annotated(headless("cart"), "nonsense"))
	watcher := s.account("watcher")
	s.start("annotations " + watcher)
	s.told("cart", "annotation coredns-multivalue.github.io/check is ignored: unsupported scheme")
	first := s.complaints("cart")
	s.eventually(patience, func() bool {
		s.reload("annotations " + watcher)
		now := s.complaints("cart")
		return len(now) != 1 || now[0].LastTimestamp > first[0].LastTimestamp
	}, func() string { return "the Event grows old" })
	if got := s.complaints("cart"); len(got) != 1 || s.output.count("annotations: ") > 0 {
		t.Errorf("the owner is told %v, and the log has complaints", got)
	}
}

// While the API is gone, what annotations said stays, also over a reload; afterwards they are followed again. Where the API
// was never there, or may not be read, the stanza's own check is asked, and the log says so.
func TestServiceAnnotationOutage(t *testing.T) {
	s := newScene(t)
	hosts := []string{"192.0.2.11", "192.0.2.12"}
	s.serve(append(hosts, "192.0.2.11:9090")...)
	s.apply(annotated(headless("cart"), "http://:9090/"), slice("cart", "cart-4", hosts...))
	watcher := s.account("watcher")
	s.start("annotations " + watcher)
	s.comesTo("cart", "A", "192.0.2.11")

	s.reload("annotations " + watcher + "\n limit 4")
	s.stays("cart", "A", func() bool { return s.output.count("Reloading complete") == 1 }, "192.0.2.11")
	cluster.server.kill()
	t.Cleanup(func() {
		if cluster.server.over() && t.Failed() { // the next test wants it
			_ = cluster.start()
		}
	})
	s.eventually(patience, func() bool { return s.output.count("cannot watch Services") > 0 }, func() string { return "the log does not tell of the outage" })
	s.comesTo("cart", "A", "192.0.2.11")
	s.serve("192.0.2.12:9090")
	s.leavesTo("cart", "A", hosts...)
	s.heeded(1, 0)
	if err := cluster.start(); err != nil {
		t.Fatal(err)
	}
	s.stop("192.0.2.11")
	s.apply(annotated(headless("cart"), "tcp://:8080"))
	s.eventually(4*patience, func() bool { return slices.Equal(s.data("cart", "A"), []string{"192.0.2.12"}) },
		func() string { return "the annotation is not followed any more" })

	nowhere := strings.ReplaceAll(cluster.config("watcher"), "127.0.0.1:6443", "127.0.0.1:1")
	for _, file := range []string{s.file("nowhere", nowhere), s.file("nobody", cluster.config("nobody"))} {
		count := s.output.count("cannot watch Services")
		s.reload("annotations " + file)
		s.eventually(patience, func() bool { return s.output.count("cannot watch Services") > count }, func() string { return "the log does not tell what is wrong" })
		s.heeded(0, 0)
		s.comesTo("cart", "A", "192.0.2.12")
	}
}

// reload edits the Corefile, and has the program read it.
func (s *scene) reload(more string) {
	s.Helper()
	s.configure(corefile, more)
	done := s.output.count("Reloading complete")
	if err := s.Process.Signal(syscall.SIGUSR1); err != nil {
		s.Fatal(err)
	}
	s.eventually(patience, func() bool { return s.output.count("Reloading complete") > done }, func() string { return "the program does not reload" })
}

// The rights are those that it takes, and no more.
func TestServiceAnnotationRights(t *testing.T) {
	s := newScene(t)
	s.account("watcher")
	var role struct{ Rules json.RawMessage }
	cluster.get(t, "/apis/rbac.authorization.k8s.io/v1/clusterroles/watcher", &role)
	const want = `[{"verbs":["list","watch"],"apiGroups":[""],"resources":["services"]},{"verbs":["create","patch"],"apiGroups":[""],"resources":["events"]}]`
	if got := string(role.Rules); got != want {
		t.Errorf("the rights are %s\nwant %s", got, want)
	}
}

// The example of the manual does what it says, and says what it takes.
func TestServiceAnnotationExample(t *testing.T) {
	s := newScene(t)
	manual, err := os.ReadFile("../../docs/manual.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(manual), "\n### Annotations\n")
	_, text, hasText := strings.Cut(section, "coredns-multivalue.github.io/check: \"")
	text, _, _ = strings.Cut(text, "\"")
	_, example, hasExample := strings.Cut(section, "~~~ txt\ncluster.local {\n")
	example, _, _ = strings.Cut(example, "~~~\n")
	if !found || !hasText || !hasExample {
		t.Fatal("the manual has no example of an annotation")
	}
	s.serve("192.0.2.11", "192.0.2.12:9090", "192.0.2.11:9090")
	s.apply(headless("cart"), slice("cart", "cart-4", "192.0.2.11", "192.0.2.12"))
	example = strings.NewReplacer("shop.svc", "NS.svc", "annotations\n", "annotations "+s.account("watcher")+"\n",
		"check http://:8080/healthz", "check tcp://:9090",
		"kubernetes cluster.local\n", "kubernetes cluster.local {\n        kubeconfig CONFIG\n    }\n    prometheus 127.0.0.1:9153\n").Replace(example)
	s.run(s.configure(ours("cluster.local {\n    errors\n"+example), ""))
	s.comesTo("cart", "A", "192.0.2.11", "192.0.2.12")
	s.settled("cart", 2, 0)
	s.apply(annotated(headless("cart"), text))
	s.comesTo("cart", "A", "192.0.2.11")
	s.heeded(1, 0)
}
