// Package services watches an annotation on the Services of a Kubernetes cluster, and writes Events that tell the owners
// what is wrong with it. Its main type is the Cluster: the complete build of the plugin calls Open when a Corefile names
// annotations, and then Follow.
//
// It reads only the metadata of Services, and does not know what the annotation means. It needs the permissions list and
// watch on Services, and create and patch on Events. If those on Events are missing in a namespace it logs that once, and
// everything else goes on.
//
// It is a package of its own so that the plugin can be built without client-go, which is large.
package services

import (
	"context"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/kube"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
)

var log = clog.NewWithPlugin("multivalue")

const (
	// deliverPause is the shortest time between two deliveries. Many edits in a cluster then cost one delivery a second: each
	// one rebuilds the tables of every stanza that uses annotations.
	deliverPause = time.Second
	// reminderInterval is how often owners are told again of what is still wrong. It must be shorter than the time for which
	// the API keeps Events, which is one hour by default (kube-apiserver --event-ttl).
	reminderInterval = 30 * time.Minute
)

// Cluster is the connection to the API of one Kubernetes cluster.
type Cluster struct {
	key      string // name of the annotation
	maxText  int    // greatest length of its text, in bytes
	services metadata.Getter
	events   typed.EventsGetter
}

// Open prepares access to a cluster and sends no request yet. It uses the named kubeconfig file and the context in it; if
// kubeconfig is empty, the service account of the Pod that the process runs in. An annotation text that is longer than
// maxText bytes is cut to maxText+1 bytes, so it is still seen to be too long.
//
// An error means that the configuration is wrong. An API that cannot be reached is not an error: Follow waits for it.
func Open(key string, maxText int, kubeconfig, kubecontext string) (*Cluster, error) {
	config, err := kube.Config(kubeconfig, kubecontext)
	if err != nil {
		return nil, err
	}
	// The metadata client fetches neither spec nor status of a Service, which would be most of the traffic and memory.
	services, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	events, err := typed.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &Cluster{key, maxText, services.Resource(corev1.SchemeGroupVersion.WithResource("services")), events}, nil
}

// Follow calls take with the texts of the annotation whenever one of them changes, with all of them each time. The keys are
// NAME.NAMESPACE of the Services. take returns what is wrong with some of them, by the same keys, and the owners of those
// get an Event. While the API cannot be reached take is not called, so what it was given last stays in force.
//
// It returns nil when the context ends. Any other return is a panic in one of its goroutines, as an error; all of them have
// ended by then.
func (c *Cluster) Follow(ctx context.Context, take func(texts map[string]string) (wrong map[string]string)) error {
	s := newStore(c.key, c.maxText)
	r := newReporter(c.events, c.key)
	// The parts share nothing but the store and the reporter's queue.
	return kube.Run(ctx,
		c.reflector(s).RunWithContext,
		func(ctx context.Context) { deliver(ctx, s, r, take) },
		r.writeQueued,
	)
}

// reflector returns what keeps a store up to date with the API.
func (c *Cluster) reflector(s *store) *cache.Reflector {
	return kube.Objects{
		Property: "annotations", Kind: "Services", Known: "annotations", Example: &metav1.PartialObjectMetadata{},
		List: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return c.services.List(ctx, options)
		},
		Watch: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return c.services.Watch(ctx, options)
		},
	}.Reflector(s)
}

// deliver calls take with the content of the store when that has changed, at most once a deliverPause, and at each reminder.
// It queues an Event for each problem that take returns.
func deliver(ctx context.Context, s *store, r *reporter, take func(map[string]string) map[string]string) {
	reminder := time.NewTicker(reminderInterval)
	defer reminder.Stop()
	reported := make(map[string]problem) // the problems that Events were queued for, by Service
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.Changed:
		case <-reminder.C:
			clear(reported) // so that each problem is reported again
		}
		all, _ := s.Snapshot()
		wrong := take(annotationTexts(all))
		reportNew(all, wrong, reported, r.enqueue)
		select {
		case <-ctx.Done():
		case <-time.After(deliverPause):
		}
	}
}

// reportNew queues the problems that are not in reported, and adds them to it. What does not fit into the queue is left out
// of reported, so the next delivery tries it again. A problem that was solved is removed: if it comes back it is new.
func reportNew(all map[string]service, wrong map[string]string, reported map[string]problem, enqueue func(problem) bool) {
	for id := range reported {
		if _, still := wrong[id]; !still {
			delete(reported, id)
		}
	}
	for id, message := range wrong {
		c := problem{all[id], message}
		if reported[id] != c && enqueue(c) {
			reported[id] = c
		}
	}
}

// annotationTexts returns the texts alone, by NAME.NAMESPACE.
func annotationTexts(all map[string]service) map[string]string {
	texts := make(map[string]string, len(all))
	for id, s := range all {
		texts[id] = s.text
	}
	return texts
}
