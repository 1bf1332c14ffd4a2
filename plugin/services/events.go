package services

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/flowcontrol"
)

const (
	// Events go out at eventRate a second, after a burst. eventQueue is how many may wait: what does not fit is told at the
	// next reminder.
	eventRate  = 1
	eventBurst = 10
	eventQueue = 256
	// eventTimeout bounds each request.
	eventTimeout = 10 * time.Second
	// muteTime is for how long no Event is tried in a namespace where they are forbidden. What is dropped then is told at the
	// next reminder, if that is over.
	muteTime = 5 * time.Minute
	// maxMessage is what the API takes for a message.
	maxMessage = 1024
)

// problem is what is wrong with the annotation of a Service.
type problem struct {
	service
	message string
}

// reporter tells the owners of Services, by Events, what is wrong.
type reporter struct {
	key    string
	events typed.EventsGetter
	queue  chan problem
	pace   flowcontrol.RateLimiter

	// The rest is run's.
	forbidden map[string]time.Time // where Events were when; the log says so
	failed    bool                 // the last could not be written, and the log says so
}

func newReporter(events typed.EventsGetter, key string) *reporter {
	return &reporter{key: key, events: events, queue: make(chan problem, eventQueue), forbidden: make(map[string]time.Time),
		pace: flowcontrol.NewTokenBucketRateLimiter(eventRate, eventBurst)}
}

// enqueue takes up a complaint, if there is room for it.
func (r *reporter) enqueue(c problem) bool {
	select {
	case r.queue <- c:
		return true
	default:
		return false
	}
}

func (r *reporter) writeQueued(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-r.queue:
			if !r.muted(c.namespace) && r.pace.Wait(ctx) == nil {
				r.noteResult(c, r.writeEvent(ctx, c))
			}
		}
	}
}

// muted reports whether Events were forbidden in a namespace a moment ago. A namespace without the right must not keep others
// waiting.
func (r *reporter) muted(namespace string) bool {
	since, forbidden := r.forbidden[namespace]
	return forbidden && time.Since(since) < muteTime
}

// noteResult takes note of how it went. A Service that is gone has nobody to tell.
func (r *reporter) noteResult(c problem, err error) {
	switch {
	case err == nil:
		r.failed = false
		delete(r.forbidden, c.namespace)
	case apierrors.IsNotFound(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
	case apierrors.IsForbidden(err):
		if _, said := r.forbidden[c.namespace]; !said {
			log.Warningf("annotations: Events cannot be written in namespace %s, so that owners there are told nothing, and what is wrong is only counted (tried again at each reminder, every %s; logged once): %v; the first is Service %s: %s",
				c.namespace, reminderInterval, err, c.name, c.message)
		}
		r.forbidden[c.namespace] = time.Now()
	case !r.failed:
		r.failed = true
		log.Warningf("annotations: an Event for Service %s in %s could not be written (further ones are not logged until one can): %v", c.name, c.namespace, err)
	}
}

// writeEvent creates the Event. The same complaint makes the same name, whoever has it: so replicas, and one that starts anew,
// only say that it still holds.
func (r *reporter) writeEvent(ctx context.Context, c problem) error {
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	event := r.newEvent(c, metav1.Now())
	events := r.events.Events(c.namespace)
	_, err := events.Create(ctx, event, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	patch, err := json.Marshal(map[string]any{"lastTimestamp": event.LastTimestamp})
	if err == nil {
		_, err = events.Patch(ctx, event.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	return err
}

func (r *reporter) newEvent(c problem, now metav1.Time) *corev1.Event {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %q", c.uid, c.message)
	message := fmt.Sprintf("annotation %s is not heeded: %s", r.key, c.message)
	return &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Name: fmt.Sprintf("%s.%016x", c.name, h.Sum64()), Namespace: c.namespace},
		InvolvedObject:      corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: c.namespace, Name: c.name, UID: c.uid},
		Type:                corev1.EventTypeWarning,
		Reason:              "BadCheck",
		Message:             message[:min(len(message), maxMessage)],
		FirstTimestamp:      now,
		LastTimestamp:       now,
		Count:               1,
		Source:              corev1.EventSource{Component: "coredns-multivalue"},
		ReportingController: "coredns-multivalue.github.io/coredns",
		ReportingInstance:   "coredns",
	}
}
