package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// made makes an image and returns the files of its archive.
func made(t *testing.T, i image) map[string][]byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image.tar")
	if err := i.save(out); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for name, f := range untar(t, text) {
		files[name] = f.content
	}
	return files
}

type entry struct {
	*tar.Header
	content []byte
}

func untar(t *testing.T, archive []byte) map[string]entry {
	t.Helper()
	all := make(map[string]entry)
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = entry{h, content}
	}
}

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

func text(t *testing.T, s string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

type manifest struct {
	Config descriptor
	Layers []descriptor
}

type config struct {
	Architecture, OS string
	Config           struct {
		Entrypoint   []string
		User         string
		ExposedPorts map[string]any
	}
	Rootfs struct {
		DiffIDs []string `json:"diff_ids"`
	}
}

// An archive has one image, both indexes refer to it, and every digest is that of the file it refers to.
func TestArchive(t *testing.T) {
	files := made(t, image{name: "registry.example.org/it:1", program: program(t, "GOARCH=arm64"), authorities: text(t, "CERTIFICATES"), ports: true})
	var index struct{ Manifests []descriptor }
	var docker []struct {
		Config           string
		RepoTags, Layers []string
	}
	var m manifest
	var c config
	into := func(file string, v any) {
		t.Helper()
		if err := json.Unmarshal(files[file], v); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	into("index.json", &index)
	into("manifest.json", &docker)
	into(index.Manifests[0].file(), &m)
	into(m.Config.file(), &c)
	for _, d := range append(m.Layers, m.Config, index.Manifests[0]) {
		if content := files[d.file()]; digest(content) != d.Digest || len(content) != d.Size {
			t.Errorf("%s of %d bytes is not what is there", d.Digest, d.Size)
		}
	}
	if index.Manifests[0].Annotations["io.containerd.image.name"] != "registry.example.org/it:1" || docker[0].RepoTags[0] != "registry.example.org/it:1" {
		t.Error("the image is not called as it should be")
	}
	if docker[0].Config != m.Config.file() || !slices.Equal(docker[0].Layers, []string{m.Layers[0].file()}) {
		t.Errorf("the two indexes differ: %+v, %+v", docker, m)
	}
	if c.Architecture != "arm64" || c.OS != "linux" || c.Config.User != "65532:65532" || !slices.Equal(c.Config.Entrypoint, []string{"/coredns"}) {
		t.Errorf("%+v", c)
	}
	layer := unzipped(t, files[m.Layers[0].file()])
	if !slices.Equal(c.Rootfs.DiffIDs, []string{digest(layer)}) {
		t.Errorf("the layer is %s, and not %s", digest(layer), c.Rootfs.DiffIDs)
	}
	isRoot(t, untar(t, layer))
}

func unzipped(t *testing.T, content []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// isRoot checks that a file system has the expected files and nothing else.
func isRoot(t *testing.T, root map[string]entry) {
	t.Helper()
	var names []string
	for name, e := range root {
		names = append(names, name)
		if e.Uid != 0 || e.Gid != 0 || e.Mode&0o022 != 0 {
			t.Errorf("%s is writable for others, or does not belong to root: %+v", name, e.Header)
		}
	}
	slices.Sort(names)
	if want := []string{"coredns", "etc/", "etc/ssl/", "etc/ssl/certs/", "etc/ssl/certs/ca-certificates.crt"}; !slices.Equal(names, want) {
		t.Errorf("the image has %q, want %q", names, want)
	}
	if string(root["etc/ssl/certs/ca-certificates.crt"].content) != "CERTIFICATES" {
		t.Error("the certificates differ from the given file")
	}
	if p := root["coredns"]; p.Mode != 0o755 || p.PAXRecords["SCHILY.xattr.security.capability"] != string(capability()) {
		t.Errorf("%o with %q", p.Mode, p.PAXRecords)
	}
}

// The same program makes the same image. With ports unset, the program has no capability, and without certificates the
// image has no other file.
func TestImageIsReproducible(t *testing.T) {
	i := image{name: "it:1", program: program(t)}
	first, second := made(t, i), made(t, i)
	for name, content := range first {
		if !bytes.Equal(content, second[name]) {
			t.Errorf("%s differs", name)
		}
	}
	for name, content := range first {
		if len(content) > 1<<10 {
			root := untar(t, unzipped(t, content))
			if len(root) != 1 || len(root["coredns"].PAXRecords) > 0 {
				t.Errorf("%s has %v", name, root)
			}
		}
	}
}

// A program that cannot run in an image without other files is an error, as are invalid names. No archive is left behind.
func TestRefused(t *testing.T) {
	for what, c := range map[string]struct {
		args []string
		want string
	}{
		"a script":       {[]string{text(t, "#!/bin/sh\n")}, "build it with GOOS=linux"},
		"a shared one":   {[]string{program(t, "GOFLAGS=-buildmode=pie")}, "CGO_ENABLED=0"},
		"none":           {nil, "0 programs given"},
		"no such file":   {[]string{"/no/such"}, "no such file"},
		"no authorities": {[]string{"-ca", "/no/such", program(t)}, "no such file"},
		"no name":        {[]string{"-name", "", "-ca", "", program(t)}, `invalid image name ""`},
		"no tag":         {[]string{"-name", "registry.example.org:5000/it", "-ca", "", program(t)}, "with a tag"},
		"an empty tag":   {[]string{"-name", "it:", "-ca", "", program(t)}, "with a tag"},
		"a space":        {[]string{"-name", "it it:1", "-ca", "", program(t)}, "with a tag"},
	} {
		t.Run(what, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "image.tar")
			err := run(append([]string{"-o", out}, c.args...))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("an archive is left behind")
			}
		})
	}
}

