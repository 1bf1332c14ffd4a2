//go:build unix

package watchfile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// returns runs a function, and fails the test if that takes longer than any machine needs.
func returns(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s hangs", what)
	}
}

// A pipe without a writer, one with a writer that says nothing, and a device without an end are refused at once: also if
// they took the place of a file after it was looked at.
func TestReadDoesNotHang(t *testing.T) {
	silent, written := filepath.Join(t.TempDir(), "silent"), filepath.Join(t.TempDir(), "written")
	if err := errors.Join(syscall.Mkfifo(silent, 0o600), syscall.Mkfifo(written, 0o600)); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(written, os.O_RDWR, 0) // which does not wait for a reader
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	for _, path := range []string{silent, written, "/dev/zero", "/dev/null", t.TempDir()} {
		returns(t, path, func() {
			if _, _, err := Read(path, 100); !errors.Is(err, ErrIrregular) {
				t.Errorf("%s: %v", path, err)
			}
			if _, _, err := openNow(path); !errors.Is(err, ErrIrregular) {
				t.Errorf("%s in the place of a file: %v", path, err)
			}
		})
	}
}

// Files and pipes that replace each other without a pause are read or refused, whatever open meets.
func TestReadWhileReplaced(t *testing.T) {
	dir := t.TempDir()
	path, next := filepath.Join(dir, "path"), filepath.Join(dir, "next")
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			var err error
			if i%2 == 0 {
				err = syscall.Mkfifo(next, 0o600)
			} else {
				err = os.WriteFile(next, []byte("text"), 0o600)
			}
			if err = errors.Join(err, os.Rename(next, path)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	var read, refused int
	returns(t, "reading", func() {
		for range 3000 {
			text, _, err := Read(path, 100)
			switch {
			case err == nil && string(text) == "text":
				read++
			case errors.Is(err, ErrIrregular):
				refused++
			default:
				t.Errorf("%q, %v", text, err)
			}
		}
	})
	close(stop)
	<-stopped
	t.Logf("%d read, %d refused", read, refused)
}
