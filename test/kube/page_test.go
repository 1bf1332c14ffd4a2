//go:build linux

package kube

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fences are the texts between fences of a kind on the page on Kubernetes.
func fences(t *testing.T, kind string) (all []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?ms)^~~~ `+kind+`\n(.*?)^~~~$`).FindAllStringSubmatch(readFile(t, "../../docs/kubernetes.md"), -1) {
		all = append(all, m[1])
	}
	return all
}

// The commands on the page work, in their order, in a copy of the manifests. Those that need a node say so.
func TestCommandsOfThePage(t *testing.T) {
	newScene(t)
	at := checkout(t)
	ran, marked := 0, 0
	for _, fence := range fences(t, "sh") {
		for line := range strings.Lines(fence) {
			line = strings.TrimSpace(line)
			if strings.HasSuffix(line, "# needs a node") {
				marked++
				continue
			}
			typed(t, at, line)
			ran++
			switch {
			case strings.HasPrefix(line, "sed "):
				if edited := readFile(t, at+"/deploy/kubernetes/base/config.yaml"); strings.Contains(edited, "   dry_run\n") {
					t.Error("dry_run is still there")
				}
			case strings.Contains(line, "delete -k"): // no controller ends the namespace here
				cluster.finish(t, "multivalue")
			}
		}
	}
	if ran < 8 || marked > 3 {
		t.Errorf("%d commands were run, and %d need a node", ran, marked)
	}
	cluster.delete(t, "/apis/apps/v1/namespaces/multivalue/deployments/coredns")
}

// checkout is a copy of the manifests, at the place that they have in a checkout.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "deploy"), os.DirFS("../../deploy")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// typed runs a command as a user would.
func typed(t *testing.T, dir, line string) {
	t.Helper()
	c := exec.Command("sh", "-c", line)
	c.Dir = dir
	c.Env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"), "KUBECONFIG="+cluster.file("admin"))
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%s: %v: %s", line, err, out)
	}
}

// The commands that put the stanza into the Corefile of an existing CoreDNS, and take it out again, work as they stand in the file.
func TestCommandsForExisting(t *testing.T) {
	newScene(t)
	at := checkout(t)
	cluster.apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: kube-system")
	const path = "/api/v1/namespaces/kube-system/configmaps/coredns"
	if _, err := cluster.do(http.MethodPatch, path+"?fieldManager=kubeadm&force=true",
		"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: coredns\n  namespace: kube-system\ndata:\n  Corefile: |\n    .:53 {\n        errors\n    }\n"); err != nil {
		t.Fatal(err)
	}
	corefile := func() string {
		var config struct{ Data struct{ Corefile string } }
		cluster.get(t, path, &config)
		return config.Data.Corefile
	}
	before := corefile()
	lines := regexp.MustCompile(`(?m)^#   (kubectl .*)$`).FindAllStringSubmatch(readFile(t, deploy+"existing/config.yaml"), -1)
	if len(lines) != 3 {
		t.Fatalf("%d commands", len(lines))
	}
	typed(t, at, lines[0][1])
	typed(t, at, lines[1][1])
	if !strings.Contains(corefile(), "multivalue") {
		t.Errorf("the Corefile has no stanza:\n%s", corefile())
	}
	typed(t, at, lines[2][1])
	if got := corefile(); got != before {
		t.Errorf("after the way back the Corefile is\n%s\nwant\n%s", got, before)
	}
}

// The stub zones for managed clusters lead an unmodified CoreDNS to ours, and leave its other names to it.
func TestStubZone(t *testing.T) {
	s := newScene(t)
	var blocks []string
	for _, kind := range []string{"txt", "yaml"} {
		for _, text := range fences(t, kind) {
			if i := strings.Index(text, "shop.svc.cluster.local:53 {"); i >= 0 && strings.Contains(text, "forward . ADDRESS") {
				blocks = append(blocks, text[i:])
			}
		}
	}
	if len(blocks) != 2 {
		t.Fatalf("%d stub zones", len(blocks))
	}
	s.serve("192.0.2.11", "192.0.2.12")
	s.apply(headless("cart"), slice("cart", "cart-4", "192.0.2.11", "192.0.2.12"))
	s.start("")
	s.settled("cart", 2, 0)
	s.stop("192.0.2.12")
	s.leavesTo("cart", "A", "192.0.2.11")
	for i, block := range blocks {
		at := fmt.Sprint("127.0.0.", 2+i)
		block = strings.NewReplacer("shop.svc", s.namespace+".svc", "errors\n", "errors\n    bind "+at+"\n", "ADDRESS", "127.0.0.1").Replace(block)
		p := newProcess(filepath.Join(filepath.Dir(program), "plain"), "-conf", s.file(fmt.Sprint("Corefile", i), strings.ReplaceAll(block+`
.:53 {
    bind AT
    kubernetes cluster.local {
        kubeconfig `+cluster.file("coredns")+`
    }
}
`, "AT", at)))
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			p.kill()
			if t.Failed() {
				t.Log(p.output.String())
			}
		})
		for name, want := range map[string]string{s.full("cart"): "192.0.2.11", "kubernetes.default.svc.cluster.local.": "198.51.100.1"} {
			var got []string
			s.eventually(patience, func() bool {
				reply, err := question{server: at + ":53"}.ask(name, "A")
				if err != nil {
					return false
				}
				got = data(reply.Answer)
				return slices.Equal(got, []string{want})
			}, func() string { return fmt.Sprintf("%s is %q, want %s", name, got, want) })
		}
	}
}

// What is behind a Service without a selector is checked, as the page shows it (B79, B81).
func TestServicesOutside(t *testing.T) {
	s := newScene(t)
	cluster.apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop")
	s.namespace = "shop"
	defer s.forget()
	for _, text := range fences(t, "yaml") {
		if strings.Contains(text, "kind: EndpointSlice") {
			s.apply(strings.TrimSpace(text))
		}
	}
	s.serve("192.0.2.21:5432", "192.0.2.22:5432")
	s.start("annotations " + s.account("watcher"))
	s.settled("db", 2, 0)
	s.comesTo("db", "A", "192.0.2.21", "192.0.2.22")
	s.stop("192.0.2.21:5432")
	s.leavesTo("db", "A", "192.0.2.22")
	s.serve("192.0.2.21:5432")
	s.leavesTo("db", "A", "192.0.2.21", "192.0.2.22")
	cluster.delete(t, "/api/v1/namespaces/shop/services/db")
}
