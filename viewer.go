package multivalue

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/pool/table"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

const (
	// rowsATurn is how many targets the loop shows before it turns to something else.
	rowsATurn = 256
	// shotEvery is how old a snapshot may be, at the least; shotShare says how much of the time may go into making them.
	shotEvery = 500 * time.Millisecond
	shotShare = 10
	// consultWithin bounds the wait for the loop's turn.
	consultWithin = 2 * time.Second
	// keptChanges is how many changes of a target's state are kept, so that whoever looks again within minutes misses few.
	keptChanges = 1024
)

var errBusy = errors.New("the pool did not say in time")

// viewer shows the pool. However many look, it troubles the loop no more than now and then, and a little at a time.
type viewer struct {
	pool   *pool
	turn   chan struct{} // held by whoever makes a snapshot
	last   *status.Snapshot
	stale  time.Time   // when the last one is too old
	spoilt atomic.Bool // it shows another generation

	mu   sync.Mutex // held to look at what was answered below
	told map[toBlock]*told

	mouths chan struct{} // held to ask below
}

func newViewer(p *pool) *viewer {
	return &viewer{pool: p, turn: make(chan struct{}, 1), told: make(map[toBlock]*told), mouths: make(chan struct{}, maxTelling)}
}

// Snapshot is how things stood a moment ago.
func (v *viewer) Snapshot(ctx context.Context) (*status.Snapshot, error) {
	select {
	case v.turn <- struct{}{}:
		defer func() { <-v.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	began := time.Now()
	if spoilt := v.spoilt.Swap(false); v.last != nil && !spoilt && began.Before(v.stale) {
		return v.last, nil
	}
	shot := &status.Snapshot{Taken: clock.Steady(began), Summary: v.origin()}
	if v.pool.running.Load() {
		if err := v.fill(ctx, shot); err != nil {
			return nil, err
		}
	}
	v.last, v.stale = shot, time.Now().Add(max(shotEvery, shotShare*time.Since(began)))
	return shot, nil
}

// forget lets go of what was shown. Of a snapshot that is being made it cannot, and so has the next one replace it.
func (v *viewer) forget() {
	v.spoilt.Store(true)
	v.mu.Lock()
	clear(v.told)
	v.mu.Unlock()
	select {
	case v.turn <- struct{}{}:
		v.last = nil
		<-v.turn
	default:
	}
}

// origin says which process is shown. Without a name of the host it is known by its start alone.
func (v *viewer) origin() status.Summary {
	host, _ := os.Hostname()
	return status.Summary{Host: host, Started: clock.Started}
}

// fill takes a snapshot, a part of the board at a time.
func (v *viewer) fill(ctx context.Context, shot *status.Snapshot) error {
	room := 0 // made here, for to make it or to copy what is in it is no work for the loop
	if err := v.pool.consult(ctx, func() { room = len(v.pool.monitors) }); err != nil {
		return err
	}
	shot.Targets = make([]status.Target, 0, room+room/16+rowsATurn)
	for shard := 0; shard < table.Shards; {
		err := v.pool.consult(ctx, func() { shard = v.pool.rows(shard, shot) })
		if err != nil {
			return err
		}
	}
	if err := v.pool.consult(ctx, func() { v.pool.totals(shot) }); err != nil {
		return err
	}
	checks := make(map[string]*status.Check, len(shot.Checks))
	for i := range shot.Checks {
		c := &shot.Checks[i]
		checks[c.Check+" "+c.Pace] = c
	}
	for i := range shot.Targets {
		t := &shot.Targets[i]
		countState(&shot.Summary.Up, &shot.Summary.Down, &shot.Summary.Unknown, t.State)
		if c := checks[t.Check+" "+t.Pace]; c != nil {
			countState(&c.Up, &c.Down, &c.Unknown, t.State)
		}
	}
	shot.Names = v.pool.sightings.Load().names(shot.Targets)
	shot.Summary.Names = len(shot.Names)
	shot.Sort()
	v.link(shot)
	return nil
}

func countState(up, down, unknown *int, state string) {
	switch state {
	case "up":
		*up++
	case "down":
		*down++
	default:
		*unknown++
	}
}

// consult has the loop do something short in between, and returns when it is done.
func (p *pool) consult(ctx context.Context, f func()) error {
	ctx, cancel := context.WithTimeout(ctx, consultWithin)
	defer cancel()
	done := make(chan struct{})
	select {
	case p.calls <- func() { defer close(done); defer rescue.Log("the status"); f() }:
		<-done
		return nil
	case <-ctx.Done():
		return errBusy
	}
}

// rows adds targets to a snapshot, from a part of the board on, and returns with which part to go on.
func (p *pool) rows(shard int, shot *status.Snapshot) int {
	for n := 0; shard < table.Shards && n < rowsATurn; shard++ {
		p.table.Each(shard, func(e *table.Entry) {
			if w := p.monitors[e]; w != nil {
				shot.Targets = append(shot.Targets, w.row())
				n++
			}
		})
	}
	return shard
}

// row is a target as the status shows it.
func (w *monitor) row() status.Target {
	v := w.machine.Verdict(0)
	t := status.Target{
		Address: w.entry.Target.Addr, Check: w.check.Name, Pace: w.check.PaceText(), Name: w.owner,
		State: v.State.String(), Since: v.Since, Reason: v.Reason,
		Streak: w.machine.Streak(), Needed: w.check.pace.Fall, Probing: w.position == probing, Held: w.held != nil && w.held.conn != nil,
	}
	if v.State == verdict.Down {
		t.Needed = w.check.pace.Rise
	}
	if w.started != 0 {
		t.LastProbe = w.started.Time()
	}
	if w.position >= 0 {
		t.NextProbe = w.due.Time()
	}
	if f := w.group.forced; f != nil {
		t.Forced = f.For(t.Address.Addr()).String()
	}
	if w.history != nil {
		t.Probes = *w.history
	}
	return t
}

// PaceText is the check's pace in words. It stands in its identity behind the name.
func (c *CheckSpec) PaceText() string { return c.identity.String()[len(c.Name)+1:] }

// totals adds all but the targets to a snapshot.
func (p *pool) totals(shot *status.Snapshot) {
	s := &shot.Summary
	s.Running, s.Full, s.IsolatedSince = true, p.full.Load(), p.isolation.since
	s.InFlight, s.Held = p.schedule.inFlight[healthy]+p.schedule.inFlight[failing], p.prober.held
	s.Forced = status.Forced(p.forced.Totals())
	for _, g := range p.generations {
		if g.stage != confirmed {
			continue
		}
		s.Stanzas = nil // of an earlier one, which is about to leave
		for _, a := range g.groups {
			s.Stanzas = append(s.Stanzas, status.Stanza{At: a.At, Zones: a.Zones, Targets: a.targets, MaxTargets: a.Max, Full: a.full.Load(), DryRun: a.DryRun})
		}
	}
	for _, c := range p.checks {
		shot.Checks = append(shot.Checks, status.Check{
			Check: c.Name, Pace: c.PaceText(), Interval: c.pace.Interval.Seconds(), Fast: c.pace.Fast.Seconds(), Timeout: c.pace.Timeout.Seconds(),
			Rise: c.pace.Rise, Fall: c.pace.Fall, Hold: c.hold,
		})
	}
	shot.Changes, shot.Changed = slices.Clone(p.changes), p.changed
}

// recordChange keeps a change of a target's state for the status.
func (p *pool) recordChange(w *monitor, before verdict.State, v verdict.Verdict, now time.Time) {
	p.changed++
	if !p.recording {
		return
	}
	if len(p.changes) == keptChanges {
		p.changes = slices.Delete(p.changes, 0, keptChanges/2)
	}
	p.changes = append(p.changes, status.Change{
		Number: p.changed, At: clock.Steady(now), Address: w.entry.Target.Addr, Check: w.check.Name, Name: w.owner,
		From: before.String(), To: v.State.String(), Reason: v.Reason,
	})
}

// names lists the names that were seen, and those that targets were learned by.
func (s *sightings) names(targets []status.Target) []status.Name {
	found := make(map[string]int)
	var names []status.Name
	at := func(name string) *status.Name {
		i, ok := found[name]
		if !ok {
			i = len(names)
			found[name] = i
			names = append(names, status.Name{Name: name, Answers: []status.Last{}})
		}
		return &names[i]
	}
	for i := range targets {
		at(targets[i].Name)
	}
	if s == nil {
		return names
	}
	for i := range s {
		if x := s[i].Load(); x != nil {
			n, r := at(x.name), x.report()
			n.Answers = append(n.Answers, status.Last{Type: dns.TypeToString[x.qtype], Outcome: r.Outcome.String(), Kept: r.Kept, Total: r.Total})
		}
	}
	for i := range names {
		slices.SortFunc(names[i].Answers, func(a, b status.Last) int { return compareTypes(a.Type, b.Type) })
	}
	return names
}

// compareTypes orders types as the judged ones are listed.
func compareTypes(a, b string) int {
	order := answer.Judged()
	return slices.Index(order, dns.StringToType[a]) - slices.Index(order, dns.StringToType[b])
}
