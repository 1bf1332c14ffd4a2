package table

import (
	"iter"
	"sync/atomic"
)

// Sets has a Set for each record set that a watched target is in. A query looks its sets up by their keys, which are
// hashes that no client can choose (package hash).
type Sets struct{ index index[Set] }

// Set is all records of one owner name and type, as one stanza judges them.
type Set struct {
	key    uint64
	looked atomic.Uint32 // when a query last looked at it, in seconds since 1970
	// Members is how many targets are in it. It belongs to the pool's loop.
	Members int
}

// NewSet returns the set with that key, looked at now, in seconds since 1970.
func NewSet(key uint64, now uint32) *Set {
	s := &Set{key: key}
	s.looked.Store(now)
	return s
}

// Looked is when a query last looked at the set, whatever it found, in seconds since 1970.
func (s *Set) Looked() uint32 { return s.looked.Load() }

// Look notes that a query looks at a set, if there is one with that key. The time is in seconds since 1970.
func (b *Sets) Look(key uint64, now uint32) {
	if s := b.Find(key); s != nil && s.looked.Load() != now {
		s.looked.Store(now)
	}
}

// Find returns the set with that key, or nil.
func (b *Sets) Find(key uint64) *Set {
	p := b.index[key%Shards].Load()
	if p == nil {
		return nil
	}
	mask := uint64(len(p.slots) - 1)
	for i := (key / Shards) & mask; p.slots[i].entry != nil; i = (i + 1) & mask {
		if p.slots[i].hash == key {
			return p.slots[i].entry
		}
	}
	return nil
}

// Insert adds a set. There must be none with its key yet.
func (b *Sets) Insert(s *Set) { b.index.insert(s, s.key) }

// Remove takes a set out.
func (b *Sets) Remove(s *Set) { b.index.withdraw(s, s.key) }

// Clear removes all sets.
func (b *Sets) Clear() {
	for i := range b.index {
		b.index[i].Store(nil)
	}
}

// Len is how many sets there are.
func (b *Sets) Len() (n int) {
	for i := range b.index {
		if p := b.index[i].Load(); p != nil {
			n += p.used
		}
	}
	return n
}

// Member says that a target is in a set, and when it was last asked for there. The pool's loop adds and removes members.
type Member struct {
	Key   uint64 // of the set; AnySet in the one that stands for any other set, which is the last
	Born  uint32 // when the target was first asked for in the set, in seconds since 1970; the loop's
	Last  uint32 // when it was last, as far as TakeAsked has found; the loop's
	asked atomic.Uint32
	ttl   atomic.Uint32
	next  atomic.Pointer[Member]
}

// AnySet is the key of all sets that a target is not known to be in. No set has it, but by a chance of one in 2⁶⁴.
const AnySet = 0

// Touch notes that a query asked for the target in the set with that key, with a TTL in seconds, now. It reports whether the
// pool has to be told: because the target is not known to be in that set, or was idle. It writes only what is not noted yet,
// so that parallel queries for the same names do not compete for the same cache lines.
func (e *Entry) Touch(key uint64, ttl, now uint32) (tell bool) {
	m := e.member(key)
	if m == nil {
		return true
	}
	if m.ttl.Load() < ttl {
		m.ttl.Store(ttl)
	}
	before := m.asked.Load()
	if before != now {
		m.asked.Store(now)
	}
	return before == 0
}

// Untouch takes back that the target was asked for in a set while it was idle, as the pool could not be told: the next query
// tries again.
func (e *Entry) Untouch(key uint64) {
	if m := e.member(key); m != nil {
		m.asked.Store(0)
	}
}

// member is the target's place in a set, or nil.
func (e *Entry) member(key uint64) *Member {
	for m := e.members.Load(); m != nil; m = m.next.Load() {
		if m.Key == key || m.Key == AnySet {
			return m
		}
	}
	return nil
}

// Join adds the target to the set with a key, or to any other set, which must come last. It was first asked for there, and
// last, at these times in seconds since 1970.
func (e *Entry) Join(key uint64, ttl, born, now uint32) {
	m := &Member{Key: key, Born: born, Last: now}
	m.ttl.Store(ttl)
	m.asked.Store(now)
	at := &e.members
	for at.Load() != nil {
		at = &at.Load().next
	}
	at.Store(m)
}

// Quit takes the target out of a set.
func (e *Entry) Quit(m *Member) {
	at := &e.members
	for at.Load() != m {
		at = &at.Load().next
	}
	at.Store(m.next.Load())
}

// Members goes through the sets that the target is in.
func (e *Entry) Members() iter.Seq[*Member] {
	return func(yield func(*Member) bool) {
		for m := e.members.Load(); m != nil && yield(m); m = m.next.Load() {
		}
	}
}

// TTL is the highest TTL that the target went out with in the set, in seconds: resolvers may keep an answer that long.
func (m *Member) TTL() uint32 { return m.ttl.Load() }

// TakeAsked updates Last, and reports whether the target was asked for since Rest.
func (m *Member) TakeAsked() bool {
	asked := m.asked.Load()
	if asked != 0 {
		m.Last = asked
	}
	return asked != 0
}

// Rest has the next Touch report that the pool has to be told.
func (m *Member) Rest() { m.asked.Store(0) }
