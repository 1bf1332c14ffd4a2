//go:build linux

// Package kube holds the tests of the complete program against a real Kubernetes API: etcd, kube-apiserver and, where
// its work is the point, kube-controller-manager, as processes. There is no node. Services, EndpointSlices, Nodes and
// Pods are written through the API, and backends listen on their addresses.
//
// The tests run in PID and network namespaces that they make, so they own all of these addresses: 192.0.2.0/24,
// 198.18.0.0/16 and 2001:db8::/64. There is no route out. DNS is on 127.0.0.1:53, the API on 127.0.0.1:6443, metrics
// on port 9153 and readiness on 8181. Every test has its own namespace of Kubernetes.
//
// They need Linux, ip and nft, and root or user namespaces. The script run in this directory builds the programs that
// they use.
package kube

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// tools is the directory of the programs of Kubernetes and etcd, and program is ours.
var (
	tools   = os.Getenv("MULTIVALUE_KUBE_TOOLS")
	program = os.Getenv("MULTIVALUE_KUBE_PROGRAM")
)

// inside is set in the environment of the process that runs in its own namespaces.
const inside = "MULTIVALUE_KUBE_INSIDE"

// TestMain runs the tests in new namespaces. If it cannot make them, it prints that, and fails in CI.
func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		os.Exit(within(m))
	}
	if tools == "" || program == "" || helmProgram == "" {
		fmt.Fprintln(os.Stderr, "these tests are run by the script test/kube/run")
		os.Exit(1)
	}
	code, err := enter()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\n*** THE KUBERNETES TESTS ARE SKIPPED: %v ***\n\n", err)
		if os.Getenv("CI") == "true" {
			code = 1
		}
	}
	os.Exit(code)
}

// within runs the tests with their own API.
func within(m *testing.M) int {
	dir, err := os.MkdirTemp("", "kube")
	if err == nil {
		defer os.RemoveAll(dir)
		cluster, err = newAPI(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer cluster.close()
	return m.Run()
}

// enter runs this program again in namespaces. An error means that no test was run.
func enter() (code int, err error) {
	runtime.LockOSThread() // the tests would be killed when it ends
	again, err := inNamespaces()
	if err != nil {
		return 0, err
	}
	var failed *exec.ExitError
	if err := again.Wait(); errors.As(err, &failed) {
		return max(failed.ExitCode(), 1), nil
	}
	return 0, nil
}

// inNamespaces starts the tests as root of a new network. It uses the current rights, or else those of a user
// namespace. They are the first process of their namespace, so all others end with them.
func inNamespaces() (started *exec.Cmd, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	const own = syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
	for _, as := range []*syscall.SysProcAttr{
		{Cloneflags: own},
		{Cloneflags: own | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}},
	} {
		as.Pdeathsig = syscall.SIGKILL
		probe := exec.Command("sh", "-ec", network("nft add table inet kube"))
		probe.SysProcAttr = as
		if out, refused := probe.CombinedOutput(); refused != nil {
			err = fmt.Errorf("cannot create namespaces: %w: %s", refused, out)
			continue
		}
		again := exec.Command("sh", append([]string{"-ec", network(`exec "$0" "$@"`), self}, os.Args[1:]...)...)
		again.Env = append(os.Environ(), inside+"=1")
		again.Stdout, again.Stderr = os.Stdout, os.Stderr
		again.SysProcAttr = as
		return again, again.Start()
	}
	return nil, err
}

// network is a script that sets up the new namespaces, and runs what follows. All addresses lead back to this
// machine. IPv6 addresses to listen on are added one by one.
func network(then string) string {
	lines := []string{
		"mount -t proc proc /proc",
		"ip link set lo up",
		"ip route add local 192.0.2.0/24 dev lo",
		"ip route add local 198.18.0.0/16 dev lo",
	}
	for n := 11; n < 20; n++ {
		lines = append(lines, fmt.Sprintf("ip addr add 2001:db8::%d/128 dev lo nodad", n))
	}
	return strings.Join(append(lines, then), "\n")
}

func tool(name string) string { return filepath.Join(tools, name) }
