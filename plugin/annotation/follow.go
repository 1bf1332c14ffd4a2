package annotation

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
)

// StopWait bounds how long AwaitEnd waits for what follows a cluster.
const StopWait = 500 * time.Millisecond

// retryAfter is when a cluster is followed again after a panic.
const retryAfter = 5 * time.Second

var log = clog.NewWithPlugin("multivalue")

// annotationsGood and annotationsBad are the gauges of annotated Services, resolved once.
var (
	annotationsGood = metrics.Annotations.WithLabelValues("good")
	annotationsBad  = metrics.Annotations.WithLabelValues("bad")
)

// Kubernetes is what the property annotations needs to know of Kubernetes. Package full has it: its client library takes
// as long to build as all the rest.
type Kubernetes interface {
	// Zones returns the cluster's zones if the handler is the plugin *kubernetes*, else nothing; and whether that plugin
	// names its API server: if not, the cluster is that of the Pod.
	Zones(h plugin.Handler) (zones []string, named bool)
	// Cluster opens the cluster that a kubeconfig file and a context in it lead to, or that of the Pod if both are empty.
	// It asks nothing of it yet.
	Cluster(kubeconfig, context string) (Cluster, error)
}

// Cluster is where Services have annotations.
type Cluster interface {
	// Follow calls take with the texts of all annotations, by NAME.NAMESPACE of their Services, whenever they change, until
	// the context ends. It tells the owners of the Services what take returns: what is wrong with some.
	Follow(ctx context.Context, take func(texts map[string]string) (wrong map[string]string)) error
}

// At is how a Corefile names a cluster. Empty words mean the Pod's own.
type At struct{ Kubeconfig, Context string }

// Subscriber is a stanza that goes by annotations.
type Subscriber interface {
	// Judges reports whether names of a Service, as NAME.NAMESPACE, fall to the stanza.
	Judges(service string) bool
	// Current returns the checks that the stanza has in force, by Service. It is nil before the first Apply.
	Current() map[string]*check.Check
	// Apply puts checks into force, by Service, and reports whether they differ from those before. It is called on the
	// pool's loop.
	Apply(checks map[string]*check.Check) (changed bool)
}

// known is what is known of the annotation of a Service.
type known struct {
	text    string
	check   *check.Check // what it says, or inForce if it is wrong
	inForce *check.Check // what some stanza has in force of it; nil if none has
	wrong   string       // empty if it is right
}

// update is what is known once the annotation has that text. One that is wrong changes nothing.
func (n known) update(text string) known {
	if n.text == text && (n.check != nil || n.wrong != "") {
		return n
	}
	n.text, n.wrong = text, ""
	if c, err := Parse(text); err != nil {
		n.check, n.wrong = n.inForce, err.Error()
	} else {
		n.check = c
	}
	return n
}

// keep is what is known of a Service that has these checks in force.
func (n known) keep(checks []*check.Check) known {
	for _, c := range []*check.Check{n.check, n.inForce} {
		if c != nil && slices.ContainsFunc(checks, func(x *check.Check) bool { return x.String() == c.String() }) {
			n.inForce = c
			return n
		}
	}
	n.inForce = nil
	return n
}

// Clusters knows which clusters running Corefiles follow. There is one in the process. Its zero value knows none.
//
// Its lock is held for a moment only, and never while waiting for the pool, so that the pool's loop may begin to follow.
type Clusters struct {
	mu       sync.Mutex
	followed map[At]*follower // of the Corefile that was confirmed last
}

// Followers are the clusters that one Corefile names. What they said last is in force, also while the API is gone; a new
// Corefile begins with what the running one knows.
type Followers struct {
	clusters *Clusters
	update   func(change func() bool)
	all      map[At]*follower
}

// Followers returns an empty set, for a new Corefile. update runs a change on the pool's loop, and has the pool make its
// checks match if it returns true.
func (c *Clusters) Followers(update func(change func() bool)) *Followers {
	return &Followers{clusters: c, update: update, all: make(map[At]*follower)}
}

// follower follows one cluster for the stanzas of one Corefile.
type follower struct {
	clusters *Clusters
	update   func(change func() bool)
	cluster  Cluster
	stanzas  []Subscriber
	known    atomic.Pointer[map[string]known] // by Service; replaced, never changed

	// These belong to Clusters, with its lock held.
	stop  context.CancelFunc // nil before it follows
	ended chan struct{}      // closed when it follows no longer
	shown bool               // in the metrics
	tally tally
}

// tally is how many Services have an annotation that counts for some stanza, and is right or wrong.
type tally struct{ good, bad int }

