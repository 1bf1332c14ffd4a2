//go:build linux

package kube

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The API takes the manifests as they are, and their Corefile, with networks that are ours, does what it is for (B82).
func TestManifests(t *testing.T) {
	s := newScene(t)
	files, err := filepath.Glob("../../deploy/kubernetes/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		cluster.apply(t, "", string(text))
	}
	var config struct{ Data struct{ Corefile string } }
	cluster.get(t, "/api/v1/namespaces/multivalue/configmaps/coredns", &config)
	cluster.apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop")
	s.namespace = "shop"
	s.serve("192.0.2.11", "192.0.2.12")
	s.apply(headless("cart"), slice("cart", "cart-4", "192.0.2.11", "192.0.2.12"))

	s.run(s.configure(ours(config.Data.Corefile), ""))
	s.comesTo("cart", "A", "192.0.2.11", "192.0.2.12")
	s.settled("cart", 2, 0)
	s.page("127.0.0.1:8181/ready")
	s.stop("192.0.2.12")
	s.settled("cart", 1, 1)
	s.comesTo("cart", "A", "192.0.2.11", "192.0.2.12") // for all is dry
	s.kill()

	s.run(s.configure(strings.Replace(ours(config.Data.Corefile), "dry_run", "", 1), ""))
	s.settled("cart", 1, 1)
	s.comesTo("cart", "A", "192.0.2.11")
}

// The example of the manual is one that CoreDNS takes, and does what it says.
func TestManualExample(t *testing.T) {
	s := newScene(t)
	manual, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(manual), "~~~ txt\ncluster.local {\n")
	example, _, ends := strings.Cut(example, "~~~\n")
	if !found || !ends {
		t.Fatal("the manual has no Corefile for cluster.local")
	}
	s.serve("192.0.2.11")
	s.apply(headless("cart"), slice("cart", "cart-4", "192.0.2.11", "192.0.2.12"))
	example = strings.NewReplacer("shop.svc", "NS.svc", "dry_run", "", "kubernetes cluster.local\n",
		"kubernetes cluster.local {\n        kubeconfig CONFIG\n    }\n    prometheus 127.0.0.1:9153\n").Replace(example)
	s.run(s.configure(ours("cluster.local {\n    errors\n"+example), ""))
	s.settled("cart", 1, 1)
	s.comesTo("cart", "A", "192.0.2.11")
}

// ours is a Corefile made for a Pod of its own, for the address that it has to itself here, at our pace.
func ours(corefile string) string {
	return strings.NewReplacer(
		"errors\n", "errors\n    bind 127.0.0.1\n",
		"health {\n        lameduck 5s\n    }\n", "", // it listens on 8080 everywhere
		"kubernetes cluster.local in-addr.arpa ip6.arpa {\n", "kubernetes cluster.local in-addr.arpa ip6.arpa {\n        kubeconfig CONFIG\n",
		"within 10.244.0.0/16", "PACE\n        within 192.0.2.0/24",
	).Replace(corefile)
}
