package multivalue

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/annotation"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/coredns/coredns/plugin"
)

const (
	// noticeStop bounds the wait for the end of what follows a cluster, noticePause the time until it is tried again after
	// a panic.
	noticeStop  = 500 * time.Millisecond
	noticePause = 5 * time.Second
)

// annotationsGood and annotationsBad are the gauges of annotated Services, resolved once.
var (
	annotationsGood = metrics.Annotations.WithLabelValues("good")
	annotationsBad  = metrics.Annotations.WithLabelValues("bad")
)

// Kubernetes is what the property annotations needs to know of Kubernetes. Package annotated has it.
type Kubernetes interface {
	// Zones returns those of the cluster if the handler is the plugin kubernetes, else nothing, and whether it has been told
	// where the API is: if not, the cluster is that of the Pod.
	Zones(h plugin.Handler) (zones []string, told bool)
	// Cluster opens the cluster that a kubeconfig file and a context in it lead to, or without them that of the Pod. It
	// asks nothing of it.
	Cluster(kubeconfig, context string) (Cluster, error)
}

// Cluster is where Services have annotations.
type Cluster interface {
	// Follow hands over the texts of all annotations, by NAME.NAMESPACE of the Services, whenever they change, until the
	// context ends. What take returns is wrong with some it tells their owners.
	Follow(ctx context.Context, take func(texts map[string]string) (wrong map[string]string)) error
}

// Link gives the property annotations its way to Kubernetes. It is called before a Corefile is read.
func Link(k Kubernetes) { thePool.kubernetes = k }

// notice is what the annotation of a Service says.
type notice struct {
	text  string
	check *check.Check // what it says, or held if it is wrong
	held  *check.Check // what is in force of it in some stanza; nil if nothing is
	wrong string       // empty if it is right
}

// say is the notice of a Service whose annotation has that text now. One that is wrong changes nothing.
func (n notice) say(text string) notice {
	if n.text == text && (n.check != nil || n.wrong != "") {
		return n
	}
	n.text, n.wrong = text, ""
	if c, err := annotation.Parse(text); err != nil {
		n.check, n.wrong = n.held, err.Error()
	} else {
		n.check = c
	}
	return n
}

// hold is the notice of a Service that has these checks in force, by name.
func (n notice) hold(names []string) notice {
	for _, c := range []*check.Check{n.check, n.held} {
		if c != nil && slices.Contains(names, c.String()) {
			n.held = c
			return n
		}
	}
	n.held = nil
	return n
}

// notices are what the annotations in a cluster say, as one generation has them. The stanzas of the generation that name
// the cluster share them. What they said last is in force, also while the API is gone; a new generation begins with what
// the running one knows.
type notices struct {
	cluster    Cluster
	generation *generation
	pool       *pool
	stanzas    []*annotated
	known      atomic.Pointer[map[string]notice] // by Service; never changed once it is there

	// The rest belongs to the pool's life cycle.
	stop  context.CancelFunc // nil before it is followed
	ended chan struct{}      // closed when it is followed no longer
	shown bool               // by the metrics
	tally tally
}

// tally is how many Services have an annotation that counts in some stanza, and is right or wrong.
type tally struct{ good, bad int }

// heed has a stanza go by the annotations in a cluster, which it shares with others of the generation.
func (g *generation) heed(s *parsedStanza, p *pool) error {
	n := g.notices[*s.cluster]
	if n == nil {
		cluster, err := p.kubernetes.Cluster(s.cluster.kubeconfig, s.cluster.context)
		if err != nil {
			return s.errorAt("annotations", "annotations: %w", err)
		}
		n = &notices{cluster: cluster, generation: g, pool: p}
		n.known.Store(p.noticed(*s.cluster))
		if g.notices == nil {
			g.notices = make(map[clusterAt]*notices)
		}
		g.notices[*s.cluster] = n
	}
	s.annotated = newAnnotated(s)
	s.account.annotated = s.annotated
	n.stanzas = append(n.stanzas, s.annotated)
	return nil
}

