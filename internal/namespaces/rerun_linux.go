package namespaces

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// Rerun runs the test again, in a process with new namespaces: a set of syscall.CLONE_NEW flags. It reports whether this is that
// process, which goes on; the other one returns when that has ended, and fails or is skipped as it was. The rights of this process
// are tried first, and then those of root in a new user namespace. If neither suffices the test is skipped, and fails in CI.
func Rerun(t *testing.T, flags uintptr) bool {
	t.Helper()
	if Inside() {
		return true
	}
	var refused error
	for _, as := range []*syscall.SysProcAttr{
		{Cloneflags: flags},
		{Cloneflags: flags | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}},
	} {
		child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
		child.Env, child.SysProcAttr = append(os.Environ(), variable+"=yes"), as
		out, err := child.CombinedOutput()
		switch {
		case child.Process == nil: // it was not started
			refused = err
			continue
		case err != nil:
			t.Fatalf("%v: %s", err, out)
		case strings.Contains(string(out), "--- SKIP: "+t.Name()+" "):
			t.Skipf("%s", out)
		}
		return false
	}
	lacking(t, fmt.Errorf("no namespaces of its own: %w", refused))
	return false
}

// lacking skips the test, and fails it in CI.
func lacking(t *testing.T, what error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}
