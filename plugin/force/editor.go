package force

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/watchfile"
	"github.com/coredns-multivalue/multivalue/plugin/acting"
)

// rereadWait bounds the wait until a change is in force. Its file has just been read, so its file system answers.
const rereadWait = time.Second

// Editor changes a file for people who use the page. All Corefiles that name the file share one, so that changes come one after
// another, also over a reload.
type Editor struct {
	path  string
	watch *Watcher
	valid string        // the ETag of the last content that was found valid
	turn  chan struct{} // held while the file is read or changed: a file system that does not answer keeps one goroutine, and others give up
}

// Editor returns the editor of the file at a path.
func (w *Watcher) Editor(path string) *Editor {
	w.editors.mu.Lock()
	defer w.editors.mu.Unlock()
	if w.editors.byPath == nil {
		w.editors.byPath = make(map[string]*Editor)
	}
	if w.editors.byPath[path] == nil {
		w.editors.byPath[path] = &Editor{path: path, watch: w, turn: make(chan struct{}, 1)}
	}
	return w.editors.byPath[path]
}

// editors are those of a Watcher.
type editors struct {
	mu     sync.Mutex
	byPath map[string]*Editor
}

// Show returns what the file has.
func (e *Editor) Show(ctx context.Context) (*acting.File, error) {
	return e.inTurn(ctx, func(func() error) (*acting.File, error) {
		f, err := e.open()
		if err != nil {
			return nil, err
		}
		shown := e.shown(f, f.content)
		if err := e.judge(f); err != nil { // its lines are not in force, and it cannot be changed
			shown.Writable, shown.ReadOnly, shown.Lines, shown.MoreLines = false, err.Error(), []acting.Line{}, 0
		}
		return shown, nil
	})
}

// Change makes a change of the content that has an ETag, and puts it into force. An error of the type ForceRefusal says why it cannot
// be made; then the file is as it was.
func (e *Editor) Change(ctx context.Context, etag string, c acting.Change) (*acting.File, error) {
	x, err := parseChange(c, time.Now())
	if err != nil {
		return nil, &acting.Refusal{Kind: acting.Invalid, Err: err}
	}
	return e.inTurn(ctx, func(begin func() error) (*acting.File, error) { return e.changeNow(ctx, etag, x, begin) })
}

// changeNow is Change, when it is its turn. It asks begin before anything is changed for others.
func (e *Editor) changeNow(ctx context.Context, etag string, x change, begin func() error) (*acting.File, error) {
	// The ETag is compared again when it is the turn of the change: of two clients that have seen the same content, one is first.
	f, err := e.open()
	switch {
	case err != nil:
		return nil, err
	case f.etag() != etag:
		return nil, &acting.Refusal{Kind: acting.Stale, Err: fmt.Errorf("%s has changed meanwhile: look at it again, then repeat the change", e.path)}
	}
	content := edit(f.content, x)
	if err := e.validate(content); err != nil {
		return nil, err
	}
	shown := e.shown(f, content)
	if string(content) != string(f.content) {
		if err := f.replace(ctx, content, begin); err != nil {
			return nil, err
		}
		e.reread(context.WithoutCancel(ctx)) // it is made, so it is put into force
		shown.ETag = etagOf(content)         // not what is there now: a foreign change since then is one that the client has not seen
	}
	now := time.Now()
	shown.Notes = fewNotes(append(unnamed(linesOf(f.content, now), x), notesOf(linesOf(content, now), x)...))
	shown.Made = x.made()
	return shown, nil
}

// reread puts what the file has into force, and waits for that for a moment: the watcher would see the change within a second.
func (e *Editor) reread(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, rereadWait)
	defer cancel()
	e.watch.files.Reread(ctx, e.path)
}

