// Package services follows an annotation on the Services of a Kubernetes cluster, and tells their owners by Events what
// is wrong with it.
//
// It sees nothing of a Service but its metadata, and knows nothing of what the annotation means. It needs the rights to
// list and watch Services, and to create and patch Events; without those on Events it says so in the log, once for each namespace.
//
// It stands apart from the root because client-go takes its time to build.
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
	// deliverPause is the least time from one change that is handed over to the next. However much is edited in a cluster, the
	// one who takes it is left in peace for as long.
	deliverPause = time.Second
	// reminderInterval is how often the owners are told of what is still wrong: Events are kept for an hour by default.
	reminderInterval = 30 * time.Minute
)

// Cluster is a way to a cluster's API.
type Cluster struct {
	key      string // of the annotation
	maxText  int    // the length of a text, in bytes
	services metadata.Getter
	events   typed.EventsGetter
}

// Open prepares the way to the API, and asks nothing of it yet: by the file, and the context in it, that are named, else as
// the Pod that the process runs in. A text of the annotation that has more than most bytes is cut, and still has more.
func Open(key string, most int, kubeconfig, kubecontext string) (*Cluster, error) {
	config, err := loadConfig(kubeconfig, kubecontext)
	if err != nil {
		return nil, err
	}
	config.UserAgent = "coredns-multivalue"
	services, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	events, err := typed.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &Cluster{key, most, services.Resource(corev1.SchemeGroupVersion.WithResource("services")), events}, nil
}

func loadConfig(kubeconfig, kubecontext string) (*rest.Config, error) {
	if kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			err = errors.New("this is no Pod of a cluster: name a kubeconfig file")
		}
		return config, err
	}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: kubecontext}).ClientConfig()
}

// Follow hands over the texts of the annotation, by NAME.NAMESPACE of the Services that have it, all of them each time,
// whenever they change. What take returns says what is wrong with some; the owners of those get an Event. While the API is
// out of reach nothing is handed over.
//
// It returns when the context ends. If it returns before, something panicked.
func (c *Cluster) Follow(ctx context.Context, take func(texts map[string]string) (wrong map[string]string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newStore(c.key, c.maxText)
	r := newReporter(c.events, c.key)
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

// recoverPanic turns a panic into an error: what watches Services must not take DNS down.
func recoverPanic(ctx context.Context, part func(context.Context)) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	part(ctx)
	return nil
}

// reflector is what keeps a store as the API has it. It runs in the goroutine that it is given, unlike a whole informer,
// whose goroutines end the process when they panic.
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

// outage knows whether the log says that Services cannot be watched. The reflector asks one thing after the other.
type outage struct{ logged bool }

// noteList takes note of how a list went. One that did leads to a watch, which is what counts.
func (o *outage) noteList(err error) {
	if err == nil || errors.Is(err, context.Canceled) || o.logged {
		return
	}
	log.Warningf("annotations: Services cannot be watched, and what is known of them stays: %v", err)
	o.logged = true
}

// noteWatch takes note of how a watch went. Of one that was to begin with a list, an API that does not know of that says that it
// is invalid, and the reflector lists and watches instead.
func (o *outage) noteWatch(err error, lists bool) {
	if lists && (apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)) {
		return
	}
	o.noteList(err)
	if err == nil && o.logged {
		log.Info("annotations: Services are watched again")
		o.logged = false
	}
}

// deliver hands over what the store has whenever that changes, but not too often, and passes on what is wrong with it.
func deliver(ctx context.Context, s *store, r *reporter, take func(map[string]string) map[string]string) {
	reminder := time.NewTicker(reminderInterval)
	defer reminder.Stop()
	told := make(map[string]problem) // what the owners know, by Service
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
		case <-reminder.C:
			clear(told)
		}
		all := s.snapshot()
		wrong := take(annotationTexts(all))
		reportNew(all, wrong, told, r.enqueue)
		select {
		case <-ctx.Done():
		case <-time.After(deliverPause):
		}
	}
}

// reportNew passes on what the owners do not know yet.
func reportNew(all map[string]service, wrong map[string]string, told map[string]problem, add func(problem) bool) {
	for id := range told {
		if _, still := wrong[id]; !still {
			delete(told, id)
		}
	}
	for id, message := range wrong {
		c := problem{all[id], message}
		if told[id] != c && add(c) {
			told[id] = c
		}
	}
}

func annotationTexts(all map[string]service) map[string]string {
	texts := make(map[string]string, len(all))
	for id, s := range all {
		texts[id] = s.text
	}
	return texts
}
