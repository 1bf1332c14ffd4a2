// Package logbook collects what programs print, for tests that read it while they run.
package logbook

import (
	"strings"
	"sync"
)

// Book collects the output of a program. The zero value is empty and ready to use, from any goroutine.
type Book struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (b *Book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String is what was printed so far.
func (b *Book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Count is how often a text is in the output.
func (b *Book) Count(text string) int { return strings.Count(b.String(), text) }

// Mark is a position in the output, for Since.
func (b *Book) Mark() int { return len(b.String()) }

// Since returns what was printed after the mark.
func (b *Book) Since(mark int) string { return b.String()[mark:] }
