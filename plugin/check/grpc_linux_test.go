package check_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// A real server of grpc-go, in a process of its own: it hangs, it goes on, it dies.
func TestRealGRPC(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	s.cmd = exec.Command(self)
	s.cmd.Env = append(os.Environ(), grpcServer+"="+s.addr.String())
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	c := mustNew(t, "grpc://:1")
	s.await(c, "")
	s.await(mustNew(t, "grpc://:1/no.Service"), `service unknown \(NOT_FOUND\)`)
	s.hangs(c, silent)
	s.await(c, "")
	s.end()
	s.await(c, "connection refused")
}
