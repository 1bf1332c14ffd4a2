package check

import (
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// A child that outlives its probe is collected by a later one, when it has ended.
func TestLateChildren(t *testing.T) {
	l := make(late, 1)
	program := exec.Command("/bin/sleep", "1000")
	program.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	group := program.Process.Pid
	l.keep(group)
	l.collect()
	if len(l) != 1 {
		t.Fatal("a group whose process runs is forgotten")
	}
	l.keep(group + 1) // without room
	killGroup(group)
	for deadline := time.Now().Add(10 * time.Second); len(l) > 0; time.Sleep(time.Millisecond) {
		if l.collect(); time.Now().After(deadline) {
			t.Fatal("a group whose process has ended is kept")
		}
	}
	if _, err := syscall.Wait4(group, nil, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("%v: the process is not collected", err)
	}
}
