// Package kube has what all that follows objects of Kubernetes needs: the way to the API, reflectors that run where a panic
// can be caught, log lines about outages, and a store that keeps little.
package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

var log = clog.NewWithPlugin("multivalue")

// Config reads a kubeconfig file and the context in it, or if kubeconfig is empty, the files that Kubernetes mounts into each
// Pod. It sends no request.
func Config(kubeconfig, kubecontext string) (*rest.Config, error) {
	config, err := load(kubeconfig, kubecontext)
	if err != nil {
		return nil, err
	}
	config.UserAgent = "coredns-multivalue"
	return config, nil
}

func load(kubeconfig, kubecontext string) (*rest.Config, error) {
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

// Run runs parts beside each other until the context ends, and returns nil then. If one ends before, the others are cancelled.
// A panic of one becomes an error: a bug in client-go must not end the DNS server. All have ended when it returns.
func Run(ctx context.Context, parts ...func(context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
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

func recoverPanic(ctx context.Context, part func(context.Context)) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	part(ctx)
	return nil
}

// Objects are what is followed: all objects of one kind.
type Objects struct {
	Property string // of the Corefile, for the log
	Kind     string // in the plural, such as Services
	Known    string // what stays in force while they cannot be watched, such as annotations
	Example  runtime.Object

	List  func(context.Context, metav1.ListOptions) (runtime.Object, error)
	Watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
	Lost  func() // called when an outage begins; nil for nothing
}

// Reflector returns what keeps a store up to date with the API. A reflector runs in the goroutine of its caller, where Run can
// catch a panic. An informer starts goroutines of its own, and a panic in one of those would end the process.
func (o Objects) Reflector(store cache.ReflectorStore) *cache.Reflector {
	gone := outage{of: o}
	lists := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			all, err := o.List(ctx, options)
			gone.noteList(err)
			return all, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			w, err := o.Watch(ctx, options)
			gone.noteWatch(err, options.SendInitialEvents != nil)
			return w, err
		},
	}
	return cache.NewReflectorWithOptions(lists, o.Example, store,
		cache.ReflectorOptions{Name: "multivalue", TypeDescription: strings.ToLower(o.Kind)})
}

// outage makes the log say once when watching fails, and once when it works again. It needs no lock: the reflector lists and
// watches in one goroutine.
type outage struct {
	of     Objects
	logged bool
}

// noteList logs the first failure of an outage. A list that succeeds does not end the outage: the watch after it may fail.
func (o *outage) noteList(err error) {
	if err == nil || errors.Is(err, context.Canceled) || o.logged {
		return
	}
	log.Warningf("%s: cannot watch %s, the last known %s stay in force: %v", o.of.Property, o.of.Kind, o.of.Known, err)
	o.logged = true
	if o.of.Lost != nil {
		o.of.Lost()
	}
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
		log.Infof("%s: watching %s again", o.of.Property, o.of.Kind)
		o.logged = false
	}
}
