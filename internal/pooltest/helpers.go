package pooltest

import (
	"bytes"
	stdlog "log"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// edits counts the edits, so that no two of them leave a file with the same time: two edits in one tick of the clock
// would look the same.
var edits atomic.Int64

// Edit writes a file in place, and returns the modification time that it gave to it. That is another one at each call, and
// always long ago, so what reads the file takes it for settled.
func Edit(t *testing.T, path, text string) (modified time.Time) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	modified = time.Unix(1e9+edits.Add(1), 0)
	Touch(t, path, modified)
	return modified
}

// Touch sets the modification time of a file.
func Touch(t *testing.T, path string, modified time.Time) {
	t.Helper()
	if err := os.Chtimes(path, time.Time{}, modified); err != nil {
		t.Fatal(err)
	}
}

// Logged collects what is logged from now on until the test ends. A bubble may read it when all its goroutines are
// blocked.
func Logged(t *testing.T) *bytes.Buffer {
	text, before := new(bytes.Buffer), stdlog.Writer()
	stdlog.SetOutput(text)
	t.Cleanup(func() { stdlog.SetOutput(before) })
	return text
}

// CountLines returns the number of lines that contain the words.
func CountLines(text *bytes.Buffer, words string) int {
	n := 0
	for line := range strings.Lines(text.String()) {
		if strings.Contains(line, words) {
			n++
		}
	}
	return n
}
