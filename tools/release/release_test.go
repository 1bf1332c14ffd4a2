package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"io/fs"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	reference "github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/coredns-multivalue/multivalue/tools/release/oci"
)

// checkout is a clone of this repository, without what is not committed.
func checkout(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "checkout")
	run(t, ".", "git", "clone", "-q", "../..", dir)
	return dir
}

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := output(dir, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// lacking skips the test for the lack of something, and fails it in CI.
func lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("no ", what)
	}
	t.Skip("no ", what)
}

// checksums reads SHA256SUMS, and compares it with the files.
func checksums(t *testing.T, dir string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		data, err := os.ReadFile(filepath.Join(dir, name))
		if got := sha256.Sum256(data); !ok || err != nil || hex.EncodeToString(got[:]) != sum {
			t.Errorf("%q: %v", line, err)
		}
		all[name] = sum
	}
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(dir, path); !d.IsDir() && name != "SHA256SUMS" && all[name] == "" {
			t.Errorf("%s has no checksum", name)
		}
		return err
	})
	return all
}

var keep = flag.String("keep", "", "leave the release that TestRelease makes in this directory, which must not exist")

// Two checkouts in different places give the same bytes. What is in them is listed here, and works: the program runs, the
// packages have their files, and the module can be fetched from the directory.
func TestRelease(t *testing.T) {
	native, other := "linux/"+runtime.GOARCH, "linux/arm64"
	if native == other {
		other = "linux/amd64"
	}
	if _, err := choose(native); err != nil || runtime.GOOS != "linux" {
		lacking(t, "a program for this system, "+runtime.GOOS+"/"+runtime.GOARCH)
	}
	var made [2]string
	for i := range made {
		if i == 1 { // as another user, elsewhere
			for name, value := range map[string]string{"TZ": "Asia/Kathmandu", "LC_ALL": "C", "GOAMD64": "v3", "GOARM64": "v8.1", "GOFLAGS": "-tags=other", "GOEXPERIMENT": "nogreenteagc"} {
				t.Setenv(name, value)
			}
			defer syscall.Umask(syscall.Umask(0o077))
		}
		made[i] = filepath.Join(t.TempDir(), "dist")
		if err := release(checkout(t), made[i], native+","+other); err != nil {
			t.Fatal(err)
		}
	}
	if *keep != "" {
		if err := os.CopyFS(*keep, os.DirFS(made[0])); err != nil {
			t.Fatal(err)
		}
	}
	first, second := checksums(t, made[0]), checksums(t, made[1])
	for name, sum := range first {
		if second[name] != sum {
			t.Errorf("%s is another one in another checkout", name)
		}
	}
	s, err := readSource(checkout(t))
	if err != nil {
		t.Fatal(err)
	}
	arch, elsewhere := runtime.GOARCH, other[len("linux/"):]
	want := []string{"goproxy/" + modulePath + "/@v/list"}
	for _, suffix := range []string{"info", "mod", "zip"} {
		want = append(want, "goproxy/"+modulePath+"/@v/v"+s.version+"."+suffix)
	}
	for _, e := range editions {
		want = append(want, e.name+"_"+s.version+"_image.tar")
		for _, a := range []string{arch, elsewhere} {
			want = append(want, e.name+"_"+s.version+"_linux_"+a+".tar.gz", e.name+"_"+s.version+"_linux_"+a+".cdx.json")
		}
	}
	rpm := map[string]string{"amd64": "x86_64", "arm64": "aarch64", "ppc64le": "ppc64le", "riscv64": "riscv64", "s390x": "s390x"} // as uname says
	for _, a := range []string{arch, elsewhere} {
		want = append(want, "coredns-multivalue_"+s.version+"-1_"+a+".deb", "coredns-multivalue-"+s.version+"-1."+rpm[a]+".rpm")
	}
	names := slices.Sorted(maps.Keys(first))
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Fatalf("the release has\n%s\nwant\n%s", strings.Join(names, "\n"), strings.Join(want, "\n"))
	}
	tarball := "coredns-multivalue_" + s.version + "_linux_" + arch
	dir := t.TempDir()
	unpack(t, s, filepath.Join(made[0], tarball+".tar.gz"), tarball, dir)
	if got := run(t, dir, "./coredns", "-version"); !strings.Contains(got, "multivalue-"+s.version) {
		t.Error(got)
	}
	if got := run(t, dir, "./mvctl", "version"); got != "mvctl "+s.version {
		t.Error(got)
	}
	licences, err := os.ReadFile(filepath.Join(dir, "third-party-licences.txt"))
	for _, part := range []string{"==== Go 1.", "==== github.com/coredns/coredns v", "==== github.com/miekg/dns v", "==== k8s.io/client-go v", "==== github.com/spf13/cobra v", "Apache License", "BSD"} {
		if err != nil || strings.Count(string(licences), part) < 1 {
			t.Errorf("the licences lack %q: %v", part, err)
		}
	}
	listed(t, s, filepath.Join(made[0], tarball+".cdx.json"), filepath.Join(dir, "coredns"), filepath.Join(dir, "mvctl"))
	pulled(t, s, filepath.Join(made[0], "coredns-multivalue_"+s.version+"_image.tar"), []string{arch, elsewhere}, dir)
	smaller(t, filepath.Join(made[0], "coredns-multivalue-cluster_"+s.version+"_linux_"+arch+".tar.gz"), filepath.Join(made[0], tarball+".tar.gz"))
	debian(t, s, filepath.Join(made[0], "coredns-multivalue_"+s.version+"-1_"+arch+".deb"))
	fetched(t, s, filepath.Join(made[0], "goproxy"))
}

