package oci

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// program builds a program for Linux with additional environment variables, and returns its path.
func program(t *testing.T, environment ...string) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "coredns"), source)
	build.Env = append(os.Environ(), append([]string{"GOOS=linux", "CGO_ENABLED=0"}, environment...)...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(dir, "coredns")
}

// made makes an image, and returns its archive and the top of its layout.
func made(t *testing.T, tag string, programs []string, o Options) (string, v1.ImageIndex) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image.tar")
	if err := Save(out, tag, programs, o); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unpack(out, dir); err != nil {
		t.Fatal(err)
	}
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(top); err != nil {
		t.Error(err)
	}
	return out, top
}

func manifest(t *testing.T, index v1.ImageIndex) *v1.IndexManifest {
	t.Helper()
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var full = Options{Ports: true, Authorities: true, Labels: map[string]string{"org.opencontainers.image.version": "1"}, Created: time.Unix(1700000000, 0).UTC()}

// One program is one image, which has its name for each of the programs that import it, and says how it is run.
func TestOneProgram(t *testing.T) {
	const tag = "registry.example.org/it:1"
	archive, top := made(t, tag, []string{program(t, "GOARCH=arm64")}, full)
	m := manifest(t, top)
	if len(m.Manifests) != 1 || m.Manifests[0].Annotations["io.containerd.image.name"] != tag || m.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != tag {
		t.Errorf("%+v", m)
	}
	image, err := top.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	isImage(t, image, "arm64")
	// By the index of "docker save", it is the same image.
	ref, err := name.NewTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	saved, err := tarball.ImageFromPath(archive, &ref)
	if err != nil {
		t.Fatal(err)
	}
	isImage(t, saved, "arm64")
	one, err1 := image.ConfigName()
	two, err2 := saved.ConfigName()
	if one != two || errors.Join(err1, err2) != nil {
		t.Errorf("%s and %s", one, two)
	}
}

// isImage checks the configuration and the files of an image with all options.
func isImage(t *testing.T, image v1.Image, arch string) {
	t.Helper()
	c, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c.Architecture != arch || c.OS != "linux" || c.Config.User != "65532:65532" || !slices.Equal(c.Config.Entrypoint, []string{"/coredns"}) ||
		len(c.Config.ExposedPorts) != 2 || c.Config.Labels["org.opencontainers.image.version"] != "1" || !c.Created.Equal(full.Created) {
		t.Errorf("%+v", c)
	}
	files, content := tree(t, image)
	if want := []string{"coredns", "etc/", "etc/ssl/", "etc/ssl/certs/", Authorities}; !slices.Equal(files, want) {
		t.Errorf("the image has %q, want %q", files, want)
	}
	if p := content["coredns"]; p.Mode != 0o755 || p.PAXRecords["SCHILY.xattr.security.capability"] != string(capability()) {
		t.Errorf("%o with %q", p.Mode, p.PAXRecords)
	}
	for name, h := range content {
		if h.Uid != 0 || h.Gid != 0 || h.Mode&0o022 != 0 || !h.ModTime.Equal(full.Created) {
			t.Errorf("%s is writable for others, does not belong to root, or has another time: %+v", name, h)
		}
	}
}

// tree lists the files of an image, sorted, with their headers.
func tree(t *testing.T, image v1.Image) ([]string, map[string]*tar.Header) {
	t.Helper()
	r := mutate.Extract(image)
	defer r.Close()
	all := make(map[string]*tar.Header)
	var names []string
	for files := tar.NewReader(r); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names, all
		}
		if err != nil {
			t.Fatal(err)
		}
		name := h.Name
		if h.Typeflag == tar.TypeDir && !strings.HasSuffix(name, "/") {
			name += "/"
		}
		names, all[name] = append(names, name), h
	}
}

