package multivalue

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/prometheus/client_golang/prometheus"
)

// forced are the gauges of forced networks and addresses by state, resolved once.
var forced = [...]prometheus.Gauge{
	forceUp:    metrics.Forced.WithLabelValues("up"),
	forceDown:  metrics.Forced.WithLabelValues("down"),
	forceDrain: metrics.Forced.WithLabelValues("drain"),
}

const (
	// maxForceFile is the size of a file of forced states, at most: some hundred thousand addresses.
	maxForceFile = 4 << 20
	// forceTick is how often a file is looked at, forceReread how often it is read though it looks the same: a clock set
	// back, or two edits within one tick of it, hide a change.
	forceTick   = time.Second
	forceReread = 30 * time.Second
	// forceSettle is how long a file has to lie still before it is read anew: whoever writes it in place may have written
	// only a half so far.
	forceSettle = 100 * time.Millisecond
	// forceStart bounds the wait for the first reading, forceStop the one for the end of the last: a file may be on a
	// server that does not answer.
	forceStart = 2 * time.Second
	forceStop  = 500 * time.Millisecond
)

// forceFile is a file of forced states, as one generation has it. The stanzas of the generation that name it share it.
//
// What it last said is in force, also while it cannot be understood; a file that is not there says nothing. It is read by
// a goroutine of its own, never by a query or the pool's loop.
type forceFile struct {
	path   string
	orders atomic.Pointer[orders] // in force; never nil
	first  chan struct{}          // closed when it has been read for the first time

	// These belong to the pool's life cycle.
	stop  context.CancelFunc // nil before it is watched
	ended chan struct{}      // closed when it is watched no longer

	mu    sync.Mutex // held to publish, and to begin or cease to be shown by the metrics; never by a query
	shown bool

	// What follows belongs to the first reading, and then to whoever watches.
	info    fs.FileInfo // of what was read last; nil for what could not be
	due     time.Time   // to read it again, though it looks the same
	refused string      // the content that was refused last; empty while the last was not. Written with mu held
}

// openForce begins to read a file. Until that is over, what is in force is what was before a reload, by the same file.
func openForce(path string, before *forceFile) *forceFile {
	f := &forceFile{path: path, first: make(chan struct{})}
	f.orders.Store(new(orders))
	if before != nil {
		f.orders.Store(before.orders.Load())
	}
	go func() {
		defer close(f.first)
		f.look(time.Now())
	}()
	return f
}

