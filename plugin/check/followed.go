package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// settleTime is how long a file must be unchanged before its cached content is trusted, and how long
// content that is refused is not read again. Timestamps of some file systems have a resolution of
// up to two seconds, so two versions may have the same one.
const settleTime = 2 * time.Second

// A followed is what some files say together. They are looked at before each probe, and read again
// when one of them has changed, so that what they hold can be rotated without a reload.
type followed[T any] struct {
	paths  []string
	load   func() (T, error)          // reads all of the files; its errors never quote their content
	seen   func(T, error)             // is told what each look has found, if it is not nil
	cached atomic.Pointer[version[T]] // nil before the first look

	mu      sync.Mutex
	looking *look[T] // the look at the files that is under way; nil if none is
}

// A look is one look at the files. All probes that come while it is under way wait for it, so that
// no more than one goroutine hangs if the file system does not answer.
type look[T any] struct {
	began time.Time
	done  chan struct{} // closed when the rest is known
	value T
	err   error
}

// A version is what the files said at one time.
type version[T any] struct {
	files     []fs.FileInfo // tell the version
	value     T
	err       error // why it cannot be used
	read      time.Time
	unsettled bool // a file was younger than settleTime when it was read
}

// value returns the current value, or an error if ctx ends before it is known: a file may be on a
// server that does not answer.
func (f *followed[T]) value(ctx context.Context) (T, error) {
	l := f.join()
	select {
	case <-l.done:
		return l.value, l.err
	case <-ctx.Done():
		var none T
		return none, f.stuck()
	}
}

// stuck is the error if the files cannot be looked at.
func (f *followed[T]) stuck() error {
	return fmt.Errorf("%s: its file system does not answer", quote(f.paths[0]))
}

// join returns the look that is under way, and begins one if none is.
func (f *followed[T]) join() *look[T] {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.looking == nil {
		f.looking = &look[T]{began: time.Now(), done: make(chan struct{})}
		go f.complete(f.looking)
	}
	return f.looking
}

// hangs reports whether a look has been under way for that long.
func (f *followed[T]) hangs(long time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.looking != nil && time.Since(f.looking.began) >= long
}

// complete looks at the files, in a goroutine of its own.
func (f *followed[T]) complete(l *look[T]) {
	defer func() {
		if r := recover(); r != nil { // probes wait, and the server must not end
			l.err = fmt.Errorf("reading it panicked: %v", r)
		}
		if f.seen != nil { // before the next look can begin
			f.seen(l.value, l.err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.looking = nil
		close(l.done)
	}()
	l.value, l.err = f.current()
}

// current returns the current value. If no file has changed, that costs one stat call for each.
func (f *followed[T]) current() (value T, err error) {
	files, young := make([]fs.FileInfo, len(f.paths)), false
	for i, path := range f.paths {
		if files[i], err = os.Stat(path); err != nil {
			return value, fmt.Errorf("%s: %w", quote(path), errors.Unwrap(err))
		}
		young = young || time.Since(files[i].ModTime()) < settleTime || time.Since(changeTime(files[i])) < settleTime
	}
	last := f.cached.Load()
	if last != nil && slices.EqualFunc(last.files, files, sameFile) && !last.stale() {
		return last.value, last.err
	}
	value, err = f.load()
	f.cached.Store(&version[T]{files, value, err, time.Now(), young})
	return value, err
}

// stale reports whether a version has to be read again although no file has changed as far as that
// can be seen.
func (v *version[T]) stale() bool {
	if v.err != nil { // it may have been a fault of reading, which no change announces
		return time.Since(v.read) >= settleTime
	}
	return v.unsettled
}

// sameFile reports whether a file is the version that was read. Size and modification time alone
// would miss a rewrite with the same length and a restored time, so the change time is compared,
// too.
func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && changeTime(a).Equal(changeTime(b))
}
