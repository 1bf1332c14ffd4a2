//go:build linux

package node

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"text/template"
)

// plain is the image of a CoreDNS without multivalue, as clusters have it.
const plain = "test.invalid/plain:1"

// kubeadm makes the DNS of the cluster that kubeadm would make, until the end of the test. Its Corefile is reloaded sooner,
// and the kubelet probes readiness every second.
func (s *scene) kubeadm() {
	s.Helper()
	s.withoutDNS()
	var all []string
	for _, name := range []string{"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "ConfigMap", "Deployment", "Service"} {
		all = append(all, s.ofKubeadm("CoreDNS"+name))
	}
	objects := strings.NewReplacer("  resourceVersion: \"0\"\n", "", " reload\n", " reload 2s 1s\n", "ttl 30", "ttl 5",
		"readinessProbe:\n", "readinessProbe:\n          periodSeconds: 1\n").Replace(strings.Join(all, "---\n"))
	if strings.Count(objects, "reload 2s") != 1 || strings.Count(objects, "periodSeconds") != 1 {
		s.Fatalf("the manifests of kubeadm are not as this test expects:\n%s", objects)
	}
	s.Cleanup(func() {
		if _, err := kubectl(objects, "delete", "--timeout=90s", "-f", "-"); err != nil {
			s.Error(err)
		}
	})
	if _, err := kubectl(objects, "create", "-f", "-"); err != nil {
		s.Fatal(err)
	}
	s.rolledOut()
	s.comesTo(s.service, addresses(s.members()...)...)
}

// addsAStanza requires that the Corefile of our manifests is that of kubeadm, with a stanza and nothing else.
func (s *scene) addsAStanza() {
	s.Helper()
	words := func(config string) string {
		_, corefile, _ := strings.Cut(config, "Corefile: |\n")
		return strings.Join(strings.Fields(corefile), " ")
	}
	before, stanza, found := strings.Cut(words(s.manifest("existing/config.yaml")), "multivalue ")
	_, after, _ := strings.Cut(stanza, "} ")
	if want := words(s.ofKubeadm("CoreDNSConfigMap")); !found || before+after != want {
		s.Errorf("without its stanza, the Corefile of existing is\n%s\nand kubeadm has\n%s", before+after, want)
	}
}

// ofKubeadm returns a manifest from the source of kubeadm, for this cluster.
func (s *scene) ofKubeadm(name string) string {
	s.Helper()
	source, err := parser.ParseFile(token.NewFileSet(), os.Getenv("MULTIVALUE_KUBEADM"), nil, parser.SkipObjectResolution)
	if err != nil {
		s.Fatal(err)
	}
	text := ""
	ast.Inspect(source, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Names[0].Name == name {
			text, err = strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		}
		return true
	})
	if err != nil || text == "" {
		s.Fatalf("kubeadm has no %s: %v", name, err)
	}
	var filled strings.Builder
	if err := template.Must(template.New(name).Parse(text)).Execute(&filled, map[string]any{"DNSIP": "198.51.100.10", "DNSDomain": "cluster.local",
		"DeploymentName": "coredns", "Replicas": 2, "Image": plain, "ControlPlaneTaintKey": "node-role.kubernetes.io/control-plane"}); err != nil {
		s.Fatal(err)
	}
	return filled.String()
}
