package multivalue

import (
	"encoding/binary"
	"maps"
	"sync/atomic"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// boardShards is how many parts the board has. One new target copies one part, so that learning it among a hundred
// thousand copies a few hundred entries.
const boardShards = 256

// board is what the pool has published: an entry for each watched target. Queries read it without a lock; only the
// pool's goroutine writes it. A part is never changed once it is published: it is replaced when a target comes or goes.
type board [boardShards]atomic.Pointer[map[verdict.Target]*entry]

// entry is a watched target as queries see it.
type entry struct {
	verdict atomic.Pointer[verdict.Verdict] // nil before the first result
	asked   atomic.Bool                     // since the last sweep
	ttl     atomic.Uint32                   // the longest that somebody may keep an answer with it, in seconds
}

// look returns the verdict on a target, and takes note that it was asked for. It reads, and writes only what is not
// noted yet, so that parallel queries for the same names do not fight for the same cache lines.
func (b *board) look(t verdict.Target, ttl uint32) (v verdict.Verdict, watched bool) {
	shard := b[shardOf(t)].Load()
	if shard == nil {
		return v, false
	}
	e := (*shard)[t]
	if e == nil {
		return v, false
	}
	e.note(ttl)
	if p := e.verdict.Load(); p != nil {
		v = *p
	}
	return v, true
}

func (e *entry) note(ttl uint32) {
	if !e.asked.Load() {
		e.asked.Store(true)
	}
	if e.ttl.Load() < ttl {
		e.ttl.Store(ttl)
	}
}

// put adds or replaces the entry of a target; nil removes it.
func (b *board) put(t verdict.Target, e *entry) {
	part := &b[shardOf(t)]
	next := make(map[verdict.Target]*entry)
	if old := part.Load(); old != nil {
		next = maps.Clone(*old)
	}
	if e == nil {
		delete(next, t)
	} else {
		next[t] = e
	}
	part.Store(&next)
}

// shardOf spreads addresses that differ in their last bits, as those of one network do.
func shardOf(t verdict.Target) int {
	raw := t.Addr.Addr().As16()
	return int(binary.BigEndian.Uint64(raw[8:]) * 0x9e3779b97f4a7c15 >> 56) // Fibonacci hashing: 2^64 over the golden ratio
}
