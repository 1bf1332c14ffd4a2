//go:build unix

package force

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/internal/watchfile"
)

// A pipe is refused without waiting for a writer, at the start and in the place of a file, and so is a device. The file is
// watched on (B55).
func TestForceFileIsAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	inBubble(t, func(t *testing.T, w *Watcher) {
		watched(w, path)
		pooltest.Elapse(checkEvery)
		wantInForce(t, "a pipe", "0 0 0 1")
		os.Remove(path)
		pooltest.Edit(t, path, "down 10.0.0.1")
		pooltest.Elapse(checkEvery)
		wantInForce(t, "a file", "0 1 0 0")
		if err := errors.Join(os.Symlink("/dev/zero", path+"2"), os.Rename(path+"2", path)); err != nil {
			t.Fatal(err)
		}
		pooltest.Elapse(checkEvery)
		wantInForce(t, "a device", "0 1 0 1")
	})
}

// A pipe that takes the place of a file after that was looked at is refused, too, and the file is watched on (B55).
func TestForceFileIsSwapped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	inBubble(t, func(t *testing.T, w *Watcher) {
		var swap atomic.Bool
		w.files.Read = func(path string, limit int) ([]byte, fs.FileInfo, error) {
			if swap.Swap(false) {
				if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
					t.Error(err)
				}
			}
			return watchfile.Read(path, limit)
		}
		pooltest.Edit(t, path, "down 10.0.0.1")
		watched(w, path)
		wantInForce(t, "a file", "0 1 0 0")
		pooltest.Edit(t, path, "drain 10.0.0.1")
		swap.Store(true)
		pooltest.Elapse(checkEvery)
		wantInForce(t, "a pipe", "0 1 0 1")
		os.Remove(path)
		pooltest.Edit(t, path, "up 10.0.0.1")
		pooltest.Elapse(checkEvery)
		wantInForce(t, "a file again", "1 0 0 0")
	})
}
