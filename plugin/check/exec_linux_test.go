package check_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"

	"golang.org/x/sys/unix"
)

var execAt = netip.MustParseAddrPort("[2001:db8::7]:5432")

// shell is a check by a few lines of shell.
func shell(t *testing.T, lines string, args ...string) *check.Check {
	t.Helper()
	return mustNew(t, "exec://:5432", append(opt("command", "/bin/sh", "-c", lines, "sh"), args...))
}

// What programs do, and what becomes of it.
func TestExec(t *testing.T) {
	for lines, want := range map[string]string{
		"exit 0":                                       "",
		"echo all is well":                             "",
		"exit 3":                                       "exit status 3",
		"echo no; echo more; exit 1":                   `exit status 1: "no"`,
		"echo >&2; echo to err >&2; exit 2":            `exit status 2: "to err"`,
		`printf '\033[31m\000\r\n'; false`:             `exit status 1: "\x1b[31m\x00"`,
		"kill -SEGV $$":                                "ended by signal 11 (segmentation fault)",
		"kill -KILL $$":                                "ended by signal 9 (killed)",
		"yes no | head -c 10000000; exit 1":            `exit status 1: "no"`,
		`head -c 100000 /dev/zero | tr '\0' x; exit 1`: `exit status 1: "` + strings.Repeat("x", 59) + `"…`,
		"exec >&- 2>&-; sleep 0.1; exit 1":             "exit status 1",
		"[ $# = 4 ] && [ \"$1\" = a ] && [ \"$2\" = 'b c' ] && [ $3 = 2001:db8::7 ] && [ $4 = 5432 ]": "",
		"[ $MULTIVALUE_ADDRESS = 2001:db8::7 ] && [ $MULTIVALUE_PORT = 5432 ]":                        "",
		"[ $PWD = / ]":                            "",
		"read x; [ $? = 1 ]":                      "", // there is no input
		"[ $(cut -d' ' -f5 /proc/$$/stat) = $$ ]": "",
	} {
		if got := reason(probe(shell(t, lines, "a", "b c"), execAt)); got != want {
			t.Errorf("%s: %q, want %q", lines, got, want)
		}
	}
}

// A program gets nothing of ours but where to ask: no variable, no descriptor, no signal that is held back.
func TestExecInheritsNothing(t *testing.T) {
	t.Setenv("SECRET_TOKEN", "s3cret")
	for range 200 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	if err := probe(shell(t, "env > "+out+"; ls /proc/self/fd | wc -l >> "+out), execAt); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if n, err := strconv.Atoi(lines[len(lines)-1]); err != nil || n != 4+inherited(t) { // three, and the directory
		t.Errorf("%s descriptors", lines[len(lines)-1])
	}
	for _, line := range lines[:len(lines)-1] {
		name, _, _ := strings.Cut(line, "=")
		if !strings.Contains(" PATH LC_ALL MULTIVALUE_ADDRESS MULTIVALUE_PORT PWD OLDPWD SHLVL _ ", " "+name+" ") {
			t.Errorf("the environment has %s", name)
		}
	}
}

// inherited is how many descriptors we were started with that are for every child of ours: they are none of a probe's doing.
func inherited(t *testing.T) (n int) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name())
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && fd > 2 && flags&unix.FD_CLOEXEC == 0 {
			n++
		}
	}
	return n
}

// alive reports whether a process is there, and no corpse.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(state, "Z")
}

