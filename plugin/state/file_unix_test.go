//go:build unix

package state

import (
	"context"
	"maps"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A pipe or a device at the path is refused without waiting for it, and stays.
func TestPipe(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, "/dev/null"} {
		done := make(chan bool)
		go func() {
			defer close(done)
			_, err := Read(path, noon)
			wantError(t, err, "state: "+path+": not a regular file: starting without it")
			err = Save(context.Background(), path, maps.All(some(1)))
			wantError(t, err, "state: "+path+": not a regular file: not saved, so the file stays as it was")
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s is waited for", path)
		}
	}
	wantNames(t, dir, "pipe")
}
