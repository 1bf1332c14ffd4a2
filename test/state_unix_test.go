//go:build unix

package test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The very first answer after a restart leaves out the address that was dead before it: the process was asked to stop, and
// saved what it knew (B88).
func TestFirstAnswerAfterARestart(t *testing.T) {
	keeping := strings.Replace(listening, "CALM", "CALM\n        state DIR/state", 1)
	p := runCalm(t, keeping)
	for range 2 {
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 {
			t.Fatalf("exit status %d:\n%s", code, p.output.Since(0))
		}
		info, err := os.Stat(filepath.Join(p.dir, "state"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v", info, err)
		}
		p = p.scene.run(t, keeping, 0)
		if got := members(p.ask("www.example.org A")); got != "11 13" {
			t.Errorf("the first answer after a restart has %s, want 11 13", got)
		}
	}
}
