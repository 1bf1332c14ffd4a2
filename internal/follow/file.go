package follow

import (
	"context"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"
)

// File is a file, as one Corefile has it. All stanzas of the Corefile that name it share it.
//
// What it last said is in force, also while it cannot be understood. It is read by a goroutine of its own, never by a query
// or the pool's loop.
type File[T any] struct {
	kind  *Kind[T]
	path  string
	read  readFunc                // how it is read
	tells func(path, what string) // see Watcher.OnChange; may be nil
	value atomic.Pointer[T]       // in force; never nil
	first chan struct{}           // closed when it has been read for the first time

	// These belong to the Watcher, with its lock held.
	stop  context.CancelFunc // nil before it is watched
	ended chan struct{}      // closed when it is watched no longer
	wake  chan chan struct{} // has the goroutine that watches read the file at once, and close what it received; nil before it is watched

	mu      sync.Mutex // held to publish, and to count or discount the file in the metrics; never by a query
	shown   bool
	stuck   chan struct{} // closed when the check that takes too long has ended; nil if none does
	passed  time.Time     // when the time was last looked at
	whole   *T            // what the file says, whatever the time; never nil
	content string        // identifies the text that whole was read from; empty if none was
	refused string        // the content that was refused last; empty if the last one was not
	why     string        // it was refused, with file and line as in the log

	// What follows belongs to the first reading, and then to the goroutine that watches; it alone writes content and refused.
	info fs.FileInfo // of what was read last; nil if it could not be read
	due  time.Time   // to read it again although it looks the same
}

// Value returns what is in force. It is for queries: it takes no lock and allocates nothing.
func (f *File[T]) Value() *T { return f.value.Load() }

// Path is where the file is.
func (f *File[T]) Path() string { return f.path }

// Static returns a file that is never read, with this in force. It is for tests of what asks a File.
func Static[T any](v *T) *File[T] {
	f := new(File[T])
	f.value.Store(v)
	return f
}

// readFunc reads a file, as watchfile.Read does.
type readFunc func(path string, limit int) ([]byte, fs.FileInfo, error)

// openFile begins to read a file. Until that is over, what is in force is what was before a reload, by the same file.
//
// If that one is stuck, the new one waits with it, and does not read: so however often the Corefile is reloaded meanwhile,
// no more goroutines hang.
func openFile[T any](kind *Kind[T], path string, read readFunc, before *File[T], tells func(path, what string)) *File[T] {
	f := &File[T]{kind: kind, path: path, read: read, tells: tells, whole: new(T)}
	f.value.Store(f.whole)
	if before != nil {
		if f.adopt(before); f.stuck != nil {
			f.first = f.stuck
			return f
		}
	}
	f.first = make(chan struct{})
	go func() {
		defer close(f.first)
		f.check()
	}()
	return f
}

// adopt takes over what another has in force, and what it waits for. It has not been seen by any other goroutine yet.
func (f *File[T]) adopt(before *File[T]) {
	before.mu.Lock()
	defer before.mu.Unlock()
	f.value.Store(before.value.Load())
	f.whole, f.content, f.stuck = before.whole, before.content, before.stuck
}

// watch checks the file again and again, until the context ends.
func (f *File[T]) watch(ctx context.Context) {
	defer close(f.ended)
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for first := f.first; first != nil; {
		select {
		case <-first:
			first = nil
		case <-ticker.C:
			f.passTime(time.Now())
		case <-ctx.Done():
			return
		}
	}
	f.setStuck(nil) // it may have waited with an earlier one
	for ctx.Err() == nil {
		f.check()
		f.passTime(time.Now())
		select {
		case <-ticker.C:
		case read := <-f.wake:
			f.due = time.Time{} // although it may have changed a moment ago
			f.check()
			close(read)
		case <-ctx.Done():
		}
	}
}

// stuckUntil returns a channel that is closed when the check that takes too long has ended, nil if none does.
func (f *File[T]) stuckUntil() chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stuck
}

// setStuck says that a check takes too long, unless it has ended meanwhile, which closes the channel. With nil, none does.
func (f *File[T]) setStuck(ended chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-ended:
		return
	default:
	}
	f.change(func() { f.stuck = ended })
}

// publish puts into force what counts now of a whole file.
func (f *File[T]) publish(whole, now *T, content string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change(func() {
		f.value.Store(now)
		f.whole, f.content, f.refused = whole, content, ""
	})
}

// tellChange says that something else is in force than before.
func (f *File[T]) tellChange(now *T) {
	if f.tells != nil {
		f.tells(f.path, f.kind.Say(now))
	}
}

// refuse notes content that cannot be put into force.
func (f *File[T]) refuse(content string, why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change(func() { f.refused, f.why = content, why.Error() })
}

// change changes what the metrics show of the file. The caller holds mu.
func (f *File[T]) change(edit func()) {
	if f.shown {
		f.addToMetrics(-1)
		defer f.addToMetrics(1)
	}
	edit()
}

// showInMetrics counts the file in the metrics, or no longer.
func (f *File[T]) showInMetrics(shown bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if shown != f.shown {
		f.shown = shown
		sign := 1.0
		if !shown {
			sign = -1
		}
		f.addToMetrics(sign)
	}
}

// addToMetrics adds what the file has to the metrics, times the sign.
func (f *File[T]) addToMetrics(sign float64) {
	if f.kind.Count != nil {
		f.kind.Count(f.value.Load(), sign)
	}
	if f.refused != "" {
		f.kind.Broken.Add(sign)
	}
	if f.stuck != nil {
		f.kind.Stuck.Add(sign)
	}
}

// fault is why its latest content was refused, with file and line; empty if it was not.
func (f *File[T]) fault() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refused == "" {
		return ""
	}
	return f.why
}
