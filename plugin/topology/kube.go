package topology

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
)

const (
	// stopWait bounds how long End waits, and how long a new way to a cluster waits for the end of the old one.
	stopWait = 500 * time.Millisecond
	// retryAfter is when a cluster is followed again after a panic.
	retryAfter = 5 * time.Second
)

// Entry is a network of a site.
type Entry struct {
	Site    string
	Network netip.Prefix
}

// Kubernetes is what "topology kubernetes" needs to know of Kubernetes. Package full has it: its client library takes as long
// to build as all the rest.
type Kubernetes interface {
	// Sites opens the cluster that a kubeconfig file and a context in it lead to, or that of the Pod if both are empty. It asks
	// nothing of it yet.
	Sites(kubeconfig, context string) (Cluster, error)
}

// Cluster is where the sites are zones.
type Cluster interface {
	// Follow calls take with all networks of all zones, whenever they change, until the context ends. The same network is never
	// in two of them.
	Follow(ctx context.Context, take func(networks []Entry)) error
	// Same reports whether another leads to the same cluster with the same credentials.
	Same(other Cluster) bool
}

// At is how a Corefile names a cluster. Empty words mean the Pod's own.
type At struct{ Kubeconfig, Context string }

// What follows is about Kubernetes, whose zones are sites: one watch for the process, however many stanzas and Corefiles name the
// cluster. plugin/zones is the cluster behind it.

// Zones are the zones of a cluster, as a table. All Corefiles that name the cluster share them, so a reload asks it nothing.
type Zones struct {
	table atomic.Pointer[Table] // never nil

	// These belong to Clusters, with its lock held.
	cluster Cluster            // that is followed
	stop    context.CancelFunc // nil while none is
	ended   chan struct{}      // closed when it is followed no longer; nil before it was
}

// Value returns the table that is in force. It is for queries: it takes no lock and allocates nothing.
func (z *Zones) Value() *Table { return z.table.Load() }

// Clusters knows which clusters the running Corefile names. There is one in the process. Its zero value knows none.
//
// Its lock is held for a moment only, so that the pool's loop may begin to follow.
type Clusters struct {
	mu       sync.Mutex
	followed map[At]*Zones
}

// Opened are the clusters that one Corefile names. They are opened while it is read, and followed from when its servers run,
// until another Corefile that does not name them runs, or none. A Corefile whose start fails leaves nothing behind.
type Opened struct {
	clusters *Clusters
	all      map[At]opened
}

type opened struct {
	*Zones
	cluster Cluster
}

// Opened returns an empty set, for a new Corefile.
func (c *Clusters) Opened() *Opened { return &Opened{clusters: c, all: make(map[At]opened)} }

// Open returns the zones of a cluster: those that the running Corefile has, if it names the same one. The way to the cluster
// is checked again, so that a mistake in a kubeconfig file is an error of the Corefile that is read.
func (o *Opened) Open(at At, k Kubernetes) (*Zones, error) {
	if one, ok := o.all[at]; ok {
		return one.Zones, nil
	}
	cluster, err := k.Sites(at.Kubeconfig, at.Context)
	if err != nil {
		return nil, err
	}
	o.clusters.mu.Lock()
	defer o.clusters.mu.Unlock()
	z := o.clusters.followed[at]
	if z == nil {
		z = new(Zones)
		z.table.Store(FromZones(nil))
	}
	o.all[at] = opened{z, cluster}
	return z, nil
}

// Follow begins to follow the clusters that are not followed yet, and ends to follow those that an earlier Corefile named. It
// does not wait.
func (o *Opened) Follow() {
	o.clusters.mu.Lock()
	defer o.clusters.mu.Unlock()
	next := make(map[At]*Zones, len(o.all))
	for at, one := range o.all {
		next[at] = one.Zones
		one.begin(one.cluster)
	}
	for at, z := range o.clusters.followed {
		if next[at] != z {
			z.cancel()
		}
	}
	o.clusters.followed = next
}

// End ends to follow all clusters, when no Corefile runs any more. It waits for half a second at most.
func (c *Clusters) End() {
	c.mu.Lock()
	all := c.followed
	c.followed = nil
	for _, z := range all {
		z.cancel()
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), stopWait)
	defer cancel()
	for _, z := range all {
		rescue.Closed(ctx, z.ended)
	}
}

// begin follows a cluster, unless it is followed in the same way. The table stays until the cluster says another.
func (z *Zones) begin(cluster Cluster) {
	if z.stop != nil && z.cluster.Same(cluster) {
		return
	}
	z.cancel()
	before, ended := z.ended, make(chan struct{})
	var ctx context.Context
	ctx, z.stop = context.WithCancel(context.Background())
	z.cluster, z.ended = cluster, ended
	go func() {
		defer close(ended)
		if before != nil { // what it says last must not replace what the new one says
			wait, cancel := context.WithTimeout(ctx, stopWait)
			rescue.Closed(wait, before)
			cancel()
		}
		z.follow(ctx, cluster)
	}()
}

// cancel ends that. It does not wait.
func (z *Zones) cancel() {
	if z.stop != nil {
		z.stop()
		z.stop = nil
	}
}

// follow takes what the cluster says until the context ends, and starts again after a panic.
func (z *Zones) follow(ctx context.Context, cluster Cluster) {
	for ctx.Err() == nil {
		z.followOnce(ctx, cluster)
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
	}
}

func (z *Zones) followOnce(ctx context.Context, cluster Cluster) {
	defer rescue.Log("following zones of Kubernetes")
	err := cluster.Follow(ctx, func(networks []Entry) {
		if ctx.Err() == nil {
			z.table.Store(FromZones(networks))
		}
	})
	if err != nil {
		panic(err)
	}
}
