package kube

import (
	"maps"
	"sync"

	"k8s.io/client-go/tools/cache"
)

// Store holds what matters of the objects of one kind. One reflector writes it. A list is written in one step (Replace), so a
// reader never takes half of it for everything.
type Store[V any] struct {
	// Read reads what matters of an object, and whether that is kept. An object of another kind has no id.
	Read func(obj any) (id string, v V, keep bool)
	// Same reports whether nothing that matters has changed.
	Same func(a, b V) bool
	// Strip drops what does not matter before a list is complete, so that it never holds all of each object. Nil drops nothing.
	Strip cache.TransformFunc
	// Changed gets one signal for any number of changes since it was last received from. It has room for one.
	Changed chan struct{}

	mu     sync.Mutex
	synced bool // a list has been written; before that an empty store means nothing
	known  map[string]V
}

// The reflector calls what it needs of this from one goroutine. Nothing of it fails: an object of another kind is ignored.
var _ cache.TransformingStore = (*Store[struct{}])(nil)

// Snapshot returns a copy of the content, which the caller may keep, and whether it was ever listed.
func (s *Store[V]) Snapshot() (all map[string]V, synced bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.known), s.synced
}

// Add stores a new object.
func (s *Store[V]) Add(obj any) error { return s.Update(obj) }

// Update stores the current state of an object, and signals a change only if something that matters is different.
func (s *Store[V]) Update(obj any) error {
	id, now, keep := s.Read(obj)
	s.mu.Lock()
	defer s.mu.Unlock()
	before, known := s.known[id]
	switch {
	case keep && known && s.Same(before, now), !keep && !known:
		return nil
	case keep:
		s.set(id, now)
	default:
		delete(s.known, id)
	}
	s.notify()
	return nil
}

// set stores an object. The caller holds mu.
func (s *Store[V]) set(id string, v V) {
	if s.known == nil {
		s.known = make(map[string]V)
	}
	s.known[id] = v
}

// Delete removes an object.
func (s *Store[V]) Delete(obj any) error {
	id, _, _ := s.Read(obj)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.known[id]; known {
		delete(s.known, id)
		s.notify()
	}
	return nil
}

// Replace makes the listed objects the whole content. The first list is a change even if it is empty: from then on it is known
// that there are none.
func (s *Store[V]) Replace(list []any, _ string) error {
	next := make(map[string]V, len(list))
	for _, obj := range list {
		if id, now, keep := s.Read(obj); keep {
			next[id] = now
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// After an outage the reflector lists again. If nothing changed meanwhile, that is no change.
	if s.synced && maps.EqualFunc(s.known, next, s.Same) {
		return nil
	}
	s.synced, s.known = true, next
	s.notify()
	return nil
}

// Resync does nothing. The interface of the reflector demands it.
func (s *Store[V]) Resync() error { return nil }

// Transformer is what the reflector applies to each object of a list.
func (s *Store[V]) Transformer() cache.TransformFunc { return s.Strip }

// notify signals a change. It never blocks: one pending signal stands for any number of changes.
func (s *Store[V]) notify() {
	select {
	case s.Changed <- struct{}{}:
	default:
	}
}
