package zones

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	stdlog "log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/topology"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func TestMain(m *testing.M) {
	clog.Discard()
	os.Exit(m.Run())
}

// guarded is a buffer for several goroutines.
type guarded struct {
	mu   sync.Mutex
	text strings.Builder
}

func (g *guarded) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.Write(p)
}

// count is how many lines contain the words.
func (g *guarded) count(words string) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for line := range strings.Lines(g.text.String()) {
		if strings.Contains(line, words) {
			n++
		}
	}
	return n
}

// logged captures the log during a test.
func logged(t *testing.T) *guarded {
	kept := new(guarded)
	stdlog.SetOutput(kept)
	t.Cleanup(clog.Discard)
	return kept
}

// born is the age of Nodes, in seconds, from which a test's ages count.
var born = time.Unix(1e9, 0)

// nodeOf is a Node in a zone, or in none if that is empty. The rest are its networks, of the kind that Pods have, and its
// addresses.
func nodeOf(name, zone string, age int, networks ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(born.Add(time.Duration(age) * time.Second)),
		Annotations: map[string]string{"note": strings.Repeat("x", 1000)}, Labels: map[string]string{"beta.kubernetes.io/arch": "amd64"}}}
	if zone != "" {
		n.Labels[corev1.LabelTopologyZone] = zone
	}
	for _, text := range networks {
		switch kind, address, found := strings.Cut(text, "="); {
		case found:
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeAddressType(kind), Address: address})
		default:
			n.Spec.PodCIDRs = append(n.Spec.PodCIDRs, text)
		}
	}
	n.Status.Images = []corev1.ContainerImage{{Names: []string{"an image"}}}
	return n
}

