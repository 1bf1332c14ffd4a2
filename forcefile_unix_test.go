//go:build unix

package multivalue

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
)

// A pipe is refused, and nobody waits for its other end (B55).
func TestForceFileIsAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forced")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	inBubble(t, func(t *testing.T, p *pool, n *pooltest.FakeNetwork) {
		watched(p, n, path)
		pooltest.Elapse(forceTick)
		wantInForce(t, "a pipe", "0 0 0 1")
	})
}
