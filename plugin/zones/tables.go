package zones

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
	"unique"

	"github.com/coredns-multivalue/multivalue/internal/kube"
	"github.com/coredns-multivalue/multivalue/plugin/topology"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// maxZone is the longest name of a zone in bytes: that of a label.
const maxZone = 63

// zone is the name of one, kept once for all that are in it. The empty name is no zone.
type zone = unique.Handle[string]

// zoneOf is the zone of a name. A name that no label can have is none.
func zoneOf(name string) zone {
	if len(name) > maxZone {
		name = ""
	}
	return unique.Make(name)
}

// noZone is the zone of what is in none.
var noZone = zoneOf("")

// node is the part of a Node that matters here.
type node struct {
	zone     zone
	created  time.Time
	networks []netip.Prefix // of its Pods, and its own addresses
}

// endpoint is an address in an EndpointSlice.
type endpoint struct {
	addr netip.Prefix // of one address
	zone zone
	node unique.Handle[string] // its name; empty if the slice does not say
}

// tables hold what Nodes and EndpointSlices say. Two reflectors write them, and deliver reads them.
type tables struct {
	nodes   kube.Store[node]
	slices  kube.Store[[]endpoint]
	changed chan struct{} // of both stores
	alone   atomic.Bool   // EndpointSlices cannot be had, so Nodes are enough
	most    int           // networks

	// These belong to deliver.
	byNode   map[netip.Prefix]zone // what was delivered last; nil before
	others   map[netip.Prefix]zone
	said     string // the zones that the log has named
	conflict string // the network that the log has called ambiguous; empty if none was the last time
	full     bool   // the log has said that there is no room
}

// newTables returns tables before anything is known, for at most so many networks.
func newTables(most int) *tables {
	t := &tables{changed: make(chan struct{}, 1), most: most}
	t.nodes = kube.Store[node]{Read: readNode, Same: sameNode, Strip: strip, Changed: t.changed}
	t.slices = kube.Store[[]endpoint]{Read: readSlice, Same: slices.Equal[[]endpoint], Strip: strip, Changed: t.changed}
	return t
}

// withoutSlices has deliver wait for Nodes alone.
func (t *tables) withoutSlices() {
	t.alone.Store(true)
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// strip drops of an object what readNode and readSlice do not read: most of its memory, until a list of them is complete.
func strip(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Node:
		stripNode(o)
	case *discoveryv1.EndpointSlice:
		stripSlice(o)
	}
	return obj, nil
}

// named is what is needed of any object: what identifies it, and its age.
func named(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, ResourceVersion: m.ResourceVersion, CreationTimestamp: m.CreationTimestamp}
}

// stripNode drops labels, capacities, images and conditions of a Node.
func stripNode(n *corev1.Node) {
	meta := named(n.ObjectMeta)
	if name, ok := n.Labels[corev1.LabelTopologyZone]; ok {
		meta.Labels = map[string]string{corev1.LabelTopologyZone: name}
	}
	n.ObjectMeta = meta
	n.Spec = corev1.NodeSpec{PodCIDR: n.Spec.PodCIDR, PodCIDRs: n.Spec.PodCIDRs}
	n.Status = corev1.NodeStatus{Addresses: n.Status.Addresses}
}

// stripSlice drops ports, conditions and hints. Endpoints stay in place, because a slice in use has up to a thousand.
func stripSlice(s *discoveryv1.EndpointSlice) {
	s.ObjectMeta, s.Ports = named(s.ObjectMeta), nil
	for i, e := range s.Endpoints {
		s.Endpoints[i] = discoveryv1.Endpoint{Addresses: e.Addresses, Zone: e.Zone, NodeName: e.NodeName}
	}
}

// readNode reads the part of a Node that matters. One without a zone is not kept.
func readNode(obj any) (id string, now node, keep bool) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return "", node{}, false
	}
	now = node{zone: zoneOf(n.Labels[corev1.LabelTopologyZone]), created: n.CreationTimestamp.Time}
	if now.zone == noZone {
		return n.Name, node{}, false
	}
	pods := n.Spec.PodCIDRs
	if len(pods) == 0 { // from before a Node could have one of each family
		pods = []string{n.Spec.PodCIDR}
	}
	for _, text := range pods {
		if p, err := netip.ParsePrefix(text); err == nil && !p.Addr().Is4In6() {
			now.networks = append(now.networks, p.Masked())
		}
	}
	// Pods in the network of the host have these addresses, and so does a cache that asks for all Pods of a Node.
	for _, a := range n.Status.Addresses {
		if p, ok := prefixOf(a.Address); ok && (a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP) {
			now.networks = append(now.networks, p)
		}
	}
	return n.Name, now, true
}

// sameNode reports whether two states of a Node differ in nothing that matters: a heartbeat is no change.
func sameNode(a, b node) bool {
	return a.zone == b.zone && a.created.Equal(b.created) && slices.Equal(a.networks, b.networks)
}

// readSlice reads the addresses of an EndpointSlice for which it says a zone or a Node, ready or not.
func readSlice(obj any) (id string, now []endpoint, keep bool) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return "", nil, false
	}
	for _, e := range s.Endpoints {
		at := endpoint{zone: noZone, node: noZone}
		if e.Zone != nil {
			at.zone = zoneOf(*e.Zone)
		}
		if e.NodeName != nil {
			at.node = unique.Make(*e.NodeName)
		}
		for _, text := range e.Addresses {
			if p, ok := prefixOf(text); ok && (at.zone != noZone || at.node != noZone) {
				at.addr = p
				now = append(now, at)
			}
		}
	}
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Name}.String(), now, len(now) > 0
}

