package force

import (
	"context"
	"sync"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/internal/watchfile"
)

// Watcher knows the files that running Corefiles name. There is one in the process. Its zero value knows none.
//
// Its lock is held for a moment only, and never while waiting for a file, so that the pool's loop may begin to watch.
type Watcher struct {
	mu      sync.Mutex
	watched map[string]*File // by path, of the Corefile that was confirmed last
	read    readFunc         // nil for watchfile.Read; another one in tests of a file system that does not answer
}

// Files are the files that one Corefile names. They are opened while it is read, watched from when its servers run, and
// released when they stop. A Corefile whose start fails never watches its files, and so leaves nothing behind.
type Files struct {
	watcher *Watcher
	files   map[string]*File
}

// Files returns an empty set, for a new Corefile.
func (w *Watcher) Files() *Files { return &Files{watcher: w, files: make(map[string]*File)} }

// Open begins to read the file at a path, unless a stanza of the same Corefile has it open already. Until it is read,
// what is in force is what the running Corefile has of the same file.
func (f *Files) Open(path string) *File {
	f.watcher.mu.Lock()
	defer f.watcher.mu.Unlock()
	if f.files[path] == nil {
		read := f.watcher.read
		if read == nil {
			read = watchfile.Read
		}
		f.files[path] = openFile(path, read, f.watcher.watched[path])
	}
	return f.files[path]
}

// AwaitRead waits until the files have been read for the first time, but no longer than two seconds.
func (f *Files) AwaitRead() {
	ctx, cancel := context.WithTimeout(context.Background(), readWait)
	defer cancel()
	for path, file := range f.files {
		if !rescue.Closed(ctx, file.first) {
			log.Errorf("force: reading %s takes longer than %s; until it is read, what was in force before stays in force", path, readWait)
		}
	}
}

// Watch begins to watch the files, and counts them in the metrics in place of the same ones of an earlier Corefile.
func (f *Files) Watch() {
	f.watcher.mu.Lock()
	defer f.watcher.mu.Unlock()
	if f.watcher.watched == nil {
		f.watcher.watched = make(map[string]*File)
	}
	for path, file := range f.files {
		if before := f.watcher.watched[path]; before != nil {
			before.showInMetrics(false)
		}
		f.watcher.watched[path] = file
		file.showInMetrics(true)
		var ctx context.Context
		ctx, file.stop = context.WithCancel(context.Background())
		file.ended = make(chan struct{})
		go file.watch(ctx)
	}
}

// Release stops watching. It does not wait: AwaitReleased does.
func (f *Files) Release() {
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
func (f *Files) AwaitReleased() {
	ctx, cancel := context.WithTimeout(context.Background(), StopWait)
	defer cancel()
	for _, file := range f.files {
		if file.ended != nil {
			rescue.Closed(ctx, file.ended)
		}
	}
}

// Totals are what all watched files have in force.
type Totals struct {
	Up, Down, Drain int // networks and addresses
	Broken          int // files whose latest content was refused
}

// Totals counts what is in force, for the status page.
func (w *Watcher) Totals() (t Totals) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, file := range w.watched {
		file.addTo(&t)
	}
	return t
}

func (f *File) addTo(t *Totals) {
	f.mu.Lock()
	defer f.mu.Unlock()
	count := f.states.Load().count
	t.Up, t.Down, t.Drain = t.Up+count[Up], t.Down+count[Down], t.Drain+count[Drain]
	if f.refused != "" {
		t.Broken++
	}
}
