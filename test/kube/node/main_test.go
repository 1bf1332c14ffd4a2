//go:build linux

// Package node holds the tests of CoreDNS as the DNS of a cluster with a real node: kubelet, kube-proxy,
// kube-scheduler, containerd, runc and the CNI plugins, with etcd, kube-apiserver and kube-controller-manager. Its
// Pods run an image that tools/release made, with the manifests of deploy/kubernetes, and clients ask as Pods do: by
// their resolv.conf, through the Service's address. Tests that need no Pods are in test/kube, which is faster and may
// change any setting.
//
// Everything runs in namespaces that the tests make, with their own control groups, and ends with them. The node has
// the address 192.0.2.1, Services have 198.51.100.0/24, and Pods 203.0.113.0/24 and 2001:db8:2::/64. The tests share
// the node and the CoreDNS on it, and run one after the other.
//
// They need Linux with control groups of version 1, root, runc, ip and iptables. The script test/kube/run-node builds the
// rest.
package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// These are the directories of the programs of the API, of those of the node, and of the images.
var (
	apiTools  = os.Getenv("MULTIVALUE_KUBE_TOOLS")
	nodeTools = os.Getenv("MULTIVALUE_NODE_TOOLS")
	images    = os.Getenv("MULTIVALUE_NODE_IMAGES")
)

// These environment variables are for the script that sets up the namespaces, and for the process that runs in them:
// a directory, and a control group.
const directory, group = "DIR", "CGROUP"

const controllers = "/sys/fs/cgroup"

// TestMain runs the tests in new namespaces. If it cannot make them, it prints that, and fails in CI.
func TestMain(m *testing.M) {
	if os.Getenv(group) != "" {
		os.Exit(within(m, os.Getenv(directory)))
	}
	os.Setenv("PATH", path())
	if err := missing(); err != nil {
		fmt.Fprintf(os.Stderr, "\n*** THE TESTS ON A NODE ARE SKIPPED: %v ***\n\n", err)
		if os.Getenv("CI") != "true" {
			os.Exit(0)
		}
		os.Exit(1)
	}
	if apiTools == "" || nodeTools == "" || images == "" {
		fmt.Fprintln(os.Stderr, "these tests are run by the script test/kube/run-node")
		os.Exit(1)
	}
	runtime.LockOSThread() // the tests would be killed when it ends
	code, err := enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// missing returns what these tests lack on this machine.
func missing() error {
	if os.Getuid() != 0 {
		return errors.New("a kubelet needs root")
	}
	if _, err := os.Stat(controllers + "/cpuset/cpuset.cpus"); err != nil {
		return fmt.Errorf("no control groups of version 1: %w", err)
	}
	for _, program := range []string{"runc", "ip", "iptables", "ip6tables"} {
		if _, err := exec.LookPath(program); err != nil {
			return err
		}
	}
	return nil
}

// within runs the tests on their own node.
func within(m *testing.M, dir string) int {
	if err := newCluster(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// enter runs this program again in namespaces, and cleans up after it.
func enter() (code int, err error) {
	sweep("*")
	run := prefix + strconv.Itoa(os.Getpid())
	dir := filepath.Join(os.TempDir(), run)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return 0, err
	}
	defer sweep(strconv.Itoa(os.Getpid()))
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	again := exec.Command("./inside", append([]string{self}, os.Args[1:]...)...)
	again.Env = append(os.Environ(), directory+"="+dir, group+"="+run, "HOME="+dir)
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWNS |
		syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC}
	return wait(again)
}

// wait runs a program until it ends, or until a signal ends this process.
func wait(again *exec.Cmd) (code int, err error) {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM)
	if err := again.Start(); err != nil {
		return 0, err
	}
	over := make(chan struct{})
	go func() {
		select {
		case <-interrupted:
			_ = again.Process.Kill() // and all processes in its namespace with it
		case <-over:
		}
	}()
	err = again.Wait()
	close(over)
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return max(failed.ExitCode(), 1), nil
	}
	return 0, err
}

func path() string {
	return strings.Join([]string{nodeTools, apiTools, os.Getenv("PATH"), "/usr/sbin", "/sbin"}, ":")
}

// prefix begins the names of control groups and directories. The rest of a name is the process that made it.
const prefix = "multivalue-node-"

// sweep removes the control groups and the directories of runs that have ended, and those of this process. The last
// processes end a moment after their namespace.
func sweep(run string) {
	directories, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+run))
	for _, d := range directories {
		if !running(d) {
			_ = os.RemoveAll(d)
		}
	}
	for range 50 {
		left := 0
		groups, _ := filepath.Glob(filepath.Join(controllers, "*", prefix+run))
		for _, g := range groups {
			if !running(g) && !removed(g) {
				left++
			}
		}
		if left == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// running reports whether the tests that made something still run. Tests that call it have run.
func running(what string) bool {
	pid, err := strconv.Atoi(filepath.Base(what)[len(prefix):])
	return err == nil && pid != os.Getpid() && syscall.Kill(pid, 0) == nil
}

// removed removes a control group and those in it, the innermost first.
func removed(group string) bool {
	inner, _ := os.ReadDir(group)
	for _, g := range inner {
		if g.IsDir() {
			removed(filepath.Join(group, g.Name()))
		}
	}
	return os.Remove(group) == nil
}
