// Package zones learns which zone of a Kubernetes cluster an address is in, from Nodes and EndpointSlices. Its main type is
// the Cluster: the complete build of the plugin calls Open when a Corefile has "topology kubernetes", and then Follow.
//
// It needs the permissions list and watch on both kinds of objects. If those on EndpointSlices are missing, what Nodes say is
// used alone. It is a package of its own so that the plugin can be built without client-go, which is large.
package zones

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/kube"
	"github.com/coredns-multivalue/multivalue/plugin/topology"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	discovery "k8s.io/client-go/kubernetes/typed/discovery/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

var log = clog.NewWithPlugin("multivalue")

const (
	// deliverPause is the shortest time between two deliveries, each of which makes a table of all networks.
	deliverPause = time.Second
	// maxNetworks is how many networks a table has at most, as many as a file may have. Those of Nodes come first.
	maxNetworks = 100_000
	// namedZones is how many zones a log line names.
	namedZones = 8
)

// Cluster is the connection to the API of one Kubernetes cluster.
type Cluster struct {
	config   [sha256.Size]byte // identifies how it is reached
	nodes    core.NodeInterface
	slices   discovery.EndpointSliceInterface
	networks int // as maxNetworks; fewer in tests
}

// Open prepares access to a cluster and sends no request yet. It uses the named kubeconfig file and the context in it; if
// kubeconfig is empty, the service account of the Pod that the process runs in.
//
// An error means that the configuration is wrong. An API that cannot be reached is not an error: Follow waits for it.
func Open(kubeconfig, kubecontext string) (*Cluster, error) {
	config, err := kube.Config(kubeconfig, kubecontext)
	if err != nil {
		return nil, err
	}
	// Nodes and EndpointSlices are large, and protobuf has fewer bytes to decode.
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	nodes, err := core.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	endpoints, err := discovery.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &Cluster{identify(config), nodes.Nodes(), endpoints.EndpointSlices(metav1.NamespaceAll), maxNetworks}, nil
}

// identify returns what differs if a cluster is reached in another way, by another address or with other credentials. What
// the configuration names as files, client-go reads again by itself.
func identify(c *rest.Config) [sha256.Size]byte {
	parts := []any{c.Host, c.APIPath, c.Username, c.Password, c.BearerToken, c.BearerTokenFile, c.Impersonate.UserName, c.Impersonate.UID,
		c.Impersonate.Groups, c.Impersonate.Extra, c.Insecure, c.ServerName, c.CertFile, c.KeyFile, c.CAFile, c.CertData, c.KeyData, c.CAData}
	// As a whole these two are printed without their secrets.
	if p := c.AuthProvider; p != nil {
		parts = append(parts, p.Name, p.Config)
	}
	if p := c.ExecProvider; p != nil {
		parts = append(parts, p.APIVersion, p.Command, p.Args)
		for _, e := range p.Env {
			parts = append(parts, e.Name, e.Value)
		}
	}
	return sha256.Sum256(fmt.Appendf(nil, "%q", parts))
}

// Same reports whether another leads to the same API with the same credentials.
func (c *Cluster) Same(other topology.Cluster) bool {
	o, ok := other.(*Cluster)
	return ok && c.config == o.config
}

// Follow calls take with the networks of all zones whenever they change, with all of them each time, at most once a second.
// While the API cannot be reached take is not called, so what it was given last stays in force.
//
// It returns nil when the context ends. Any other return is a panic in one of its goroutines, as an error; all of them have
// ended by then.
func (c *Cluster) Follow(ctx context.Context, take func([]topology.Entry)) error {
	t := newTables(c.networks)
	return kube.Run(ctx,
		c.reflectNodes(t).RunWithContext,
		c.reflectSlices(t).RunWithContext,
		func(ctx context.Context) { t.deliver(ctx, take) },
	)
}

// reflectNodes returns what keeps a store up to date with the Nodes of the API.
func (c *Cluster) reflectNodes(t *tables) *cache.Reflector {
	return kube.Objects{
		Property: "topology", Kind: "Nodes", Known: "zones", Example: &corev1.Node{},
		List: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list, err := c.nodes.List(ctx, options)
			if err != nil {
				return nil, err
			}
			for i := range list.Items { // before the next part of the list comes
				stripNode(&list.Items[i])
			}
			return list, nil
		},
		Watch: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return c.nodes.Watch(ctx, options)
		},
	}.Reflector(&t.nodes)
}

// reflectSlices is the same for EndpointSlices, without which Nodes are enough.
func (c *Cluster) reflectSlices(t *tables) *cache.Reflector {
	return kube.Objects{
		Property: "topology", Kind: "EndpointSlices", Known: "zones", Example: &discoveryv1.EndpointSlice{}, Lost: t.withoutSlices,
		List: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list, err := c.slices.List(ctx, options)
			if err != nil {
				return nil, err
			}
			for i := range list.Items {
				stripSlice(&list.Items[i])
			}
			return list, nil
		},
		Watch: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return c.slices.Watch(ctx, options)
		},
	}.Reflector(&t.slices)
}

// deliver calls take when other networks follow from the stores, at most once a deliverPause. It waits for both lists, but
// for EndpointSlices only as long as they can be had.
func (t *tables) deliver(ctx context.Context, take func([]topology.Entry)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.changed:
		}
		if networks, changed := t.networks(); changed {
			take(networks)
			t.sayZones(networks)
		}
		select {
		case <-ctx.Done():
		case <-time.After(deliverPause):
		}
	}
}

// sayZones logs the names of the zones, if they are not the same as last time. Nodes come and go all the time; zones do not.
func (t *tables) sayZones(networks []topology.Entry) {
	names := make(map[string]bool)
	for _, n := range networks {
		names[n.Site] = true
	}
	sorted := slices.Sorted(maps.Keys(names))
	words := "Kubernetes has no Node with a zone"
	if len(sorted) > 0 {
		words = "Kubernetes has the zones " + strings.Join(sorted[:min(len(sorted), namedZones)], ", ")
	}
	if len(sorted) > namedZones {
		words += fmt.Sprintf(" and %d more", len(sorted)-namedZones)
	}
	if words != t.said {
		t.said = words
		log.Infof("topology: %s", words)
	}
}

// prefixOf returns the network of an address alone.
func prefixOf(text string) (p netip.Prefix, ok bool) {
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return p, false
	}
	addr = addr.Unmap()
	return netip.PrefixFrom(addr, addr.BitLen()), true
}