// watch looks at the file again and again, until the context ends.
func (f *forceFile) watch(ctx context.Context) {
	defer close(f.ended)
	select {
	case <-f.first:
	case <-ctx.Done():
		return
	}
	ticker := time.NewTicker(forceTick)
	defer ticker.Stop()
	for ctx.Err() == nil {
		f.look(time.Now())
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// look reads the file if it is another one than at the last look, or was changed, or if that is long ago.
func (f *forceFile) look(now time.Time) {
	defer rescue.Log("reading " + f.path)
	info, err := os.Stat(f.path)
	if err == nil && f.info != nil && now.Before(f.due) && (sameFile(info, f.info) || unsettled(info, now)) {
		return
	}
	var text []byte
	f.info, f.due = nil, now.Add(forceReread)
	if err == nil {
		text, f.info, err = readForce(f.path, info)
	}
	f.take(text, err)
}

// sameFile reports whether two looks at a path found the same file, unchanged.
func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// unsettled reports whether a file was changed a moment ago.
func unsettled(info fs.FileInfo, now time.Time) bool {
	age := now.Sub(info.ModTime())
	return age >= 0 && age < forceSettle
}

// readForce reads a file, and returns what it was before that.
func readForce(path string, info fs.FileInfo) ([]byte, fs.FileInfo, error) {
	if !info.Mode().IsRegular() { // to open a pipe would take until somebody writes to it
		return nil, nil, fmt.Errorf("%s is no regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxForceFile+1))
	if err != nil {
		return nil, nil, err
	}
	if len(text) > maxForceFile {
		return nil, info, fmt.Errorf("%s is larger than %d bytes: want fewer lines, with networks in place of addresses", path, maxForceFile)
	}
	return text, info, nil
}

// missing is the content of a file that is not there.
const missing = "missing"

// take puts what was read into force, if it is something new and can be understood. Else it says so, once.
func (f *forceFile) take(text []byte, err error) {
	sum := sha256.Sum256(text)
	content := string(sum[:])
	if errors.Is(err, fs.ErrNotExist) {
		content, err = missing, nil
	} else if err != nil {
		content = err.Error()
	}
	if last := f.orders.Load(); content == f.refused || f.refused == "" && content == last.content {
		return
	}
	next := new(orders)
	if err == nil && content != missing {
		if next, err = parseOrders(text); err != nil {
			err = fmt.Errorf("%s:%w", f.path, err)
		}
	}
	if err != nil {
		f.publish(f.orders.Load(), content)
		log.Errorf("force: %v; what was in force stays", err)
		return
	}
	next.content = content
	f.publish(next, "")
	if content == missing {
		log.Infof("force: there is no %s, so that nothing is forced by it", f.path)
		return
	}
	log.Infof("force: %s has %d up, %d down, %d drain", f.path, next.count[forceUp], next.count[forceDown], next.count[forceDrain])
}

// publish puts orders into force.
func (f *forceFile) publish(next *orders, refused string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shown {
		f.count(-1)
		defer f.count(1)
	}
	f.orders.Store(next)
	f.refused = refused
}

// show has the metrics show the file, or not.
func (f *forceFile) show(shown bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if shown != f.shown {
		f.shown = shown
		sign := 1.0
		if !shown {
			sign = -1
		}
		f.count(sign)
	}
}

// count adds the file to the metrics, with that sign.
func (f *forceFile) count(sign float64) {
	for state, gauge := range forced {
		if gauge != nil {
			gauge.Add(sign * float64(f.orders.Load().count[state]))
		}
	}
	if f.refused != "" {
		metrics.ForceBroken.Add(sign)
	}
}

// rooted is the path of a file that a Corefile names: a relative one is below the directory of the plugin root, as for the
// plugin file.
func rooted(root, path string) string {
	if !filepath.IsAbs(path) && root != "" {
		path = filepath.Join(root, path)
	}
	return filepath.Clean(path)
}

// force begins to read a stanza's file, unless another stanza of the generation has.
func (g *generation) force(path string, p *pool) *forceFile {
	if g.files[path] == nil {
		if g.files == nil {
			g.files = make(map[string]*forceFile)
		}
		g.files[path] = openForce(path, p.forcing(path))
	}
	return g.files[path]
}

// awaitForced waits until the generation's files have been read for the first time, but not for long.
func (g *generation) awaitForced() {
	ctx, cancel := context.WithTimeout(context.Background(), forceStart)
	defer cancel()
	for path, f := range g.files {
		if !rescue.Closed(ctx, f.first) {
			log.Errorf("force: %s takes longer than %s to read; until it is, what was in force stays", path, forceStart)
		}
	}
}

// forcing is the file by that path of the generation that runs, or nil.
func (p *pool) forcing(path string) (f *forceFile) {
	p.life.Lock()
	defer p.life.Unlock()
	p.do(func() { f = p.forced[path] })
	return f
}

// enforce has a generation's files watched, and shown by the metrics in place of the same ones of an earlier generation.
func (p *pool) enforce(g *generation) {
	for path, f := range g.files {
		if before := p.forced[path]; before != nil {
			before.show(false)
		}
		p.forced[path] = f
		f.show(true)
		var ctx context.Context
		ctx, f.stop = context.WithCancel(context.Background())
		f.ended = make(chan struct{})
		go f.watch(ctx)
	}
}

// unforce ends that. It does not wait.
func (p *pool) unforce(g *generation) {
	for path, f := range g.files {
		if f.stop == nil {
			continue
		}
		f.stop()
		f.show(false)
		if p.forced[path] == f {
			delete(p.forced, path)
		}
	}
}

// awaitReleased waits until nobody watches a generation's files, but not for a reading that hangs.
func (g *generation) awaitReleased() {
	ctx, cancel := context.WithTimeout(context.Background(), forceStop)
	defer cancel()
	for _, f := range g.files {
		if f.ended != nil {
			rescue.Closed(ctx, f.ended)
		}
	}
}
