package check_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// A real server of grpc-go in its own process: it hangs, has no free connection, continues, dies.
func TestRealGRPC(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.startGRPC()
	c := mustNew(t, "grpc://:1")
	s.await(c, "")
	s.await(mustNew(t, "grpc://:1/no.Service"), `service unknown \(NOT_FOUND\)`)
	s.fails(c, silent)
}

// The same over TLS, with valid and invalid certificates.
func TestRealGRPCS(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.directory("data")
	trusted := newAuthority(t)
	s.certify(trusted, template("db.example.org"))
	s.startGRPC(grpcFiles + "=" + s.dir + "/data")
	c := mustNew(t, "grpcs://db.example.org:1", opt("ca", trusted.file(t)))
	s.judgesCertificates(c, s.addr, trusted, func() {})
	s.await(mustNew(t, "grpc://:1"), "no response: connection (closed|reset)|connection reset while waiting for the response")
	s.await(mustNew(t, "grpcs://db.example.org:1/no.Service", opt("ca", trusted.file(t))), `service unknown \(NOT_FOUND\)`)
	s.fails(c, "tls handshake: timed out")
}

// startGRPC starts a server of grpc-go.
func (s *server) startGRPC(environ ...string) {
	s.Helper()
	self, err := os.Executable()
	if err != nil {
		s.Fatal(err)
	}
	s.cmd = exec.Command(self)
	s.cmd.Env = append(append(os.Environ(), grpcServer+"="+s.addr.String()), environ...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(s.end)
}

// fails lets the server hang and continue, be overrun and free again, and die.
func (s *server) fails(c *check.Check, deaf string) {
	s.Helper()
	s.hangs(c, deaf)
	s.await(c, "")
	release := s.overrun(crowd{s.addr, grpcCrowd, ""}, c, deaf)
	release()
	s.await(c, "")
	s.end()
	s.await(c, "connection refused")
}
