// Package table publishes what the pool believes of each watched target.
//
// Table is the main type. Queries read it with atomic loads, without a lock and without waiting; only the pool's loop
// writes it. A target that is not in the table is unknown, which is served. Sets is the same for the record sets that the
// targets are in: it knows when each was last looked at.
package table

import (
	"math"
	"sync/atomic"

	"github.com/coredns-multivalue/multivalue/internal/hash"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Shards is how many parts a table has. Adding a target copies one part, so that learning one among a hundred thousand
// copies a few hundred slots.
const Shards = 256

// Table has an entry for each watched target. It is a hash table of our own, because a query asks it for every address:
// a Go map took twice the time, most of it for hashing the key (docs/benchmarks.md).
type Table struct{ index index[Entry] }

// Entry is a watched target as queries see it. It fits one line of the processor's cache.
type Entry struct {
	Target  verdict.Target         // never changes
	verdict atomic.Uint64          // a verdict.Brief
	members atomic.Pointer[Member] // the sets that the target is in; the list ends with the one for any other set
}

// Load returns the verdict, and false once the target is watched no longer.
func (e *Entry) Load() (v verdict.Brief, there bool) {
	raw := e.verdict.Load()
	return verdict.Brief(raw), raw != removed
}

// removed replaces the verdict once the target is watched no longer: a reader that still has the entry must not believe
// it. No verdict has this value before the year 2109.
const removed = math.MaxUint64

// Store publishes a verdict to queries. It is for the pool's loop.
func (e *Entry) Store(v verdict.Verdict) { e.verdict.Store(uint64(v.Brief())) }

// StoreBrief is Store for a verdict that is packed already.
func (e *Entry) StoreBrief(b verdict.Brief) { e.verdict.Store(uint64(b)) }

// Find returns the entry of a target, or nil. h is the target's hash.
func (b *Table) Find(t *verdict.Target, h uint64) *Entry {
	p := b.index[h%Shards].Load()
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
func (b *Table) Insert(e *Entry, h uint64) { b.index.insert(e, h) }

// Remove takes an entry out. Readers that still have it are told by Load.
func (b *Table) Remove(e *Entry, h uint64) {
	b.index.withdraw(e, h)
	e.verdict.Store(removed)
}

// Each goes through the entries of one shard.
func (b *Table) Each(shard int, take func(*Entry)) { b.index.each(shard, take) }

// Clear removes all entries.
func (b *Table) Clear() {
	for i := range b.index {
		b.index.each(i, func(e *Entry) { e.verdict.Store(removed) })
		b.index[i].Store(nil)
	}
}

// Seed is a check's part in the hashes of its targets.
func Seed(id verdict.Identity) uint64 { return hash.Of(id) }

// Hash is the hash of a target whose check has that seed.
func Hash(t *verdict.Target, seed uint64) uint64 {
	return hash.AddrPort(seed, t.Addr.Addr(), t.Addr.Port())
}
