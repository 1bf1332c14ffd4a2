package pool

import (
	"context"
	"fmt"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/clock"
	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/history"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"
)

// Here is what the pool records of time, while there is a status page: a line for each target, which is written when its state
// changes, and events. Without a page there is no book, and nothing below does anything.

const (
	// maxNotes is how many events from outside of the loop may wait for it. More are lost.
	maxNotes = 16
	// maxNamed is how many members that come or go at once are named.
	maxNamed = 3
	// maxMembers is how many members are looked at.
	maxMembers = 4096
)

// lineStates are the states of verdicts as a line has them.
var lineStates = [...]history.State{verdict.Unknown: history.Unknown, verdict.Unchecked: history.Unknown, verdict.Up: history.Up, verdict.Down: history.Down}

// note is an event from outside of the loop.
type note struct {
	kind history.Kind
	text string
}

// NoteEvent records that something happened that may explain what targets did next. It never waits: if the loop is busy, the event is
// lost.
func (p *Pool) NoteEvent(kind history.Kind, text string) {
	select {
	case p.notes <- note{kind, text}:
	default:
	}
}

// beginBook begins to record time, or ends that and drops all of it.
func (p *Pool) beginBook(on bool, now time.Time) {
	p.book = nil
	if on {
		p.book = history.NewBook(clock.At(now))
	}
	for _, m := range p.monitors {
		m.line = nil
		p.recordState(m, now)
	}
}

// recordState records the state that queries see of a target. It is called after each change of it.
func (p *Pool) recordState(m *monitor, now time.Time) {
	if p.book == nil {
		return
	}
	if m.line == nil {
		m.line = p.book.Open(lineStates[m.state()], clock.At(now))
		return
	}
	p.book.Enter(m.line, lineStates[m.state()], clock.At(now))
}

// endLine drops what was recorded of a target that is watched no longer.
func (p *Pool) endLine(m *monitor, now time.Time) {
	p.book.Close(m.line, clock.At(now))
	m.line = nil
}

// recordReload records that another Corefile runs from now on, if one did before.
func (p *Pool) recordReload(now time.Time) {
	if p.ran {
		p.book.NoteEvent(history.Reloaded, "the Corefile was reloaded", clock.At(now))
	}
	p.ran = true
}

// recordMembers records which members of the fleet have come or gone since the last call.
func (f *member) recordMembers(now time.Time) {
	book := f.pool.book
	if book == nil {
		f.seen = nil
		return
	}
	seen, first := make(map[string]string), f.seen == nil
	var changes []string
	for _, k := range f.roster.Known("", maxMembers) {
		if k.Self || !k.Present {
			continue
		}
		seen[k.Name] = "is not heard"
		if k.Fresh {
			seen[k.Name] = "is heard"
		}
		if f.seen[k.Name] != seen[k.Name] {
			changes = append(changes, shown(k.Name)+" "+seen[k.Name])
		}
	}
	for name := range f.seen {
		if seen[name] == "" {
			changes = append(changes, shown(name)+" has left")
		}
	}
	if f.seen = seen; first {
		return // they were there before this was recorded
	}
	if len(changes) > maxNamed {
		changes = []string{fmt.Sprintf("%s of the fleet came or went", text.Count(len(changes), "member"))}
	}
	for _, change := range changes {
		book.NoteEvent(history.Fleet, change, clock.At(now))
	}
}

// History reads the timelines of targets of a snapshot, by their handles, a part at a time, so that the loop can probe in between. One that is
// watched no longer has none.
func (p *Pool) History(ctx context.Context, targets []any) (r history.Reading, err error) {
	r.Lines = make([]*history.Line, len(targets))
	for first := 0; first < len(targets); first += RowsAtOnce {
		some := targets[first:min(len(targets), first+RowsAtOnce)]
		err := p.Do(ctx, func(View) {
			for i, x := range some {
				if m, ok := x.(*monitor); ok {
					r.Lines[first+i] = m.line.Copy()
				}
			}
		})
		if err != nil {
			return r, err
		}
	}
	err = p.Do(ctx, func(View) {
		now := clock.At(time.Now())
		p.book.Read(&r, now-now%clock.Instant(time.Second)) // so that within a second all readers get the same
	})
	return r, err
}