// unpack unpacks an archive, and compares its list with what has to be in it.
func unpack(t *testing.T, s *source, path, top, to string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	modes := map[string]int64{"coredns": 0o755, "mvctl": 0o755, "mvctl.1": 0o644, "LICENSE": 0o644, "NOTICE": 0o644, "CHANGELOG.md": 0o644, "coredns-multivalue.7": 0o644, "third-party-licences.txt": 0o644}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(h.Name, top+"/")
		if modes[name] != h.Mode || !h.ModTime.Equal(s.time) || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%+v", h)
		}
		delete(modes, name)
		data, err := io.ReadAll(r)
		if err := errors.Join(err, os.WriteFile(filepath.Join(to, filepath.Base(name)), data, os.FileMode(h.Mode))); err != nil {
			t.Fatal(err)
		}
	}
	if len(modes) > 0 {
		t.Errorf("the archive lacks %v", modes)
	}
}

// listed compares the list of parts with what the linker wrote into the programs.
func listed(t *testing.T, s *source, path string, programs ...string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list := new(cdx.BOM)
	if err := cdx.NewBOMDecoder(f, cdx.BOMFileFormatJSON).Decode(list); err != nil {
		t.Fatal(err)
	}
	if c := list.Metadata.Component; c.Name != modulePath || c.Version != "v"+s.version || list.Metadata.Timestamp != s.time.Format(time.RFC3339) {
		t.Errorf("%+v of %s", c, list.Metadata.Timestamp)
	}
	want := make(map[string]string)
	for _, program := range programs {
		info, err := buildinfo.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		want["std"] = info.GoVersion
		for _, m := range info.Deps {
			want[m.Path] = m.Version
		}
	}
	for _, c := range *list.Components {
		if want[c.Name] != c.Version {
			t.Errorf("%s %s is a part, want %q", c.Name, c.Version, want[c.Name])
		}
		delete(want, c.Name)
	}
	if len(want) > 0 {
		t.Errorf("the list lacks %v", want)
	}
}

// pulled pushes the image to a registry, and pulls it for each architecture. The one of this machine has the programs of the archive, which
// are in a directory.
func pulled(t *testing.T, s *source, archive string, architectures []string, programs string) {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	name := strings.TrimPrefix(server.URL, "http://") + "/it:" + s.version
	// A kubelet finds only what has a host in its name.
	if index, want := run(t, ".", "tar", "-xOf", archive, "index.json"), `"io.containerd.image.name": "localhost/coredns-multivalue:`+s.version+`"`; !strings.Contains(index, want) {
		t.Errorf("the archive does not name its image %s:\n%s", want, index)
	}
	digest, err := oci.Push(archive, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(digest)
	ref, err := reference.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}
	for i, arch := range architectures {
		image, err := remote.Image(ref, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
		if err != nil {
			t.Fatal(err)
		}
		c, err := image.ConfigFile()
		if err != nil || c.Architecture != arch || c.Config.User != oci.User || c.Config.Labels["org.opencontainers.image.version"] != s.version ||
			c.Config.Labels["org.opencontainers.image.revision"] != s.commit || !c.Created.Equal(s.time) {
			t.Errorf("%v: %+v", err, c)
		}
		if i > 0 {
			continue
		}
		files := mutate.Extract(image)
		found := 0
		for r := tar.NewReader(files); ; {
			h, err := r.Next()
			if err != nil {
				break
			}
			if h.Name == "coredns" || h.Name == "mvctl" {
				got, err := io.ReadAll(r)
				want, err2 := os.ReadFile(filepath.Join(programs, h.Name))
				if err := errors.Join(err, err2); err == nil && h.Mode == 0o755 && bytes.Equal(got, want) {
					found++
				}
			}
		}
		if files.Close(); found != 2 {
			t.Errorf("the image has %d of the 2 programs of the archive", found)
		}
	}
}

// smaller compares the sizes of two archives, of which the first is that of the edition with fewer plugins.
func smaller(t *testing.T, cluster, complete string) {
	t.Helper()
	one, err1 := os.Stat(cluster)
	two, err2 := os.Stat(complete)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d and %d bytes", one.Size(), two.Size())
	if one.Size() > two.Size()*9/10 {
		t.Errorf("the program for clusters has %d bytes, and the complete one %d", one.Size(), two.Size())
	}
}

// debian checks the list and the fields of the Debian package.
func debian(t *testing.T, s *source, path string) {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		lacking(t, "dpkg-deb")
	}
	list := run(t, ".", "dpkg-deb", "--contents", path)
	for _, want := range []string{"./usr/bin/coredns-multivalue", "./usr/bin/mvctl", "./usr/share/man/man1/mvctl.1", "./usr/share/bash-completion/completions/mvctl", "./usr/share/fish/vendor_completions.d/mvctl.fish", "./usr/share/zsh/vendor-completions/_mvctl", "./etc/coredns-multivalue/Corefile", "./usr/lib/systemd/system/coredns-multivalue.service",
		"./usr/lib/sysusers.d/coredns-multivalue.conf", "./usr/share/man/man7/coredns-multivalue.7", "./usr/share/doc/coredns-multivalue/copyright", "./usr/share/doc/coredns-multivalue/third-party-licences.txt"} {
		if !strings.Contains(list, " "+want+"\n") && !strings.HasSuffix(list, " "+want) {
			t.Errorf("the package lacks %s:\n%s", want, list)
		}
	}
	for line := range strings.SplitSeq(list, "\n") {
		if !strings.Contains(line, " root/root ") {
			t.Errorf("not of root: %s", line)
		}
	}
	fields := run(t, ".", "dpkg-deb", "--field", path)
	for _, want := range []string{"Package: coredns-multivalue", "Version: " + s.version + "-1", "Section: net"} {
		if !strings.Contains(fields, want) {
			t.Errorf("the package lacks %q:\n%s", want, fields)
		}
	}
	dir := t.TempDir()
	run(t, ".", "dpkg-deb", "--control", path, dir)
	if conf, err := os.ReadFile(filepath.Join(dir, "conffiles")); err != nil || string(conf) != "/etc/coredns-multivalue/Corefile\n" {
		t.Errorf("%q, %v", conf, err)
	}
}

