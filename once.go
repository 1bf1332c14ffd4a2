package multivalue

import "sync/atomic"

// Line is a log line that is written once until it is reset, wherever it comes from.
type Line struct{ written atomic.Bool }

// First reports whether the line has not been written yet, and takes note that it is now.
func (o *Line) First() bool { return !o.written.Load() && o.written.CompareAndSwap(false, true) }

// Reset lets the line be written again.
func (o *Line) Reset() { o.written.Store(false) }
