package multivalue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/force"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"
	"github.com/coredns-multivalue/multivalue/plugin/pool"
	"github.com/coredns-multivalue/multivalue/plugin/state"
)

const (
	// saveEvery is how often the verdicts are saved, if there were results since the last time.
	saveEvery = time.Minute
	// stateReadWait bounds how long a start waits for the file. stateStopWait bounds how long a stop waits until it is saved,
	// from the beginning of the stop: what the pool does not need for its probes, and what is left for followers of clusters.
	stateReadWait = 2 * time.Second
	stateStopWait = 1400 * time.Millisecond
)

// stateFile keeps the verdicts over a restart of the process, in the one file that Corefiles name.
//
// It is read once, when the process starts, and saved by a goroutine while a Corefile that names it runs. A reload that names
// the same file keeps the goroutine, so that reloads in quick succession do not keep it from saving.
//
// Its fields are guarded by process.mu, except for what is said to belong to the goroutine.
type stateFile struct {
	read   chan map[state.Key]state.Record // what was in it; nil before it is read
	taken  bool                            // the pool has that
	path   string                          // where it is saved; empty while it is not
	stop   context.CancelFunc
	ended  chan struct{}
	last   chan struct{} // closed when the last save, that of a stop, has ended; nil if there is none
	lastBy time.Time     // when it has to have ended

	stopping time.Time   // when the stop began
	settled  uint64      // results when it was last saved; the goroutine's
	failed   state.Fault // why the last save failed
	unread   state.Fault // why nothing was read at the start, until it is saved
}

// nameState notes which file a stanza names. There is one for the process, so two stanzas cannot name different ones.
func (g *generation) nameState(root, path, at string) error {
	path = force.Path(root, path)
	if g.state != "" && g.state != path {
		return fmt.Errorf("%s - Error during parsing: state %s: the stanza at %s names %s: there is one file for the process, so name the same one", at, path, g.stateAt, g.state)
	}
	if g.state == "" {
		g.state, g.stateAt = path, at
		g.process.readState(path)
	}
	return nil
}

// readState begins to read the file, once in the life of the process.
func (p *process) readState(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.read != nil {
		return // a reload: what this process believes is newer
	}
	p.state.read = make(chan map[state.Key]state.Record, 1)
	go func(read chan<- map[state.Key]state.Record) {
		var records map[state.Key]state.Record
		defer func() { read <- records }()
		defer rescue.Log("reading " + path)
		var err error
		if records, err = state.Read(path, time.Now()); err != nil {
			p.state.unread.Set(err.Error())
			log.Error(err)
		} else if len(records) > 0 {
			log.Infof("state: %s has %d verdicts that are younger than %s", path, len(records), state.MaxAge)
		}
	}(p.state.read)
}

// takeState gives the pool what was in the file, before it learns anything. It waits for the file, but not for long: a start
// without it is better than none. The caller holds mu.
func (p *process) takeState() {
	if p.state.read == nil || p.state.taken {
		return
	}
	p.state.taken = true
	select {
	case records := <-p.state.read:
		p.pool.Restore(records)
	case <-time.After(stateReadWait):
		log.Errorf("state: reading takes longer than %s: starting without it", stateReadWait)
	}
}

// keepState saves the verdicts from now on where a generation wants that, or nowhere. The caller holds mu.
func (p *process) keepState(path string) {
	s := &p.state
	if path == s.path {
		return
	}
	if s.path != "" {
		s.stop()
	}
	if s.path = path; path == "" {
		s.failed.Set("") // what is not kept does not fail
		return
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	before, ended := s.ended, make(chan struct{})
	s.ended = ended
	go func() {
		defer close(ended)
		// The goroutine before may still be saving, and there must never be two at once.
		if before != nil && !rescue.Closed(ctx, before) {
			return
		}
		p.saveAgainAndAgain(ctx, path)
	}()
}

// saveAgainAndAgain saves once a minute, until the context ends. What changed in the last minute is lost if the process is
// killed.
func (p *process) saveAgainAndAgain(ctx context.Context, path string) {
	ticker := time.NewTicker(saveEvery)
	defer ticker.Stop()
	p.checkState(path)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		// Without a result since the last time, the file would be the same.
		var settled uint64
		if p.pool.Do(ctx, func(v pool.View) { settled = v.Settled() }) != nil || settled == p.state.settled {
			continue
		}
		ctx, cancel := context.WithCancelCause(ctx)
		if p.save(ctx, path, p.records(ctx, cancel)) {
			p.state.settled = settled
		}
		cancel(nil)
	}
}

