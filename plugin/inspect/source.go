// Package inspect answers the status page: snapshots of what the pool believes, and explanations of how an answer comes
// about. It changes nothing, and nothing is watched because of it.
//
// Source is the main type, a web.Source. The root makes one for the process; package web calls it. It reads the pool a few
// hundred targets at a time, so that the loop keeps probing however many clients look.
package inspect

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/force"
	"github.com/coredns-multivalue/multivalue/plugin/history"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/rules"
	"github.com/coredns-multivalue/multivalue/plugin/seen"
	"github.com/coredns-multivalue/multivalue/plugin/state"
	"github.com/coredns-multivalue/multivalue/plugin/status"
	"github.com/coredns-multivalue/multivalue/plugin/topology"

	"github.com/miekg/dns"
)

const (
	// minAge is how old a snapshot may be at least; ageShare says how much of the time may go into taking them: a tenth.
	minAge   = 500 * time.Millisecond
	ageShare = 10
)

// Source takes snapshots and explains answers.
type Source struct {
	// These are set before the source is used.
	Version string                   // of this program
	Sites   *topology.Watcher        // for the totals; may be nil
	Ready   func(now time.Time) bool // whether the plugin is ready; may be nil
	State   *state.Fault             // why the state file could not be saved; may be nil
	Unread  *state.Fault             // why it could not be read at the start; may be nil

	pool   *pool.Pool            // which is read through Do alone
	forced *force.Watcher        // for the totals
	blocks func() []*rules.Block // of the running Corefile; nil before the first one runs
	seen   func() *seen.Names    // nil while nothing is noted

	turn     chan struct{} // held while a snapshot is taken
	last     *status.Snapshot
	expires  time.Time   // when the last one is too old
	outdated atomic.Bool // the last one is of an earlier Corefile

	mu      sync.Mutex // held to look for an answer of the plugins below, and to keep or drop one
	answers map[blockQuestion]*cachedAnswer
	kept    []*cachedAnswer // those that are complete, the oldest first
	records int             // in them
	timer   *time.Timer     // drops old ones; nil before it was needed
	slots   chan struct{}   // held to ask the plugins below
}

// New returns a source for the pool and what belongs to it.
func New(p *pool.Pool, forced *force.Watcher, blocks func() []*rules.Block, seen func() *seen.Names) *Source {
	forced.OnChange(func(path, what string) { p.NoteEvent(history.Forced, "the force file "+filepath.Base(path)+" "+what) })
	return &Source{
		pool: p, forced: forced, blocks: blocks, seen: seen,
		turn: make(chan struct{}, 1), answers: make(map[blockQuestion]*cachedAnswer), slots: make(chan struct{}, maxAsking),
	}
}

