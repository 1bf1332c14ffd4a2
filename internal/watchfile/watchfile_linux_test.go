package watchfile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A file that another program holds a lease on, as file servers do, is an error at once: a plain open would wait for up to
// 45 seconds.
func TestReadLeased(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("this file system has no leases:", err)
	}
	returns(t, path, func() {
		if _, _, err := Read(path, 100); !errors.Is(err, syscall.EWOULDBLOCK) {
			t.Error(err)
		}
	})
}
