package signals

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Command is exec.Command for a program that Trapped is to be asked of. The program starts with SIGINT ignored, since it
// shows from outside only then that Go's signal.Notify was called for SIGINT.
func Command(name string, args ...string) *exec.Cmd {
	return exec.Command("sh", append([]string{"-c", `trap "" INT; exec "$@"`, "sh", name}, args...)...)
}

// Trapped reports whether a CoreDNS that was started by Command has called signal.Notify for all of its signals.
//
// One goroutine asks for SIGINT, which is then caught and no longer ignored. The other asks for SIGUSR2 last, in one call
// with SIGTERM and SIGUSR1. For such signals a Go program has a thread, which blocks those that were not asked for. Other
// threads block none, or for a moment all. SIGWINCH, for which CoreDNS does not ask, tells that thread apart.
func Trapped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, path := range threads {
		status, _ := os.ReadFile(path)
		caught, blocked := mask(status, "SigCgt"), mask(status, "SigBlk")
		if caught.has(syscall.SIGINT) && blocked.has(syscall.SIGWINCH) && !blocked.has(syscall.SIGUSR2) {
			return true
		}
	}
	return false
}

// signalSet is a set of signals as the kernel shows it.
type signalSet uint64

func (s signalSet) has(n syscall.Signal) bool { return s&(1<<(n-1)) != 0 }

// mask is one of the sets in the status of a thread; empty if the thread is gone.
func mask(status []byte, which string) signalSet {
	_, text, _ := strings.Cut(string(status), "\n"+which+":\t")
	text, _, _ = strings.Cut(text, "\n")
	all, _ := strconv.ParseUint(text, 16, 64)
	return signalSet(all)
}
