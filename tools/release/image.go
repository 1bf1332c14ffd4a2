package main

import (
	"path/filepath"
	"time"

	"github.com/coredns-multivalue/multivalue/tools/release/oci"
)

// image makes the container image of an edition, for all architectures that there are programs for. It is called localhost/NAME:VERSION:
// a name without a host would be taken for one of Docker Hub, by which a kubelet then does not find what was imported.
func (s *source) image(to string, e edition, programs []string) error {
	file := e.name + "_" + s.version + "_image.tar"
	return oci.Save(filepath.Join(to, file), "localhost/"+e.name+":"+s.version, programs, oci.Options{
		Ports: true, Authorities: true, Beside: controller, Created: s.time, Labels: s.labels(e),
	})
}

// labels describe an image by the keys of the OCI image specification (annotations.md). Registries show them.
func (s *source) labels(e edition) map[string]string {
	const home = "https://" + modulePath
	return map[string]string{
		"org.opencontainers.image.title":         e.name,
		"org.opencontainers.image.description":   "CoreDNS that answers with healthy addresses only",
		"org.opencontainers.image.version":       s.version,
		"org.opencontainers.image.revision":      s.commit,
		"org.opencontainers.image.created":       s.time.Format(time.RFC3339),
		"org.opencontainers.image.licenses":      "Apache-2.0",
		"org.opencontainers.image.vendor":        "The multivalue authors",
		"org.opencontainers.image.url":           home,
		"org.opencontainers.image.source":        home,
		"org.opencontainers.image.documentation": home + "/blob/v" + s.version + "/docs/kubernetes.md",
	}
}
