//go:build linux

package node

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The stanza has this pace: the check's interval, fast interval and timeout, and the bound that the manual gives.
const (
	pace  = "interval 1s 200ms\n        timeout 500ms"
	bound = time.Second + 2*500*time.Millisecond + 500*time.Millisecond
)

// soon is how long a test waits for an event that is promised within the bound, on a busy machine. patience is the
// limit for events without a bound.
const (
	soon     = 3*bound + 5*time.Second
	patience = 90 * time.Second
)

// namespace holds the backends and the client. The stanza of our manifests is for that namespace.
const namespace = "shop"

// scene is the node, with CoreDNS as its manifests set it up, a client Pod, and the objects of the test.
type scene struct {
	testing.TB
	service string // the name of the test
	server  string // where the client asks, or nothing: that of its resolv.conf
	asker   string // the name of the client
	at      pod    // the client, once it was used
}

// first deploys CoreDNS and the clients, for all tests. Two tests that run at once have a client each.
var first = sync.OnceValue(func() error {
	if err := writeOverlay(); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"apply", "-k", file("overlay1")},
		{"create", "namespace", namespace},
		{"-n", namespace, "wait", "--for=create", "serviceaccount/default", "--timeout=60s"},
		{"-n", namespace, "run", "client", "--image=test.invalid/pod:1", "--restart=Never", "--", "serve"},
		{"-n", namespace, "run", "another", "--image=test.invalid/pod:1", "--restart=Never", "--", "serve"},
		{"-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s"},
		{"-n", namespace, "wait", "--for=condition=Ready", "pod/client", "pod/another", "--timeout=60s"},
	} {
		if _, err := kubectl("", args...); err != nil {
			return err
		}
	}
	return nil
})

// newScene prepares a scene. Its Corefile is that of the manifests, without dry_run.
func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{TB: t, service: strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(t.Name(), "Test")), "/", "-"), asker: "client"}
	if err := first(); err != nil {
		t.Fatalf("%v\n%s", err, logs())
	}
	t.Cleanup(func() {
		if t.Failed() {
			all, _ := kubectl("", "get", "pods,endpointslices,events", "-A")
			t.Log(all)
			for _, namespace := range []string{"kube-system", "multivalue", "chart"} {
				for _, label := range []string{"app=multivalue-coredns", "k8s-app=kube-dns", "app.kubernetes.io/name=multivalue"} {
					said, _ := kubectl("", "-n", namespace, "logs", "-l", label, "--prefix", "--tail=20")
					if !strings.Contains(said, "No resources found") {
						t.Log(said)
					}
				}
			}
			t.Log(logs())
		}
	})
	return s
}

// overlay is what a user would write: the manifests with the image, the address and the Corefile of this cluster. The
// kubelet probes readiness every second, so that a rollout takes seconds.
const overlay = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [MANIFESTS/kube-dns]
images: [{name: registry.example.org/coredns-multivalue, newName: test.invalid/coredns, newTag: "1"}]
patches:
- patch: |
    apiVersion: v1
    kind: Service
    metadata: {name: kube-dns, namespace: kube-system}
    spec: {clusterIP: 198.51.100.10}
- patch: |
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: coredns, namespace: kube-system}
    spec: {template: {spec: {containers: [{name: coredns, readinessProbe: {periodSeconds: 1}}]}}}
