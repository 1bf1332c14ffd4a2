package pool

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

const (
	// RowsAtOnce is how many targets are read in one call of View.Rows or of Do, before the loop turns to something else.
	RowsAtOnce = 256
	// doWait bounds the wait for the loop's turn.
	doWait = 2 * time.Second
	// maxChanges is how many state changes are kept, so that a client that reads them every few minutes misses few.
	maxChanges = 1024
)

var errBusy = errors.New("the pool did not answer in time")

// View is the pool's state as the loop sees it. It is valid while the function that got it from Do runs.
type View struct{ pool *Pool }

// Do has the loop call f between other work, and returns when f has returned. f must be short. It fails if the loop does
// not come to it within two seconds, or the context ends before.
func (p *Pool) Do(ctx context.Context, f func(View)) error {
	ctx, cancel := context.WithTimeout(ctx, doWait)
	defer cancel()
	done := make(chan struct{})
	select {
	case p.calls <- func() { defer close(done); defer rescue.Log("the status"); f(View{p}) }:
		<-done
		return nil
	case <-ctx.Done():
		return errBusy
	}
}

// Record has the pool keep what only the status page shows, from now on, or drop it: it costs nothing while there is no
// page.
func (p *Pool) Record(on bool) {
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() {
		p.recording, p.changes = on, nil
		for _, m := range p.monitors {
			m.history = nil
		}
		p.beginBook(on, time.Now())
	})
}

// Targets is how many targets are watched.
func (v View) Targets() int { return len(v.pool.monitors) }

// Rows appends some hundred targets to a snapshot, from a shard of the table on. It returns the shard to go on with, and
// false if there are no more.
func (v View) Rows(shard int, shot *status.Snapshot) (next int, more bool) {
	for n := 0; shard < table.Shards && n < RowsAtOnce; shard++ {
		v.pool.table.Each(shard, func(e *table.Entry) {
			if m := v.pool.monitors[e]; m != nil {
				shot.Targets = append(shot.Targets, v.pool.rowOf(m))
				n++
			}
		})
	}
	return shard, shard < table.Shards
}

// Row is one target, if it is watched.
func (v View) Row(k Key) (status.Target, bool) {
	if m := v.pool.find(&k.Target, k.seed); m != nil {
		return v.pool.rowOf(m), true
	}
	return status.Target{}, false
}

// Isolated reports whether no target answers, so that none is taken down for now.
func (v View) Isolated() bool { return !v.pool.isolation.since.IsZero() }

// Totals sets all of a snapshot that is the pool's but the targets.
func (v View) Totals(shot *status.Snapshot) {
	p, s := v.pool, &shot.Summary
	s.Running, s.Full, s.IsolatedSince, s.LateSince = true, p.full.Load(), p.isolation.since, p.lateness.since
	s.InFlight, s.Held = p.schedule.total, p.prober.held
	for _, g := range p.generations {
		if g.stage != confirmed {
			continue
		}
		s.Stanzas = nil // of an earlier one, which is about to leave
		for _, a := range g.groups {
			s.Stanzas = append(s.Stanzas, status.Stanza{At: a.At, Zones: a.Zones, Targets: a.targets, MaxTargets: a.Max, Full: a.full.Load(), DryRun: a.DryRun, Force: a.ForcedBy})
		}
	}
	shot.Checks = p.shownChecks()
	shot.Changes, shot.Changed = slices.Clone(p.changes), p.changed
}

// rowOf is a target as the status page shows it.
func (p *Pool) rowOf(m *monitor) status.Target {
	t := m.row()
	if m.shared != nil {
		p.addVotes(m, &t)
	}
	return t
}

// row is what the page shows of a target that is not shared.
func (m *monitor) row() status.Target {
	v := m.verdict()
	t := status.Target{
		Address: m.entry.Target.Addr, Check: m.check.Name, Pace: m.check.PaceText(), Name: m.owner,
		State: v.State.String(), Since: v.Since, Reason: v.Reason,
		Idle: m.idle, Streak: m.machine.Streak(), Needed: m.check.pace.Fall, Probing: m.position == probing, Held: m.held != nil && m.held.conn != nil,
	}
	if v.State == verdict.Down {
		t.Needed = m.check.pace.Rise
	}
	if m.check.reports && v.State != verdict.Unknown {
		weight := v.Said.Weight()
		t.Weight, t.Drained, t.Said = &weight, v.State.Fit() && v.Said.Drains(), v.Said.String()
	}
	if m.started != 0 {
		t.LastProbe = m.started.Time()
	}
	if m.position >= 0 {
		t.NextProbe = m.due.Time()
	}
	if m.group.Forced != nil {
		t.Force = m.group.Forced(t.Address.Addr())
	}
	t.Handle = m
	if m.history != nil {
		t.Probes = *m.history
	}
	return t
}

// recordChange keeps a change of a target's state for the status page.
func (p *Pool) recordChange(m *monitor, before verdict.State, v verdict.Verdict, now time.Time) {
	p.changed++
	if !p.recording {
		return
	}
	if len(p.changes) == maxChanges {
		p.changes = slices.Delete(p.changes, 0, maxChanges/2)
	}
	p.changes = append(p.changes, status.Change{
		Number: p.changed, At: clock.Steady(now), Address: m.entry.Target.Addr, Check: m.check.Name, Name: m.owner,
		From: before.String(), To: v.State.String(), Reason: v.Reason,
	})
}
