package services

import (
	"maps"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// service is the part of a Service that matters here. Only Services that have the annotation are kept.
type service struct {
	namespace, name string
	uid             types.UID // differs after a Service was deleted and created again: the new owner is told again
	text            string    // of the annotation
}

// store holds the Services that have the annotation. One reflector writes it, and deliver reads it. A list is written in one
// step (Replace), so a reader never takes half of it for everything.
type store struct {
	key     string
	maxText int           // in bytes; a longer text is cut to one byte more, so that it is still too long
	changed chan struct{} // buffers one signal: the content has changed since the last one was received

	mu     sync.Mutex
	synced bool // a list has been written; before that an empty store means nothing
	known  map[string]service
}

// The reflector calls Add, Update, Delete and Replace from one goroutine. None of them fails: an object that is no Service is
// ignored.
var _ cache.ReflectorStore = (*store)(nil)

// newStore returns an empty store for an annotation.
func newStore(key string, most int) *store {
	return &store{key: key, maxText: most, changed: make(chan struct{}, 1), known: make(map[string]service)}
}

// snapshot returns a copy of the content. The caller may keep it.
func (s *store) snapshot() map[string]service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.known)
}

// Add stores a new Service.
func (s *store) Add(obj any) error { return s.Update(obj) }

// Update stores the current state of a Service, and signals a change only if its annotation or identity changed.
func (s *store) Update(obj any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, now, annotated := s.readService(obj)
	if before, known := s.known[id]; annotated == known && before == now {
		return nil
	}
	if annotated {
		s.known[id] = now
	} else {
		delete(s.known, id)
	}
	s.notify()
	return nil
}

// Delete removes a Service.
func (s *store) Delete(obj any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, _, _ := s.readService(obj)
	if _, known := s.known[id]; known {
		delete(s.known, id)
		s.notify()
	}
	return nil
}

// Replace makes the listed Services the whole content. The first list is a change even if it is empty: from then on it is
// known that there are none.
func (s *store) Replace(list []any, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[string]service)
	for _, obj := range list {
		if id, now, annotated := s.readService(obj); annotated {
			next[id] = now
		}
	}
	// After an outage the reflector lists again. If nothing changed meanwhile, that is no change.
	if s.synced && maps.Equal(s.known, next) {
		return nil
	}
	s.synced, s.known = true, next
	s.notify()
	return nil
}

// Resync does nothing. The interface of the reflector demands it.
func (s *store) Resync() error { return nil }

// readService reads the part of a Service that matters, and whether it has the annotation. Objects of other types have no id.
func (s *store) readService(obj any) (id string, now service, annotated bool) {
	m, ok := obj.(metav1.Object)
	if !ok {
		return "", service{}, false
	}
	id = m.GetName() + "." + m.GetNamespace()
	text, annotated := m.GetAnnotations()[s.key]
	if !annotated {
		return id, service{}, false
	}
	if len(text) > s.maxText {
		text = strings.Clone(text[:s.maxText+1]) // a clone frees the rest, which may have 256 KiB
	}
	return id, service{m.GetNamespace(), m.GetName(), m.GetUID(), text}, true
}

// notify signals a change. It never blocks: one pending signal stands for any number of changes.
func (s *store) notify() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
