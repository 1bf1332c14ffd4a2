package check_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/namespaces"
	"github.com/coredns-multivalue/multivalue/plugin/check"

	"golang.org/x/sys/unix"
)

// asFirstProcess runs the test again as process 1 of a process namespace of its own, and reports
// whether this is that process.
func asFirstProcess(t *testing.T) bool {
	t.Helper()
	return namespaces.Rerun(t, syscall.CLONE_NEWPID)
}

// leavesNothing checks that no child is left, once further probes have collected those that took longer to die.
func leavesNothing(t *testing.T, c *check.Check) {
	t.Helper()
	for deadline := time.Now().Add(patient); ; time.Sleep(time.Millisecond) {
		switch err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); {
		case err == syscall.ECHILD:
			return
		case err != nil && err != syscall.EINTR:
			t.Fatal(err)
		case time.Now().After(deadline):
			t.Fatal("a child is left")
		}
		_ = probeFor(c, execAt, brief)
	}
}

// Where the server is process 1, orphans become its children. Those of a probe leave no zombie.
func TestExecAsProcess1(t *testing.T) {
	if !asFirstProcess(t) {
		return
	}
	if os.Getpid() != 1 {
		t.Fatalf("process %d", os.Getpid())
	}
	for name, tt := range map[string]struct {
		lines string
		limit time.Duration
		want  string
	}{
		"leaves a child":            {"sleep 1000 & exit 0", patient, ""},
		"leaves an ended child":     {"true & exit 0", patient, ""},
		"leaves many":               {"for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; exit 1", patient, "exit status 1"},
		"forks twice":               {"(sleep 1000 & exit 0) & exit 0", patient, ""},
		"forks twice, and waits":    {"(sleep 1000 & exit 0); exit 0", patient, ""},
		"forks three times":         {"( (sleep 1000 & sleep 1000) & sleep 1000) & exit 0", patient, ""},
		"times out with a child":    {"sleep 1000 & sleep 1000", brief, "timed out"},
		"times out with a pipeline": {"sleep 1000 | sleep 1000", brief, "timed out"},
	} {
		c := shell(t, tt.lines)
		for range 5 {
			if got := reason(probeFor(c, execAt, tt.limit)); got != tt.want {
				t.Errorf("%s: %q, want %q", name, got, tt.want)
			}
		}
		leavesNothing(t, c)
	}
}

// A program that moves to another group is collected, and so is what it leaves in its own.
func TestExecLeavesTheGroupAsProcess1(t *testing.T) {
	perl := lookFor(t, "perl")
	if !asFirstProcess(t) {
		return
	}
	c := mustNew(t, "exec://:1", opt("command", perl, "-e",
		`pipe(R, W); if (!fork) { close W; sleep 1000 } setpgrp(0, getpgrp(getppid())) or die $!; exit 3`))
	for range 5 {
		if got := reason(probe(c, execAt)); got != "exit status 3" {
			t.Errorf("%q", got)
		}
	}
	leavesNothing(t, c)
}

// Other parts of the server start programs too, and learn how theirs end.
func TestExecStealsNoChild(t *testing.T) {
	if !asFirstProcess(t) {
		return
	}
	c := shell(t, "sleep 1000 & exit 0")
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := probe(c, execAt); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 100 {
		other := exec.Command("/bin/sh", "-c", fmt.Sprintf("exit %d", i))
		if i%2 == 0 {
			other.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		}
		_ = other.Run()
		if other.ProcessState == nil || other.ProcessState.ExitCode() != i {
			t.Errorf("%v, want exit status %d", other.ProcessState, i)
		}
	}
	close(stop)
	all.Wait()
	leavesNothing(t, c)
}

// limited runs a shell script that cannot start another process, as if the limit of the user were
// reached.
func limited(t *testing.T, shell, script string) *check.Check {
	t.Helper()
	command := []string{lookFor(t, "prlimit"), "--nproc=1"}
	if os.Geteuid() == 0 { // root has no limit
		command = append(command, lookFor(t, "setpriv"), "--reuid=61234", "--clear-groups")
	}
	return mustNew(t, "exec://:1", append(append(opt("command"), command...), lookFor(t, shell), "-c", script))
}

// At our limit of processes, a program that cannot start another one proves nothing. Bash tries
// again for so long that it is killed.
func TestExecCannotFork(t *testing.T) {
	const could = "could not ask: the program could not start another: "
	for _, shell := range []string{"dash", "bash"} {
		limit := patient
		if shell == "bash" {
			limit = 2 * time.Second
		}
		for script, want := range map[string]string{
			"echo x | cat; exit 1": could,
			"exit 1":               "exit status 1",
			"exit 0":               "",
			`echo 'timed out: Resource temporarily unavailable'; exit 1`: `exit status 1: "timed out: Resource temporarily unavailable"`,
		} {
			err := probeFor(limited(t, shell, script), execAt, limit)
			got := reason(err)
			if errors.Is(err, check.ErrAbstain) != (want == could) || got != want && !strings.HasPrefix(got, could) {
				t.Errorf("%s: %s: %q, want %q", shell, script, got, want)
			}
		}
	}
}

// What other programs say when they cannot fork. The same words in an answer of the peer are
// something else.
func TestExecCannotForkWords(t *testing.T) {
	for line, want := range map[string]bool{
		"sh: can't fork: Resource temporarily unavailable":                      true, // BusyBox
		"/probe: line 3: can't fork: Resource temporarily unavailable":          true,
		"/probe: fork: Resource temporarily unavailable":                        true,
		"fork/exec /bin/true: resource temporarily unavailable":                 true,
		"BlockingIOError: [Errno 11] Resource temporarily unavailable":          true,
		"Error: Resource temporarily unavailable":                               false, // redis-cli timed out
		`peer said "sh: 1: Cannot fork"`:                                        false,
		"fork: no such command":                                                 false,
		"psql: error: could not receive data: Resource temporarily unavailable": false,
	} {
		c := mustNew(t, "exec://:1", opt("command", "/bin/sh", "-c", `printf '%s\n' "$1"; exit 1`, "sh", line))
		if err := probe(c, execAt); errors.Is(err, check.ErrAbstain) != want {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// A script that the kernel would refuse is refused at the start, as far as its beginning shows it.
func TestExecScripts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	const noStart, carriage = " is text without #! at its start, which cannot be run", " has a CR at the end of its first line"
	for text, want := range map[string]string{
		"#!/bin/sh\nexit 0\r\n":                 "",
		"#!/bin/sh":                             "",
		"#!/bin/sh\nexit 0\n":                   "",
		"#!/bin/sh\r\nexit 0\r\n":               carriage,
		"exit 0\n":                              noStart,
		"":                                      noStart,
		"\ufeff#!/bin/sh\nexit 0\n":             noStart,
		"\n#!/bin/sh\nexit 0\n":                 noStart,
		"# " + strings.Repeat("ü", 300):         noStart, // its 256th byte is half a character
		"\x7fELF\x02\x01\x01\x00":               "",
		"\x00asm\x01\x00\x00\x00":               "",
		"\xca\xfe\xba\xbe":                      "",
		"#!/bin/sh " + strings.Repeat("x", 300): "",
	} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := check.New("exec://:1", options(opt("command", path))...)
		if want == "" && err != nil || want != "" && !strings.HasPrefix(reason(err), "option command: "+strconv.Quote(path)+want) {
			t.Errorf("%.20q: %v, want %q", text, err, want)
		}
	}
}
