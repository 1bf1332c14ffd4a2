package test

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/ports"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
)

// Every Corefile in the README, the manual and the other documents starts, as in CoreDNS's own test of its manuals.
func TestCorefilesInTheDocs(t *testing.T) {
	docs, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var corefiles []string
	for _, doc := range append(docs, "../README.md") {
		corefiles = append(corefiles, corefilesOf(t, doc)...)
	}
	if len(corefiles) < 20 {
		t.Fatalf("only %d Corefiles in the docs", len(corefiles))
	}
	s := newScene(t)
	s.zone("example.org", "www A 192.0.2.1\nwww A 192.0.2.2")
	if err := os.Rename(filepath.Join(s.dir, "example.org"), filepath.Join(s.dir, "example.org.zone")); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"probe.auth": "probe:s3cret\n", "fleet.key": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n", "etcd.user": "coredns:s3cret\n", "etcd-ca.pem": string(anAuthority(t))} { // files that the Corefiles name
		if err := os.WriteFile(filepath.Join(s.dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	geo := geoDatabase(t)
	t.Chdir(s.dir)
	old := dnsserver.Port
	dnsserver.Port = "0"
	defer func() { dnsserver.Port = old }()
	for _, corefile := range corefiles {
		// The servers listen on loopback only, and no query is sent to them.
		onLoopback := loopback(corefile)
		onLoopback = strings.ReplaceAll(onLoopback, "forward . 192.0.2.53", "forward . 127.0.0.1:9")
		onLoopback = strings.ReplaceAll(onLoopback, "\n        status\n", "\n        status unix:status.sock\n") // another program may have taken the port
		onLoopback = strings.NewReplacer("/etc/coredns/fleet.key", "fleet.key", "/etc/coredns/etcd", "etcd", "unix:/run/coredns/", "unix:").Replace(onLoopback)
		onLoopback = strings.ReplaceAll(onLoopback, "fleet dns-fleet.example.org 192.0.2.17 {", fmt.Sprintf("fleet 127.0.0.1:9 {\n listen 127.0.0.1:%d", ports.Free(t)))
		onLoopback = strings.ReplaceAll(onLoopback, "etcd1.example.org:2379,etcd2.example.org:2379,etcd3.example.org:2379", "127.0.0.1:9") // a start does not wait for etcd
		onLoopback = strings.ReplaceAll(onLoopback, "/usr/share/GeoIP/GeoLite2-City.mmdb", geo)
		i, err := caddy.Start(input(onLoopback))
		if err != nil {
			t.Errorf("%v, for\n%s", err, corefile)
			continue
		}
		if err := answersOn(i); err != nil { // CoreDNS does not stop a server that has not begun to serve
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

// The README's first Corefile is complete: without any other file, it shows the scene that the README describes. The
// test changes only its ports and its intervals.
func TestFirstCorefile(t *testing.T) {
	first := corefilesOf(t, "../README.md")[0]
	if !strings.Contains(first, ":1053 {\n    bind 127.0.0.1\n") {
		t.Fatalf("it does not listen on loopback only, on a port that needs no root:\n%s", first)
	}
	s := newScene(t)
	s.listen("127.0.0.2", answerHTTP)
	second := s.listen("127.0.0.3", answerHTTP)
	t.Chdir(s.dir)
	old := dnsserver.Port
	dnsserver.Port = "0"
	defer func() { dnsserver.Port = old }()
	v := s.serve(strings.NewReplacer(":8080/", ":PORT/", "interval 2s", "interval 600ms 100ms").Replace(loopback(first)))
	v.comesTo("www.example.org A", "2 3")
	s.settled(2, 0)
	second.close()
	v.comesTo("www.example.org A", "2")
}

// anAuthority is a certificate, for a Corefile that names a file with authorities.
func anAuthority(t *testing.T) []byte {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// corefilesOf returns the Corefiles in a document.
func corefilesOf(t *testing.T, doc string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^~~~ corefile\n(.*?)^~~~$").FindAllStringSubmatch(string(text), -1) {
		all = append(all, m[1])
	}
	return all
}

// loopback changes a Corefile so that its server blocks listen only on a free port of 127.0.0.1.
func loopback(corefile string) string {
	corefile = strings.ReplaceAll(corefile, ":1053 {\n", " {\n")
	for _, name := range []string{"ready", "prometheus"} { // their usual ports may be taken
		corefile = strings.ReplaceAll(corefile, "\n    "+name+"\n", "\n    "+name+" localhost:0\n")
	}
	if strings.Contains(corefile, "\n    bind ") {
		return corefile
	}
	return regexp.MustCompile(`(?m)^(\S.*) \{$`).ReplaceAllString(corefile, "$1 {\n    bind 127.0.0.1")
}
