// Package full is multivalue with everything linked in that has heavy dependencies: the way to the API of Kubernetes, for
// the properties annotations and topology, and both engines of the property fleet. It is for the plugin.cfg of a CoreDNS of
// your own, in place of the root, and for cmd/coredns. The root does without, because client-go takes as long to build as all
// the rest.
package full

import (
	"github.com/coredns-multivalue/multivalue"
	"github.com/coredns-multivalue/multivalue/plugin/annotation"
	"github.com/coredns-multivalue/multivalue/plugin/fleet/etcd"
	"github.com/coredns-multivalue/multivalue/plugin/fleet/gossip"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
	"github.com/coredns-multivalue/multivalue/plugin/services"
	"github.com/coredns-multivalue/multivalue/plugin/topology"
	"github.com/coredns-multivalue/multivalue/plugin/zones"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/kubernetes"
)

func init() {
	multivalue.Link(client{})
	multivalue.LinkFleet(openFleet)
}

// openFleet opens the engine that the Corefile names.
func openFleet(c membership.Config, host membership.Host) (membership.Engine, error) {
	if c.UsesStore() {
		return etcd.Open(c, host)
	}
	return gossip.Open(c, host)
}

// client is the way to Kubernetes.
type client struct{}

var (
	_ annotation.Kubernetes = client{}
	_ topology.Kubernetes   = client{}
)

// Zones are those of the cluster. The plugin kubernetes names its API server by a kubeconfig or an endpoint.
func (client) Zones(h plugin.Handler) (zones []string, named bool) {
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
func (client) Cluster(kubeconfig, context string) (annotation.Cluster, error) {
	return services.Open(annotation.Key, annotation.MaxText, kubeconfig, context)
}

// Sites opens a cluster whose zones are sites.
func (client) Sites(kubeconfig, context string) (topology.Cluster, error) {
	return zones.Open(kubeconfig, context)
}