// checkState logs at once if a new file cannot be saved, and not only after a minute: the path may be a mistake.
func (p *process) checkState(path string) {
	defer rescue.Log("checking " + path)
	if err := state.Check(path); err != nil && p.state.failed.Set(err.Error()) {
		log.Error(err)
	}
}

// records goes through all verdicts, in slices, while the pool's loop does other things between them. If it cannot reach the
// end it cancels, because half of them must not replace all of them.
func (p *process) records(ctx context.Context, cancel context.CancelCauseFunc) iter.Seq2[state.Key, state.Record] {
	type entry struct {
		key    state.Key
		record state.Record
	}
	return func(yield func(state.Key, state.Record) bool) {
		var slice []entry
		for shard, more := 0, true; more; {
			slice = slice[:0]
			err := p.pool.Do(ctx, func(v pool.View) {
				shard, more = v.Records(shard, func(k state.Key, r state.Record) { slice = append(slice, entry{k, r}) })
			})
			if err != nil {
				cancel(err)
				return
			}
			for _, e := range slice {
				if !yield(e.key, e.record) {
					return
				}
			}
		}
		p.pool.Earlier(yield) // which would be lost if no query comes for it between two restarts
	}
}

// save replaces the file, and reports whether it could. It logs when that begins to fail, and when it works again.
func (p *process) save(ctx context.Context, path string, records iter.Seq2[state.Key, state.Record]) (saved bool) {
	defer rescue.Log("saving " + path)
	err := state.Save(ctx, path, records)
	switch {
	case errors.Is(err, context.Canceled):
		return false
	case err != nil:
		metrics.State.Failures.Inc()
		if p.state.failed.Set(err.Error()) {
			log.Error(err)
		}
		return false
	case p.state.failed.Set(""):
		log.Infof("state: %s is saved again", path)
	}
	p.state.unread.Set("")
	metrics.State.Saved.SetToCurrentTime()
	return true
}

// lastState saves once more when the pool has stopped, unless a save is under way that does not end: then the file stays as it
// is. The pool calls it, and mu is held. What it begins, awaitState waits for.
func (p *process) lastState(v pool.View) {
	s := &p.state
	if s.path == "" {
		return
	}
	// The goroutine that saves is told to end, and waited for before the last save: two at once would both give up.
	path, ended := s.path, s.ended
	p.keepState("")
	s.last, s.lastBy = make(chan struct{}), s.stopping.Add(stateStopWait)
	records := make(map[state.Key]state.Record, v.Targets())
	p.pool.Earlier(func(k state.Key, r state.Record) bool { records[k] = r; return true })
	for shard, more := 0, true; more; {
		shard, more = v.Records(shard, func(k state.Key, r state.Record) { records[k] = r })
	}
	go func(last chan<- struct{}, by time.Time) {
		defer close(last)
		ctx, cancel := context.WithDeadline(context.Background(), by)
		defer cancel()
		if rescue.Closed(ctx, ended) {
			p.save(ctx, path, maps.All(records))
		}
	}(s.last, s.lastBy)
}

// awaitState waits until the last save has ended, but not for one that hangs. The caller holds mu.
func (p *process) awaitState() {
	if p.state.last == nil {
		return
	}
	ctx, cancel := context.WithDeadline(context.Background(), p.state.lastBy)
	defer cancel()
	if !rescue.Closed(ctx, p.state.last) {
		log.Warningf("state: the file could not be saved before the end of the stop, so it stays as it was")
	}
	p.state.last = nil
}