// inTurn calls a function when no other one reads or changes the file. If the context ends before it has returned, it goes on alone,
// and only then is it the turn of another. But what has begun is waited for: an error means that nothing was changed.
func (e *Editor) inTurn(ctx context.Context, do func(begin func() error) (*acting.File, error)) (*acting.File, error) {
	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, e.gaveUp(ctx)
	}
	// Of the two that want to settle it, do by begin and the end of the context, the first one does.
	var settled atomic.Bool
	begin := func() error {
		if ctx.Err() != nil || !settled.CompareAndSwap(false, true) {
			return e.gaveUp(ctx)
		}
		return nil
	}
	// A file system that does not answer cannot be interrupted. So what waits for it is a goroutine of its own, and the client is told.
	type result struct {
		file *acting.File
		err  error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-e.turn }()
		defer func() {
			if r := recover(); r != nil { // the server must not end
				done <- result{nil, fmt.Errorf("changing %s panicked: %v", e.path, r)}
			}
		}()
		file, err := do(begin)
		done <- result{file, err}
	}()
	select {
	case r := <-done:
		return r.file, r.err
	case <-ctx.Done():
		if settled.CompareAndSwap(false, true) {
			return nil, e.gaveUp(ctx)
		}
	}
	r := <-done // a rename, and what is bounded
	return r.file, r.err
}

// gaveUp says why nothing was done before a context ended: the client went away, or its time was over.
func (e *Editor) gaveUp(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("the client ended the request before %s was read or written: try again", e.path)
	}
	return fmt.Errorf("%s cannot be read or written now, because its file system does not answer, or another process keeps the lock of its directory: try again later", e.path)
}

// validate refuses content that the reader of the file would refuse.
func (e *Editor) validate(content []byte) error {
	if len(content) > maxSize {
		return refuseFile("%s would be larger than %d bytes: %s", e.path, maxSize, kind.TooLarge)
	}
	if _, err := Parse(content); err != nil {
		return refuseFile("%s:%w: the file is broken, so its last valid content is in force: mend it first", e.path, err)
	}
	return nil
}

// judge is validate of a file that may have been found valid before: any client may ask for it, and reading all of it takes long. What is
// valid stays so, since time only ends lines. It is called in turn.
func (e *Editor) judge(f *original) error {
	tag := f.etag()
	if e.valid == tag {
		return nil
	}
	err := e.validate(f.content)
	if err == nil {
		e.valid = tag
	}
	return err
}

// shown is what a page has of the file.
func (e *Editor) shown(f *original, content []byte) *acting.File {
	shown := &acting.File{File: e.path, Admin: true, Writable: true, ETag: f.etag()}
	shown.Lines, shown.MoreLines = firstLines(content, time.Now())
	if err := f.writable(); err != nil {
		shown.Writable, shown.ReadOnly = false, err.Error()
	}
	return shown
}

// refuseFile is an error about a file that cannot be changed.
func refuseFile(format string, args ...any) error {
	return &acting.Refusal{Kind: acting.Unchangeable, Err: fmt.Errorf(format, args...)}
}

// original is the file as it is before a change.
type original struct {
	path    string // as the Corefile has it
	real    string // where it is, behind symbolic links
	content []byte
	info    fs.FileInfo // nil if it does not exist
}

// open reads the file.
func (e *Editor) open() (*original, error) {
	f := &original{path: e.path, real: e.path}
	// A link stays a link: what it leads to is read and replaced.
	real, err := filepath.EvalSymlinks(e.path)
	if err == nil {
		f.real = real
		f.content, f.info, err = watchfile.Read(real, maxSize)
	}
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, fs.ErrNotExist): // it forces nothing, and a change makes it, unless a link leads nowhere
		f.content, f.info = nil, nil
		return f, nil
	case errors.Is(err, watchfile.ErrTooLarge):
		return nil, refuseFile("%s is larger than %d bytes: %s", e.path, maxSize, kind.TooLarge)
	}
	return nil, refuseFile("%s cannot be read: %w", e.path, plain(err))
}

// etag is a strong entity tag of the content.
func (f *original) etag() string {
	if f.info == nil {
		return `"none"`
	}
	return etagOf(f.content)
}

// etagOf is the tag of content: the same in all replicas, and after a restart. Twelve bytes tell two contents apart, of which no one
// gains by making two with the same tag.
func etagOf(content []byte) string {
	sum := sha256.Sum256(content)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}
