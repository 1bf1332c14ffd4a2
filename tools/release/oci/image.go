// Package oci makes container images of programs for Linux: one program is one image, and several, each for another
// architecture, are one image with an index. An image has the program, the certificates of public authorities, and nothing else.
//
// The same programs make the same bytes: what has a time has the one that is given, and nothing of the machine enters.
package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// User is the user and group that the program runs as: the number that images without a base use for a user without
// rights. It is a number and not a name, because runAsNonRoot of Kubernetes refuses a name, which might be root's.
const User = "65532:65532"

// Authorities is where the program finds the certificates of authorities, as on Debian. crypto/x509 looks there first.
const Authorities = "etc/ssl/certs/ca-certificates.crt"

// Options say what an image has beside its program.
type Options struct {
	Ports       bool              // let the program listen on ports below 1024
	Authorities bool              // add the certificates of public authorities
	Beside      string            // the name of another program to add, from the directory of each; empty for none
	Labels      map[string]string // such as org.opencontainers.image.version
	Created     time.Time         // of all that has a time; none if zero
}

// image makes the image of one program.
func (o Options) image(program string) (v1.Image, *v1.Platform, error) {
	platform, err := platform(program)
	if err != nil {
		return nil, nil, err
	}
	if err := o.checkBeside(program, platform); err != nil {
		return nil, nil, err
	}
	content, err := o.files(program)
	if err != nil {
		return nil, nil, err
	}
	// The layer is read twice, for its digest and for its content, and the digest of the configuration is that before compression.
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestCompression))
	if err != nil {
		return nil, nil, err
	}
	// An empty image has the types of Docker at first.
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.Append(base, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: o.Created}, Comment: "the program"}})
	if err != nil {
		return nil, nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, nil, err
	}
	config = config.DeepCopy() // what an image returns is its own
	config.Architecture, config.OS, config.Variant = platform.Architecture, platform.OS, platform.Variant
	config.Created = v1.Time{Time: o.Created}
	config.Config = v1.Config{Entrypoint: []string{entrypoint(program)}, User: User, WorkingDir: "/", Labels: o.Labels}
	// It is only a hint for people: nothing is opened by it.
	if o.Ports {
		config.Config.ExposedPorts = map[string]struct{}{"53/tcp": {}, "53/udp": {}}
	}
	image, err = mutate.ConfigFile(image, config)
	return image, platform, err
}

// besidePath is where the program that is added to another one is.
func (o Options) besidePath(program string) string {
	return filepath.Join(filepath.Dir(program), o.Beside)
}

// checkBeside looks whether the program that is added to another one runs on the same platform.
func (o Options) checkBeside(program string, want *v1.Platform) error {
	if o.Beside == "" {
		return nil
	}
	got, err := platform(o.besidePath(program))
	if err == nil && !got.Equals(*want) {
		err = fmt.Errorf("%s is for %s, and %s for %s: build both for one", o.besidePath(program), got, program, want)
	}
	return err
}

// entrypoint is the path of the program in the image.
func entrypoint(program string) string { return "/" + filepath.Base(program) }

// files is the file system of the image as a tar file, before compression. All belong to root, and only root may write them.
func (o Options) files(program string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	// Owners are zero, which is root. What is not written in a header is not there.
	add := func(h tar.Header, content []byte) error {
		h.Size, h.ModTime = int64(len(content)), o.Created
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		_, err := w.Write(content)
		return err
	}
	if o.Authorities {
		for at, c := range Authorities { // each directory has an entry
			if c == '/' {
				if err := add(tar.Header{Typeflag: tar.TypeDir, Name: Authorities[:at+1], Mode: 0o755}, nil); err != nil {
					return nil, err
				}
			}
		}
		if err := add(tar.Header{Typeflag: tar.TypeReg, Name: Authorities, Mode: 0o644}, authorities()); err != nil {
			return nil, err
		}
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	h := tar.Header{Typeflag: tar.TypeReg, Name: entrypoint(program)[1:], Mode: 0o755}
	// Extended attributes in this form are what containerd, podman and Docker read.
	if o.Ports {
		h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": string(capability())}
	}
	if err := add(h, content); err != nil {
		return nil, err
	}
	if o.Beside != "" {
		// It has no right of its own: it listens nowhere.
		if content, err = os.ReadFile(o.besidePath(program)); err == nil {
			err = add(tar.Header{Typeflag: tar.TypeReg, Name: o.Beside, Mode: 0o755}, content)
		}
		if err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return b.Bytes(), err
}

// authorities are the certificates of the authorities that Mozilla trusts, as PEM. The few that it trusts under a condition, such
// as for certificates up to a date, are left out: the file cannot say so.
func authorities() []byte {
	var b bytes.Buffer
	// They are in the order of their names, the same each time.
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // memory takes it
		}
	}
	return b.Bytes()
}

// capability is the extended attribute that "setcap cap_net_bind_service=+ep" gives a file: struct vfs_cap_data of
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

// platform reads from a program what it runs on. A program that needs a loader or shared libraries is an error, because the image
// has none.
func platform(program string) (*v1.Platform, error) {
	// The file is never run here: it may be for another machine.
	f, err := elf.Open(program)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s as a program for Linux: build it with GOOS=linux: %w", program, err)
	}
	defer f.Close()
	// A loader is named in a segment of its own, also in programs that can be placed anywhere.
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%s is linked dynamically: build it with CGO_ENABLED=0", program)
		}
	}
	known := map[elf.Machine]v1.Platform{
		elf.EM_X86_64: {Architecture: "amd64"}, elf.EM_386: {Architecture: "386"}, elf.EM_AARCH64: {Architecture: "arm64"},
		elf.EM_ARM: {Architecture: "arm", Variant: "v7"}, elf.EM_RISCV: {Architecture: "riscv64"}, elf.EM_S390: {Architecture: "s390x"},
		elf.EM_PPC64: {Architecture: "ppc64le"}, elf.EM_LOONGARCH: {Architecture: "loong64"},
	}
	// Linux has no number of its own in use: what is for no system in particular is for Linux.
	if f.OSABI != elf.ELFOSABI_NONE && f.OSABI != elf.ELFOSABI_LINUX {
		return nil, fmt.Errorf("%s is for another system, %s: build it with GOOS=linux", program, f.OSABI)
	}
	// The header of ELF does not say which version of ARM it is: 7 is what our releases have.
	p, ok := known[f.Machine]
	if !ok || f.Machine == elf.EM_PPC64 && f.Data != elf.ELFDATA2LSB {
		return nil, fmt.Errorf("%s is for the machine %s, which is not supported: build it for amd64, arm64 or another GOARCH of Linux", program, f.Machine)
	}
	p.OS = "linux"
	return &p, nil
}
