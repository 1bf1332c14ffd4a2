//go:build faults && linux

package main

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// inside, in the environment, says that the test runs in a network namespace of its own.
const inside = "MULTIVALUE_DEMO_INSIDE"

// barren leaves 127.0.0.1 alone of all addresses, as it is on macOS and the BSDs, with or without ::1.
const barren = `
ip link set lo up
ip addr flush dev lo
ip addr add 127.0.0.1/32 dev lo
ip route flush table local 127.0.0.0/8 || true
ip route replace local 127.0.0.1/32 dev lo table local`

// The scene plays where 127.0.0.11 cannot be listened on, with IPv6 and without.
func TestPlayWhereLoopbackIsOneAddress(t *testing.T) {
	if os.Getenv(inside) != "" {
		if l, err := net.Listen("tcp", usual[0]+":0"); err == nil {
			t.Fatalf("%s can be listened on", l.Addr())
		}
		playedOnOneAddress(t, usual)
		return
	}
	for name, more := range map[string]string{"with IPv6": "\nip addr replace ::1/128 dev lo", "without IPv6": ""} {
		t.Run(name, func(t *testing.T) { again(t, barren+more) })
	}
}

// again runs the test in a network namespace that a script has prepared: with the rights at hand, else with those of a user
// namespace.
func again(t *testing.T, script string) {
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
		cmd := exec.Command("sh", "-ec", script+"\nexec \"$@\"", "sh", os.Args[0], "-test.run", "^TestPlayWhereLoopbackIsOneAddress$", "-test.v")
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
	t.Skip("no network namespace to be had: ", what)
}
