package pool

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/report"
	"github.com/coredns-multivalue/multivalue/plugin/state"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// restored is what an earlier process believed. A target that is learned begins with that, while it is fresh; queries look
// at it before that, so that the first one does not get a dead address. It never changes.
type restored struct {
	records   map[state.Key]*earlierRecord
	until     time.Time       // when all of it is too old
	ambiguous map[string]bool // texts that several checks have, with different secrets
}

// earlierRecord is a record that is believed until the target is watched: what this process finds out is newer. It is marked as
// used when the target is in the table.
type earlierRecord struct {
	state.Record
	used atomic.Bool
}

// Restore gives the pool what an earlier process believed. It is called before the first generation joins.
func (p *Pool) Restore(records map[state.Key]state.Record) {
	p.life.Lock()
	defer p.life.Unlock()
	if len(records) == 0 {
		return
	}
	all := make(map[state.Key]*earlierRecord, len(records))
	for k, r := range records {
		all[k] = &earlierRecord{Record: r}
	}
	p.do(func() { p.restored.Store(&restored{all, time.Now().Add(state.MaxAge), p.ambiguous}) })
}

// Earlier calls take with what an earlier process believed of targets that this one has not watched yet, as far as that can
// still be used.
func (p *Pool) Earlier(take func(state.Key, state.Record) (more bool)) {
	r := p.restored.Load()
	if r == nil {
		return
	}
	for k, x := range r.records {
		if !x.used.Load() && x.Fresh(time.Now()) && !take(k, x.Record) {
			return
		}
	}
}

// find is the record of a target, if it is fresh. It takes no lock and allocates nothing, and may be called for nil.
func (r *restored) find(c *CheckSpec, addr netip.AddrPort, owner string, now time.Time) *earlierRecord {
	if r == nil {
		return nil
	}
	x := r.records[c.stateKey(addr, owner)]
	if x == nil || !x.Fresh(now) || r.ambiguous[c.identity.String()] {
		return nil
	}
	return x
}

// believed is the verdict in a record. It holds for as long as it surely does if the target is probed at once.
func (c *CheckSpec) believed(record *state.Record, since time.Time) verdict.Verdict {
	v := verdict.Verdict{State: record.State, Since: since, Reason: record.Reason}
	if record.Said != (report.Said{}) {
		v.Said = &record.Said // which never changes; a copy would be an allocation in a query
	}
	m := verdict.Resume(v)
	v.Holds = c.holdsFromNow(&m)
	return v
}

// unwatched is what a query is told of a target that it did not find in the table: what an earlier process believed, or that
// it is unknown. h is the hash of the target.
func (g *Group) unwatched(c *CheckSpec, t *verdict.Target, h uint64, owner string) verdict.Brief {
	r := g.pool.restored.Load()
	if r == nil {
		return 0
	}
	now := time.UnixMilli(int64(g.pool.clock.Load()))
	x := r.find(c, t.Addr, owner, now)
	switch {
	case x == nil:
		return 0
	case x.used.Load(): // it may have come into the table since this query looked there
		if e := g.pool.table.Find(t, h); e != nil {
			if v, there := e.Load(); there {
				return v
			}
		}
		return 0
	}
	return c.believed(&x.Record, x.Since).Brief()
}

// recallEarlier is the verdict that an earlier process had of a target.
func (p *Pool) recallEarlier(c *checkState, addr netip.AddrPort, owner string, now time.Time) (memory, bool) {
	x := p.restored.Load().find(&c.CheckSpec, addr, owner, now)
	if x == nil || x.used.Load() {
		return memory{}, false
	}
	since := clock.Steady(now).Add(-now.Sub(x.Since))
	return memory{verdict: c.believed(&x.Record, since), heard: clock.At(now).Add(-now.Sub(x.At)), earlier: x}, true
}

// expireRestored drops what an earlier process believed, when it is too old.
func (p *Pool) expireRestored(now time.Time) {
	if r := p.restored.Load(); r != nil && now.After(r.until) {
		p.restored.Store(nil)
	}
}

// compareTexts finds the checks that differ in a secret only, after the checks have changed.
func (p *Pool) compareTexts() {
	p.ambiguous = ambiguous(p.checks)
	if r := p.restored.Load(); r != nil {
		p.restored.Store(&restored{r.records, r.until, p.ambiguous})
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
	texts, secrets := make(map[string]bool, len(checks)), make(map[string]uint64, len(checks))
	for id, c := range checks {
		secret, twice := secrets[id.String()]
		secrets[id.String()] = c.secret
		texts[id.String()] = texts[id.String()] || twice && secret != c.secret // a check may be there once shared and once not
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
			if s := m.verdict(); s.State != verdict.Unknown && !v.pool.ambiguous[m.check.identity.String()] {
				take(m.check.stateKey(e.Target.Addr, m.owner), m.stateRecord(s, now))
			}
		})
	}
	return shard, shard < table.Shards
}

// stateRecord is a verdict as the file has it: with times by the wall clock, so that another process can tell its age.
func (m *monitor) stateRecord(v verdict.Verdict, now time.Time) state.Record {
	wall := now.Round(0)
	at := wall.Add(-clock.At(now).Sub(m.known(now)))
	since := wall.Add(-clock.Steady(now).Sub(v.Since))
	if since.After(at) {
		since = at
	}
	record := state.Record{State: v.State, Since: since, At: at, Reason: v.Reason}
	if v.Said != nil {
		record.Said = *v.Said
	}
	return record
}