// sliceOf is an EndpointSlice. Endpoints are addresses, each with a zone and a Node where it has them: ADDRESS ZONE NODE.
func sliceOf(name string, endpoints ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"}, AddressType: discoveryv1.AddressTypeIPv4}
	for _, text := range endpoints {
		words := append(strings.Split(text, " "), "", "")
		e := discoveryv1.Endpoint{Addresses: []string{words[0]}, Hostname: &words[0]}
		if words[1] != "" {
			e.Zone = &words[1]
		}
		if words[2] != "" {
			e.NodeName = &words[2]
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// words are entries in words: NETWORK ZONE, by IPv4 and IPv6 and by address.
func words(entries []topology.Entry) string {
	slices.SortFunc(entries, func(a, b topology.Entry) int {
		return cmp.Or(a.Network.Addr().Compare(b.Network.Addr()), cmp.Compare(a.Network.Bits(), b.Network.Bits()))
	})
	var all []string
	for _, e := range entries {
		all = append(all, e.Network.String()+" "+e.Site)
	}
	return strings.Join(all, ", ")
}

// again returns what is delivered, although it may be the same as before.
func (t *tables) again() (all []topology.Entry, known bool) {
	t.byNode = nil
	return t.networks()
}

// tablesOf holds these objects, as from two lists.
func tablesOf(t *testing.T, most int, nodes []any, endpoints []any) *tables {
	t.Helper()
	all := newTables(most)
	for _, obj := range append(slices.Clone(nodes), endpoints...) {
		if _, err := strip(obj); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmp.Or(all.nodes.Replace(nodes, "1"), all.slices.Replace(endpoints, "1")); err != nil {
		t.Fatal(err)
	}
	return all
}

// The networks of a zone are those of the Pods of its Nodes, their addresses, and endpoints that have an address from
// elsewhere (B98).
func TestZonesOfNetworks(t *testing.T) {
	for _, c := range []struct {
		what      string
		nodes     []any
		endpoints []any
		want      string
	}{
		{"nothing", nil, nil, ""},
		{"a Node without a zone", []any{nodeOf("n", "", 0, "10.1.0.0/24", "InternalIP=192.0.2.1")}, nil, ""},
		{"Nodes", []any{nodeOf("n", "a", 0, "10.1.0.0/24", "2001:db8:1::/64", "InternalIP=192.0.2.1", "ExternalIP=198.51.100.1", "Hostname=203.0.113.9"), nodeOf("m", "b", 0, "10.1.1.0/24")}, nil,
			"10.1.0.0/24 a, 10.1.1.0/24 b, 192.0.2.1/32 a, 198.51.100.1/32 a, 2001:db8:1::/64 a"},
		{"what is no network", []any{nodeOf("n", "a", 0, "10.1.0.7/24", "nonsense", "::ffff:10.0.0.0/120", "InternalIP=fe80::1%eth0", "InternalIP=::ffff:192.0.2.1", "InternalIP=")}, nil,
			"10.1.0.0/24 a, 192.0.2.1/32 a"},
		{"a name that no label can have", []any{nodeOf("n", strings.Repeat("z", 64), 0, "10.1.0.0/24")}, nil, ""},
		{"endpoints in the network of their Node", []any{nodeOf("n", "a", 0, "10.1.0.0/24", "InternalIP=192.0.2.1")}, []any{sliceOf("s", "10.1.0.5 a n", "192.0.2.1 a n")},
			"10.1.0.0/24 a, 192.0.2.1/32 a"},
		{"endpoints elsewhere", []any{nodeOf("n", "a", 0, "InternalIP=192.0.2.1")}, []any{sliceOf("s", "10.9.0.5 a", "10.9.0.6  n", "2001:db8::5 b", "10.9.0.7", "10.9.0.8  other")},
			"10.9.0.5/32 a, 10.9.0.6/32 a, 192.0.2.1/32 a, 2001:db8::5/128 b"},
		{"endpoints in the network of another's Node", []any{nodeOf("n", "a", 0, "10.1.0.0/24"), nodeOf("m", "b", 0, "10.1.1.0/24")}, []any{sliceOf("s", "10.1.1.5 a n")},
			"10.1.0.0/24 a, 10.1.1.0/24 b, 10.1.1.5/32 a"},
		{"a Node that moved, and slices that do not know", []any{nodeOf("n", "b", 0, "10.1.0.0/24")}, []any{sliceOf("s", "10.1.0.5 a n", "10.9.0.5 a n")},
			"10.1.0.0/24 b, 10.9.0.5/32 b"},
		{"a Node's own address is not another's", []any{nodeOf("n", "a", 0, "InternalIP=192.0.2.1")}, []any{sliceOf("s", "192.0.2.1 b")}, "192.0.2.1/32 a"},
		{"slices that differ", nil, []any{sliceOf("t", "10.9.0.5 b"), sliceOf("s", "10.9.0.5 a")}, "10.9.0.5/32 b"},
		{"slices of which the last says what its Node does", []any{nodeOf("n", "a", 0, "10.1.0.0/24")}, []any{sliceOf("t", "10.1.0.5 a"), sliceOf("s", "10.1.0.5 b")}, "10.1.0.0/24 a"},
		{"the newer of two Nodes", []any{nodeOf("n", "a", 2, "10.1.0.0/24"), nodeOf("m", "b", 1, "10.1.0.0/24")}, nil, "10.1.0.0/24 a"},
		{"the smallest network", []any{nodeOf("n", "a", 0, "10.1.0.0/16"), nodeOf("m", "b", 0, "10.1.1.0/24")}, []any{sliceOf("s", "10.1.1.5 b m", "10.1.2.5 a n", "10.1.1.6 a n")},
			"10.1.0.0/16 a, 10.1.1.0/24 b, 10.1.1.6/32 a"},
	} {
		networks, known := tablesOf(t, maxNetworks, c.nodes, c.endpoints).networks()
		if got := words(networks); got != c.want || !known {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
	old := nodeOf("n", "a", 0) // from before there were two
	old.Spec.PodCIDR = "10.1.0.0/24"
	if networks, _ := tablesOf(t, maxNetworks, []any{old}, nil).networks(); words(networks) != "10.1.0.0/24 a" {
		t.Errorf("of podCIDR alone: %s", words(networks))
	}
}

// What is dropped of a list in the making is all that is not read, so the objects stay small; and it changes nothing.
func TestStripDropsTheRest(t *testing.T) {
	n, s := nodeOf("n", "a", 0, "10.1.0.0/24", "InternalIP=192.0.2.1"), sliceOf("s", "10.9.0.5 a n")
	_, wholeNode, _ := readNode(n)
	_, wholeSlice, _ := readSlice(s)
	for _, obj := range []any{n, s} {
		if _, err := strip(obj); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal([]any{n, s})
	if err != nil || len(text) > 800 || strings.Contains(string(text), "image\"") || strings.Contains(string(text), "xxx") || strings.Contains(string(text), "amd64") || strings.Contains(string(text), "hostname") {
		t.Errorf("%d bytes are left: %s", len(text), text)
	}
	if _, now, _ := readNode(n); !sameNode(now, wholeNode) {
		t.Errorf("%v is left of %v", now, wholeNode)
	}
	if _, now, _ := readSlice(s); !slices.Equal(now, wholeSlice) {
		t.Errorf("%v is left of %v", now, wholeSlice)
	}
}

// A Node's heartbeat is no change, and neither is an endpoint that becomes ready.
func TestHeartbeatsAreNoChange(t *testing.T) {
	all := newTables(maxNetworks)
	news := func() bool {
		select {
		case <-all.changed:
			return true
		default:
			return false
		}
	}
	step := func(what string, err error, want bool) {
		t.Helper()
		if got := news(); got != want || err != nil {
			t.Errorf("%s: a change %t, %v", what, got, err)
		}
	}
	n, s := nodeOf("n", "a", 0, "10.1.0.0/24"), sliceOf("s", "10.9.0.5 a")
	step("a Node", all.nodes.Add(n), true)
	n = n.DeepCopy()
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady}}
	n.ResourceVersion = "7"
	step("a heartbeat", all.nodes.Update(n), false)
	step("endpoints", all.slices.Add(s), true)
	ready := true
	s.Endpoints[0].Conditions.Ready = &ready
	step("they are ready", all.slices.Update(s), false)
	step("another Node's address", all.nodes.Update(nodeOf("n", "a", 0, "10.1.0.0/24", "InternalIP=192.0.2.1")), true)
	step("another zone", all.nodes.Update(nodeOf("n", "b", 0, "10.1.0.0/24", "InternalIP=192.0.2.1")), true)
	step("no zone", all.nodes.Update(nodeOf("n", "", 0)), true)
	step("a Node without a zone is gone", all.nodes.Delete(nodeOf("n", "", 0)), false)
	step("no endpoints", all.slices.Update(sliceOf("s")), true)
	step("nonsense", cmp.Or(all.slices.Update("nonsense"), all.nodes.Update("nonsense")), false)
}

// A network in two zones is logged once, until it is in one; and so is that there is no room for all.
func TestConflictIsLoggedOnce(t *testing.T) {
	said := logged(t)
	all := tablesOf(t, 2, []any{nodeOf("n", "a", 1, "10.1.0.0/24", "10.2.0.0/24"), nodeOf("m", "b", 2, "10.1.0.0/24", "10.2.0.0/24")}, nil)
	step := func(what string, err error, conflicts, cuts int, want string) {
		t.Helper()
		for range 3 {
			if got, _ := all.again(); words(got) != want || err != nil {
				t.Errorf("%s: %s, %v", what, words(got), err)
			}
		}
		if a, b := said.count("the zone of the newer Node counts"), said.count("only 2 are used"); a != conflicts || b != cuts {
			t.Errorf("%s: logged %d and %d times, want %d and %d", what, a, b, conflicts, cuts)
		}
	}
	const both = "10.1.0.0/24 b, 10.2.0.0/24 b"
	step("two", nil, 1, 0, both)
	if n := said.count("10.1.0.0/24 is of Node n in zone a and of Node m in zone b"); n != 1 {
		t.Errorf("the log has the Nodes %d times", n)
	}
	step("an address elsewhere", all.slices.Add(sliceOf("s", "10.0.0.1 a")), 1, 1, both)
	step("one has gone", all.nodes.Delete(nodeOf("n", "", 0)), 1, 1, both)
	step("none is elsewhere", all.slices.Delete(sliceOf("s")), 1, 1, both)
	step("it is back", cmp.Or(all.nodes.Add(nodeOf("n", "a", 1, "10.1.0.0/24")), all.slices.Add(sliceOf("s", "10.0.0.1 a"))), 2, 2, both)
}

// However often Nodes change, they are delivered at most once a second, and the last change always is. Before both lists are
// known nothing is, unless EndpointSlices cannot be had.
func TestDeliver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // in a bubble, where a sleep takes no time
		all := newTables(maxNetworks)
		var takes atomic.Int64
		var last atomic.Value
		var running sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		running.Go(func() {
			all.deliver(ctx, func(networks []topology.Entry) { takes.Add(1); last.Store(words(networks)) })
		})
		step := func(what string, err error, delivered int64, want string) {
			t.Helper()
			time.Sleep(2 * deliverPause)
			synctest.Wait()
			if got, _ := last.Load().(string); takes.Swap(0) != delivered || got != want || err != nil {
				t.Errorf("%s: %q, %v; want %q", what, got, err, want)
			}
		}
		step("nothing", nil, 0, "")
		step("endpoints alone", all.slices.Replace([]any{sliceOf("s", "10.9.0.5 b")}, "1"), 0, "")
		step("a Node that is only watched", all.nodes.Update(nodeOf("n", "a", 0, "10.1.0.0/24")), 0, "")
		const both = "10.1.0.0/24 a, 10.9.0.5/32 b"
		step("both", all.nodes.Replace([]any{nodeOf("n", "a", 0, "10.1.0.0/24")}, "1"), 1, both)
		step("an endpoint in the network of its Node", all.slices.Update(sliceOf("t", "10.1.0.5 a n")), 0, both)
		step("an endpoint elsewhere", all.slices.Update(sliceOf("t", "10.9.0.6 a n")), 1, "10.1.0.0/24 a, 10.9.0.5/32 b, 10.9.0.6/32 a")
		step("it is gone", all.slices.Update(sliceOf("t")), 1, both)
		for i := range 100 {
			_ = all.nodes.Update(nodeOf("n", "a", 0, fmt.Sprintf("10.1.%d.0/24", i)))
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(2 * deliverPause)
		synctest.Wait()
		if n := takes.Load(); n < 5 || n > 7 || last.Load() != "10.1.99.0/24 a, 10.9.0.5/32 b" {
			t.Errorf("delivered %d times in five seconds, the last time %v", n, last.Load())
		}
		cancel()
		running.Wait()
	})
}

// cluster is an API with Nodes and EndpointSlices that a test edits. It answers lists and watches over HTTP, with watches that
// begin with a list or without them.
type cluster struct {
	*httptest.Server
	streams bool

	mu       sync.Mutex
	version  int
	objects  map[string]map[string]any // by path and name
	refused  map[string]bool           // paths that are forbidden
	requests map[string]int            // lists and watches, by path
	changed  chan struct{}             // closed at the next edit
	history  []edit
}

// edit is an event of a watch.
type edit struct {
	path    string
	version int
	event   map[string]any
}

const (
	nodesPath  = "/api/v1/nodes"
	slicesPath = "/apis/discovery.k8s.io/v1/endpointslices"
)

func newCluster(t *testing.T, streams bool) *cluster {
	c := &cluster{streams: streams, version: 1, refused: make(map[string]bool), requests: make(map[string]int), changed: make(chan struct{}),
		objects: map[string]map[string]any{nodesPath: {}, slicesPath: {}}}
	c.Server = httptest.NewServer(http.HandlerFunc(c.answer))
	t.Cleanup(c.Close)
	t.Cleanup(c.CloseClientConnections)
	return c
}

// set makes objects exist as they are, and deletes those that have neither a zone nor endpoints.
func (c *cluster) set(objects ...metav1.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range objects {
		c.version++
		o.SetResourceVersion(fmt.Sprint(c.version))
		path, kind, gone := nodesPath, "MODIFIED", false
		switch o := o.(type) {
		case *corev1.Node:
			o.TypeMeta, gone = metav1.TypeMeta{Kind: "Node", APIVersion: "v1"}, o.Labels[corev1.LabelTopologyZone] == ""
		case *discoveryv1.EndpointSlice:
			o.TypeMeta, gone, path = metav1.TypeMeta{Kind: "EndpointSlice", APIVersion: "discovery.k8s.io/v1"}, len(o.Endpoints) == 0, slicesPath
		}
		if _, known := c.objects[path][o.GetName()]; !known {
			kind = "ADDED"
		}
		c.objects[path][o.GetName()] = o
		if gone {
			delete(c.objects[path], o.GetName())
			kind = "DELETED"
		}
		c.history = append(c.history, edit{path, c.version, map[string]any{"type": kind, "object": o}})
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// forbid takes the right to a kind of objects away, or gives it.
func (c *cluster) forbid(path string, refused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[path] = refused
	close(c.changed)
	c.changed = make(chan struct{})
}

// asked is how many lists and watches there were.
func (c *cluster) asked() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, requests := range c.requests {
		n += requests
	}
	return n
}

func (c *cluster) answer(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[r.URL.Path]++
	kind := map[string]string{nodesPath: "Node", slicesPath: "EndpointSlice"}[r.URL.Path]
	group := map[string]string{nodesPath: "v1", slicesPath: "discovery.k8s.io/v1"}[r.URL.Path]
	w.Header().Set("Content-Type", "application/json")
	q := r.URL.Query()
	begins := q.Get("sendInitialEvents") == "true"
	switch {
	case kind == "" || c.refused[r.URL.Path]:
		refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden)
	case begins && !c.streams:
		refuse(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid)
	case q.Get("watch") == "":
		items := slices.Collect(maps.Values(c.objects[r.URL.Path]))
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": kind + "List", "apiVersion": group, "metadata": map[string]any{"resourceVersion": fmt.Sprint(c.version)}, "items": append([]any{}, items...)})
	default:
		since := c.version
		if begins {
			for _, o := range c.objects[r.URL.Path] {
				_ = json.NewEncoder(w).Encode(map[string]any{"type": "ADDED", "object": o})
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "BOOKMARK", "object": map[string]any{"kind": kind, "apiVersion": group,
				"metadata": map[string]any{"resourceVersion": fmt.Sprint(c.version), "annotations": map[string]string{metav1.InitialEventsAnnotationKey: "true"}}}})
		} else if _, err := fmt.Sscan(q.Get("resourceVersion"), &since); err != nil {
			since = 0
		}
		c.stream(w, r, since)
	}
}

// stream writes what is edited after a version, until the client has had enough or may watch no longer. The caller holds mu.
func (c *cluster) stream(w http.ResponseWriter, r *http.Request, since int) {
	for {
		for _, e := range c.history {
			if e.path == r.URL.Path && e.version > since {
				_ = json.NewEncoder(w).Encode(e.event)
				since = e.version
			}
		}
		w.(http.Flusher).Flush()
		changed := c.changed
		if c.refused[r.URL.Path] {
			return
		}
		c.mu.Unlock()
		select {
		case <-changed:
		case <-r.Context().Done():
		}
		c.mu.Lock()
		if r.Context().Err() != nil {
			return
		}
	}
}

// refuse answers a request with an error status.
func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": %q, "message": "no", "code": %d}`, reason, code)
}

// kubeconfig writes a kubeconfig file for the API at a URL.
func kubeconfig(t *testing.T, at, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: it, contexts: [{name: it, context: {cluster: it, user: it}}],
users: [{name: it, user: {token: %s}}], clusters: [{name: it, cluster: {server: %q}}]}`, token, at)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// follower follows a cluster, and knows what it said last.
type follower struct {
	testing.TB
	last atomic.Value
}

func follow(t *testing.T, api *cluster) *follower {
	t.Helper()
	c, err := Open(kubeconfig(t, api.URL, "secret"), "it")
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{TB: t}
	f.last.Store("nothing yet")
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	running.Go(func() {
		if err := c.Follow(ctx, func(networks []topology.Entry) { f.last.Store(words(networks)) }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return f
}

// await waits for a condition.
func await(t testing.TB, condition func() bool, complaint func() string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(complaint())
		}
	}
}

// says waits until the cluster says this.
func (f *follower) says(want string) {
	f.Helper()
	await(f, func() bool { return f.last.Load() == want }, func() string { return fmt.Sprintf("the zones are %v, want %s", f.last.Load(), want) })
}

// The zones of a real API follow its Nodes and EndpointSlices, whether it begins a watch with a list or not (B98).
func TestFollowZones(t *testing.T) {
	for _, streams := range []bool{true, false} {
		said := logged(t)
		api := newCluster(t, streams)
		api.set(nodeOf("n", "a", 0, "10.1.0.0/24", "InternalIP=192.0.2.1"), sliceOf("s", "10.1.0.5 a n", "10.9.0.5 b"))
		f := follow(t, api)
		f.says("10.1.0.0/24 a, 10.9.0.5/32 b, 192.0.2.1/32 a")
		api.set(nodeOf("m", "b", 0, "10.1.1.0/24"))
		f.says("10.1.0.0/24 a, 10.1.1.0/24 b, 10.9.0.5/32 b, 192.0.2.1/32 a")
		api.set(sliceOf("s"), nodeOf("n", "c", 0, "10.1.0.0/24"))
		f.says("10.1.0.0/24 c, 10.1.1.0/24 b")
		api.set(nodeOf("n", "", 0), nodeOf("m", "", 0))
		f.says("")
		await(t, func() bool { return said.count("Kubernetes has no Node with a zone") > 0 }, func() string { return "logged " + said.text.String() }) // which comes after that
		if said.count("cannot watch") > 0 || said.count("Kubernetes has the zones a, b") != 1 || said.count("Kubernetes has no Node with a zone") != 1 {
			t.Errorf("logged %s", said.text.String())
		}
	}
}

// While the API is gone, what was known stays, and the log says so once for each kind of objects. When it is back it is
// followed again (B98).
func TestFollowOverAnOutage(t *testing.T) {
	said := logged(t)
	api := newCluster(t, true)
	api.set(nodeOf("n", "a", 0, "10.1.0.0/24"))
	f := follow(t, api)
	f.says("10.1.0.0/24 a")
	api.forbid(nodesPath, true)
	api.forbid(slicesPath, true)
	before := api.asked()
	await(t, func() bool {
		return api.asked() > before+4 && said.count("cannot watch Nodes") > 0 && said.count("cannot watch EndpointSlices") > 0
	}, func() string { return "the API is not asked again" })
	api.set(nodeOf("n", "b", 0, "10.1.0.0/24"))
	for _, kind := range []string{"Nodes", "EndpointSlices"} {
		if n := said.count("topology: cannot watch " + kind + ", the last known zones stay in force: "); n != 1 {
			t.Errorf("the outage of %s is logged %d times", kind, n)
		}
	}
	if got := f.last.Load(); got != "10.1.0.0/24 a" {
		t.Errorf("in the outage, the zones are %v", got)
	}
	api.forbid(nodesPath, false)
	api.forbid(slicesPath, false)
	f.says("10.1.0.0/24 b")
	await(t, func() bool {
		return said.count("watching Nodes again") == 1 && said.count("watching EndpointSlices again") == 1
	},
		func() string { return "the end of the outage is not logged" })
}

// Without the right to EndpointSlices, what Nodes say is used alone; without that to Nodes, nothing is.
func TestFollowWithFewRights(t *testing.T) {
	said := logged(t)
	api := newCluster(t, true)
	api.forbid(slicesPath, true)
	api.set(nodeOf("n", "a", 0, "10.1.0.0/24"), sliceOf("s", "10.9.0.5 b"))
	follow(t, api).says("10.1.0.0/24 a")
	other := newCluster(t, true)
	other.forbid(nodesPath, true)
	other.set(nodeOf("n", "a", 0, "10.1.0.0/24"), sliceOf("s", "10.9.0.5 b"))
	f := follow(t, other)
	await(t, func() bool { return said.count("cannot watch Nodes") == 1 && other.asked() > 4 }, func() string { return "it is not logged" })
	f.says("nothing yet")
	other.forbid(nodesPath, false)
	f.says("10.1.0.0/24 a, 10.9.0.5/32 b")
}

// The end of the context ends everything.
func TestFollowZonesEnds(t *testing.T) {
	api := newCluster(t, true)
	c, err := Open(kubeconfig(t, api.URL, "secret"), "it")
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Follow(ctx, func([]topology.Entry) { cancel() }); err != nil {
		t.Error(err)
	}
	api.CloseClientConnections()
	await(t, func() bool { return runtime.NumGoroutine() <= before+2 }, // the server's own
		func() string {
			return fmt.Sprintf("%d goroutines before, and %d after", before, runtime.NumGoroutine())
		})
}

// A panic, also inside client-go, ends Follow and not the process (T39).
func TestFollowZonesSurvives(t *testing.T) {
	c := new(Cluster) // without clients, a request panics
	if err := c.Follow(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "panic: ") {
		t.Errorf("%v, want a panic", err)
	}
}

// Open refuses a wrong configuration without sending a request.
func TestZonesOpenRefuses(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, c := range []struct{ file, context, want string }{
		{"", "", "name a kubeconfig file"},
		{"/nonexistent", "", "/nonexistent: no such file"},
		{kubeconfig(t, "http://127.0.0.1:1", "secret"), "other", "other"},
	} {
		if _, err := Open(c.file, c.context); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q %q: %v, want %s", c.file, c.context, err, c.want)
		}
	}
}

// The same configuration leads to the same cluster; another address or token does not. Over plain HTTP, no token is sent.
func TestSame(t *testing.T) {
	open := func(at, token string) *Cluster {
		c, err := Open(kubeconfig(t, at, token), "it")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	one := open("https://127.0.0.1:1", "secret")
	if !one.Same(open("https://127.0.0.1:1", "secret")) || one.Same(open("https://127.0.0.1:2", "secret")) || one.Same(open("https://127.0.0.1:1", "other")) || one.Same(nil) {
		t.Error("the cluster is taken for another, or another for it")
	}
	exec := func(value string) *rest.Config {
		return &rest.Config{ExecProvider: &clientcmdapi.ExecConfig{Command: "login", Env: []clientcmdapi.ExecEnvVar{{Name: "USER", Value: value}}}}
	}
	provider := func(value string) *rest.Config {
		return &rest.Config{AuthProvider: &clientcmdapi.AuthProviderConfig{Name: "oidc", Config: map[string]string{"id": value}}}
	}
	for _, by := range []func(string) *rest.Config{exec, provider} {
		if one, again, other := identify(by("a")), identify(by("a")), identify(by("b")); one != again || one == other {
			t.Error("a secret does not count, or the same one is another")
		}
	}
}

// BenchmarkNetworks is one change in a cluster with 1,000 Nodes and 50,000 endpoints, whose addresses are from elsewhere.
func BenchmarkNetworks(b *testing.B) {
	all := newTables(maxNetworks)
	var nodes, endpoints []any
	for i := range 1000 {
		nodes = append(nodes, nodeOf(fmt.Sprint("n", i), fmt.Sprint("z", i%3), i, fmt.Sprintf("10.%d.%d.0/24", i/250, i%250), fmt.Sprintf("InternalIP=192.168.%d.%d", i/250, i%250)))
	}
	addr := netip.MustParseAddr("100.64.0.0")
	for i := range 500 {
		var words []string
		for range 100 {
			addr = addr.Next()
			words = append(words, fmt.Sprintf("%s z%d n%d", addr, i%3, i))
		}
		endpoints = append(endpoints, sliceOf(fmt.Sprint("s", i), words...))
	}
	_, _ = all.nodes.Replace(nodes, "1"), all.slices.Replace(endpoints, "1")
	b.ReportAllocs()
	for b.Loop() {
		if networks, _ := all.again(); len(networks) != 52000 {
			b.Fatal(len(networks))
		}
	}
}
