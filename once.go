package multivalue

import "sync/atomic"

// once is a log line that is written once until it is reset, wherever it comes from.
type once struct{ written atomic.Bool }

// first reports whether the line has not been written yet, and takes note that it is now.
func (o *once) first() bool { return !o.written.Load() && o.written.CompareAndSwap(false, true) }

// reset lets the line be written again.
func (o *once) reset() { o.written.Store(false) }
