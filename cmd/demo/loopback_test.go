//go:build faults && linux

package main

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// inside is an environment variable: it is set if the test runs in a network namespace of its own.
const inside = "MULTIVALUE_DEMO_INSIDE"

// oneAddress is a script that removes all addresses but 127.0.0.1, as on macOS and the BSDs.
const oneAddress = `
ip link set lo up
ip addr flush dev lo
ip addr add 127.0.0.1/32 dev lo
ip route flush table local 127.0.0.0/8 || true
ip route replace local 127.0.0.1/32 dev lo table local`

// The demo works on a machine without 127.0.0.11, with IPv6 and without.
func TestDemoWhereLoopbackIsOneAddress(t *testing.T) {
	if os.Getenv(inside) != "" {
		if l, err := net.Listen("tcp", usual[0]+":0"); err == nil {
			t.Fatalf("%s can be listened on", l.Addr())
		}
		checkOnOneAddress(t, usual)
		return
	}
	for name, more := range map[string]string{"with IPv6": "\nip addr replace ::1/128 dev lo", "without IPv6": ""} {
		t.Run(name, func(t *testing.T) { rerun(t, oneAddress+more) })
	}
}

// rerun runs the test in a network namespace that a script has prepared. It tries with the rights of this process, and then
// with those of a user namespace.
func rerun(t *testing.T, script string) {
	_, refused := exec.LookPath("ip")
	if refused != nil {
		lacks(t, refused)
	}
	for _, as := range []*syscall.SysProcAttr{
		{Cloneflags: syscall.CLONE_NEWNET},
		{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}},
	} {
		cmd := exec.Command("sh", "-ec", script+"\nexec \"$@\"", "sh", os.Args[0], "-test.run", "^TestDemoWhereLoopbackIsOneAddress$", "-test.v")
		cmd.Env, cmd.SysProcAttr = append(os.Environ(), inside+"=yes"), as
		out, err := cmd.CombinedOutput()
		if cmd.Process != nil {
			if t.Logf("%s", out); err != nil {
				t.Error(err)
			}
			return
		}
		refused = err
	}
	lacks(t, refused)
}

// lacks skips the test, and fails it in CI.
func lacks(t *testing.T, what error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip("cannot create a network namespace: ", what)
}
