package force

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/internal/watchfile"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	"github.com/prometheus/client_golang/prometheus"
)

var log = clog.NewWithPlugin("multivalue")

// gauges are the numbers of forced networks and addresses by state, resolved once.
var gauges = [...]prometheus.Gauge{
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
	// stuckAfter is how long a check of a file may take before it counts as stuck.
	stuckAfter = 10 * time.Second
)

// StopWait bounds how long AwaitReleased waits for a reading that hangs.
const StopWait = 500 * time.Millisecond

// File is a file of forced states, as one Corefile has it. All stanzas of the Corefile that name it share it.
//
// What it last said is in force, also while it cannot be understood; a file that does not exist says nothing. It is read
// by a goroutine of its own, never by a query or the pool's loop.
type File struct {
	path   string
	read   readFunc               // how it is read
	states atomic.Pointer[States] // in force; never nil
	first  chan struct{}          // closed when it has been read for the first time

	// These belong to the Watcher, with its lock held.
	stop  context.CancelFunc // nil before it is watched
	ended chan struct{}      // closed when it is watched no longer

	mu     sync.Mutex // held to publish, and to count or discount the file in the metrics; never by a query
	shown  bool
	stuck  chan struct{} // closed when the check that takes too long has ended; nil if none does
	passed time.Time     // when lines were last looked at for their end

	// What follows belongs to the first reading, and then to the goroutine that watches.
	info    fs.FileInfo // of what was read last; nil if it could not be read
	due     time.Time   // to read it again although it looks the same
	refused string      // the content that was refused last; empty if the last one was not. Written with mu held
}

// For returns what is forced for an address now. It is for queries: it takes no lock and allocates nothing.
func (f *File) For(addr netip.Addr) State { return f.states.Load().For(addr) }

// Note returns the line that decides about an address now, if it has a reason or an end; nil otherwise.
func (f *File) Note(addr netip.Addr) *Line { return f.states.Load().Note(addr) }

// Static returns a file that is never read, with these states in force. It is for tests of what asks a File.
func Static(s *States) *File {
	f := new(File)
	f.states.Store(s)
	return f
}

// readFunc reads a file, as watchfile.Read does.
type readFunc func(path string, limit int) ([]byte, fs.FileInfo, error)

// openFile begins to read a file. Until that is over, what is in force is what was before a reload, by the same file.
//
// If that one is stuck, the new one waits with it, and does not read: so however often the Corefile is reloaded meanwhile,
// no more goroutines hang.
func openFile(path string, read readFunc, before *File) *File {
	f := &File{path: path, read: read}
	f.states.Store(new(States))
	if before != nil {
		f.states.Store(before.states.Load())
		if f.stuck = before.stuckUntil(); f.stuck != nil {
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

// watch checks the file again and again, until the context ends.
func (f *File) watch(ctx context.Context) {
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
		case <-ctx.Done():
		}
	}
}

// check refreshes the file. If its file system does not answer, that is logged and counted once it takes stuckAfter, and
// logged again when it is over. The caller's goroutine hangs for as long as the file system does.
func (f *File) check() {
	began, ended := time.Now(), make(chan struct{})
	timer := time.AfterFunc(stuckAfter, func() {
		if f.setStuck(ended); f.stuckUntil() == ended {
			log.Warningf("force: checking %s takes longer than %s; until that ends, what was in force before stays in force", f.path, stuckAfter)
			f.passTimeUntil(ended)
		}
	})
	defer timer.Stop()
	f.refresh(began)
	close(ended)
	if f.stuckUntil() == ended {
		f.setStuck(nil)
		log.Infof("force: checking %s ended after %.0f seconds; it is watched as before", f.path, time.Since(began).Seconds())
	}
}

// passTimeUntil lets lines end while the file system does not answer.
func (f *File) passTimeUntil(ended <-chan struct{}) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			return
		case <-ticker.C:
			f.passTime(time.Now())
		}
	}
}

// stuckUntil returns a channel that is closed when the check that takes too long has ended, nil if none does.
func (f *File) stuckUntil() chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stuck
}

// setStuck says that a check takes too long, unless it has ended meanwhile, which closes the channel. With nil, none does.
func (f *File) setStuck(ended chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-ended:
		return
	default:
	}
	f.change(func() { f.stuck = ended })
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
		text, f.info, err = f.read(f.path, maxSize)
	}
	if errors.Is(err, watchfile.ErrTooLarge) {
		err = fmt.Errorf("%s is larger than %d bytes: use fewer lines, with networks instead of addresses", f.path, maxSize)
	}
	f.accept(text, err, now)
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

// missing is the content of a file that does not exist.
const missing = "missing"

// accept puts what was read into force, if it is new and can be understood. If not, it logs why, once.
func (f *File) accept(data []byte, err error, now time.Time) {
	sum := sha256.Sum256(data)
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
		if next, err = Parse(data); err != nil {
			err = fmt.Errorf("%s:%w", f.path, err)
		}
	}
	if err != nil {
		f.publish(f.states.Load(), content)
		log.Errorf("force: %v; what was in force before stays in force", err)
		return
	}
	next.content = content
	whole := next
	next = whole.at(now)
	f.publish(next, "")
	if content == missing {
		log.Infof("force: %s does not exist, so it forces nothing", f.path)
		return
	}
	over := ""
	if next.ended > 0 {
		over = fmt.Sprintf("; the time of %s is over", text.Count(next.ended, "line"))
	}
	log.Infof("force: %s has %d up, %d down, %d drain%s", f.path, next.count[Up], next.count[Down], next.count[Drain], over)
}

// publish puts states into force. refused is the content that was not, empty if there is none.
func (f *File) publish(next *States, refused string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change(func() {
		f.states.Store(next)
		f.refused = refused
	})
}

// change changes what the metrics show of the file. The caller holds mu.
func (f *File) change(edit func()) {
	if f.shown {
		f.addToMetrics(-1)
		defer f.addToMetrics(1)
	}
	edit()
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
	for state, gauge := range gauges {
		if gauge != nil {
			gauge.Add(sign * float64(f.states.Load().count[state]))
		}
	}
	if f.refused != "" {
		metrics.ForceBroken.Add(sign)
	}
	if f.stuck != nil {
		metrics.ForceStuck.Add(sign)
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
