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
	"time"
)

// annotated is a Service with an annotation that sets its check.
func annotated(service, text string) string {
	before, after, _ := strings.Cut(service, "\nspec:")
	return fmt.Sprintf("%s\n  annotations: {coredns-multivalue.github.io/check: %q}\nspec:%s", before, text, after)
}

// account makes a ServiceAccount with the rights of the manifests for annotations and no others, or only with those
// of the given rules, and returns its kubeconfig file.
func (s *scene) account(name string, only ...string) string {
	s.Helper()
	s.Cleanup(func() { // other tests count annotations as well
		if _, err := cluster.do(http.MethodDelete, "/api/v1/namespaces/"+s.namespace+"/services", ""); err != nil {
			s.Error(err)
		}
	})
	return s.rights(name, "annotations", only...)
}

// rights makes a ServiceAccount with the rights of the manifests for a property and no others, or only with those of the given
// rules, and returns its kubeconfig file.
func (s *scene) rights(name, property string, only ...string) string {
	s.Helper()
	text := readFile(s, deploy+"components/"+property+"/rbac.yaml")
	role, binding, _ := strings.Cut(text, "\n---\n")
	if first, rest, found := strings.Cut(role, "\n- apiGroups"); len(only) > 0 && found {
		role = first
		for rule := range strings.SplitSeq(rest, "\n- apiGroups") {
			if slices.ContainsFunc(only, func(r string) bool { return strings.Contains(rule, "["+r+"]") }) {
				role += "\n- apiGroups" + rule
			}
		}
	}
	words := strings.NewReplacer("name: multivalue-"+property, "name: "+name, "name: coredns", "name: "+name)
	cluster.apply(s, "", words.Replace(role)+"\n---\n"+words.Replace(binding))
	return s.file(name, cluster.config(name))
}

// complaint is the content of an Event.
type complaint struct {
	Type, Reason, Message, LastTimestamp string
	InvolvedObject                       struct{ Kind, UID string }
}

// complaints lists the Events that report a problem to the owner of a Service.
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

// told waits until the owner of a Service has this report.
func (s *scene) told(service, prefix string) {
	s.Helper()
	s.eventually(patience, func() bool {
		for _, c := range s.complaints(service) {
			if strings.HasPrefix(c.Message, prefix) {
				return true
			}
		}
		return false
	}, func() string { return fmt.Sprintf("the owner's Events are %v, want %s", s.complaints(service), prefix) })
}

// annotationsCounted waits until the metrics show that many valid and invalid annotations.
func (s *scene) annotationsCounted(good, bad float64) {
	s.Helper()
	var now [2]float64
	s.eventually(patience, func() bool {
		now = [2]float64{s.metric("coredns_multivalue_annotations", `state="good"`), s.metric("coredns_multivalue_annotations", `state="bad"`)}
		return now == [2]float64{good, bad}
	}, func() string { return fmt.Sprintf("%v valid and invalid annotations, want %v and %v", now, good, bad) })
}

// The owner of a Service sets its check with an annotation, and editing or removing the annotation takes effect
// without a reload. A wrong annotation makes an Event, is counted, and changes nothing. The account needs only the
// rights for that (B81).
func TestServiceAnnotation(t *testing.T) {
	s := newScene(t)
	hosts := []string{"192.0.2.11", "192.0.2.12"}
	s.serve(append(hosts, "192.0.2.11:9090")...)
	s.apply(headless("cart"), slice("cart", "cart-4", hosts...))
	s.apply(headless("till"), slice("till", "till-4", hosts...))
	s.start("annotations " + s.account("watcher"))
	s.comesTo("cart", "A", hosts...)
	s.settled("cart", 2, 0)
	s.annotationsCounted(0, 0)

	s.apply(annotated(headless("cart"), "http://:9090/healthz status 200-299"))
	s.comesTo("cart", "A", "192.0.2.11")
	s.comesTo("_http._tcp.cart", "SRV", "192-0-2-11:8080")
	s.comesTo("till", "A", hosts...)
	s.annotationsCounted(1, 0)
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
		s.annotationsCounted(0, 1)
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
	s.annotationsCounted(0, 0)
	s.eventually(patience, func() bool { return s.asked("192.0.2.12") > before }, func() string { return "the stanza's own check does not probe" })
	if s.output.count("Reloading") > 0 || s.output.count("annotations: ") > 0 {
		t.Error("the program reloaded, or logged a problem")
	}
}