`

// writeOverlay writes the overlay, and the Corefile of the manifests with the networks of this cluster and our pace.
func writeOverlay() error {
	rendered, err := kubectl("", "kustomize", manifests+"kube-dns")
	if err != nil {
		return err
	}
	_, corefile, found := strings.Cut(rendered, "  Corefile: |\n")
	corefile, _, ends := strings.Cut(corefile, "\n  networks.part: ")
	if !found || !ends {
		return fmt.Errorf("no Corefile in\n%s", rendered)
	}
	corefile = strings.ReplaceAll(corefile, "\n    ", "\n")[4:]
	original = strings.NewReplacer("import order.conf", "loadbalance", "import *.part", pace+"\n        within 203.0.113.0/24 2001:db8:2::/64",
		"        dry_run\n", "", " reload\n", " reload 2s 1s\n", "ttl 30", "ttl 5").Replace(corefile)
	for _, word := range []string{"dry_run", "import"} {
		if strings.Contains(original, word) {
			return fmt.Errorf("the Corefile of the manifests is not as these tests expect: %s is left in\n%s", word, original)
		}
	}
	for _, tag := range []string{"1", "2"} {
		text := strings.ReplaceAll(overlay, `"1"`, `"`+tag+`"`) + "- patch: |\n" + indent(configMap("coredns", original), "    ")
		if err := writeKustomization("overlay"+tag, text); err != nil {
			return err
		}
	}
	return nil
}

// writeKustomization writes what a user would, on top of the manifests, into a directory of its own.
func writeKustomization(name, text string) error {
	all, err := filepath.Abs(manifests)
	if err != nil {
		return err
	}
	relative, err := filepath.Rel(file(name), all) // kustomize accepts nothing else
	if err != nil {
		return err
	}
	if err := os.MkdirAll(file(name), 0o700); err != nil {
		return err
	}
	return os.WriteFile(file(name+"/kustomization.yaml"), []byte(strings.ReplaceAll(text, "MANIFESTS", relative)), 0o600)
}

// original is the Corefile at the beginning and the end of every scene.
var original string

func configMap(name, corefile string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", namespace: kube-system}\ndata:\n  Corefile: |\n" + indent(corefile, "    ")
}

func indent(text, by string) string {
	return by + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+by) + "\n"
}

// kubectl runs kubectl as a user would.
func kubectl(input string, args ...string) (string, error) {
	c := exec.Command("kubectl", args...)
	c.Stdin = strings.NewReader(input)
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (s *scene) kubectl(args ...string) string {
	s.Helper()
	out, err := kubectl("", args...)
	if err != nil {
		s.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// apply creates or changes objects. The server checks them strictly.
func (s *scene) apply(objects string) {
	s.Helper()
	if _, err := kubectl(objects, "apply", "-f", "-"); err != nil {
		s.Fatal(err)
	}
}

// configure edits the ConfigMap of CoreDNS. The end of the test restores the original.
func (s *scene) configure(corefile string) {
	s.Helper()
	s.apply(configMap("coredns", corefile))
	s.Cleanup(func() { s.apply(configMap("coredns", original)) })
}

// backends makes a headless Service of that many Pods, and waits until it is in the answers of each CoreDNS: one of them
// may have cached that there was nothing. The end of the test deletes it.
func (s *scene) backends(replicas int) []pod {
	s.Helper()
	pods := s.serviceOf(replicas)
	s.eventually(func() bool {
		for range 20 { // a random one of the two each time
			if s.lookup(s.service) != strings.Join(addresses(pods...), " ") {
				return false
			}
		}
		return true
	}, func() string {
		return fmt.Sprintf("%s has %s, want %s", s.service, s.lookup(s.service), addresses(pods...))
	})
	return pods
}

// lookup returns the addresses of a name in the client Pod, or why there are none within a limit.
func (s *scene) lookup(name string, limit ...string) string {
	s.Helper()
	return s.page(s.client(), ":8080/lookup?server="+s.server+"&name="+name+"&limit="+strings.Join(limit, ""))
}

// serviceOf makes such a Service, in the answers or not.
func (s *scene) serviceOf(replicas int) []pod {
	s.Helper()
	s.apply(strings.ReplaceAll(`apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: shop}
