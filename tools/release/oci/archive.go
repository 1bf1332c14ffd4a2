package oci

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Save makes an image of the programs, and writes it to a file as an archive: an OCI layout that also has the index of
// "docker save". So docker load, podman load, ctr images import and skopeo copy oci-archive: all take it.
//
// The image is called tag, which has to have a tag, such as registry.example.org/coredns:1.0. The archive replaces an earlier one
// when it is complete, and nothing else is left behind.
func Save(to, tag string, programs []string, o Options) error {
	ref, err := parse(tag)
	if err != nil {
		return err
	}
	// A rename would replace a device such as /dev/null, or fail on a directory after all the work.
	if there, err := os.Stat(to); err == nil && !there.Mode().IsRegular() {
		return fmt.Errorf("%s exists and is not a regular file: use another name with -o", to)
	}
	// Layers are compressed on the way, so the layout is a directory first. A tar file has the size before the content.
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := o.layOut(dir, ref, programs); err != nil {
		return err
	}
	// In the same directory, since a rename does not cross file systems.
	f, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // has no effect after the rename
	if err := errors.Join(pack(f, dir), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), to)
}

// parse checks the name of an image. A name without a tag would be taken for the newest of all, which is not meant.
func parse(tag string) (name.Tag, error) {
	// Without a registry the name is for this machine alone, and stays as it is: no docker.io before it.
	ref, err := name.NewTag(tag, name.WithDefaultRegistry(""))
	if err != nil || !strings.HasSuffix(tag, ":"+ref.TagStr()) {
		return ref, fmt.Errorf("invalid image name %q: use a name with a tag, such as registry.example.org/coredns-multivalue:0.1.0", tag)
	}
	return ref, nil
}

// layOut writes the image as an OCI layout. Its index.json leads to the one manifest, or to an index of all.
func (o Options) layOut(dir string, ref name.Tag, programs []string) error {
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	// Both name the image: containerd by the first, and the tools of OCI by the second.
	called := layout.WithAnnotations(map[string]string{"io.containerd.image.name": ref.String(), "org.opencontainers.image.ref.name": ref.String()})
	// The labels of the images are on the index too: that is what registries show of it.
	index := mutate.Annotations(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), o.Labels).(v1.ImageIndex)
	var docker []saved
	for _, program := range programs {
		image, platform, err := o.image(program)
		if err != nil {
			return err
		}
		// A machine could take either of them, and the index of "docker save" would have one name twice.
		if slices.ContainsFunc(docker, func(s saved) bool { return s.RepoTags[0] == ref.String()+"-"+platform.Architecture }) {
			return fmt.Errorf("two programs for %s: name one for each architecture", platform)
		}
		own := ref.String()
		// Tools that know no index in an index take an image alone, so one program has none.
		if len(programs) == 1 {
			if err := path.AppendImage(image, called); err != nil {
				return err
			}
		} else {
			// The index of "docker save" cannot say that images are one for several architectures.
			own += "-" + platform.Architecture
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
		}
		s, err := asSaved(image, own)
		if err != nil {
			return err
		}
		docker = append(docker, s)
	}
	// After all images, since its digest depends on theirs.
	if len(programs) > 1 {
		if err := path.AppendIndex(index, called); err != nil {
			return err
		}
	}
	text, err := json.Marshal(docker)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "manifest.json"), text, 0o644)
}

// saved is an image in manifest.json, the index of "docker save", by which Docker finds images if its store is not containerd's.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// asSaved describes an image by the files of the OCI layout that it is in.
func asSaved(image v1.Image, tag string) (saved, error) {
	m, err := image.Manifest()
	if err != nil {
		return saved{}, err
	}
	s := saved{Config: blob(m.Config.Digest), RepoTags: []string{tag}}
	for _, l := range m.Layers {
		s.Layers = append(s.Layers, blob(l.Digest))
	}
	return s, nil
}

// blob is the name of a file of an OCI layout.
func blob(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// pack writes the files of a directory as a tar file, sorted by name, without the times and the owner that they have here.
func pack(to io.Writer, dir string) error {
	w := tar.NewWriter(to)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(name), Mode: 0o644, Size: int64(len(content)), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	return errors.Join(err, w.Close())
}

// unpack writes the files of an archive that pack has made to a directory. A name that leads out of it is an error.
func unpack(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	// All that is opened below it stays inside, whatever the names in the archive are.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s is no archive of an image: %w", archive, err)
		}
		if h.Typeflag == tar.TypeDir {
			continue // files make their directories
		}
		if err := root.MkdirAll(filepath.Dir(filepath.FromSlash(h.Name)), 0o755); err != nil {
			return err
		}
		to, err := root.Create(filepath.FromSlash(h.Name))
		if err != nil {
			return err
		}
		_, err = io.Copy(to, r)
		if err := errors.Join(err, to.Close()); err != nil {
			return err
		}
	}
}
