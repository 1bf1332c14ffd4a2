package multivalue

import (
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/coredns-multivalue/multivalue/internal/hash"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// boardShards is how many parts the board has. One new target copies one part, so that learning it among a hundred
// thousand copies a few hundred slots.
const boardShards = 256

// board is what the pool has published: an entry for each watched target. Queries read it without a lock; only the
// pool's goroutine writes it. It is a hash table of our own, since a query has a look at it for every address: half the
// time of a Go map, of which the hash of the key is most (see docs/benchmarks.md).
type board [boardShards]atomic.Pointer[part]

// part is an open hash table, a power of two long and at most two thirds full. It is never changed once it is published: it is
// replaced when a target comes or goes.
type part struct {
	slots []slot
	used  int
}

type slot struct {
	hash  uint64
	entry *entry // nil where the slot is free
}

// entry is a watched target as queries see it. It fills a line of the processor's cache, and no more.
type entry struct {
	target  verdict.Target
	verdict atomic.Uint64 // a verdict.Brief
	asked   atomic.Bool   // since the last sweep
	ttl     atomic.Uint32 // the longest that somebody may keep an answer with it, in seconds
}

// look returns the verdict, and takes note that it was asked for. It reads, and writes only what is not noted yet, so
// that parallel queries for the same names do not fight for the same cache lines.
func (e *entry) look(ttl uint32) (v verdict.Brief, there bool) {
	e.note(ttl)
	raw := e.verdict.Load()
	return verdict.Brief(raw), raw != gone
}

// gone stands in the place of the verdict once the target is watched no longer: whoever still knows the entry must not
// believe it. No verdict looks like that before the year 2109.
const gone = math.MaxUint64

// show publishes a verdict to queries.
func (e *entry) show(v verdict.Verdict) { e.verdict.Store(uint64(v.Brief())) }

func (e *entry) note(ttl uint32) {
	if !e.asked.Load() {
		e.asked.Store(true)
	}
	if e.ttl.Load() < ttl {
		e.ttl.Store(ttl)
	}
}

// find returns the entry of a target, or nil. h is the target's hash.
func (b *board) find(t *verdict.Target, h uint64) *entry {
	p := b[h%boardShards].Load()
	if p == nil {
		return nil
	}
	mask := uint64(len(p.slots) - 1)
	for i := (h / boardShards) & mask; p.slots[i].entry != nil; i = (i + 1) & mask {
		if p.slots[i].hash == h && p.slots[i].entry.target == *t {
			return p.slots[i].entry
		}
	}
	return nil
}

// put adds an entry that is not there yet.
func (b *board) put(e *entry, h uint64) { b.replace(h, func(p *part) { p.add(slot{h, e}) }, nil) }

// drop removes an entry.
func (b *board) drop(e *entry, h uint64) {
	b.replace(h, func(*part) {}, e)
	e.verdict.Store(gone)
}

// clear removes all.
func (b *board) clear() {
	for i := range b {
		if p := b[i].Swap(nil); p != nil {
			for _, s := range p.slots {
				if s.entry != nil {
					s.entry.verdict.Store(gone)
				}
			}
		}
	}
}

// replace publishes a new part in the place of the one that h belongs to: all of that but one entry, and what more adds.
func (b *board) replace(h uint64, more func(*part), without *entry) {
	old := b[h%boardShards].Load()
	if old == nil {
		old = new(part)
	}
	next := &part{slots: make([]slot, max(8, 1<<bits.Len(uint(old.used+old.used/2+1))))}
	for _, s := range old.slots {
		if s.entry != nil && s.entry != without {
			next.add(s)
		}
	}
	more(next)
	b[h%boardShards].Store(next)
}

func (p *part) add(s slot) {
	mask := uint64(len(p.slots) - 1)
	i := (s.hash / boardShards) & mask
	for p.slots[i].entry != nil {
		i = (i + 1) & mask
	}
	p.slots[i] = s
	p.used++
}

// seedOf is a check's share in the hashes of its targets.
func seedOf(id verdict.Identity) uint64 { return hash.Of(id) }

// hashOf is the hash of a target whose check has that seed.
func hashOf(t *verdict.Target, seed uint64) uint64 {
	return hash.AddrPort(seed, t.Addr.Addr(), t.Addr.Port())
}