// Several programs are one image with an index, from which each machine takes its own; the index of "docker save" has each by a
// name of its own.
func TestSeveralPrograms(t *testing.T) {
	archive, top := made(t, "it:1", []string{program(t, "GOARCH=amd64"), program(t, "GOARCH=arm", "GOARM=7"), program(t, "GOARCH=s390x")}, full)
	outer := manifest(t, top)
	if len(outer.Manifests) != 1 || outer.Manifests[0].Annotations["io.containerd.image.name"] != "it:1" {
		t.Fatalf("%+v", outer)
	}
	index, err := top.ImageIndex(outer.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	inner := manifest(t, index)
	if inner.Annotations["org.opencontainers.image.version"] != "1" || len(inner.Manifests) != 3 {
		t.Errorf("%+v", inner)
	}
	for i, want := range []string{"linux/amd64", "linux/arm/v7", "linux/s390x"} {
		d := inner.Manifests[i]
		image, err := index.Image(d.Digest)
		if err != nil || d.Platform.String() != want {
			t.Fatalf("%v: %v, want %s", err, d.Platform, want)
		}
		isImage(t, image, strings.Split(want, "/")[1])
	}
	for _, tag := range []string{"it:1-amd64", "it:1-arm", "it:1-s390x"} {
		ref, err := name.NewTag(tag)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tarball.ImageFromPath(archive, &ref); err != nil {
			t.Errorf("%s: %v", tag, err)
		}
	}
}

// The same program makes the same archive. Without ports, the program has no capability and no port is named; without authorities
// there is no other file.
func TestSameBytes(t *testing.T) {
	it := program(t)
	first, top := made(t, "it:1", []string{it}, Options{})
	second, _ := made(t, "it:1", []string{it}, Options{})
	one, err1 := os.ReadFile(first)
	two, err2 := os.ReadFile(second)
	if !bytes.Equal(one, two) || errors.Join(err1, err2) != nil {
		t.Errorf("%d and %d bytes: %v %v", len(one), len(two), err1, err2)
	}
	image, err := top.Image(manifest(t, top).Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	files, headers := tree(t, image)
	if !slices.Equal(files, []string{"coredns"}) || len(headers["coredns"].PAXRecords) > 0 {
		t.Errorf("%q %+v", files, headers["coredns"])
	}
	if c, err := image.ConfigFile(); err != nil || len(c.Config.ExposedPorts) > 0 {
		t.Errorf("%+v %v", c, err)
	}
}

// The certificates are those of authorities, more than a hundred of them, and can be read as a program reads them.
func TestAuthorities(t *testing.T) {
	pem := authorities()
	if n := bytes.Count(pem, []byte("-----BEGIN CERTIFICATE-----")); n < 100 {
		t.Errorf("%d certificates", n)
	}
	path := filepath.Join(t.TempDir(), "all.pem")
	if err := os.WriteFile(path, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	// A program of its own, since the system's certificates are read once in a process.
	source := filepath.Join(t.TempDir(), "main.go")
	const main = `package main

import ("crypto/x509"; "fmt")

func main() { pool, err := x509.SystemCertPool(); fmt.Println(pool.Equal(x509.NewCertPool()), err) }
`
	if err := os.WriteFile(source, []byte(main), 0o600); err != nil {
		t.Fatal(err)
	}
	run := exec.Command("go", "run", source)
	run.Env = append(os.Environ(), "SSL_CERT_FILE="+path, "SSL_CERT_DIR="+t.TempDir())
	if out, err := run.CombinedOutput(); err != nil || string(out) != "false <nil>\n" {
		t.Errorf("%v: %s", err, out)
	}
}

// An archive is pushed to a registry as it is, with all of its architectures, and can be pulled from there.
func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	for what, programs := range map[string][]string{
		"one":     {program(t, "GOARCH=amd64")},
		"several": {program(t, "GOARCH=amd64"), program(t, "GOARCH=riscv64")},
	} {
		archive, top := made(t, "it:1", programs, full)
		want := manifest(t, top).Manifests[0].Digest.String()
		digest, err := Push(archive, host+"/"+what+":1")
		if err != nil || digest != want {
			t.Errorf("%s: %v: %s, want %s", what, err, digest, want)
			continue
		}
		ref, err := name.ParseReference(host + "/" + what + "@" + digest)
		if err != nil {
			t.Fatal(err)
		}
		got, err := remote.Get(ref)
		if err != nil {
			t.Fatal(err)
		}
		arch := "amd64"
		if len(programs) > 1 {
			arch = "riscv64"
		}
		image, err := remote.Image(ref, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
		if err != nil {
			t.Fatal(err)
		}
		isImage(t, image, arch)
		if tagged, err := name.NewTag(host + "/" + what + ":1"); err != nil {
			t.Fatal(err)
		} else if d, err := remote.Head(tagged); err != nil || d.Digest != got.Digest {
			t.Errorf("%s: the tag leads to %v, %v", what, d, err)
		}
	}
	none, _ := made(t, "it:1", []string{program(t)}, Options{})
	broken := filepath.Join(t.TempDir(), "broken.tar")
	if err := os.WriteFile(broken, []byte("an archive?"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][3]string{
		{none, "it:1", "has no registry"},
		{none, host + "/it", "with a tag"},
		{broken, host + "/it:1", "no archive of an image"},
		{"/no/such", host + "/it:1", "no such file"},
		{none, "127.0.0.1:1/it:1", "refused"},
	} {
		if _, err := Push(c[0], c[1]); err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%s to %s: %v, want %q", c[0], c[1], err, c[2])
		}
	}
}

// A program that cannot run in an image without other files is an error, as are invalid names. No archive is left behind.
func TestRefused(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct{ name, program, want string }{
		"a script":     {"it:1", script, "build it with GOOS=linux"},
		"a shared one": {"it:1", program(t, "GOFLAGS=-buildmode=pie"), "CGO_ENABLED=0"},
		"no such file": {"it:1", "/no/such", "no such file"},
		"no name":      {"", program(t), `invalid image name ""`},
		"no tag":       {"registry.example.org:5000/it", program(t), "with a tag"},
		"an empty tag": {"it:", program(t), "with a tag"},
		"a space":      {"it it:1", program(t), "with a tag"},
		"a directory":  {"it:1", t.TempDir(), "build it with GOOS=linux"},
		"for FreeBSD":  {"it:1", program(t, "GOOS=freebsd"), "for another system, ELFOSABI_FREEBSD: build it with GOOS=linux"},
		"big-endian":   {"it:1", program(t, "GOARCH=ppc64"), "for the machine EM_PPC64, which is not supported"},
	} {
		dir := t.TempDir()
		if err := Save(filepath.Join(dir, "image.tar"), c.name, []string{c.program}, full); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind: %v, %v", what, left, err)
		}
	}
}

// Two programs for one architecture would be two images of which a machine could take either.
func TestTwice(t *testing.T) {
	one, two := program(t, "GOARCH=arm64"), program(t, "GOARCH=arm64")
	err := Save(filepath.Join(t.TempDir(), "image.tar"), "it:1", []string{one, program(t, "GOARCH=amd64"), two}, full)
	if err == nil || !strings.Contains(err.Error(), "two programs for linux/arm64: name one for each architecture") {
		t.Error(err)
	}
}

// An existing archive is replaced only when the new one is complete. What is no file is not replaced, and a failure leaves no
// temporary file.
func TestSaveReplaces(t *testing.T) {
	dir, it := t.TempDir(), program(t)
	out := filepath.Join(dir, "image.tar")
	if err := os.WriteFile(out, []byte("an earlier one"), 0o600); err != nil {
		t.Fatal(err)
	}
	opened, err := os.Open(out) // as by a program that is loading it
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if err := Save(out, "registry.example.org:5000/a/it:1.0_x", []string{it}, Options{}); err != nil {
		t.Fatal(err)
	}
	if earlier, err := io.ReadAll(opened); string(earlier) != "an earlier one" {
		t.Errorf("the earlier archive was overwritten: %d bytes, %v", len(earlier), err)
	}
	to := t.TempDir()
	if err := unpack(out, to); err != nil {
		t.Error(err)
	}
	var docker []saved
	if text, err := os.ReadFile(filepath.Join(to, "manifest.json")); err != nil || json.Unmarshal(text, &docker) != nil || len(docker) != 1 {
		t.Errorf("%s: %v", text, err)
	}
	folder := filepath.Join(dir, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Save(folder, "it:1", []string{it}, Options{}); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("%v", err)
	}
	if err := Save(filepath.Join(dir, "missing", "image.tar"), "it:1", []string{it}, Options{}); err == nil {
		t.Error("saved into a directory that does not exist")
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 2 {
		t.Errorf("there are %v, %v", all, err)
	}
}

// A name in an archive that leads out of the directory is not followed.
func TestUnpackStaysInside(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "inside")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(parent, "evil.tar"))
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	err = w.WriteHeader(&tar.Header{Name: "../outside", Mode: 0o644, Size: 1})
	_, err2 := w.Write([]byte("x"))
	if err := errors.Join(err, err2, w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := unpack(filepath.Join(parent, "evil.tar"), dir); err == nil {
		t.Error("unpacked a name that leads out")
	}
	if _, err := os.Stat(filepath.Join(parent, "outside")); err == nil {
		t.Error("written outside")
	}
}