// fetched has another module get this one from the directory.
func fetched(t *testing.T, s *source, proxy string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.org/user\n\ngo 1.26.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	env := []string{"GOPROXY=file://" + filepath.ToSlash(proxy), "GONOSUMDB=*", "GOMODCACHE=" + cache, "GOFLAGS=-modcacherw"}
	got, err := outputWith(dir, env, "go", "list", "-m", "-json", modulePath+"@latest")
	if err != nil || !strings.Contains(got, `"Version": "v`+s.version+`"`) {
		t.Errorf("%v: %s", err, got)
	}
	got, err = outputWith(dir, env, "go", "mod", "download", "-json", modulePath+"@v"+s.version)
	if err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	module := filepath.Join(cache, filepath.FromSlash(modulePath)+"@v"+s.version)
	for _, name := range []string{"setup.go", "plugin.cfg.example", "LICENSE", "full", "plugin/answer"} {
		if _, err := os.Stat(filepath.Join(module, filepath.FromSlash(name))); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"tools/release", "test/kube"} { // modules of their own
		if _, err := os.Stat(filepath.Join(module, filepath.FromSlash(name))); err == nil {
			t.Errorf("the module has %s", name)
		}
	}
}

// What would not be the release that was meant is refused, and leaves nothing.
func TestRefused(t *testing.T) {
	for what, tt := range map[string]struct {
		spoil         func(dir string) error
		targets, want string
	}{
		"unknown target": {func(string) error { return nil }, "linux/amd64,plan9/arm", `unknown target "plan9/arm": use some of [linux/amd64`},
		"changed":        {func(dir string) error { return os.WriteFile(filepath.Join(dir, "LICENSE"), []byte("none"), 0o644) }, "linux/amd64", "changes that are not committed"},
		"added": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "new.go"), []byte("package multivalue"), 0o644)
		}, "linux/amd64", "changes that are not committed"},
		"no version": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "multivalue.go"), []byte("package multivalue"), 0o644)
		}, "linux/amd64", "has no line such as"},
		"no checkout": {func(dir string) error { return os.RemoveAll(filepath.Join(dir, ".git")) }, "linux/amd64", "git status"},
	} {
		dir := checkout(t)
		if err := tt.spoil(dir); err != nil {
			t.Fatal(err)
		}
		parent := t.TempDir()
		if err := release(dir, filepath.Join(parent, "dist"), tt.targets); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", what, err, tt.want)
		}
		if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind: %v, %v", what, left, err)
		}
	}
	there := t.TempDir()
	if err := release(checkout(t), there, "linux/amd64"); err == nil || !strings.Contains(err.Error(), "exists: remove it") {
		t.Errorf("a directory that exists: %v", err)
	}
}

// The names of systems in files are those of Go, each once.
func TestTargets(t *testing.T) {
	seen := make(map[target]bool)
	known := run(t, ".", "go", "tool", "dist", "list")
	for _, x := range targets {
		if seen[x] || !strings.Contains("\n"+known+"\n", "\n"+x.String()+"\n") {
			t.Errorf("%s", x)
		}
		seen[x] = true
	}
}