// noticed is what the running generation knows of a cluster.
func (p *pool) noticed(at clusterAt) *map[string]notice {
	p.life.Lock()
	defer p.life.Unlock()
	known := new(map[string]notice)
	p.do(func() {
		if n := p.notices[at]; n != nil {
			known = n.known.Load()
		}
	})
	return known
}

// take puts into force what the annotations say, and returns what is wrong with those that count in some stanza.
func (n *notices) take(texts map[string]string) map[string]string {
	before, next := *n.known.Load(), make(map[string]notice, len(texts))
	for service, text := range texts {
		next[service] = before[service].say(text)
	}
	n.known.Store(&next)
	return n.apply()
}

// apply makes the tables of the stanzas anew, and has the pool ask accordingly.
func (n *notices) apply() map[string]string {
	known := *n.known.Load()
	judged, wrong := make(map[string]bool), make(map[string]string)
	tables := make([]map[string]*stanza, len(n.stanzas))
	for i, a := range n.stanzas {
		tables[i] = a.build(known, judged, wrong)
	}
	n.hold(known, tables)
	n.pool.life.Lock()
	defer n.pool.life.Unlock()
	n.pool.do(func() {
		changed := false
		for i, a := range n.stanzas {
			changed = a.publish(tables[i]) || changed
		}
		n.show(n.shown, tally{len(judged) - len(wrong), len(wrong)})
		if changed && slices.Contains(n.pool.generations, n.generation) {
			n.pool.reconcile(time.Now())
		}
	})
	return wrong
}

// hold takes note of what the tables put into force, for the next generation, which has no tables to begin with.
func (n *notices) hold(known map[string]notice, tables []map[string]*stanza) {
	next := make(map[string]notice, len(known))
	for service, notice := range known {
		var names []string
		for _, table := range tables {
			if s := table[service]; s != nil {
				names = append(names, s.checks[0].Name)
			}
		}
		next[service] = notice.hold(names)
	}
	n.known.Store(&next)
}

// show has the metrics show the tally, or not.
func (n *notices) show(shown bool, now tally) {
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

// begin puts into force what a generation knows of its clusters before it asks them.
func (g *generation) begin() {
	for _, n := range g.notices {
		n.apply()
	}
}

// notice has a generation's clusters followed, and shown by the metrics in place of those of an earlier generation.
func (p *pool) notice(g *generation) {
	for at, n := range g.notices {
		if before := p.notices[at]; before != nil {
			before.show(false, before.tally)
		}
		p.notices[at] = n
		n.show(true, n.tally)
		var ctx context.Context
		ctx, n.stop = context.WithCancel(context.Background())
		n.ended = make(chan struct{})
		go n.follow(ctx)
	}
}

// follow takes what the cluster says until the context ends, and starts again after a panic.
func (n *notices) follow(ctx context.Context) {
	defer close(n.ended)
	for ctx.Err() == nil {
		n.followOnce(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(noticePause):
		}
	}
}

func (n *notices) followOnce(ctx context.Context) {
	defer rescue.Log("following annotations")
	if err := n.cluster.Follow(ctx, n.take); err != nil {
		panic(err)
	}
}

// unnotice ends that. It does not wait.
func (p *pool) unnotice(g *generation) {
	for at, n := range g.notices {
		if n.stop == nil {
			continue
		}
		n.stop()
		n.show(false, n.tally)
		if p.notices[at] == n {
			delete(p.notices, at)
		}
	}
}

// awaitUnnoticed waits until nobody follows a generation's clusters any more, but not for long. It must not hold life,
// which the last thing taken may wait for.
func (g *generation) awaitUnnoticed() {
	ctx, cancel := context.WithTimeout(context.Background(), noticeStop)
	defer cancel()
	for _, n := range g.notices {
		if n.ended != nil && !rescue.Closed(ctx, n.ended) {
			log.Warningf("annotations are still followed %s after the stop", noticeStop)
		}
	}
}