spec: {clusterIP: None, ipFamilyPolicy: RequireDualStack, selector: {app: NAME}, ports: [{name: http, port: 8080}]}
`, "NAME", s.service))
	s.Cleanup(func() { s.kubectl("-n", namespace, "delete", "service", s.service) })
	return s.deploy(replicas)
}

// deploy makes that many Pods, which only we probe, and waits until they run. The end of the test deletes them.
func (s *scene) deploy(replicas int) []pod {
	s.Helper()
	s.apply(strings.NewReplacer("NAME", s.service, "REPLICAS", fmt.Sprint(replicas)).Replace(`apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, namespace: shop}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: it, image: "test.invalid/pod:1", args: [serve]}]
`))
	s.Cleanup(func() { s.kubectl("-n", namespace, "delete", "deployment", s.service, "--cascade=foreground") })
	s.kubectl("-n", namespace, "rollout", "status", "deployment/"+s.service, "--timeout=90s")
	return s.members()
}

// members returns the Pods of the Service.
func (s *scene) members() []pod {
	s.Helper()
	return s.pods(namespace, "app="+s.service)
}

// pod is a Pod of a Service.
type pod struct {
	name      string
	addresses []string // IPv4, IPv6
}

// pods returns the Pods with a label that run and are not about to end, sorted.
func (s *scene) pods(in, label string) (all []pod) {
	s.Helper()
	out := s.kubectl("-n", in, "get", "pods", "-l", label, "--field-selector=status.phase=Running",
		`-o=jsonpath={range .items[*]}{.metadata.name},{.metadata.deletionTimestamp},{.status.podIPs[*].ip}{"\n"}{end}`)
	for line := range strings.Lines(out) {
		if words := strings.Split(strings.TrimSpace(line), ","); words[1] == "" {
			all = append(all, pod{words[0], strings.Fields(words[2])})
		}
	}
	return all
}

func addresses(pods ...pod) (all []string) {
	for _, p := range pods {
		all = append(all, p.addresses...)
	}
	slices.Sort(all)
	return all
}

// process finds the process of a Pod's program on the node. The pause container's process has no arguments.
func (s *scene) process(p pod) int {
	s.Helper()
	environments, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environments {
		text, _ := os.ReadFile(path)
		line, _ := os.ReadFile(filepath.Dir(path) + "/cmdline")
		pid := 0
		if strings.Contains("\x00"+string(text), "\x00HOSTNAME="+p.name+"\x00") && strings.Count(string(line), "\x00") > 1 {
			_, _ = fmt.Sscanf(path, "/proc/%d/", &pid)
			return pid
		}
	}
	s.Fatalf("no process of %s", p.name)
	return 0
}

// hangs stops a Pod's program completely: its kernel still accepts connections, and it answers nothing.
func (s *scene) hangs(p pod) { s.signal(p, syscall.SIGSTOP) }

func (s *scene) goesOn(p pod) { s.signal(p, syscall.SIGCONT) }

func (s *scene) signal(p pod, signal syscall.Signal) {
	s.Helper()
	if err := syscall.Kill(s.process(p), signal); err != nil {
		s.Fatal(err)
	}
}

// page returns a page of a Pod.
func (s *scene) page(p pod, path string) string {
	s.Helper()
	client := http.Client{Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + p.addresses[0] + path)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// client returns the Pod that sends queries.
func (s *scene) client() pod {
	s.Helper()
	if s.at.name == "" {
		s.at = s.pods(namespace, "run="+s.asker)[0]
	}
	return s.at
}

// comesTo asks in the client Pod until a name has exactly these addresses, and returns how long that took.
func (s *scene) comesTo(name string, want ...string) time.Duration {
	s.Helper()
	slices.Sort(want)
	began, got := time.Now(), ""
	s.eventually(func() bool {
		got = s.lookup(name, "2s") // the first query to a new Service is lost: kube-proxy is not that fast
		return got == strings.Join(want, " ")
	}, func() string { return fmt.Sprintf("%s has %s, want %s", name, got, want) })
	return time.Since(began)
}

// eventually waits until the condition holds.
func (s *scene) eventually(condition func() bool, complaint func() string) {
	s.Helper()
	if until(patience, "", condition) != nil {
		s.Fatal(complaint())
	}
}
