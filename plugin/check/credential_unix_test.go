//go:build unix

package check_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// A pipe, a device or a directory is not read for a secret or a certificate, neither at the start
// nor in the place of a file. The probe proves nothing, and one that finds a file again is made.
func TestFilesThatAreNone(t *testing.T) {
	p := listen(t, "127.0.0.1", func(conn net.Conn) {
		readRequest(conn)
		conn.Write([]byte(ok))
	})
	path := filepath.Join(t.TempDir(), "token")
	file := func() error { return os.WriteFile(path+".new", []byte("token"), 0o600) }
	pipe := func() error { return syscall.Mkfifo(path+".new", 0o600) }
	device := func() error { return os.Symlink("/dev/zero", path+".new") }
	folder := func() error { return os.Symlink("/", path+".new") }
	become := func(what func() error) {
		t.Helper()
		if err := errors.Join(what(), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	for _, other := range []func() error{pipe, device, folder} {
		become(other)
		for _, lines := range [][][]string{{opt("bearer", path)}, {opt("basic_auth", path)}, {opt("ca", path)}, {opt("cert", path), opt("key", path)}} {
			if _, err := check.New("https://www.example.org", options(lines...)...); err == nil || !strings.Contains(err.Error(), "not a regular file") {
				t.Errorf("%q at the start: %v", lines, err)
			}
		}
		become(file)
		c := mustNew(t, "http://", opt("bearer", path))
		become(other)
		if err := probe(c, p.addr); !errors.Is(err, check.ErrAbstain) || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("in the place of the file: %v", err)
		}
		become(file)
		if err := probe(c, p.addr); err != nil {
			t.Errorf("a file again: %v", err)
		}
	}
}
