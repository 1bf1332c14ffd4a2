package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// example returns the two lines that plugin.cfg.example has for a plugin.cfg: its only line, and the one in a comment for
// the property annotations.
func example(t *testing.T) (line, withAnnotations string) {
	t.Helper()
	text, err := os.ReadFile("../../plugin.cfg.example")
	if err != nil {
		t.Fatal(err)
	}
	var lines, others []string
	for l := range strings.Lines(string(text)) {
		l = strings.TrimSpace(l)
		if other, found := strings.CutPrefix(l, "#     multivalue:"); found {
			others = append(others, "multivalue:"+other)
		} else if l != "" && l[0] != '#' {
			lines = append(lines, l)
		}
	}
	if len(lines) != 1 || len(others) != 1 {
		t.Fatalf("plugin.cfg.example has %d lines and %d in comments, want one of each", len(lines), len(others))
	}
	return lines[0], others[0]
}

// coreDNS returns the directory of the CoreDNS source that this module is built with.
func coreDNS(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(run(t, ".", "go", "list", "-m", "-f", "{{.Dir}}", "github.com/coredns/coredns"))
}

// run runs a command in a directory, and returns its output. A command that fails ends the test.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// withLine copies a plugin.cfg and inserts a line directly above cache.
func withLine(t *testing.T, from, to, line string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	before, after, found := strings.Cut(string(text), "\ncache:cache\n")
	if !found {
		t.Fatal("plugin.cfg has no line cache:cache")
	}
	text = []byte(before + "\n" + line + "\ncache:cache\n" + after)
	if err := os.WriteFile(to, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// With each line of plugin.cfg.example in its plugin.cfg, CoreDNS's generator registers the plugin directly above cache.
func TestPluginCfg(t *testing.T) {
	line, withAnnotations := example(t)
	for line, imports := range map[string]string{
		line:            `_ "github.com/coredns-multivalue/multivalue"`,
		withAnnotations: `_ "github.com/coredns-multivalue/multivalue/full"`,
	} {
		t.Run(line, func(t *testing.T) { generates(t, line, imports) })
	}
}

// generates runs the generator in a directory with as much of CoreDNS's source as it reads.
func generates(t *testing.T, line, imports string) {
	source, dir := coreDNS(t), t.TempDir()
	withLine(t, filepath.Join(source, "plugin.cfg"), filepath.Join(dir, "plugin.cfg"), line)
	generator, err := os.ReadFile(filepath.Join(source, "directives_generate.go"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "directives_generate.go"), generator, 0o600); err != nil {
		t.Fatal(err)
	}
	plugins, err := os.ReadDir(filepath.Join(source, "plugin"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range plugins { // the generator checks that each plugin of plugin.cfg has a directory
		if err := os.MkdirAll(filepath.Join(dir, "plugin", p.Name()), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, made := range []string{"core/plugin", "core/dnsserver"} {
		if err := os.MkdirAll(filepath.Join(dir, made), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dir, "go", "run", "directives_generate.go")
	for file, want := range map[string]string{
		"core/plugin/zplugin.go":        imports,
		"core/dnsserver/zdirectives.go": "\"multivalue\",\n\t\"cache\",",
	} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s (%v) does not contain %s:\n%s", file, err, want, text)
		}
	}
}
