package table

import (
	"math/bits"
	"sync/atomic"
)

// index is an open hash table in shards. Readers see whole shards: one is replaced when an entry comes or goes.
type index[E any] [Shards]atomic.Pointer[shard[E]]

// shard is an open hash table, a power of two long and at most two thirds full. Once it is published it never changes: it
// is replaced when an entry comes or goes, so that readers always see a whole one.
type shard[E any] struct {
	slots []slot[E]
	used  int
}

type slot[E any] struct {
	hash  uint64
	entry *E // nil where the slot is free
}

// insert adds an entry.
func (x *index[E]) insert(e *E, h uint64) { x.replace(h, slot[E]{h, e}, nil) }

// withdraw takes an entry out.
func (x *index[E]) withdraw(e *E, h uint64) { x.replace(h, slot[E]{}, e) }

// each goes through the entries of one shard.
func (x *index[E]) each(shard int, take func(*E)) {
	p := x[shard].Load()
	if p == nil {
		return
	}
	for _, s := range p.slots {
		if s.entry != nil {
			take(s.entry)
		}
	}
}

// replace publishes a new shard in place of the one that h belongs to: its entries but one, and one more if there is one.
func (x *index[E]) replace(h uint64, more slot[E], without *E) {
	old := x[h%Shards].Load()
	if old == nil {
		old = new(shard[E])
	}
	next := &shard[E]{slots: make([]slot[E], max(8, 1<<bits.Len(uint(old.used+old.used/2+1))))}
	for _, s := range old.slots {
		if s.entry != nil && s.entry != without {
			next.add(s)
		}
	}
	if more.entry != nil {
		next.add(more)
	}
	x[h%Shards].Store(next)
}

func (p *shard[E]) add(s slot[E]) {
	mask := uint64(len(p.slots) - 1)
	i := (s.hash / Shards) & mask
	for p.slots[i].entry != nil {
		i = (i + 1) & mask
	}
	p.slots[i] = s
	p.used++
}
