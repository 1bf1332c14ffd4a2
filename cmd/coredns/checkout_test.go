//go:build long

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue"
)

// The plugin can be built into a copy of CoreDNS's source as the manual says: a line in plugin.cfg, go generate, go build.
// The result is a CoreDNS with the plugin, and with the property annotations if the line is the one for package full.
func TestCheckout(t *testing.T) {
	source, dir := coreDNS(t), filepath.Join(t.TempDir(), "coredns")
	if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	run(t, ".", "chmod", "-R", "u+w", dir) // the copy of the module cache is read-only, as the cache is
	if err := os.Remove(filepath.Join(dir, "plugin.cfg")); err != nil {
		t.Fatal(err)
	}
	ours, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	// This tree replaces what "go get" would download.
	const module = "github.com/coredns-multivalue/multivalue"
	run(t, dir, "go", "mod", "edit", "-require", module+"@v0.0.0", "-replace", module+"="+ours)
	line, withAnnotations := example(t)
	const stanza = "cluster.local:0 {\n    bind 127.0.0.1\n    multivalue {\n        check tcp://:80\n        within 10.0.0.0/8\n        annotations\n    }\n}\n"
	for line, want := range map[string]string{
		line:            "Corefile:6 - Error during parsing: annotations is not part of this CoreDNS",
		withAnnotations: "Corefile:6 - Error during parsing: annotations: not running in a Pod of a cluster: name a kubeconfig file",
	} {
		withLine(t, filepath.Join(source, "plugin.cfg"), filepath.Join(dir, "plugin.cfg"), line)
		run(t, dir, "go", "generate", "coredns.go")
		run(t, dir, "go", "build", "-mod=mod", "-o", "coredns")
		readsStanza(t, dir)
		saysVersion(t, dir)
		if out := fails(t, dir, stanza); !strings.Contains(out, want) {
			t.Errorf("by %s:\n%s\nwant %s", line, out, want)
		}
	}
}

// readsStanza checks that the program has the plugin, and that the plugin parses its stanza.
func readsStanza(t *testing.T, dir string) {
	t.Helper()
	if out := run(t, dir, "./coredns", "-plugins"); !strings.Contains(out, "\nmultivalue\n") {
		t.Errorf("no multivalue among the plugins:\n%s", out)
	}
	out := fails(t, dir, "example.org:0 {\n    bind 127.0.0.1\n    multivalue {\n        chekc tcp://:80\n    }\n}\n")
	if !strings.Contains(out, `Corefile:4 - Error during parsing: unknown property "chekc": did you mean "check"?`) {
		t.Errorf("the plugin did not parse its stanza:\n%s", out)
	}
}

// saysVersion checks that the log of the program has the version of the plugin, which its option -version cannot show.
func saysVersion(t *testing.T, dir string) {
	t.Helper()
	const valid = "example.org:0 {\n    bind 127.0.0.1\n    multivalue {\n        check tcp://:80\n    }\n    erratic\n}\n"
	if err := os.WriteFile(filepath.Join(dir, "Corefile"), []byte(valid), 0o600); err != nil {
		t.Fatal(err)
	}
	out := run(t, dir, "sh", "-c", "timeout 5 ./coredns 2>&1 || true")
	if want := "[INFO] plugin/multivalue: version " + multivalue.Version; !strings.Contains(out, want) {
		t.Errorf("the log lacks %q:\n%s", want, out)
	}
}

// fails runs the program with an invalid Corefile, and returns its output. The program must exit with an error.
func fails(t *testing.T, dir, corefile string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "Corefile"), []byte(corefile), 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, dir, "sh", "-c", "unset KUBERNETES_SERVICE_HOST; ! ./coredns 2>&1")
}
