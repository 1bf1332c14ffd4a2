package state

import "sync/atomic"

// Fault is why the file could not be saved the last time. One goroutine sets it while others read it. The zero value is none.
type Fault struct{ text atomic.Pointer[string] }

// Set replaces the text, which is empty when the file was saved, and reports whether that changes anything.
func (f *Fault) Set(text string) (changed bool) {
	if f.Text() == text {
		return false
	}
	f.text.Store(&text)
	return true
}

// Text is the error, and empty for none.
func (f *Fault) Text() string {
	if text := f.text.Load(); text != nil {
		return *text
	}
	return ""
}
