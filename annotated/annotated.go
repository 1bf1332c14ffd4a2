// Package annotated is multivalue together with what the property annotations takes: a way to the API of Kubernetes. It is
// for the plugin.cfg of a CoreDNS of your own, in the place of the root, and for cmd/coredns. The root does without, for
// client-go takes as long to build as all the rest.
package annotated

import (
	"github.com/coredns-multivalue/multivalue"
	"github.com/coredns-multivalue/multivalue/plugin/annotation"
	"github.com/coredns-multivalue/multivalue/plugin/services"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/kubernetes"
)

func init() { multivalue.Link(way{}) }

// way is the way to Kubernetes.
type way struct{}

// Zones are those of the cluster. The plugin kubernetes is told of its API by a kubeconfig or an endpoint.
func (way) Zones(h plugin.Handler) (zones []string, told bool) {
	switch k := h.(type) {
	case *kubernetes.Kubernetes:
		return k.Zones, k.ClientConfig != nil || len(k.APIServerList) > 0
	case kubernetes.Kubernetes:
		return k.Zones, k.ClientConfig != nil || len(k.APIServerList) > 0
	default:
		return nil, false
	}
}

// Cluster opens one.
func (way) Cluster(kubeconfig, context string) (multivalue.Cluster, error) {
	return services.Open(annotation.Key, annotation.MaxText, kubeconfig, context)
}