// Subscribe has a stanza go by the annotations in a cluster, which it shares with others of the Corefile.
func (f *Followers) Subscribe(at At, k Kubernetes, s Subscriber) error {
	n := f.all[at]
	if n == nil {
		cluster, err := k.Cluster(at.Kubeconfig, at.Context)
		if err != nil {
			return err
		}
		n = &follower{clusters: f.clusters, update: f.update, cluster: cluster}
		n.known.Store(f.clusters.lastKnown(at))
		f.all[at] = n
	}
	n.stanzas = append(n.stanzas, s)
	return nil
}

// lastKnown is what the running Corefile knows of a cluster.
func (c *Clusters) lastKnown(at At) *map[string]known {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.followed[at]; n != nil {
		return n.known.Load()
	}
	return new(map[string]known)
}

// Begin puts into force what is known of the clusters before they are asked. It is called once, when every subscriber can
// tell which Services it judges: what none has in force is forgotten.
func (f *Followers) Begin() {
	for _, n := range f.all {
		n.apply()
	}
}

// Follow begins to follow the clusters, and counts them in the metrics in place of those of an earlier Corefile.
func (f *Followers) Follow() {
	f.clusters.mu.Lock()
	defer f.clusters.mu.Unlock()
	if f.clusters.followed == nil {
		f.clusters.followed = make(map[At]*follower)
	}
	for at, n := range f.all {
		if before := f.clusters.followed[at]; before != nil {
			before.count(false, before.tally)
		}
		f.clusters.followed[at] = n
		n.count(true, n.tally)
		var ctx context.Context
		ctx, n.stop = context.WithCancel(context.Background())
		n.ended = make(chan struct{})
		go n.follow(ctx)
	}
}

// Unfollow ends that. It does not wait: AwaitEnd does.
func (f *Followers) Unfollow() {
	f.clusters.mu.Lock()
	defer f.clusters.mu.Unlock()
	for at, n := range f.all {
		if n.stop == nil {
			continue
		}
		n.stop()
		n.count(false, n.tally)
		if f.clusters.followed[at] == n {
			delete(f.clusters.followed, at)
		}
	}
}

// AwaitEnd waits until no cluster is followed any more, for half a second at most. The caller holds no lock of the life
// cycle: what was taken last may wait for one.
func (f *Followers) AwaitEnd() {
	ctx, cancel := context.WithTimeout(context.Background(), StopWait)
	defer cancel()
	for _, n := range f.all {
		if n.ended != nil && !rescue.Closed(ctx, n.ended) {
			log.Warningf("annotations are still followed %s after the stop", StopWait)
		}
	}
}

// follow takes what the cluster says until the context ends, and starts again after a panic.
func (n *follower) follow(ctx context.Context) {
	defer close(n.ended)
	for ctx.Err() == nil {
		n.followOnce(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
	}
}

func (n *follower) followOnce(ctx context.Context) {
	defer rescue.Log("following annotations")
	if err := n.cluster.Follow(ctx, n.take); err != nil {
		panic(err)
	}
}

// take puts into force what the annotations say, and returns what is wrong with those that count for some stanza.
func (n *follower) take(texts map[string]string) map[string]string {
	before, next := *n.known.Load(), make(map[string]known, len(texts))
	for service, text := range texts {
		next[service] = before[service].update(text)
	}
	n.known.Store(&next)
	return n.apply()
}

// apply gives each stanza the checks of its Services, as far as there is room.
func (n *follower) apply() map[string]string {
	all := *n.known.Load()
	judged, wrong := make(map[string]bool), make(map[string]string)
	tables := make([]map[string]*check.Check, len(n.stanzas))
	for i, s := range n.stanzas {
		tables[i] = assign(s, all, judged, wrong)
	}
	n.keep(all, tables)
	n.update(func() (changed bool) {
		for i, s := range n.stanzas {
			changed = s.Apply(tables[i]) || changed
		}
		return changed
	})
	n.clusters.mu.Lock()
	defer n.clusters.mu.Unlock()
	n.count(n.shown, tally{len(judged) - len(wrong), len(wrong)})
	return wrong
}

// keep notes what the tables put into force, for the next Corefile, which has no tables to begin with.
func (n *follower) keep(all map[string]known, tables []map[string]*check.Check) {
	next := make(map[string]known, len(all))
	for service, k := range all {
		var checks []*check.Check
		for _, table := range tables {
			if c := table[service]; c != nil {
				checks = append(checks, c)
			}
		}
		next[service] = k.keep(checks)
	}
	n.known.Store(&next)
}

// count shows the tally in the metrics, or no longer. The caller holds the lock of Clusters.
func (n *follower) count(shown bool, now tally) {
	if n.shown {
		annotationsGood.Sub(float64(n.tally.good))
		annotationsBad.Sub(float64(n.tally.bad))
	}
	n.shown, n.tally = shown, now
	if shown {
		annotationsGood.Add(float64(now.good))
		annotationsBad.Add(float64(now.bad))
	}
}
