package check

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reapGrace is how long a probe waits for the end of a group that was killed. Only a process that
// cannot be killed, because it runs as another user or waits for a broken disk, takes longer.
const reapGrace = time.Second

// reap collects the program, which must have ended, and returns its status. It also collects the
// children of ours that are left in its process group.
//
// A process whose parent has ended becomes a child of process 1. In a container that is CoreDNS,
// and every process that it does not wait for stays as a zombie, until no more can be started. Only
// the group is waited for: other parts of the server wait for children of their own.
func reap(program *os.Process) (status syscall.WaitStatus, err error) {
	end, pause := time.Now().Add(reapGrace), time.Millisecond
	found := false
	for !reapEnded(program.Pid, func(pid int, ended syscall.WaitStatus) {
		if pid == program.Pid {
			found, status = true, ended
		}
	}) {
		if time.Now().After(end) {
			break
		}
		time.Sleep(pause)
		pause *= 2
	}
	if found {
		return status, program.Release()
	}
	// The program has left the group.
	state, err := program.Wait()
	if err != nil {
		return 0, err
	}
	return state.Sys().(syscall.WaitStatus), nil
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
