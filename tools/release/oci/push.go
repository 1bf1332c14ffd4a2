package oci

import (
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Push sends the image in an archive of Save to a registry, under the name tag, and returns its digest, such as sha256:….
// The registry is asked with the credentials of "docker login". What is sent is what is in the archive, byte for byte.
func Push(archive, tag string) (string, error) {
	ref, err := parse(tag)
	if err != nil {
		return "", err
	}
	// A name alone would mean Docker Hub to most tools. Here it has to be said.
	if ref.RegistryStr() == "" {
		return "", fmt.Errorf("the image name %q has no registry: begin it with one, such as registry.example.org/", tag)
	}
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := unpack(archive, dir); err != nil {
		return "", err
	}
	// The layout is read as the tools of OCI do, so an archive of another program can be pushed too.
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return "", fmt.Errorf("%s is no archive of an image: %w", archive, err)
	}
	manifest, err := top.IndexManifest()
	if err != nil {
		return "", err
	}
	// Several would be several images, and only one of them can have the tag.
	if len(manifest.Manifests) != 1 {
		return "", fmt.Errorf("%s has %d images: one is pushed", archive, len(manifest.Manifests))
	}
	digest := manifest.Manifests[0].Digest
	return digest.String(), send(ref, top, manifest.Manifests[0])
}

// send writes what a descriptor of the layout's index leads to: an index of images, or one image.
func send(ref name.Tag, top v1.ImageIndex, d v1.Descriptor) error {
	// These are the credentials in ~/.docker/config.json, or of the helpers that it names. Without any, none are sent.
	keys := remote.WithAuthFromKeychain(authn.DefaultKeychain)
	if d.MediaType.IsIndex() {
		index, err := top.ImageIndex(d.Digest)
		if err != nil {
			return err
		}
		return remote.WriteIndex(ref, index, keys)
	}
	// Blobs that the registry has already are not sent again.
	image, err := top.Image(d.Digest)
	if err != nil {
		return err
	}
	return remote.Write(ref, image, keys)
}
