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

// user is the user and group that the program runs as: the number that images without a base use for a user without
// rights. It is a number and not a name, because runAsNonRoot of Kubernetes refuses a name, which might be root's.
const user = "65532:65532"

// image describes an image to make.
type image struct {
	name        string // with a tag
	program     string // path of the program, statically linked
	authorities string // path of a file of certificates; none if empty
	ports       bool   // let the program listen on ports below 1024
}

// reference matches the name of an image with a tag, with or without the host of a registry.
var reference = regexp.MustCompile(`^([^/:\s]+(:[0-9]+)?/)?[a-z0-9][a-z0-9._/-]*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// save writes the archive to a temporary file in the same directory, and renames it when it is complete. So an earlier
// archive is replaced in one step, and a program that is reading it can finish. If save fails, the earlier archive stays and the
// temporary file is removed.
func (i image) save(to string) (err error) {
	if !reference.MatchString(i.name) {
		return fmt.Errorf("invalid image name %q: use a name with a tag, such as registry.example.org/coredns-multivalue:0.1.0", i.name)
	}
	if there, err := os.Stat(to); err == nil && !there.Mode().IsRegular() {
		return fmt.Errorf("%s exists and is not a regular file: use another name with -o", to)
	}
	blobs, err := i.blobs()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // has no effect after the rename
	if err := errors.Join(pack(f, blobs), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), to)
}

// pack writes the blobs as an archive.
func pack(w io.Writer, blobs []blob) error {
	a := archive{tar.NewWriter(w)}
	for _, b := range blobs {
		if err := a.file(b.name, 0o644, b.content, nil); err != nil {
			return err
		}
	}
	return a.Close()
}

// blob is a file of the archive, such as a layer or an index.
type blob struct {
	name    string
	content []byte
}

// blobs returns the files of the archive: the layer, the configuration and the manifest, each named by its digest, and two
// indexes that refer to them. index.json is that of OCI (image-layout.md), manifest.json that of "docker save".
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

// config returns the configuration of the image: how to run it, and the digest of its uncompressed layer (OCI config.md).
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

// entrypoint returns the path of the program in the image.
func (i image) entrypoint() string { return "/" + filepath.Base(i.program) }

// layer returns the file system of the image as a tar file, before compression.
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

// capability returns the extended attribute that "setcap cap_net_bind_service=+ep" gives a file: struct vfs_cap_data of
// linux/capability.h, revision 2.
func capability() []byte {
	const revision, effective, netBindService = 0x02000000, 1, 10
	words := []uint32{revision | effective, 1 << netBindService, 0, 0, 0} // permitted and inheritable, low words then high words
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

// architecture returns the GOARCH of a program for Linux. A program that needs a loader or shared libraries is an error,
// because the image has none.
func architecture(program string) (string, error) {
	f, err := elf.Open(program)
	if err != nil {
		return "", fmt.Errorf("cannot read %s as a program for Linux: build it with GOOS=linux: %w", program, err)
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
	return "", fmt.Errorf("%s is for the machine %s, which is not supported: build it for amd64, arm64 or another GOARCH of Linux", program, f.Machine)
}

// descriptor is how one file of an image refers to another (OCI descriptor.md).
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	content     []byte
}

// newDescriptor describes a file with this content.
func newDescriptor(mediaType string, content []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: digest(content), Size: len(content), content: content}
}

// file returns the name of the described file in the archive.
func (d descriptor) file() string { return path.Join("blobs/sha256", d.Digest[len("sha256:"):]) }

// digest returns the SHA-256 of the content, as OCI writes it.
func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// encode returns a value as JSON. Maps have their keys sorted, so the same value has the same digest.
func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps, slices and strings can always be encoded
	}
	return text
}

// compressed returns the content compressed with gzip, without a date, so the result depends on the content alone. It
// ignores errors, because writing to memory does not fail.
func compressed(content []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(content)
	_ = w.Close()
	return b.Bytes()
}

// archive is a tar file. Its entries belong to root and have no date, so the same files make the same archive.
type archive struct{ *tar.Writer }

// add adds a file of this machine, after an entry for each directory of its name.
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

// file adds a file with this content. The records are those of PAX, such as extended attributes.
func (a archive) file(name string, mode int64, content []byte, records map[string]string) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), PAXRecords: records}
	if err := a.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(a, bytes.NewReader(content))
	return err
}