// A program and all it has started are gone after the probe: when it takes too long, when it is done but its children
// are not, when it does not mind signals, and when the probe is cancelled.
func TestExecEndsTheGroup(t *testing.T) {
	for name, tt := range map[string]struct {
		lines string
		limit time.Duration
		want  string
	}{
		"too long":            {"sleep 1000 & echo $! > FILE; sleep 1000", brief, "timed out"},
		"too long, and says":  {"sleep 1000 & echo $! > FILE; echo waiting; sleep 1000", brief, `timed out: "waiting"`},
		"children left":       {"sleep 1000 & echo $! > FILE; exit 0", patient, ""},
		"children left, bad":  {"sleep 1000 & echo $! > FILE; echo no; exit 1", patient, `exit status 1: "no"`},
		"deaf":                {"trap '' TERM INT HUP; sh -c 'trap \"\" TERM; sleep 1000' & echo $! > FILE; while :; do sleep 1; done", brief, "timed out"},
		"stopped":             {"sleep 1000 & echo $! > FILE; kill -STOP $$", brief, "timed out"},
		"endless output":      {"sleep 1000 & echo $! > FILE; while :; do echo y; done", brief, `timed out: "y"`},
		"output without ends": {"sleep 1000 & echo $! > FILE; exec yes", brief, `timed out: "y"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pid")
			c, pid, got := shell(t, strings.ReplaceAll(tt.lines, "FILE", file)), 0, ""
			for limit := tt.limit; (pid == 0 || got != tt.want) && limit <= patient; limit *= 2 { // on a busy machine it had no time to begin
				got = reason(probeFor(c, execAt, limit))
				text, _ := os.ReadFile(file)
				pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if pid == 0 || !wait(func() bool { return !alive(pid) }) {
				t.Errorf("process %d goes on", pid)
			}
		})
	}
}

func TestExecCancelled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	c := shell(t, "echo $$ > "+file+"; sleep 1000")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Probe(ctx, execAt) }()
	pid := 0
	wait(func() bool {
		text, _ := os.ReadFile(file)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return pid > 0
	})
	cancel()
	if err := <-done; reason(err) != "could not ask: cancelled" || !errors.Is(err, check.ErrAbstain) {
		t.Errorf("%v", err)
	}
	if pid == 0 || alive(pid) {
		t.Errorf("process %d goes on", pid)
	}
}

// Somebody who leaves the group and keeps the output open does not hold up the probe.
func TestExecLeaver(t *testing.T) {
	lookFor(t, "setsid")
	file := filepath.Join(t.TempDir(), "pid")
	c := shell(t, "setsid sh -c 'echo $$ > "+file+"; exec sleep 1000' & while ! [ -s "+file+" ]; do sleep 0.01; done; echo left; exit 1")
	if got := reason(probe(c, execAt)); got != `exit status 1: "left"` {
		t.Errorf("%q", got)
	}
	text, _ := os.ReadFile(file)
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || syscall.Kill(pid, syscall.SIGKILL) != nil {
		t.Errorf("there was no leaver: %v", err)
	}
}

// A program that goes into another group itself is ended too. It would be there for longer than any test.
func TestExecLeavesTheGroup(t *testing.T) {
	perl := lookFor(t, "perl")
	file := filepath.Join(t.TempDir(), "pid")
	c := mustNew(t, "exec://:1", opt("command", perl, "-e",
		`setpgrp(0, getpgrp(getppid())) or die $!; open(F, ">", $ARGV[0]); print F $$; close F; sleep 1000`, file))
	pid := 0
	for limit := brief; pid == 0 && limit <= patient; limit *= 2 {
		if got := reason(probeFor(c, execAt, limit)); got != "timed out" {
			t.Errorf("%q", got)
		}
		text, _ := os.ReadFile(file)
		pid, _ = strconv.Atoi(string(text))
	}
	if pid == 0 || alive(pid) {
		t.Errorf("process %d goes on", pid)
	}
}

// Who runs as somebody else cannot be ended by us, unless we are root.
func TestExecSetuid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	if err := errors.Join(os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755), os.Chmod(filepath.Dir(path), 0o755),
		os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{os.ModeSetuid, os.ModeSetgid} {
		if err := os.Chmod(path, 0o755|mode); err != nil {
			t.Fatal(err)
		}
		asNobody(t, func() {
			_, err := check.New("exec://:1", options(opt("command", path))...)
			want := "option command: " + strconv.Quote(path) + " runs as another user or group (setuid, setgid), and could not be ended"
			if len(path) < 60 && reason(err) != want || err == nil {
				t.Errorf("%v, want %s", err, want)
			}
		})
		if _, err := check.New("exec://:1", options(opt("command", path))...); os.Geteuid() == 0 && err != nil {
			t.Errorf("as root: %v", err)
		}
	}
}

// asNobody runs f on a thread of another user, if this is root. It is not used again.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	const nobody = 65534
	done := make(chan error)
	go func() {
		if os.Geteuid() == 0 {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
				done <- errno
				return
			}
		}
		f()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A program that cannot be started any more proves nothing (B49).
func TestExecMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	write := func(text string, mode os.FileMode) {
		_ = os.Remove(path)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("#!/bin/sh\n", 0o755)
	c := mustNew(t, "exec://:1", opt("command", path))
	if err := probe(c, execAt); err != nil {
		t.Error(err)
	}
	for want, spoil := range map[string]func(){
		"no such file or directory":  func() { _ = os.Remove(path) },
		"permission denied":          func() { write("#!/bin/sh\n", 0o644) },
		"exec format error":          func() { write("no program\n", 0o755) },
		"no such file or directory ": func() { write("#!/bin/none\n", 0o755) },
	} {
		spoil()
		err := probe(c, execAt)
		if !errors.Is(err, check.ErrAbstain) || !strings.HasSuffix(reason(err), "does not start: "+strings.TrimSpace(want)) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// Beyond so many at a time a probe waits for its turn, and proves nothing if that does not come.
func TestExecBound(t *testing.T) {
	dir := t.TempDir()
	c := shell(t, "echo > "+dir+"/$$; while ! [ -e "+dir+"/go ]; do sleep 0.05; done")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error)
	for range 64 {
		go func() { done <- c.Probe(ctx, execAt) }()
	}
	if !wait(func() bool { files, _ := os.ReadDir(dir); return len(files) == 64 }) {
		t.Fatal("they do not start")
	}
	if err := probeFor(c, execAt, brief); reason(err) != "could not ask: 64 programs of this check run already" || !errors.Is(err, check.ErrAbstain) {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(dir+"/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for range 64 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// Who got a place late, and was ended for that, proves nothing either.
func TestExecLatePlace(t *testing.T) {
	dir := t.TempDir()
	c := shell(t, "echo > "+dir+"/$$; exec sleep 1000")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	begun := func() int { files, _ := os.ReadDir(dir); return len(files) }
	first, done := make(chan error), make(chan error)
	for range 64 {
		go func() { first <- c.Probe(ctx, execAt) }()
	}
	if !wait(func() bool { return begun() == 64 }) {
		t.Fatal("they do not start")
	}
	late, end := context.WithTimeout(t.Context(), 3*time.Second)
	defer end()
	go func() { done <- c.Probe(late, execAt) }()
	if stacks := make([]byte, 1<<20); !wait(func() bool { return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("runner.take")) }) {
		t.Error("it does not wait")
	}
	for _, pid := range pids(t, dir)[:1] { // makes room
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	if got := reason(<-first); got != "ended by signal 9 (killed)" {
		t.Errorf("%q", got)
	}
	if err := <-done; !errors.Is(err, check.ErrAbstain) {
		t.Errorf("%v, by program %d", err, begun())
	}
	cancel()
	for range 63 {
		<-first
	}
}

// pids are those that have left their number in the directory.
func pids(t *testing.T, dir string) (all []int) {
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		pid, _ := strconv.Atoi(f.Name())
		all = append(all, pid)
	}
	return all
}

func BenchmarkProbeExec(b *testing.B) {
	benchmarkAt(b, mustNew(b, "exec://:1", opt("command", "/bin/true")), execAt)
}
