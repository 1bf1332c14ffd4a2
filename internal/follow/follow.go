// Package follow keeps what a file says in force while CoreDNS runs and other people and programs replace the file.
//
// File is the main type: what queries read, with one atomic load. Kind says what the files of a property are parsed into.
// Watcher knows the files of running Corefiles, so that a reload begins with what is in force, and Files are those of one
// Corefile. A file is polled: one stat a second sees every way to replace it, through links, on every file system.
package follow

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/internal/watchfile"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	"github.com/prometheus/client_golang/prometheus"
)

var log = clog.NewWithPlugin("multivalue")

const (
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

// Kind says how the files of one property are read, and what the log and the metrics tell of them. It does not change. The
// zero T is what is in force before a file is read.
type Kind[T any] struct {
	Name     string // the property, for the log
	Limit    int    // the largest size of a file in bytes
	TooLarge string // what to do about a larger one
	Missing  string // what a file that does not exist means: the zero T, in words. If empty, it is an error

	Parse func(data []byte) (*T, error) // an error begins with the number of its line
	Say   func(v *T) string             // what is in force, behind the name of the file

	// At returns what counts of a whole file at a time, and last if that is the same. last is nil if it was not asked before.
	// Tell logs what has changed between two times, and what will soon. Both are nil if time changes nothing.
	At   func(whole, last *T, now time.Time) *T
	Tell func(path string, whole *T, before, now time.Time)

	Count  func(v *T, sign float64) // adds what is in force to the metrics, times the sign; nil if they do not have it
	Broken prometheus.Gauge         // files whose latest content was refused
	Stuck  prometheus.Gauge         // files whose file system does not answer
}

// at returns what counts of a whole file at a time.
func (k *Kind[T]) at(whole, last *T, now time.Time) *T {
	if k.At == nil {
		return whole
	}
	return k.At(whole, last, now)
}

// check refreshes the file. If its file system does not answer, that is logged and counted once it takes stuckAfter, and
// logged again when it is over. The caller's goroutine hangs for as long as the file system does.
func (f *File[T]) check() {
	began, ended := time.Now(), make(chan struct{})
	timer := time.AfterFunc(stuckAfter, func() {
		if f.setStuck(ended); f.stuckUntil() == ended {
			log.Warningf("%s: checking %s takes longer than %s; until that ends, what was in force before stays in force", f.kind.Name, f.path, stuckAfter)
			f.passTimeUntil(ended)
		}
	})
	defer timer.Stop()
	f.refresh(began)
	close(ended)
	if f.stuckUntil() == ended {
		f.setStuck(nil)
		log.Infof("%s: checking %s ended after %.0f seconds; it is watched as before", f.kind.Name, f.path, time.Since(began).Seconds())
	}
}

// passTimeUntil lets time pass for what the file says while the file system does not answer.
func (f *File[T]) passTimeUntil(ended <-chan struct{}) {
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

// passTime puts into force what counts now of what the file says, if that is not the same as before.
func (f *File[T]) passTime(now time.Time) {
	if f.kind.At == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.passed
	if f.passed = now; before.IsZero() {
		before = now // what has ended before is told in the line about what was read
	}
	f.kind.Tell(f.path, f.whole, before, now)
	last := f.value.Load()
	if next := f.kind.At(f.whole, last, now); next != last {
		f.change(func() { f.value.Store(next) })
		f.tellChange(next)
	}
}

// refresh reads the file if it is another one than last time, or was changed, or if that is long ago.
func (f *File[T]) refresh(now time.Time) {
	defer rescue.Log("reading " + f.path)
	info, err := os.Stat(f.path)
	if err == nil && f.info != nil && now.Before(f.due) && (sameFile(info, f.info) || justChanged(info, now)) {
		return
	}
	var text []byte
	f.info, f.due = nil, now.Add(rereadEvery)
	if err == nil {
		text, f.info, err = f.read(f.path, f.kind.Limit)
	}
	if errors.Is(err, watchfile.ErrTooLarge) {
		err = fmt.Errorf("%s is larger than %d bytes: %s", f.path, f.kind.Limit, f.kind.TooLarge)
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
func (f *File[T]) accept(data []byte, err error, now time.Time) {
	sum := sha256.Sum256(data)
	content := string(sum[:])
	if f.kind.Missing != "" && errors.Is(err, fs.ErrNotExist) {
		content, err = missing, nil
	} else if err != nil {
		content = err.Error()
	}
	if content == f.refused || f.refused == "" && content == f.content {
		return
	}
	whole := new(T)
	if err == nil && content != missing {
		if whole, err = f.kind.Parse(data); err != nil {
			err = fmt.Errorf("%s:%w", f.path, err)
		}
	}
	if err != nil {
		f.refuse(content, err)
		log.Errorf("%s: %v; what was in force before stays in force", f.kind.Name, err)
		return
	}
	next := f.kind.at(whole, nil, now)
	first := f.content == ""
	if f.publish(whole, next, content); !first {
		f.tellChange(next)
	}
	if content == missing {
		log.Infof("%s: %s does not exist, %s", f.kind.Name, f.path, f.kind.Missing)
		return
	}
	log.Infof("%s: %s %s", f.kind.Name, f.path, f.kind.Say(next))
}
