package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// runnable reports why this process cannot run the program, or cannot kill it.
func runnable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", quote(path))
	case unix.Access(path, unix.X_OK) != nil:
		return fmt.Errorf("%s is not executable by this user", quote(path))
	// A process may only be killed by a process of its own user, or by root (kill(2)).
	case info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 && os.Geteuid() != 0:
		return fmt.Errorf("%s is setuid or setgid, and the server could not kill it: use a program that is not", quote(path))
	}
	return startable(path)
}

// A runner runs one command, for many addresses at once.
type runner struct {
	command []string
	slots   chan struct{} // one entry for each running program
	late    late
}

// newRunner makes the prober of an exec check.
func newRunner(command []string) prober {
	return runner{command, make(chan struct{}, runLimit), make(late, 16*runLimit)}
}

// errBusy means that the probe found no free slot in its time.
var errBusy = fmt.Errorf("%w: %d programs of this check are already running", ErrAbstain, runLimit)

// probe runs the program for one address. A probe that had to wait for a slot and then timed out
// abstains: the program did not have the whole time, so its failure proves nothing.
func (r runner) probe(ctx context.Context, addr netip.AddrPort) error {
	waited, ok := r.acquireSlot(ctx)
	if !ok {
		return errBusy // the program had only the rest of the time
	}
	defer func() { <-r.slots }()
	timedOut, err := r.execute(ctx, addr)
	if waited && timedOut {
		return errBusy // the program had only the rest of the time
	}
	return err
}

// acquireSlot takes a slot, and reports whether it had to wait. It is not ok if ctx ended first;
// then no slot is taken.
func (r runner) acquireSlot(ctx context.Context) (waited, ok bool) {
	select {
	case r.slots <- struct{}{}:
		return false, true
	default:
	}
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return true, false
	}
	if ctx.Err() != nil { // both were ready, and select chose the slot
		<-r.slots
		return true, false
	}
	return true, true
}

// execute starts the program in a process group of its own. When the program ends or ctx does, the
// whole group is killed, so that nothing that the program started is left.
func (r runner) execute(ctx context.Context, addr netip.AddrPort) (timedOut bool, result error) {
	r.late.collect()
	// A pipe of our own, and not one of os/exec: cmd.Wait would wait until every process that
	// inherited the pipe has closed it.
	output, theirs, err := os.Pipe()
	if err != nil {
		return false, fmt.Errorf("%w: %s", ErrAbstain, describe(err))
	}
	defer output.Close()
	cmd := exec.Command(r.command[0], execArgs(r.command, addr)...)
	// The program must not depend on where the server was started.
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", execEnviron(addr), theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Our copy of the write end is closed below, so that reading ends when the last process of the
	// program does.
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return false, fmt.Errorf("%w: cannot start %s: %s", ErrAbstain, quote(r.command[0]), startFailure(err))
	}
	heard := collectOutput(output)
	timedOut = awaitExit(ctx, cmd.Process.Pid)
	killGroup(cmd.Process.Pid) // the program is not reaped yet, so its process ID cannot have been reused
	status, done, err := reap(cmd.Process)
	if !done {
		r.late.keep(cmd.Process.Pid)
	}
	if err != nil {
		heard()
		return timedOut, fmt.Errorf("%w: %s", ErrAbstain, quote(err.Error()))
	}
	return timedOut, runResult(status, timedOut, heard())
}

// startFailure is why the program did not start, without the path, which the error of os/exec
// repeats.
func startFailure(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return quote(err.Error())
}

// outputGrace is how long the output is still read after the program has ended. A process that left
// the group may keep the pipe open, and must not delay the probe.
const outputGrace = 100 * time.Millisecond

// collectOutput reads everything that a program writes, so that it never blocks on a full pipe, and
// keeps the beginning. The returned function must be called once the program has ended: it ends the
// reading and returns what was kept.
func collectOutput(output *os.File) (heard func() []byte) {
	done := make(chan []byte)
	go func() { done <- readOutput(output) }()
	return func() []byte {
		_ = output.SetReadDeadline(time.Now().Add(outputGrace))
		return <-done
	}
}

// readOutput reads up to the end or the deadline. At the deadline it takes what is in the pipe by
// then: on a busy machine this goroutine may have had no time to read it.
func readOutput(output *os.File) []byte {
	var kept bytes.Buffer
	buf := make([]byte, outputLimit)
	for {
		n, err := output.Read(buf)
		if err != nil {
			n = readAvailable(output, buf)
		}
		kept.Write(buf[:min(n, outputLimit-kept.Len())])
		if err != nil {
			return kept.Bytes()
		}
	}
}

// readAvailable reads what is in the pipe now, even if the deadline has passed. It does not wait.
func readAvailable(output *os.File, buf []byte) (n int) {
	if raw, err := output.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), buf) })
	}
	return max(n, 0)
}

// awaitExit returns when the process has ended; it is killed when ctx ends. It does not reap the
// process (waitid(2) with WNOWAIT), so the process ID stays valid for killGroup.
func awaitExit(ctx context.Context, pid int) (timedOut bool) {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		killGroup(pid)
	})
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		continue // interrupted by a signal to this process
	}
	if stop() {
		return false
	}
	<-ended
	return true
}

// killGroup kills a program that is not reaped yet, and its process group. The program is killed by
// its own ID as well, because it may have left the group.
func killGroup(pid int) {
	// A negative number addresses the group, which has the ID of the program.
	_ = unix.Kill(-pid, unix.SIGKILL)
	_ = unix.Kill(pid, unix.SIGKILL)
}

// runResult turns the end of a program into a result. Exit status 0 in time is healthy, whatever
// the output.
func runResult(status syscall.WaitStatus, timedOut bool, output []byte) error {
	switch {
	case !timedOut && status.Exited() && status.ExitStatus() == 0:
		return nil
	case cannotFork(output):
		return fmt.Errorf("%w: the program could not start another: %s", ErrAbstain, firstLine(output))
	case timedOut:
		return execFailure("timed out", output)
	case status.Signaled(): // an exit code would not say which signal it was
		return execFailure(fmt.Sprintf("ended by signal %d (%s)", status.Signal(), status.Signal()), output)
	}
	return execFailure(fmt.Sprintf("exit status %d", status.ExitStatus()), output)
}

// forkFailures is what programs say if the limit of processes is reached, of the user or of the
// container: dash; BusyBox; bash, which also says it before each of its attempts; Python; Go; and
// strerror(EAGAIN) of the C libraries behind "fork:". The locale is always C.
var forkFailures = regexp.MustCompile(`(?m)^[^"\n]{0,80}(: (Cannot|can't) fork\b|\bfork: (retry: )?Resource temporarily unavailable|` +
	`\bfork/exec \S+: resource temporarily unavailable)|^BlockingIOError: \[Errno 11\] Resource temporarily unavailable$`)

// cannotFork reports whether a program failed because it could not start another one. Like a
// program that cannot be started at all, this is a limit of this host, and proves nothing about the
// target.
func cannotFork(output []byte) bool { return forkFailures.Match(output) }
