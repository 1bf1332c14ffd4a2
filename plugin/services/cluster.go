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
	"errors"
	"fmt"
	"sync"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
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
	config, err := loadConfig(kubeconfig, kubecontext)
	if err != nil {
		return nil, err
	}
	// The metadata client fetches neither spec nor status of a Service, which would be most of the traffic and memory.
	config.UserAgent = "coredns-multivalue"
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

// loadConfig reads the named file, or the files that Kubernetes mounts into each Pod.
func loadConfig(kubeconfig, kubecontext string) (*rest.Config, error) {
	if kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			err = errors.New("not running in a Pod of a cluster: name a kubeconfig file")
		}
		return config, err
	}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: kubecontext}).ClientConfig()
}

// Follow calls take with the texts of the annotation whenever one of them changes, with all of them each time. The keys are
// NAME.NAMESPACE of the Services. take returns what is wrong with some of them, by the same keys, and the owners of those
// get an Event. While the API cannot be reached take is not called, so what it was given last stays in force.
//
// It returns nil when the context ends. Any other return is a panic in one of its goroutines, as an error; all of them have
// ended by then.
func (c *Cluster) Follow(ctx context.Context, take func(texts map[string]string) (wrong map[string]string)) error {
	ctx, cancel := context.WithCancel(ctx) // ends the other parts when one panics
	defer cancel()
	s := newStore(c.key, c.maxText)
	r := newReporter(c.events, c.key)
	// The parts share nothing but the store and the reporter's queue. If one ends, the others are cancelled.
	parts := []func(context.Context){
		c.reflector(s).RunWithContext,
		func(ctx context.Context) { deliver(ctx, s, r, take) },
		r.writeQueued,
	}
	failures := make([]error, len(parts))
	var running sync.WaitGroup
	for i, part := range parts {
		running.Go(func() {
			defer cancel()
			failures[i] = recoverPanic(ctx, part)
		})
	}
	running.Wait()
	return errors.Join(failures...)
}

// recoverPanic runs part and turns a panic into an error: a bug in client-go must not end the DNS server.
func recoverPanic(ctx context.Context, part func(context.Context)) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	part(ctx)
	return nil
}

// reflector returns what keeps a store up to date with the API. A reflector runs in the goroutine of its caller, where
// recoverPanic works. An informer starts goroutines of its own, and a panic in one of those would end the process.
func (c *Cluster) reflector(s *store) *cache.Reflector {
	var o outage
	lists := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			all, err := c.services.List(ctx, options)
			o.noteList(err)
			return all, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			w, err := c.services.Watch(ctx, options)
			o.noteWatch(err, options.SendInitialEvents != nil)
			return w, err
		},
	}
	return cache.NewReflectorWithOptions(lists, &metav1.PartialObjectMetadata{}, s,
		cache.ReflectorOptions{Name: "multivalue", TypeDescription: "services"})
}

// outage makes the log say once when watching Services fails, and once when it works again. It needs no lock: the reflector
// lists and watches in one goroutine.
type outage struct{ logged bool }

// noteList logs the first failure of an outage. A list that succeeds does not end the outage: the watch after it may fail.
func (o *outage) noteList(err error) {
	if err == nil || errors.Is(err, context.Canceled) || o.logged {
		return
	}
	log.Warningf("annotations: cannot watch Services, the last known annotations stay in force: %v", err)
	o.logged = true
}

// noteWatch logs the first failure of an outage and its end. lists says that the watch was to begin with a list (WatchList).
// An API that does not support that refuses the request as invalid, and the reflector then lists and watches separately: that
// is no failure.
func (o *outage) noteWatch(err error, lists bool) {
	if lists && (apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)) {
		return
	}
	o.noteList(err)
	if err == nil && o.logged {
		log.Info("annotations: watching Services again")
		o.logged = false
	}
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
		case <-s.changed:
		case <-reminder.C:
			clear(reported) // so that each problem is reported again
		}
		all := s.snapshot()
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
