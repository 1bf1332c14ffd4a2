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
	// eventRate is how many Events are written a second, and eventBurst how many may be written at once before that rate
	// applies. eventQueue is how many may wait: those that do not fit are queued again at the next delivery or reminder.
	eventRate  = 1
	eventBurst = 10
	eventQueue = 256
	// eventTimeout bounds each request to the API.
	eventTimeout = 10 * time.Second
	// muteTime is how long no Event is tried in a namespace where they are forbidden. Events dropped in this time are written
	// at the next reminder, so it must be shorter than reminderInterval.
	muteTime = 5 * time.Minute
	// maxMessage is the longest message that the API accepts, in bytes.
	maxMessage = 1024
)

// problem is what is wrong with the annotation of one Service. It is comparable: an equal problem has been reported already.
type problem struct {
	service
	message string
}

// reporter writes an Event for each problem, in a goroutine of its own, so that a slow API delays no delivery.
type reporter struct {
	key    string
	events typed.EventsGetter
	queue  chan problem
	pace   flowcontrol.RateLimiter // shared by all namespaces, so a broken cluster cannot flood its API with Events

	// Only writeQueued uses the fields below.
	forbidden map[string]time.Time // by namespace: when an Event was last forbidden; it has been logged once
	failed    bool                 // the last Event could not be written; it has been logged
}

// newReporter returns a reporter that writes nothing until writeQueued runs.
func newReporter(events typed.EventsGetter, key string) *reporter {
	return &reporter{key: key, events: events, queue: make(chan problem, eventQueue), forbidden: make(map[string]time.Time),
		pace: flowcontrol.NewTokenBucketRateLimiter(eventRate, eventBurst)}
}

// enqueue adds a problem to the queue, or returns false if the queue is full. It never waits.
func (r *reporter) enqueue(c problem) bool {
	select {
	case r.queue <- c:
		return true
	default:
		return false
	}
}

// writeQueued writes the queued problems one by one until the context ends.
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

// muted reports whether Events were forbidden in the namespace less than muteTime ago. Trying them again would use up the rate
// that other namespaces share.
func (r *reporter) muted(namespace string) bool {
	since, forbidden := r.forbidden[namespace]
	return forbidden && time.Since(since) < muteTime
}

// noteResult logs the first failure of its kind. If the Service or its namespace is gone there is no owner to inform, so that is no failure.
func (r *reporter) noteResult(c problem, err error) {
	switch {
	case err == nil:
		r.failed = false
		delete(r.forbidden, c.namespace)
	case apierrors.IsNotFound(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
	case apierrors.IsForbidden(err):
		if _, logged := r.forbidden[c.namespace]; !logged {
			log.Warningf("annotations: cannot write Events in namespace %s, so owners there are not told about invalid annotations (retried every %s, logged once): %v; first affected is Service %s: %s",
				c.namespace, reminderInterval, err, c.name, c.message)
		}
		r.forbidden[c.namespace] = time.Now()
	case !r.failed:
		r.failed = true
		log.Warningf("annotations: cannot write an Event for Service %s in namespace %s (further failures are not logged until one is written): %v", c.name, c.namespace, err)
	}
}

// writeEvent creates the Event of a problem, or updates its time if it exists. The name is a hash of the problem, so replicas
// and a restarted server do not create the Event twice.
func (r *reporter) writeEvent(ctx context.Context, c problem) error {
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	event := r.newEvent(c, metav1.Now())
	events := r.events.Events(c.namespace)
	// Create first: most problems are new, and the Event of an old one may have expired.
	_, err := events.Create(ctx, event, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	// The time alone changes. A merge patch needs no resource version, so two replicas cannot conflict.
	patch, err := json.Marshal(map[string]any{"lastTimestamp": event.LastTimestamp})
	if err == nil {
		_, err = events.Patch(ctx, event.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	return err
}

// newEvent builds the Event. It has no series and a count of 1: lastTimestamp alone says that the problem remains.
func (r *reporter) newEvent(c problem, now metav1.Time) *corev1.Event {
	h := fnv.New64a() // the uid is in it: a Service that was created again gets Events of its own
	fmt.Fprintf(h, "%s %q", c.uid, c.message)
	// Reason, ReportingController and the component are stable: owners may filter Events by them.
	message := fmt.Sprintf("annotation %s is ignored: %s", r.key, c.message)
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