// An existing archive is replaced only when the new one is complete. No other file is left beside it.
func TestSaveReplaces(t *testing.T) {
	dir, made := t.TempDir(), program(t)
	out := filepath.Join(dir, "image.tar")
	if err := os.WriteFile(out, []byte("an earlier one"), 0o600); err != nil {
		t.Fatal(err)
	}
	opened, err := os.Open(out) // as by a program that is loading it
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if err := (image{name: "registry.example.org:5000/a/it:1.0_x", program: made}).save(out); err != nil {
		t.Fatal(err)
	}
	if earlier, err := io.ReadAll(opened); string(earlier) != "an earlier one" {
		t.Errorf("the earlier archive was overwritten: %d bytes, %v", len(earlier), err)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("there are %v, %v", all, err)
	}
	if text, err := os.ReadFile(out); err != nil || len(untar(t, text)) != 6 {
		t.Errorf("the archive has %d bytes, %v", len(text), err)
	}
}

// A directory of the same name is not replaced. If the archive cannot be written, no temporary file is left.
func TestSaveFails(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "image.tar")
	if err := os.Mkdir(out, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := (image{name: "it:1", program: program(t)}).save(out); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("%v", err)
	}
	if err := (image{name: "it:1", program: program(t)}).save(filepath.Join(dir, "missing", "image.tar")); err == nil {
		t.Error("saved into a directory that does not exist")
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("there are %v, %v", all, err)
	}
}

// The Dockerfile makes the same image: the same user, entry point, capability, ports and files, and a statically linked
// program, built with the Go version of go.mod. The test compares the text, because not every machine can run Docker.
func TestDockerfile(t *testing.T) {
	content, err := os.ReadFile("../../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, last, found := strings.Cut(string(content), "\nFROM scratch\n")
	if !found {
		t.Fatal("the last stage is not FROM scratch")
	}
	for _, line := range []string{
		"USER " + user,
		`ENTRYPOINT ["` + image{program: "coredns"}.entrypoint() + `"]`,
		"WORKDIR /",
		"EXPOSE 53/tcp 53/udp",
		"COPY --from=build /coredns /coredns",
		"COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/",
	} {
		if !strings.Contains("\n"+last, "\n"+line+"\n") {
			t.Errorf("the Dockerfile has no line %q", line)
		}
	}
	if n := len(regexp.MustCompile(`(?m)^COPY`).FindAllString(last, -1)); n != 2 {
		t.Errorf("%d COPY lines in the last stage, want one for the program and one for the certificates", n)
	}
	module, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(module))
	if version == nil || !strings.Contains(string(content), "\nFROM golang:"+version[1]+" AS build\n") {
		t.Errorf("not built with the Go version of go.mod, %q", version)
	}
	if !strings.Contains(string(content), "CGO_ENABLED=0 go build") || !strings.Contains(string(content), "setcap cap_net_bind_service=+ep /coredns\n") {
		t.Error("the program is not built with CGO_ENABLED=0, or has no capability")
	}
	for _, page := range []string{"../../deploy/Dockerfile", "../../docs/kubernetes.md", "main.go"} {
		if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), "CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' ") {
			t.Errorf("%s does not have the same build command: %v", page, err)
		}
	}
}
