//go:build long

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The other way in, as the manual has it: a copy of CoreDNS's source, a line in plugin.cfg, go generate, go build. What
// comes out is a CoreDNS with the plugin in its place; one with the property annotations if that was the other line.
func TestCheckout(t *testing.T) {
	source, dir := coreDNS(t), filepath.Join(t.TempDir(), "coredns")
	if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	run(t, ".", "chmod", "-R", "u+w", dir) // the module cache is read-only, and so is the copy
	if err := os.Remove(filepath.Join(dir, "plugin.cfg")); err != nil {
		t.Fatal(err)
	}
	ours, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	// This tree stands for what "go get" would fetch.
	const module = "github.com/coredns-multivalue/multivalue"
	run(t, dir, "go", "mod", "edit", "-require", module+"@v0.0.0", "-replace", module+"="+ours)
	line, withAnnotations := example(t)
	const stanza = "cluster.local:0 {\n    bind 127.0.0.1\n    multivalue {\n        check tcp://:80\n        within 10.0.0.0/8\n        annotations\n    }\n}\n"
	for line, want := range map[string]string{
		line:            "Corefile:6 - Error during parsing: annotations: this CoreDNS was built without what reads them",
		withAnnotations: "Corefile:6 - Error during parsing: annotations: not running in a Pod of a cluster: name a kubeconfig file",
	} {
		withLine(t, filepath.Join(source, "plugin.cfg"), filepath.Join(dir, "plugin.cfg"), line)
		run(t, dir, "go", "generate", "coredns.go")
		run(t, dir, "go", "build", "-mod=mod", "-o", "coredns")
		readsStanza(t, dir)
		if out := fails(t, dir, stanza); !strings.Contains(out, want) {
			t.Errorf("by %s:\n%s\nwant %s", line, out, want)
		}
	}
}

// readsStanza wants the program to have the plugin, and that to read its stanza.
func readsStanza(t *testing.T, dir string) {
	t.Helper()
	if out := run(t, dir, "./coredns", "-plugins"); !strings.Contains(out, "\nmultivalue\n") {
		t.Errorf("no multivalue among the plugins:\n%s", out)
	}
	out := fails(t, dir, "example.org:0 {\n    bind 127.0.0.1\n    multivalue {\n        chekc tcp://:80\n    }\n}\n")
	if !strings.Contains(out, `Corefile:4 - Error during parsing: unknown property "chekc": did you mean "check"?`) {
		t.Errorf("the plugin did not read its stanza:\n%s", out)
	}
}

// fails runs the program with a Corefile that it must refuse, and returns what it says.
func fails(t *testing.T, dir, corefile string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "Corefile"), []byte(corefile), 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, dir, "sh", "-c", "unset KUBERNETES_SERVICE_HOST; ! ./coredns 2>&1")
}
