package follow

import (
	"context"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/internal/watchfile"
)

// Watcher knows the files of one kind that running Corefiles name. There is one in the process. Its zero value knows none.
//
// Its lock is held for a moment only, and never while waiting for a file, so that the pool's loop may begin to watch.
type Watcher[T any] struct {
	// Read reads a file: watchfile.Read if it is nil. It is for tests of a file system that does not answer.
	Read func(path string, limit int) ([]byte, fs.FileInfo, error)
	// OnChange is called when a file has another content in force than before, or some of it has ended; not when it is read for
	// the first time. It must not wait. It is set before files are opened; nil calls nothing.
	OnChange func(path, what string)

	mu      sync.Mutex
	watched map[string]*File[T] // by path, of the Corefile that was confirmed last
}

// Files are the files that one Corefile names. They are opened while it is read, watched from when its servers run, and
// released when they stop. A Corefile whose start fails never watches its files, and so leaves nothing behind.
type Files[T any] struct {
	watcher *Watcher[T]
	kind    *Kind[T]
	files   map[string]*File[T]
}

// Files returns an empty set, for a new Corefile.
func (w *Watcher[T]) Files(kind *Kind[T]) *Files[T] {
	return &Files[T]{watcher: w, kind: kind, files: make(map[string]*File[T])}
}

// All calls a function with what each watched file has in force, by path, and why its latest content was refused: with file and line as
// in the log, and empty if it was not.
func (w *Watcher[T]) All(each func(v *T, fault string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(w.watched)) {
		file := w.watched[path]
		each(file.Value(), file.fault())
	}
}

// Reread has a watched file read at once, although it may look unchanged or half written, and waits until what it says is in force.
// It gives up when the context ends.
func (w *Watcher[T]) Reread(ctx context.Context, path string) {
	w.mu.Lock()
	file := w.watched[path]
	w.mu.Unlock()
	if file == nil {
		return
	}
	read := make(chan struct{})
	select {
	case file.wake <- read:
	case <-file.ended:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-read:
	case <-ctx.Done():
	}
}

// Open begins to read the file at a path, unless a stanza of the same Corefile has it open already. Until it is read,
// what is in force is what the running Corefile has of the same file.
func (f *Files[T]) Open(path string) *File[T] {
	f.watcher.mu.Lock()
	defer f.watcher.mu.Unlock()
	if f.files[path] == nil {
		read := f.watcher.Read
		if read == nil {
			read = watchfile.Read
		}
		f.files[path] = openFile(f.kind, path, read, f.watcher.watched[path], f.watcher.OnChange)
	}
	return f.files[path]
}

// AwaitRead waits until the files have been read for the first time, but no longer than two seconds.
func (f *Files[T]) AwaitRead() {
	ctx, cancel := context.WithTimeout(context.Background(), readWait)
	defer cancel()
	for path, file := range f.files {
		if !rescue.Closed(ctx, file.first) {
			log.Errorf("%s: reading %s takes longer than %s; until it is read, what was in force before stays in force", f.kind.Name, path, readWait)
		}
	}
}

// Watch begins to watch the files, and counts them in the metrics in place of the same ones of an earlier Corefile.
func (f *Files[T]) Watch() {
	f.watcher.mu.Lock()
	defer f.watcher.mu.Unlock()
	if f.watcher.watched == nil {
		f.watcher.watched = make(map[string]*File[T])
	}
	for path, file := range f.files {
		if before := f.watcher.watched[path]; before != nil {
			before.showInMetrics(false)
		}
		f.watcher.watched[path] = file
		file.showInMetrics(true)
		var ctx context.Context
		ctx, file.stop = context.WithCancel(context.Background())
		file.ended, file.wake = make(chan struct{}), make(chan chan struct{})
		go file.watch(ctx)
	}
}

// Release stops watching. It does not wait: AwaitReleased does.
func (f *Files[T]) Release() {
	f.watcher.mu.Lock()
	defer f.watcher.mu.Unlock()
	for path, file := range f.files {
		if file.stop == nil {
			continue // it was never watched
		}
		file.stop()
		file.showInMetrics(false)
		if f.watcher.watched[path] == file {
			delete(f.watcher.watched, path)
		}
	}
}

// AwaitReleased waits until no file is watched any more, but not for a reading that hangs. Release comes first.
func (f *Files[T]) AwaitReleased() {
	ctx, cancel := context.WithTimeout(context.Background(), StopWait)
	defer cancel()
	for _, file := range f.files {
		if file.ended != nil {
			rescue.Closed(ctx, file.ended)
		}
	}
}
