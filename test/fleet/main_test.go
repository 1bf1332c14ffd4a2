//go:build linux

// Package fleet holds the tests of several complete programs that are one fleet. Each runs as a process of its own, at an address
// of 127.8.0.0/24, and is named by the last number of that. Backends at 127.9.0.0/24 count who probes them and when: each
// server sends its number in a header. The value of a header may differ between members that share a check.
//
// What is quick runs in the network of the machine, on ports that the test chooses, and tests run beside each other. What needs a
// packet filter or minutes has the build tag faults, and each of those tests runs in a network of its own. Its names begin with
// TestFault. A wait is limited to a multiple of what the manual promises, so that the tests pass on a slow machine as well.
package fleet

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/namespaces"
)

// variable names the complete program to a test that runs again in namespaces of its own, so that it is built once.
const variable = "MULTIVALUE_FLEET_PROGRAM"

// atOnce is how many tests run beside each other: they wait most of the time.
const atOnce = 10

func TestMain(m *testing.M) {
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		_ = flag.Set("test.parallel", fmt.Sprint(atOnce))
	}
	if namespaces.Inside() { // the network is new, and its loopback is down
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v: %s", err, out)
			os.Exit(1)
		}
	}
	code := m.Run()
	os.RemoveAll(built.dir)
	os.Exit(code)
}

// built is the complete program. It is built once, for all tests.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func program(t testing.TB) string {
	t.Helper()
	if path := os.Getenv(variable); path != "" {
		return path
	}
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "fleet"); built.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", built.dir, "../../cmd/coredns").CombinedOutput()
		if err != nil {
			built.err = errors.New(err.Error() + ": " + string(out))
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "coredns")
}
