package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// example is what plugin.cfg.example says to put into a plugin.cfg: its one line, and the one that a comment has for the
// property annotations.
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
		t.Fatalf("%d lines and %d others in the example, want one of each", len(lines), len(others))
	}
	return lines[0], others[0]
}

// coreDNS is the folder with the source of CoreDNS that this module is built with.
func coreDNS(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(run(t, ".", "go", "list", "-m", "-f", "{{.Dir}}", "github.com/coredns/coredns"))
}

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

// withLine copies a plugin.cfg, with a line of ours directly above cache.
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

// Each line of plugin.cfg.example, put into CoreDNS's own plugin.cfg, makes its own generator register the plugin
// directly above cache.
func TestPluginCfg(t *testing.T) {
	line, withAnnotations := example(t)
	for line, imports := range map[string]string{
		line:            `_ "github.com/coredns-multivalue/multivalue"`,
		withAnnotations: `_ "github.com/coredns-multivalue/multivalue/annotated"`,
	} {
		t.Run(line, func(t *testing.T) { generates(t, line, imports) })
	}
}

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
	for _, p := range plugins { // the generator looks which of them are there
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
			t.Errorf("%s, %v, lacks %s:\n%s", file, err, want, text)
		}
	}
}
