package force

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	"github.com/prometheus/client_golang/prometheus"
)

var log = clog.NewWithPlugin("multivalue")

// forced are the gauges of forced networks and addresses by state, resolved once.
var forced = [...]prometheus.Gauge{
	Up:    metrics.Forced.WithLabelValues(Up.String()),
	Down:  metrics.Forced.WithLabelValues(Down.String()),
	Drain: metrics.Forced.WithLabelValues(Drain.String()),
}

const (
	// maxSize is the largest size of a file in bytes: some hundred thousand addresses.
	maxSize = 4 << 20
	// checkEvery is how often a file's metadata is checked, rereadEvery how often it is read although they look the same: a
	// clock set back, or two edits within one tick of it, hide a change.
	checkEvery  = time.Second
	rereadEvery = 30 * time.Second
	// settleTime is how long a file has to stay unchanged before it is read again: a program that writes it in place may
	// have written only half of it so far.
	settleTime = 100 * time.Millisecond
	// readWait bounds the wait for the first reading: a file may be on a server that does not answer.
	readWait = 2 * time.Second
)

// StopWait bounds how long AwaitReleased waits for a reading that hangs.
const StopWait = 500 * time.Millisecond

// File is a file of forced states, as one Corefile has it. All stanzas of the Corefile that name it share it.
//
// What it last said is in force, also while it cannot be understood; a file that does not exist says nothing. It is read
// by a goroutine of its own, never by a query or the pool's loop.
type File struct {
	path   string
	states atomic.Pointer[States] // in force; never nil
	first  chan struct{}          // closed when it has been read for the first time

	// These belong to the Watcher, with its lock held.
	stop  context.CancelFunc // nil before it is watched
	ended chan struct{}      // closed when it is watched no longer

	mu    sync.Mutex // held to publish, and to count or discount the file in the metrics; never by a query
	shown bool

	// What follows belongs to the first reading, and then to the goroutine that watches.
	info    fs.FileInfo // of what was read last; nil if it could not be read
	due     time.Time   // to read it again although it looks the same
	refused string      // the content that was refused last; empty if the last one was not. Written with mu held
}

// For returns what is forced for an address now. It is for queries: it takes no lock and allocates nothing.
func (f *File) For(addr netip.Addr) State { return f.states.Load().For(addr) }

// Static returns a file that is never read, with these states in force. It is for tests of what asks a File.
func Static(s *States) *File {
	f := new(File)
	f.states.Store(s)
	return f
}

// openFile begins to read a file. Until that is over, what is in force is what was before a reload, by the same file.
func openFile(path string, before *File) *File {
	f := &File{path: path, first: make(chan struct{})}
	f.states.Store(new(States))
	if before != nil {
		f.states.Store(before.states.Load())
	}
	go func() {
		defer close(f.first)
		f.refresh(time.Now())
	}()
	return f
}

// watch refreshes the file again and again, until the context ends.
func (f *File) watch(ctx context.Context) {
	defer close(f.ended)
	select {
	case <-f.first:
	case <-ctx.Done():
		return
	}
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		f.refresh(time.Now())
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// refresh reads the file if it is another one than last time, or was changed, or if that is long ago.
func (f *File) refresh(now time.Time) {
	defer rescue.Log("reading " + f.path)
	info, err := os.Stat(f.path)
	if err == nil && f.info != nil && now.Before(f.due) && (sameFile(info, f.info) || justChanged(info, now)) {
		return
	}
	var text []byte
	f.info, f.due = nil, now.Add(rereadEvery)
	if err == nil {
		text, f.info, err = readFile(f.path, info)
	}
	f.accept(text, err)
}

// sameFile reports whether a path led to the same file both times, unchanged.
func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// justChanged reports whether a file was changed a moment ago.
func justChanged(info fs.FileInfo, now time.Time) bool {
	age := now.Sub(info.ModTime())
	return age >= 0 && age < settleTime
}

// readFile reads a file, and returns its metadata from before that.
func readFile(path string, info fs.FileInfo) ([]byte, fs.FileInfo, error) {
	if !info.Mode().IsRegular() { // opening a pipe would wait for a writer
		return nil, nil, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return nil, nil, err
	}
	if len(text) > maxSize {
		return nil, info, fmt.Errorf("%s is larger than %d bytes: use fewer lines, with networks instead of addresses", path, maxSize)
	}
	return text, info, nil
}

// missing is the content of a file that does not exist.
const missing = "missing"

// accept puts what was read into force, if it is new and can be understood. If not, it logs why, once.
func (f *File) accept(text []byte, err error) {
	sum := sha256.Sum256(text)
	content := string(sum[:])
	if errors.Is(err, fs.ErrNotExist) {
		content, err = missing, nil
	} else if err != nil {
		content = err.Error()
	}
	if last := f.states.Load(); content == f.refused || f.refused == "" && content == last.content {
		return
	}
	next := new(States)
	if err == nil && content != missing {
		if next, err = Parse(text); err != nil {
			err = fmt.Errorf("%s:%w", f.path, err)
		}
	}
	if err != nil {
		f.publish(f.states.Load(), content)
		log.Errorf("force: %v; what was in force before stays in force", err)
		return
	}
	next.content = content
	f.publish(next, "")
	if content == missing {
		log.Infof("force: %s does not exist, so it forces nothing", f.path)
		return
	}
	log.Infof("force: %s has %d up, %d down, %d drain", f.path, next.count[Up], next.count[Down], next.count[Drain])
}

// publish puts states into force. refused is the content that was not, empty if there is none.
func (f *File) publish(next *States, refused string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shown {
		f.addToMetrics(-1)
		defer f.addToMetrics(1)
	}
	f.states.Store(next)
	f.refused = refused
}

// showInMetrics counts the file in the metrics, or no longer.
func (f *File) showInMetrics(shown bool) {
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
func (f *File) addToMetrics(sign float64) {
	for state, gauge := range forced {
		if gauge != nil {
			gauge.Add(sign * float64(f.states.Load().count[state]))
		}
	}
	if f.refused != "" {
		metrics.ForceBroken.Add(sign)
	}
}

// Path is the path of a file that a Corefile names: a relative one is below the directory of the plugin *root*, as for the
// plugin *file*.
func Path(root, path string) string {
	if !filepath.IsAbs(path) && root != "" {
		path = filepath.Join(root, path)
	}
	return filepath.Clean(path)
}
