//go:build faults && linux

// Package faults holds the tests of the complete program against faults of the network, of the machine and of its
// operator. Only misbehaving peers are simulated: the program runs as a process, the packet filter drops packets,
// links go down, descriptors and ports run out, and the process is killed.
//
// The tests run in a network namespace that they make, so they may do all that and use any address and port: DNS is
// on 127.0.0.1:53, metrics on port 9153, readiness on 8181, and on port 8080 of every address is a peer (see farm).
// As in package test, an address is named by its last number.
//
// They need Linux, ip and nft, and root or user namespaces. A wait is limited to a multiple of what the manual
// promises (see pace.soon), so that the tests pass on a slow machine as well.
package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// inside is an environment variable of the process that runs in its own namespace. It names the complete program.
const inside = "MULTIVALUE_FAULTS_PROGRAM"

var program = os.Getenv(inside)

// TestMain runs the tests in a new network namespace. If it cannot make one, it prints that, and fails in CI.
func TestMain(m *testing.M) {
	if program != "" {
		os.Exit(m.Run())
	}
	code, err := enter()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\n*** THE FAULT TESTS ARE SKIPPED: %v ***\n\n", err)
		if os.Getenv("CI") == "true" {
			code = 1
		}
	}
	os.Exit(code)
}

// enter builds the program, and runs this program again in a namespace. An error means that no test was run.
func enter() (code int, err error) {
	for _, name := range []string{"ip", "nft", "prlimit"} {
		if _, err := exec.LookPath(name); err != nil {
			return 0, err
		}
	}
	dir, err := os.MkdirTemp("", "faults")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if out, err := exec.Command("go", "build", "-o", dir, "../../cmd/coredns").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s", out)
		return 1, nil
	}
	runtime.LockOSThread() // the tests would be killed when it ends
	again, err := inNamespace(filepath.Join(dir, "coredns"))
	if err != nil {
		return 0, err
	}
	var failed *exec.ExitError
	if err := again.Wait(); errors.As(err, &failed) {
		return max(failed.ExitCode(), 1), nil
	}
	return 0, nil
}

// inNamespace starts the tests as root of a new network. It uses the current rights, or else those of a user
// namespace.
func inNamespace(program string) (started *exec.Cmd, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for _, as := range []*syscall.SysProcAttr{
		{Cloneflags: syscall.CLONE_NEWNET},
		{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}},
	} {
		as.Pdeathsig = syscall.SIGKILL
		probe := exec.Command("sh", "-c", "ip link set lo up && nft add table inet faults")
		probe.SysProcAttr = as
		if out, refused := probe.CombinedOutput(); refused != nil {
			err = fmt.Errorf("cannot create a network namespace: %w: %s", refused, out)
			continue
		}
		again := exec.Command(self, os.Args[1:]...)
		again.Env = append(os.Environ(), inside+"="+program)
		again.Stdout, again.Stderr = os.Stdout, os.Stderr
		again.SysProcAttr = as
		return again, again.Start()
	}
	return nil, err
}
