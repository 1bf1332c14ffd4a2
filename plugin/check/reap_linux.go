package check

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reapGrace is how long a probe waits for the end of a group that was killed. A process takes longer
// if it cannot be killed, because it runs as another user or waits for a broken disk, or if the
// machine is very busy.
const reapGrace = time.Second

// reap collects the program, which must have ended, and returns its status. It also collects the
// children of ours that are left in its process group, and reports whether none is left that runs.
//
// A process whose parent has ended becomes a child of process 1. In a container that is CoreDNS,
// and every process that it does not wait for stays as a zombie, until no more can be started. Only
// the group is waited for: other parts of the server wait for children of their own.
func reap(program *os.Process) (status syscall.WaitStatus, done bool, err error) {
	end, pause := time.Now().Add(reapGrace), time.Millisecond
	found := false
	for {
		done = reapEnded(program.Pid, func(pid int, ended syscall.WaitStatus) {
			if pid == program.Pid {
				found, status = true, ended
			}
		})
		if done || time.Now().After(end) {
			break
		}
		time.Sleep(pause)
		pause *= 2
	}
	if found {
		return status, done, program.Release()
	}
	// The program has left the group.
	state, err := program.Wait()
	if err != nil {
		return 0, done, err
	}
	return state.Sys().(syscall.WaitStatus), done, nil
}

// late are groups in which children of ours ran on when the probe had waited long enough. The next
// probes collect them: without one of these, they would stay as zombies. The number of a group is
// not given to another one as long as we have not collected its last child.
type late chan int

// keep notes a group. If there are too many, it is forgotten.
func (l late) keep(group int) {
	select {
	case l <- group:
	default:
	}
}

// collect collects what has ended since.
func (l late) collect() {
	for range len(l) {
		select {
		case group := <-l:
			if !reapEnded(group, func(int, syscall.WaitStatus) {}) {
				l.keep(group)
			}
		default: // another probe has it
			return
		}
	}
}

// reapEnded collects our children in the group that have ended, and reports whether none is left
// that runs.
//
// Once the last one is collected, the kernel may give the number of the group to a new process. No
// process is started meanwhile (ForkLock), so the number cannot be that of another program of ours.
// While one is left, the number stays with its group.
func reapEnded(group int, each func(pid int, status syscall.WaitStatus)) (done bool) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-group, &status, unix.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return true // ECHILD: none is left
		case pid == 0:
			return false
		default:
			each(pid, status)
		}
	}
}