// networks returns the networks of all zones, and whether they are others than last time. Before enough is known to say what
// they are, they are not.
func (t *tables) networks() (all []topology.Entry, changed bool) {
	nodes, synced := t.nodes.Snapshot()
	endpoints, listed := t.slices.Snapshot()
	if !synced || !listed && !t.alone.Load() {
		return nil, false
	}
	byNode := t.nodeNetworks(nodes)
	others := elsewhere(byNode, nodes, endpoints)
	if t.byNode != nil && maps.Equal(byNode, t.byNode) && maps.Equal(others, t.others) {
		return nil, false // most often: Pods came and went in the networks of their Nodes
	}
	t.byNode, t.others = byNode, others
	total := len(byNode) + len(others)
	if total > t.most && !t.full {
		log.Warningf("topology: Kubernetes has %d networks and addresses with a zone, and only %d are used, those of Nodes first", total, t.most)
	}
	t.full = total > t.most
	all = make([]topology.Entry, 0, min(total, t.most))
	return t.list(t.list(all, byNode), others), true
}

// list appends networks as far as there is room: the largest first, if there is not for all.
func (t *tables) list(all []topology.Entry, table map[netip.Prefix]zone) []topology.Entry {
	began := len(all)
	for p, z := range table {
		all = append(all, topology.Entry{Site: z.Value(), Network: p})
	}
	if len(all) <= t.most {
		return all
	}
	slices.SortFunc(all[began:], func(a, b topology.Entry) int {
		return cmp.Or(cmp.Compare(a.Network.Bits(), b.Network.Bits()), a.Network.Addr().Compare(b.Network.Addr()))
	})
	return all[:t.most]
}

// nodeNetworks returns the networks of Nodes. If two in different zones have the same one, which happens while one replaces
// the other, the newer one's zone counts. That is logged once, until there is no such network.
func (t *tables) nodeNetworks(nodes map[string]node) map[netip.Prefix]zone {
	// The youngest is last, and so overwrites what the others have.
	names := slices.SortedFunc(maps.Keys(nodes), func(a, b string) int {
		return cmp.Or(nodes[a].created.Compare(nodes[b].created), cmp.Compare(a, b))
	})
	table, owner := make(map[netip.Prefix]zone), make(map[netip.Prefix]string)
	conflict := ""
	for _, name := range names {
		n := nodes[name]
		for _, p := range n.networks {
			// Two Nodes of one zone may well have the same network for a moment.
			if before, twice := table[p]; twice && before != n.zone {
				if conflict = p.String(); t.conflict == "" {
					log.Warningf("topology: %s is of Node %s in zone %s and of Node %s in zone %s, and maybe others are: the zone of the newer Node counts",
						p, owner[p], before.Value(), name, n.zone.Value())
					t.conflict = conflict
				}
			}
			table[p], owner[p] = n.zone, name
		}
	}
	t.conflict = conflict
	return table
}

// elsewhere returns the addresses of endpoints for which Nodes say another zone, or none: a CNI may give Pods addresses that
// are not from the networks of their Nodes. The zone of an endpoint's Node is newer than what its slice says. If slices say
// different things of an address, the last one by name counts. A Node's own address is never another's.
func elsewhere(byNode map[netip.Prefix]zone, nodes map[string]node, all map[string][]endpoint) map[netip.Prefix]zone {
	table, networks := make(map[netip.Prefix]zone), newLengths(byNode)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		for _, e := range all[id] {
			z := e.zone
			if n, known := nodes[e.node.Value()]; known {
				z = n.zone
			}
			switch says, exactly := networks.smallest(e.addr.Addr()); {
			case z == noZone || exactly:
			case z == says:
				delete(table, e.addr)
			default:
				table[e.addr] = z
			}
		}
	}
	return table
}

// lengths finds the zone of an address by the networks of Nodes, which have few different lengths.
type lengths struct {
	table     map[netip.Prefix]zone
	four, six []int // the longest first
}

// newLengths lists the lengths of networks in a table.
func newLengths(table map[netip.Prefix]zone) lengths {
	l := lengths{table: table}
	for p := range table {
		bits := &l.six
		if p.Addr().Is4() {
			bits = &l.four
		}
		if !slices.Contains(*bits, p.Bits()) {
			*bits = append(*bits, p.Bits())
		}
	}
	for _, bits := range []*[]int{&l.four, &l.six} {
		slices.SortFunc(*bits, func(a, b int) int { return cmp.Compare(b, a) })
	}
	return l
}

// smallest returns the zone of the smallest network that an address lies in, and whether the network is the address itself.
func (l lengths) smallest(addr netip.Addr) (z zone, exactly bool) {
	lengths := l.six
	if addr.Is4() {
		lengths = l.four
	}
	for _, bits := range lengths {
		p, _ := addr.Prefix(bits)
		if z, ok := l.table[p]; ok {
			return z, bits == addr.BitLen()
		}
	}
	return noZone, false
}
