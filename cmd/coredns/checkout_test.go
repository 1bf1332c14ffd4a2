//go:build long

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The other way in, as the manual has it: a copy of CoreDNS's source, the line in plugin.cfg, go generate, go build. What
// comes out is a CoreDNS with the plugin in its place.
func TestCheckout(t *testing.T) {
	source, dir := coreDNS(t), filepath.Join(t.TempDir(), "coredns")
	if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	run(t, ".", "chmod", "-R", "u+w", dir) // the module cache is read-only, and so is the copy
	if err := os.Remove(filepath.Join(dir, "plugin.cfg")); err != nil {
		t.Fatal(err)
	}
	withLine(t, filepath.Join(source, "plugin.cfg"), filepath.Join(dir, "plugin.cfg"))
	ours, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	// This tree stands for what "go get" would fetch.
	const module = "github.com/coredns-multivalue/multivalue"
	run(t, dir, "go", "mod", "edit", "-require", module+"@v0.0.0", "-replace", module+"="+ours)
	run(t, dir, "go", "generate", "coredns.go")
	run(t, dir, "go", "build", "-mod=mod", "-o", "coredns")
	if out := run(t, dir, "./coredns", "-plugins"); !strings.Contains(out, "\nmultivalue\n") {
		t.Errorf("no multivalue among the plugins:\n%s", out)
	}
	corefile := "example.org:0 {\n    bind 127.0.0.1\n    multivalue {\n        chekc tcp://:80\n    }\n}\n"
	if err := os.WriteFile(filepath.Join(dir, "Corefile"), []byte(corefile), 0o600); err != nil {
		t.Fatal(err)
	}
	out := run(t, dir, "sh", "-c", "! ./coredns 2>&1")
	if !strings.Contains(out, `Corefile:4 - Error during parsing: unknown property "chekc": did you mean "check"?`) {
		t.Errorf("the plugin did not read its stanza:\n%s", out)
	}
}
