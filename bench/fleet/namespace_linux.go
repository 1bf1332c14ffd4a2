package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// insideVariable is an environment variable: it is set if this process is in a network namespace of its own.
const insideVariable = "MULTIVALUE_BENCH_INSIDE"

// enterNamespace runs this program again in a network namespace with nothing but loopback, and reports whether this is that
// process. It tries with the rights of this process, and then with those of a user namespace.
func enterNamespace() (inside bool, err error) {
	if os.Getenv(insideVariable) != "" {
		return true, nil
	}
	// What starts the members must be in the namespace from its first thread on. A process that enters one later has threads that
	// are not in it, so this one starts again.
	var refused error
	for _, as := range []*syscall.SysProcAttr{
		{Cloneflags: syscall.CLONE_NEWNET},
		{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}},
	} {
		as.Pdeathsig = syscall.SIGTERM
		again := exec.Command("sh", append([]string{"-ec", `ip link set lo up; exec "$@"`, "sh", os.Args[0]}, os.Args[1:]...)...)
		again.Env, again.SysProcAttr = append(os.Environ(), insideVariable+"=yes"), as
		again.Stdout, again.Stderr = os.Stdout, os.Stderr
		refused = again.Run()
		if again.Process == nil {
			continue // it was not allowed: try the other way
		}
		// That process has said what is wrong, or was interrupted.
		if status := new(exec.ExitError); errors.As(refused, &status) {
			os.Exit(max(1, status.ExitCode()))
		}
		return false, refused
	}
	return false, fmt.Errorf("no network namespace of its own, with the programs ip and nft: %w", refused)
}

// withUs is what makes the kernel end a process if this one dies.
func withUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
