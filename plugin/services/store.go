package services

import (
	"maps"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// service is what matters of a Service that has the annotation.
type service struct {
	namespace, name string
	uid             types.UID
	text            string
}

// store holds the Services that have the annotation. A reflector writes it; of what is listed, it writes all at once, so
// that nobody takes the half of it for all there are.
type store struct {
	key     string
	maxText int           // of a text that is longer, in bytes, one more is kept
	changed chan struct{} // has something in it when there is news; never blocks the writer

	mu     sync.Mutex
	synced bool // it has been written
	known  map[string]service
}

var _ cache.ReflectorStore = (*store)(nil)

func newStore(key string, most int) *store {
	return &store{key: key, maxText: most, changed: make(chan struct{}, 1), known: make(map[string]service)}
}

// snapshot is what the store has now. Nobody changes it.
func (s *store) snapshot() map[string]service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.known)
}

// Add takes up a Service.
func (s *store) Add(obj any) error { return s.Update(obj) }

// Update takes note of how a Service is now.
func (s *store) Update(obj any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, now, bears := s.readService(obj)
	if before, bore := s.known[id]; bears == bore && before == now {
		return nil
	}
	if bears {
		s.known[id] = now
	} else {
		delete(s.known, id)
	}
	s.notify()
	return nil
}

// Delete drops a Service.
func (s *store) Delete(obj any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, _, _ := s.readService(obj)
	if _, bore := s.known[id]; bore {
		delete(s.known, id)
		s.notify()
	}
	return nil
}

// Replace takes the Services listed for all there are.
func (s *store) Replace(list []any, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[string]service)
	for _, obj := range list {
		if id, now, bears := s.readService(obj); bears {
			next[id] = now
		}
	}
	if s.synced && maps.Equal(s.known, next) {
		return nil
	}
	s.synced, s.known = true, next
	s.notify()
	return nil
}

// Resync is part of what a reflector wants.
func (s *store) Resync() error { return nil }

// readService takes from a Service what matters, and reports whether it has the annotation.
func (s *store) readService(obj any) (id string, now service, bears bool) {
	m, ok := obj.(metav1.Object)
	if !ok {
		return "", service{}, false
	}
	id = m.GetName() + "." + m.GetNamespace()
	text, bears := m.GetAnnotations()[s.key]
	if !bears {
		return id, service{}, false
	}
	if len(text) > s.maxText {
		text = strings.Clone(text[:s.maxText+1]) // it may have 256 KiB
	}
	return id, service{m.GetNamespace(), m.GetName(), m.GetUID(), text}, true
}

func (s *store) notify() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
