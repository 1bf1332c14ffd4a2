package main

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// leftOut are the plugins that are not here, with the reason. Each plugin of CoreDNS is here or in this list, so a new one is decided
// on when CoreDNS is renewed.
var leftOut = map[string]string{
	"azure":     "the client library of a cloud",
	"clouddns":  "the client library of a cloud",
	"dnssec":    "it links the client library of a cloud",
	"dnstap":    "protocol buffers and framing of its own",
	"dynupdate": "a database",
	"etcd":      "records of SkyDNS, which a cluster does not keep",
	"geoip":     "a reader of databases",
	"nomad":     "the client library of Nomad",
	"route53":   "the client library of a cloud",
	"trace":     "the client libraries of tracers, by far the most",
}

func TestPlugins(t *testing.T) {
	dir := strings.TrimSpace(output(t, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/coredns/coredns"))
	all := imports(t, filepath.Join(dir, "core", "plugin", "zplugin.go"))
	ours := imports(t, "main.go")
	if len(all) < 50 {
		t.Fatalf("CoreDNS has %d plugins", len(all))
	}
	for name := range all {
		if _, out := leftOut[name]; out == ours[name] {
			t.Errorf("%s is here: %t, and in the list of those left out: %t", name, ours[name], out)
		}
	}
	for _, name := range slices.Concat(slices.Collect(maps.Keys(ours)), slices.Collect(maps.Keys(leftOut))) {
		if !all[name] {
			t.Errorf("CoreDNS has no plugin %s", name)
		}
	}
}

// imports lists the plugins of CoreDNS that a file imports.
func imports(t *testing.T, path string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^\t_ "github.com/coredns/coredns/plugin/([a-z0-9_]+)"$`).FindAllStringSubmatch(string(text), -1) {
		all[m[1]] = true
	}
	return all
}

// The program has each plugin of the Corefile of a cluster, as kubeadm writes it and with our stanza. A plugin that is left out is an
// error that names it.
func TestClusterCorefile(t *testing.T) {
	dir := t.TempDir()
	output(t, "go", "build", "-o", dir, ".") // which gives it the name that the system wants
	program := filepath.Join(dir, "coredns-cluster")
	if got := output(t, program, "-version"); !strings.Contains(got, "multivalue-") {
		t.Error(got)
	}
	text, err := os.ReadFile("../../deploy/kubernetes/existing/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(text), "  Corefile: |\n")
	if !found {
		t.Fatal("no Corefile")
	}
	var corefile strings.Builder
	for line := range strings.Lines(block) {
		corefile.WriteString(strings.TrimPrefix(line, "    "))
	}
	used := regexp.MustCompile(`(?m)^    ([a-z0-9_]+)`).FindAllStringSubmatch(corefile.String(), -1)
	plugins := output(t, program, "-plugins")
	if len(used) < 8 {
		t.Errorf("the Corefile has %d plugins:\n%s", len(used), corefile.String())
	}
	for _, m := range used {
		if !strings.Contains(plugins, m[1]+"\n") {
			t.Errorf("%s is not in the program", m[1])
		}
	}
	if got := refused(t, program, "example.org:0 {\n    route53 example.org.:Z1Z2Z3Z4DZ5Z6Z7\n}\n"); !strings.Contains(got, "route53") {
		t.Errorf("%s", got)
	}
	if got := refused(t, program, "example.org:0 {\n    multivalue {\n        chekc tcp://:80\n    }\n}\n"); !strings.Contains(got, `did you mean "check"?`) {
		t.Errorf("%s", got)
	}
}

// refused runs the program with a Corefile that it must refuse, and returns what it prints.
func refused(t *testing.T, program, corefile string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "Corefile")
	if err := os.WriteFile(path, []byte(corefile), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // it would run for ever if it took the Corefile
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-conf", path)
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() <= 0 {
		t.Errorf("not refused: %v\n%s", err, out)
	}
	return string(out)
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}
