//go:build unix

package force

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
)

// A pipe is refused without waiting for a writer (B55).
func TestForceFileIsAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	inBubble(t, func(t *testing.T, w *Watcher) {
		watched(w, path)
		pooltest.Elapse(checkEvery)
		wantInForce(t, "a pipe", "0 0 0 1")
	})
}
