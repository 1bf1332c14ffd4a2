package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// runnable looks for a program that this process may run.
func runnable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", quote(path))
	case unix.Access(path, unix.X_OK) != nil:
		return fmt.Errorf("%s is not executable by this user", quote(path))
	case info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 && os.Geteuid() != 0:
		return fmt.Errorf("%s is setuid or setgid, and the server could not kill it: use a program that is not", quote(path))
	}
	return nil
}

// A runner runs one command, for many addresses at once.
type runner struct {
	command []string
	slots   chan struct{} // one taken for each program that runs
}

func newRunner(command []string) prober {
	return runner{command, make(chan struct{}, runLimit)}
}

var errBusy = fmt.Errorf("%w: %d programs of this check are already running", ErrAbstain, runLimit)

func (r runner) probe(ctx context.Context, addr netip.AddrPort) error {
	waited, ok := r.acquireSlot(ctx)
	if !ok {
		return errBusy
	}
	defer func() { <-r.slots }()
	timedOut, err := r.execute(ctx, addr)
	if waited && timedOut {
		return errBusy // it had the rest of the time only, which proves nothing
	}
	return err
}

// take takes a place, and reports whether it had to wait for that. It is not ok if the time was over by then.
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
	if ctx.Err() != nil { // both were so, and one was chosen
		<-r.slots
		return true, false
	}
	return true, true
}

// run starts the program in a process group of its own, and ends the whole of that however it came out: with ctx, or
// with the program.
func (r runner) execute(ctx context.Context, addr netip.AddrPort) (timedOut bool, result error) {
	output, theirs, err := os.Pipe()
	if err != nil {
		return false, fmt.Errorf("%w: %s", ErrAbstain, describe(err))
	}
	defer output.Close()
	cmd := exec.Command(r.command[0], execArgs(r.command, addr)...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", execEnviron(addr), theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return false, fmt.Errorf("%w: cannot start %s: %s", ErrAbstain, quote(r.command[0]), startFailure(err))
	}
	heard := collectOutput(output)
	timedOut = awaitExit(ctx, cmd.Process.Pid)
	killGroup(cmd.Process.Pid) // while the program is not reaped, so that the number is still its own
	err = cmd.Wait()
	return timedOut, runResult(err, timedOut, heard())
}

// startWords is the cause alone: the rest repeats the path.
func startFailure(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return quote(err.Error())
}

// lastWords is how long is read on once a program has ended, for somebody who has left its group may keep the pipe open.
const outputGrace = 100 * time.Millisecond

// hear reads all that a program writes, so that it never waits for us, and keeps the beginning. What it returns ends it.
func collectOutput(output *os.File) (heard func() []byte) {
	done := make(chan []byte)
	go func() { done <- readOutput(output) }()
	return func() []byte {
		_ = output.SetReadDeadline(time.Now().Add(outputGrace))
		return <-done
	}
}

// hearOut reads up to the end or the deadline, and what is there by then: the machine may have been too busy to read it in
// time.
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

// unheard reads what is there by now, whatever the deadline. It does not wait.
func readAvailable(output *os.File, buf []byte) (n int) {
	if raw, err := output.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), buf) })
	}
	return max(n, 0)
}

// await returns when the process has ended, which it does when ctx does. It is not reaped.
func awaitExit(ctx context.Context, pid int) (timedOut bool) {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		killGroup(pid)
	})
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		continue // a signal of ours
	}
	if stop() {
		return false
	}
	<-ended
	return true
}

// kill ends a program that is not reaped, and its group, which it may have left.
func killGroup(pid int) {
	_ = unix.Kill(-pid, unix.SIGKILL)
	_ = unix.Kill(pid, unix.SIGKILL)
}

// judgeRun says how a program ended. One that ended well in time is healthy, whatever it wrote.
func runResult(err error, timedOut bool, output []byte) error {
	var exit *exec.ExitError
	switch {
	case timedOut:
		return execFailure("timed out", output)
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return fmt.Errorf("%w: %s", ErrAbstain, quote(err.Error()))
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return execFailure(fmt.Sprintf("ended by signal %d (%s)", status.Signal(), status.Signal()), output)
	}
	return execFailure(fmt.Sprintf("exit status %d", exit.ExitCode()), output)
}