// Snapshot is the state of a moment ago. All callers get the same one until it is half a second old.
func (v *Source) Snapshot(ctx context.Context) (*status.Snapshot, error) {
	select {
	case v.turn <- struct{}{}:
		defer func() { <-v.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	began := time.Now()
	if outdated := v.outdated.Swap(false); v.last != nil && !outdated && began.Before(v.expires) {
		return v.last, nil
	}
	host, _ := os.Hostname() // without a name, the process is known by its start alone
	shot := &status.Snapshot{Taken: clock.Steady(began), Summary: status.Summary{Host: host, Version: v.Version, Started: clock.Started}}
	if v.pool.Running() { // else no Corefile runs, and the snapshot is empty
		if err := v.fill(ctx, shot); err != nil {
			return nil, err
		}
	}
	// Taking it may be slow, on a busy machine with many targets: then it is taken less often.
	v.last, v.expires = shot, time.Now().Add(max(minAge, ageShare*time.Since(began)))
	return shot, nil
}

// Outdate has the next caller take a new snapshot, because another Corefile runs now.
func (v *Source) Outdate() { v.outdated.Store(true) }

// Forget drops what was shown, with the blocks in it. A snapshot that is being taken cannot be dropped, so the next one
// replaces it.
func (v *Source) Forget() {
	v.outdated.Store(true)
	v.dropAll()
	select {
	case v.turn <- struct{}{}:
		v.last = nil
		<-v.turn
	default:
	}
}

// fill takes a snapshot, a part of the targets at a time, so that the loop can probe in between. A target that comes or goes
// meanwhile may be in it or not.
func (v *Source) fill(ctx context.Context, shot *status.Snapshot) error {
	count := 0
	if err := v.pool.Do(ctx, func(p pool.View) { count = p.Targets() }); err != nil {
		return err
	}
	shot.Targets = make([]status.Target, 0, count+count/16+pool.RowsAtOnce) // here, because the loop has no time to grow it
	for shard, more := 0, true; more; {
		err := v.pool.Do(ctx, func(p pool.View) { shard, more = p.Rows(shard, shot) })
		if err != nil {
			return err
		}
	}
	if err := v.pool.Do(ctx, func(p pool.View) { p.Totals(shot) }); err != nil {
		return err
	}
	if err := v.pool.AddFleet(ctx, shot); err != nil {
		return err
	}
	for i := range shot.Members {
		if m := &shot.Members[i]; m.Self {
			m.Version = v.Version
		}
	}
	v.addProcess(&shot.Summary)
	countStates(shot)
	shot.Names = names(v.seen(), shot.Targets)
	shot.Summary.Names = len(shot.Names)
	shot.Sort() // links need the order
	v.link(shot)
	v.addStanzas(shot)
	return nil
}

// addProcess adds to a summary what is true of the whole process and not of its targets.
func (v *Source) addProcess(s *status.Summary) {
	t := v.forced.Totals()
	s.Forced = status.Forced{Up: t.Up, Down: t.Down, Drain: t.Drain, Broken: t.Broken, Errors: v.forced.Faults()}
	s.Ready = v.Ready == nil || v.Ready(time.Now())
	if v.Sites != nil {
		s.BrokenSites, s.SitesErrors = v.Sites.Totals().Broken, v.Sites.Faults()
	}
	if v.State != nil {
		s.StateError = v.State.Text()
	}
	if v.Unread != nil {
		s.StateUnread = v.Unread.Text()
	}
}

// addStanzas says of each check which stanzas name it, in the order of the Corefile. A check that annotations name has none.
func (v *Source) addStanzas(shot *status.Snapshot) {
	names := make(map[[2]string]bool) // pairs of a check and a stanza
	for _, b := range v.blocks() {
		for _, z := range b.Zones {
			if z.Stanza == nil {
				continue
			}
			for _, c := range z.Stanza.For("") {
				names[[2]string{c.Name + " " + c.PaceText(), z.Stanza.Group.At}] = true
			}
		}
	}
	for i := range shot.Checks {
		c := &shot.Checks[i]
		c.Stanzas = []string{} // which the JSON promises
		for _, s := range shot.Summary.Stanzas {
			if names[[2]string{c.Check + " " + c.Pace, s.At}] {
				c.Stanzas = append(c.Stanzas, s.At)
			}
		}
	}
}

// countStates counts the targets by state, in all and for each check.
func countStates(shot *status.Snapshot) {
	checks := make(map[string]*status.Check, len(shot.Checks))
	for i := range shot.Checks {
		c := &shot.Checks[i]
		checks[c.Check+" "+c.Pace] = c
	}
	for i := range shot.Targets {
		t := &shot.Targets[i]
		countState(&shot.Summary.Up, &shot.Summary.Down, &shot.Summary.Unknown, t.State)
		if t.Idle {
			shot.Summary.Idle++
		}
		if c := checks[t.Check+" "+t.Pace]; c != nil {
			countState(&c.Up, &c.Down, &c.Unknown, t.State)
		}
	}
}

// countState counts a state. One that is neither up nor down has no verdict yet.
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

// names lists the names that queries asked for, with their last answers, and those that targets were learned by. A name that
// is only watched or preloaded has no answers.
func names(s *seen.Names, targets []status.Target) []status.Name {
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
	s.Each(func(x *seen.Name) {
		n, r := at(x.Name), x.Report()
		last := status.Last{Type: dns.TypeToString[x.Type], Outcome: r.Outcome.String(), Checked: r.Checked, Health: healthOf(r).String(), Kept: r.Kept, Total: r.Total, DryRun: r.Enforced != r.Outcome}
		if last.DryRun { // whatever was decided, all went out
			last.Kept = last.Total
		}
		n.Answers = append(n.Answers, last)
	})
	for i := range names {
		slices.SortFunc(names[i].Answers, func(a, b status.Last) int { return compareTypes(a.Type, b.Type) })
	}
	return names
}

// compareTypes orders types as the judged ones are listed everywhere: A first.
func compareTypes(a, b string) int {
	order := answer.Judged()
	return slices.Index(order, dns.StringToType[a]) - slices.Index(order, dns.StringToType[b])
}
