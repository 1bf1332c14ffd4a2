// Package table publishes what the pool believes of each watched target.
//
// Table is the main type. Queries read it with atomic loads, without a lock and without waiting; only the pool's loop
// writes it. A target that is not in the table is unknown, which is served.
package table

import (
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/coredns-multivalue/multivalue/internal/hash"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Shards is how many parts a table has. Adding a target copies one part, so that learning one among a hundred thousand
// copies a few hundred slots.
const Shards = 256

// Table has an entry for each watched target. It is a hash table of our own, because a query asks it for every address:
// a Go map took twice the time, most of it for hashing the key (docs/benchmarks.md).
type Table [Shards]atomic.Pointer[shard]

// shard is an open hash table, a power of two long and at most two thirds full. Once it is published it never changes: it
// is replaced when a target comes or goes, so that readers always see a whole one.
type shard struct {
	slots []slot
	used  int
}

type slot struct {
	hash  uint64
	entry *Entry // nil where the slot is free
}

// Entry is a watched target as queries see it. It fits one line of the processor's cache.
type Entry struct {
	Target  verdict.Target // never changes
	verdict atomic.Uint64  // a verdict.Brief
	asked   atomic.Bool    // since the last sweep
	ttl     atomic.Uint32  // the longest that somebody may keep an answer with it, in seconds
}

// Load returns the verdict, and notes that a query asked for it with this TTL in seconds. It returns false once the
// target is watched no longer. It writes only what is not noted yet, so that parallel queries for the same names do not
// compete for the same cache lines.
func (e *Entry) Load(ttl uint32) (v verdict.Brief, there bool) {
	e.Touch(ttl)
	raw := e.verdict.Load()
	return verdict.Brief(raw), raw != removed
}

// removed replaces the verdict once the target is watched no longer: a reader that still has the entry must not believe
// it. No verdict has this value before the year 2109.
const removed = math.MaxUint64

// Store publishes a verdict to queries. It is for the pool's loop.
func (e *Entry) Store(v verdict.Verdict) { e.verdict.Store(uint64(v.Brief())) }

// Touch notes that a query asked for the target with this TTL in seconds.
func (e *Entry) Touch(ttl uint32) {
	if !e.asked.Load() {
		e.asked.Store(true)
	}
	if e.ttl.Load() < ttl {
		e.ttl.Store(ttl)
	}
}

// Peek is Load for readers that are not queries: it leaves no note.
func (e *Entry) Peek() (v verdict.Brief, there bool) {
	raw := e.verdict.Load()
	return verdict.Brief(raw), raw != removed
}

// TakeAsked reports whether the target was asked for since the last call.
func (e *Entry) TakeAsked() bool { return e.asked.Swap(false) }

// TTL is the highest TTL that the target went out with, in seconds: resolvers may keep an answer with it that long.
func (e *Entry) TTL() uint32 { return e.ttl.Load() }

// Find returns the entry of a target, or nil. h is the target's hash.
func (b *Table) Find(t *verdict.Target, h uint64) *Entry {
	p := b[h%Shards].Load()
	if p == nil {
		return nil
	}
	mask := uint64(len(p.slots) - 1)
	for i := (h / Shards) & mask; p.slots[i].entry != nil; i = (i + 1) & mask {
		if p.slots[i].hash == h && p.slots[i].entry.Target == *t {
			return p.slots[i].entry
		}
	}
	return nil
}

// Insert adds an entry. There must be none for its target yet.
func (b *Table) Insert(e *Entry, h uint64) { b.replace(h, func(p *shard) { p.add(slot{h, e}) }, nil) }

// Remove takes an entry out. Readers that still have it are told by Load and Peek.
func (b *Table) Remove(e *Entry, h uint64) {
	b.replace(h, func(*shard) {}, e)
	e.verdict.Store(removed)
}

// Each goes through the entries of one shard.
func (b *Table) Each(shard int, take func(*Entry)) {
	p := b[shard].Load()
	if p == nil {
		return
	}
	for _, s := range p.slots {
		if s.entry != nil {
			take(s.entry)
		}
	}
}

// Clear removes all entries.
func (b *Table) Clear() {
	for i := range b {
		if p := b[i].Swap(nil); p != nil {
			for _, s := range p.slots {
				if s.entry != nil {
					s.entry.verdict.Store(removed)
				}
			}
		}
	}
}

// replace publishes a new shard in place of the one that h belongs to: its entries but one, and what more adds.
func (b *Table) replace(h uint64, more func(*shard), without *Entry) {
	old := b[h%Shards].Load()
	if old == nil {
		old = new(shard)
	}
	next := &shard{slots: make([]slot, max(8, 1<<bits.Len(uint(old.used+old.used/2+1))))}
	for _, s := range old.slots {
		if s.entry != nil && s.entry != without {
			next.add(s)
		}
	}
	more(next)
	b[h%Shards].Store(next)
}

func (p *shard) add(s slot) {
	mask := uint64(len(p.slots) - 1)
	i := (s.hash / Shards) & mask
	for p.slots[i].entry != nil {
		i = (i + 1) & mask
	}
	p.slots[i] = s
	p.used++
}

// Seed is a check's part in the hashes of its targets.
func Seed(id verdict.Identity) uint64 { return hash.Of(id) }

// Hash is the hash of a target whose check has that seed.
func Hash(t *verdict.Target, seed uint64) uint64 {
	return hash.AddrPort(seed, t.Addr.Addr(), t.Addr.Port())
}
