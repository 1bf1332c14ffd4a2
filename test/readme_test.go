package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
)

// Every Corefile in the manual and the other documents boots, as in CoreDNS's own test of its manuals.
func TestCorefilesInTheDocs(t *testing.T) {
	docs, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	fence := regexp.MustCompile("(?ms)^~~~ corefile\n(.*?)^~~~$")
	var corefiles []string
	for _, doc := range append(docs, "../README.md") {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
			corefiles = append(corefiles, m[1])
		}
	}
	if len(corefiles) < 3 {
		t.Fatalf("%d Corefiles in the docs", len(corefiles))
	}
	s := newScene(t)
	s.zone("example.org", "www A 192.0.2.1\nwww A 192.0.2.2")
	if err := os.Rename(filepath.Join(s.dir, "example.org"), filepath.Join(s.dir, "example.org.zone")); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"probe.auth": "probe:s3cret\n"} { // that Corefiles name
		if err := os.WriteFile(filepath.Join(s.dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(s.dir)
	old := dnsserver.Port
	dnsserver.Port = "0"
	defer func() { dnsserver.Port = old }()
	for _, corefile := range corefiles {
		// Nothing listens beyond loopback, and nothing is asked there.
		onLoopback := strings.Replace(corefile, " {\n", " {\n    bind 127.0.0.1\n", 1)
		onLoopback = strings.ReplaceAll(onLoopback, "forward . 192.0.2.53", "forward . 127.0.0.1:9")
		onLoopback = strings.ReplaceAll(onLoopback, "\n        status\n", "\n        status unix:status.sock\n") // a port may be taken
		i, err := caddy.Start(input(onLoopback))
		if err != nil {
			t.Errorf("%v, for\n%s", err, corefile)
			continue
		}
		if err := answersOn(i); err != nil { // a server that is stopped before it serves goes on, in CoreDNS
			t.Errorf("%v, for\n%s", err, corefile)
		}
		if errs := i.ShutdownCallbacks(); len(errs) > 0 {
			t.Error(errs)
		}
		if err := i.Stop(); err != nil {
			t.Error(err)
		}
	}
}
