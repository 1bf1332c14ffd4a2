package pool

import (
	"net/netip"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/state"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// restored is what an earlier process believed. A target that is learned begins with that, while it is fresh.
type restored struct {
	records   map[state.Key]state.Record // nil if there is nothing, or it is too old
	until     time.Time                  // when all of it is
	ambiguous map[string]bool            // texts that several checks have, with different secrets
}

// Restore gives the pool what an earlier process believed. It is called before the first generation joins.
func (p *Pool) Restore(records map[state.Key]state.Record) {
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() { p.restored.records, p.restored.until = records, time.Now().Add(state.MaxAge) })
}

// recall is the verdict that an earlier process had of a target. It holds for as long as it surely does if the target is
// probed at once.
func (r *restored) recall(c *checkState, addr netip.AddrPort, owner string, now time.Time) (memory, bool) {
	if r.records == nil {
		return memory{}, false
	}
	record, ok := r.records[c.stateKey(addr, owner)]
	if !ok || !record.Fresh(now) || r.ambiguous[c.identity.String()] {
		return memory{}, false
	}
	v := verdict.Verdict{State: record.State, Since: clock.Steady(now).Add(-now.Sub(record.Since)), Reason: record.Reason}
	m := verdict.Resume(v)
	v.Holds = m.HoldsFromNow(c.pace)
	return memory{verdict: v, heard: clock.At(now).Add(-now.Sub(record.At)), earlier: true}, true
}

// expire drops it all when it is too old.
func (r *restored) expire(now time.Time) {
	if now.After(r.until) {
		r.records = nil
	}
}

// stateKey identifies a target to other processes, by texts alone.
func (c *CheckSpec) stateKey(addr netip.AddrPort, owner string) state.Key {
	k := state.Key{Check: c.identity.String(), Addr: addr}
	if c.forOwner != nil {
		k.Owner = owner
	}
	return k
}

// ambiguous are the texts that several checks have. They differ in a secret, which enters no file, so what one of them is
// believed to be says nothing about the other.
func ambiguous(checks map[verdict.Identity]*checkState) map[string]bool {
	texts := make(map[string]bool, len(checks))
	for id := range checks {
		_, twice := texts[id.String()]
		texts[id.String()] = twice
	}
	for text, twice := range texts {
		if !twice {
			delete(texts, text)
		}
	}
	return texts
}

// Settled is how many results have proved something since the process began. While it stays the same, so do the records.
func (v View) Settled() uint64 { return v.pool.settled }

// Records calls take with the verdicts on some hundred targets, from a shard of the table on. It returns the shard to go on
// with, and false if there are no more. Targets that have no state yet are left out.
func (v View) Records(shard int, take func(state.Key, state.Record)) (next int, more bool) {
	now := time.Now()
	for n := 0; shard < table.Shards && n < RowsAtOnce; shard++ {
		v.pool.table.Each(shard, func(e *table.Entry) {
			m := v.pool.monitors[e]
			if m == nil {
				return
			}
			n++
			if s := m.machine.Verdict(0); s.State != verdict.Unknown && !v.pool.restored.ambiguous[m.check.identity.String()] {
				take(m.check.stateKey(e.Target.Addr, m.owner), m.stateRecord(s, now))
			}
		})
	}
	return shard, shard < table.Shards
}

// stateRecord is a verdict as the file has it: with times by the wall clock, so that another process can tell its age.
func (m *monitor) stateRecord(v verdict.Verdict, now time.Time) state.Record {
	wall := now.Round(0)
	at := wall.Add(-clock.At(now).Sub(m.heard))
	since := wall.Add(-clock.Steady(now).Sub(v.Since))
	if since.After(at) {
		since = at
	}
	return state.Record{State: v.State, Since: since, At: at, Reason: v.Reason}
}
