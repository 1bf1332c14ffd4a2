package full

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/membership"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/kubernetes"
	"github.com/coredns/coredns/plugin/test"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Outside a Pod, a cluster has to be named, for annotations and for zones.
func TestClusterOutsideAPod(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, annotated := client{}.Cluster("", "")
	_, zoned := client{}.Sites("", "")
	for _, err := range []error{annotated, zoned} {
		if err == nil || !strings.Contains(err.Error(), "name a kubeconfig file") {
			t.Error(err)
		}
	}
}

// The kubernetes plugin's zones are found, and so is whether a kubeconfig or an endpoint sets its cluster.
func TestZones(t *testing.T) {
	zones := []string{"cluster.local."}
	file := clientcmd.NewDefaultClientConfig(clientcmdapi.Config{}, nil)
	for what, c := range map[string]struct {
		handler plugin.Handler
		zones   []string
		told    bool
	}{
		"the Pod's own": {&kubernetes.Kubernetes{Zones: zones}, zones, false},
		"a kubeconfig":  {&kubernetes.Kubernetes{Zones: zones, ClientConfig: file}, zones, true},
		"an endpoint":   {&kubernetes.Kubernetes{Zones: zones, APIServerList: []string{"https://192.0.2.1"}}, zones, true},
		"by value":      {kubernetes.Kubernetes{Zones: zones, ClientConfig: file}, zones, true},
		"another":       {test.ErrorHandler(), nil, false},
	} {
		if got, told := (client{}).Zones(c.handler); !slices.Equal(got, c.zones) || told != c.told {
			t.Errorf("%s has zones %q, and its own cluster: %t", what, got, told)
		}
	}
}

// Each fleet has the engine that its Corefile names: one over etcd does not look for a key, and one of members does not look for an
// etcd.
func TestOpenFleet(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for what, c := range map[string]struct {
		config membership.Config
		want   string
	}{
		"members": {membership.Config{Peers: []string{"127.0.0.1:9"}, Key: none, Listen: "127.0.0.1:0", Name: "n"}, "the key file " + none},
		"an etcd": {membership.Config{Store: membership.Store{Endpoints: []string{"127.0.0.1:9"}, Prefix: "/p", TLS: true, CA: none}, Name: "n"}, none},
	} {
		e, err := openFleet(c.config, membership.Host{Warnf: t.Logf, Infof: t.Logf})
		if err == nil {
			e.Leave()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || what == "an etcd" && strings.Contains(err.Error(), "key file") {
			t.Errorf("%s: %v, want %s", what, err, c.want)
		}
	}
}
