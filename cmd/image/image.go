package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
)

// user is who the program runs as: nobody, by the number that images without a base agreed on. It is a number, so that
// Kubernetes can tell that it is not root.
const user = "65532:65532"

// image is what goes into an image.
type image struct {
	name        string // with the tag
	program     string // a file
	authorities string // a file of certificates, or none
	ports       bool   // the program may listen below 1024
}

// reference is a name of an image with its tag, behind a registry or not.
var reference = regexp.MustCompile(`^([^/:\s]+(:[0-9]+)?/)?[a-z0-9][a-z0-9._/-]*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// save writes the archive. It is written beside the one that is there, and takes its place once it is whole; one that was begun
// and failed is not left behind.
func (i image) save(to string) (err error) {
	if !reference.MatchString(i.name) {
		return fmt.Errorf("%q is no name of an image with a tag: want one such as registry.example.org/coredns-multivalue:0.1.0", i.name)
	}
	if there, err := os.Stat(to); err == nil && !there.Mode().IsRegular() {
		return fmt.Errorf("%s is there, and is no file: want the name of a file", to)
	}
	blobs, err := i.blobs()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // which is gone if all went well
	if err := errors.Join(pack(f, blobs), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), to)
}

// pack writes an archive of blobs.
func pack(w io.Writer, blobs []blob) error {
	a := archive{tar.NewWriter(w)}
	for _, b := range blobs {
		if err := a.file(b.name, 0o644, b.content, nil); err != nil {
			return err
		}
	}
	return a.Close()
}

// blob is a file of the archive.
type blob struct {
	name    string
	content []byte
}

// blobs are the files of the archive: the layer, the configuration and the manifest, each by its digest, and the two
// indexes that lead to them. The second, manifest.json, is Docker's.
func (i image) blobs() ([]blob, error) {
	architecture, err := architecture(i.program)
	if err != nil {
		return nil, err
	}
	content, err := i.layer()
	if err != nil {
		return nil, err
	}
	layer := newDescriptor("application/vnd.oci.image.layer.v1.tar+gzip", compressed(content))
	config := newDescriptor("application/vnd.oci.image.config.v1+json", encode(i.config(architecture, digest(content))))
	manifest := newDescriptor("application/vnd.oci.image.manifest.v1+json", encode(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": config, "layers": []descriptor{layer},
	}))
	manifest.Annotations = map[string]string{"io.containerd.image.name": i.name, "org.opencontainers.image.ref.name": i.name}
	index := encode(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}})
	docker := encode([]map[string]any{{"Config": config.file(), "RepoTags": []string{i.name}, "Layers": []string{layer.file()}}})
	return []blob{
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{layer.file(), layer.content},
		{config.file(), config.content},
		{manifest.file(), manifest.content},
		{"index.json", index},
		{"manifest.json", docker},
	}, nil
}

// config says how the image is run.
func (i image) config(architecture, layer string) any {
	run := map[string]any{"Entrypoint": []string{i.entrypoint()}, "User": user, "WorkingDir": "/"}
	if i.ports {
		run["ExposedPorts"] = map[string]any{"53/tcp": struct{}{}, "53/udp": struct{}{}}
	}
	return map[string]any{
		"architecture": architecture, "os": "linux", "config": run,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{layer}},
	}
}

func (i image) entrypoint() string { return "/" + filepath.Base(i.program) }

// layer is the file system of the image.
func (i image) layer() ([]byte, error) {
	var b bytes.Buffer
	a := archive{tar.NewWriter(&b)}
	if i.authorities != "" {
		if err := a.add("etc/ssl/certs/ca-certificates.crt", 0o644, i.authorities, nil); err != nil {
			return nil, err
		}
	}
	var rights map[string]string
	if i.ports {
		rights = map[string]string{"SCHILY.xattr.security.capability": string(capability())}
	}
	if err := a.add(i.entrypoint()[1:], 0o755, i.program, rights); err != nil {
		return nil, err
	}
	return b.Bytes(), a.Close()
}

// capability is what "setcap cap_net_bind_service=+ep" leaves with a file: struct vfs_cap_data of linux/capability.h, in its
// second revision.
func capability() []byte {
	const revision, effective, netBindService = 0x02000000, 1, 10
	words := []uint32{revision | effective, 1 << netBindService, 0, 0, 0} // then permitted and inheritable, low and high
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

// architecture is what Go calls the machine that a program is for. There is no other file in the image, so one that wants a
// loader is refused.
func architecture(program string) (string, error) {
	f, err := elf.Open(program)
	if err != nil {
		return "", fmt.Errorf("%s: want a program for Linux: %w", program, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "", fmt.Errorf("%s is linked dynamically: build it with CGO_ENABLED=0", program)
		}
	}
	known := map[elf.Machine]string{
		elf.EM_X86_64: "amd64", elf.EM_386: "386", elf.EM_AARCH64: "arm64", elf.EM_ARM: "arm",
		elf.EM_RISCV: "riscv64", elf.EM_S390: "s390x", elf.EM_PPC64: "ppc64le", elf.EM_LOONGARCH: "loong64",
	}
	if name := known[f.Machine]; name != "" {
		return name, nil
	}
	return "", fmt.Errorf("%s is for %s, which is not known here", program, f.Machine)
}

// descriptor is how one file of an image names another.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	content     []byte
}

func newDescriptor(mediaType string, content []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: digest(content), Size: len(content), content: content}
}

func (d descriptor) file() string { return path.Join("blobs/sha256", d.Digest[len("sha256:"):]) }

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // of maps, slices and strings there is always JSON
	}
	return text
}

// compressed is the same with gzip. Writing to memory does not fail.
func compressed(content []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(content)
	_ = w.Close()
	return b.Bytes()
}

// archive is a tar file in which all belongs to root, and has no date.
type archive struct{ *tar.Writer }

// add adds a file of this machine, behind the directories that it lies in.
func (a archive) add(name string, mode int64, from string, records map[string]string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	for at, c := range name {
		if c == '/' {
			if err := a.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name[:at+1], Mode: 0o755}); err != nil {
				return err
			}
		}
	}
	return a.file(name, mode, content, records)
}

func (a archive) file(name string, mode int64, content []byte, records map[string]string) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), PAXRecords: records}
	if err := a.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(a, bytes.NewReader(content))
	return err
}
