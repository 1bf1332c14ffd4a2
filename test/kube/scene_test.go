//go:build linux

package kube

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The stanzas have this pace: interval, fast interval and timeout. A failure is detected within the bound that the
// manual gives.
const (
	pace  = "interval 1s 200ms\n        timeout 500ms"
	bound = time.Second + 2*500*time.Millisecond + 500*time.Millisecond
)

// soon is how long a test waits for an event that is promised within the bound, on a busy machine. patience is the
// limit for events without a bound.
const (
	soon     = 3*bound + 5*time.Second
	patience = 30 * time.Second
)

// corefile is the Corefile of a server for the cluster's names. MORE is replaced by more properties of the stanza.
const corefile = `
cluster.local {
    bind 127.0.0.1
    errors
    prometheus 127.0.0.1:9153
    ready 127.0.0.1:8181
    multivalue {
        check http://:8080/healthz
        PACE
        types A AAAA SRV
        within 192.0.2.0/24 198.18.0.0/16 2001:db8::/64
        MORE
    }
    kubernetes cluster.local {
        kubeconfig CONFIG
    }
}
`

// scene is the complete program with the API, backends, and a namespace of Kubernetes.
type scene struct {
	testing.TB
	*backends
	namespace string
	dir       string
	*process
}

// newScene prepares a scene. Its namespace is named after the test.
func newScene(t *testing.T) *scene {
	t.Helper()
	name := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(t.Name(), "Test"), "/", "-"))
	s := &scene{TB: t, backends: newBackends(t), namespace: name, dir: t.TempDir()}
	rights, err := os.ReadFile("../../deploy/kubernetes/base/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cluster.apply(t, "", string(rights))
	cluster.apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: "+name)
	t.Cleanup(s.forget)
	s.nft("add table inet kube\ndelete table inet kube")
	return s
}

// forget deletes the endpoints, because other tests use the same addresses.
func (s *scene) forget() {
	if _, err := cluster.do(http.MethodDelete, "/apis/discovery.k8s.io/v1/namespaces/"+s.namespace+"/endpointslices", ""); err != nil {
		s.Error(err)
	}
}

// apply creates or changes objects in the namespace of the scene.
func (s *scene) apply(objects ...string) {
	s.Helper()
	cluster.apply(s, s.namespace, strings.Join(objects, "\n---\n"))
}

func (s *scene) file(name, text string) string {
	s.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	return path
}

// configure writes a Corefile.
func (s *scene) configure(text, more string) string {
	s.Helper()
	words := strings.NewReplacer("PACE", pace, "CONFIG", cluster.file("coredns"), "DIR", s.dir, "NS", s.namespace)
	return s.file("Corefile", words.Replace(strings.ReplaceAll(text, "MORE", more)))
}

// start starts the program with the usual Corefile, with more properties in its stanza and more text after its block.
func (s *scene) start(more string, blocks ...string) {
	s.Helper()
	s.run(s.configure(corefile+strings.Join(blocks, "\n"), more))
	s.comesTo("kubernetes.default", "A", "198.51.100.1") // the API's own Service, which exists before ours
}

// run starts the program and waits until it answers queries. The program ends with the test.
func (s *scene) run(corefile string) {
	s.Helper()
	s.process = s.program(corefile)
}

// program starts a CoreDNS and waits until it answers queries. It ends with the test.
func (s *scene) program(corefile string) *process {
	s.Helper()
	p := newProcess(program, "-conf", corefile)
	if err := p.start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		p.kill()
		if s.Failed() {
			s.Logf("output of the program:\n%s", p.output.String())
		}
	})
	s.eventually(patience, func() bool { return p.output.count("^CoreDNS-") > 0 },
		func() string { return "the program does not start" })
	return p
}

// full returns the full name of a Service of the scene, or of a name below it. Other names are returned unchanged.
func (s *scene) full(name string) string {
	switch {
	case strings.HasSuffix(name, "."):
		return name
	case name == "kubernetes.default":
		return name + ".svc.cluster.local."
	}
	return name + "." + s.namespace + ".svc.cluster.local."
}

// comesTo asks until the answer has exactly these data, and returns how long that took.
func (s *scene) comesTo(name, kind string, want ...string) time.Duration {
	s.Helper()
	began, got := time.Now(), []string(nil)
	slices.Sort(want)
	s.eventually(max(soon, patience), func() bool {
		got = s.data(name, kind)
		return slices.Equal(got, want)
	}, func() string { return fmt.Sprintf("%s %s has %q, want %q", name, kind, got, want) })
	return time.Since(began)
}

// leavesTo is comesTo for a change that is promised within the bound.
func (s *scene) leavesTo(name, kind string, want ...string) {
	s.Helper()
	took := s.comesTo(name, kind, want...)
	if took > 100*time.Millisecond {
		s.Logf("%s %s has the wanted answer after %s; the manual promises %s", name, kind, took.Round(time.Millisecond), bound)
	}
	if took > soon {
		s.Errorf("%s %s has the wanted answer only after %s", name, kind, took)
	}
}

// stays checks that this answer, and no other, is given until the condition holds.
func (s *scene) stays(name, kind string, condition func() bool, want ...string) {
	s.Helper()
	slices.Sort(want)
	s.eventually(2*patience, func() bool {
		if got := s.data(name, kind); !slices.Equal(got, want) {
			s.Fatalf("%s %s has %q, want %q throughout", name, kind, got, want)
		}
		return condition()
	}, func() string { return "the condition did not become true in time" })
}

// eventually waits until the condition holds.
func (s *scene) eventually(limit time.Duration, condition func() bool, complaint func() string) {
	s.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatal(complaint())
		}
	}
}

// settled asks until the pool has exactly these numbers of targets up and down, and none unknown.
func (s *scene) settled(name string, up, down int) {
	s.Helper()
	var now [3]int
	s.eventually(2*patience, func() bool {
		s.ask(name, "A")
		s.ask(name, "AAAA")
		for i, state := range []string{"up", "down", "unknown"} {
			now[i] = int(s.metric("coredns_multivalue_targets", `state="`+state+`"`))
		}
		return now == [3]int{up, down, 0}
	}, func() string { return fmt.Sprintf("%d up, down and unknown: want %d, %d, 0", now, up, down) })
}

// metric adds up the samples of a metric whose labels contain the text.
func (s *scene) metric(name, labels string) (total float64) {
	s.Helper()
	for line := range strings.Lines(s.page("127.0.0.1:9153/metrics")) {
		have, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word, _, _ := strings.Cut(have, "{"); word == name && strings.Contains(have, labels) {
			value, _ := strconv.ParseFloat(text, 64)
			total += value
		}
	}
	return total
}

// page returns a page of the program.
func (s *scene) page(at string) string {
	s.Helper()
	client := http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + at)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		s.Fatal(response.Status, err)
	}
	return string(text)
}
