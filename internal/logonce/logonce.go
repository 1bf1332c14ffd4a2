// Package logonce has log lines that are written once, however often their cause comes up.
//
// Line is the main type. Queries and the pool's loop ask First before they write; the pool's sweep calls Reset once a
// minute for the lines that may be repeated while their cause lasts.
package logonce

import "sync/atomic"

// Line is one log line. Its zero value has not been written. It may be used from many goroutines; asking again costs one
// atomic load.
type Line struct{ written atomic.Bool }

// First reports whether the line has not been written since the last Reset, and takes note that it is now.
func (l *Line) First() bool { return !l.written.Load() && l.written.CompareAndSwap(false, true) }

// Reset lets the line be written once more.
func (l *Line) Reset() { l.written.Store(false) }