// Without the right to create Events, one line in the log says that, and everything else is the same.
func TestServiceAnnotationWithoutEvents(t *testing.T) {
	s := newScene(t)
	s.serve("192.0.2.11", "192.0.2.12", "192.0.2.12:9090")
	s.apply(headless("cart"), slice("cart", "cart-4", "192.0.2.11", "192.0.2.12"))
	s.start("annotations " + s.account("silent", "services"))
	for i := range 3 {
		s.apply(annotated(headless("cart"), fmt.Sprintf("nonsense %d", i)), annotated(headless("till"), fmt.Sprintf("body %d", i)))
		s.annotationsCounted(0, 2)
	}
	s.apply(annotated(headless("cart"), "http://:9090/"))
	s.annotationsCounted(1, 1)
	s.comesTo("cart", "A", "192.0.2.12")
	s.eventually(patience, func() bool { return s.output.count("cannot write Events.*forbidden") == 1 },
		func() string { return "the log does not say that the right is missing, or more than once" })
	if got := s.complaints("cart"); len(got) > 0 {
		t.Errorf("there are Events: %v", got)
	}
}

// After a restart, the program reports a problem that remains by updating the existing Event.
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
	}, func() string { return "the Event is not updated" })
	if got := s.complaints("cart"); len(got) != 1 || s.output.count("annotations: ") > 0 {
		t.Errorf("the owner's Events are %v, and the log has problems", got)
	}
}

// While the API is gone, annotations stay in force, even over a reload. When it is back, they are followed again. If
// the API was never there, or may not be read, the stanza's own check is used, and the log says that.
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
		if cluster.server.over() && t.Failed() { // the next test needs it
			_ = cluster.start()
		}
	})
	s.eventually(patience, func() bool { return s.output.count("cannot watch Services") > 0 }, func() string { return "the log does not report the outage" })
	s.comesTo("cart", "A", "192.0.2.11")
	s.serve("192.0.2.12:9090")
	s.leavesTo("cart", "A", hosts...)
	s.annotationsCounted(1, 0)
	if err := cluster.start(); err != nil {
		t.Fatal(err)
	}
	s.stop("192.0.2.11")
	s.apply(annotated(headless("cart"), "tcp://:8080"))
	s.eventually(4*patience, func() bool { return slices.Equal(s.data("cart", "A"), []string{"192.0.2.12"}) },
		func() string { return "the annotation is no longer followed" })

	nowhere := strings.ReplaceAll(cluster.config("watcher"), "127.0.0.1:6443", "127.0.0.1:1")
	for _, file := range []string{s.file("nowhere", nowhere), s.file("nobody", cluster.config("nobody"))} {
		count := s.output.count("cannot watch Services")
		s.reload("annotations " + file)
		s.eventually(patience, func() bool { return s.output.count("cannot watch Services") > count }, func() string { return "the log does not report the problem" })
		s.annotationsCounted(0, 0)
		s.comesTo("cart", "A", "192.0.2.12")
	}
}

// reload edits the Corefile and makes the program read it.
func (s *scene) reload(more string) {
	s.Helper()
	s.configure(corefile, more)
	heard, done := s.output.count("SIGUSR1: Reloading"), s.output.count("Reloading complete")
	var sent time.Time
	s.eventually(patience, func() bool {
		// CoreDNS registers its signal handler in a goroutine. A signal that was sent before that is lost.
		if s.output.count("SIGUSR1: Reloading") == heard && time.Since(sent) > 5*time.Second {
			sent = time.Now()
			if err := s.Process.Signal(syscall.SIGUSR1); err != nil {
				s.Fatal(err)
			}
		}
		return s.output.count("Reloading complete") > done
	}, func() string { return "the program does not reload" })
}

// The account has exactly the rights that annotations need.
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

// The example in the manual works, and so do the rights that the manual names for it.
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
	s.annotationsCounted(1, 0)
}
