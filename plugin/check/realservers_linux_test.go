package check_test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// A server is a real one from Debian, which a test starts on a loopback address in its own process
// group. It runs in the directory of the test. If the test is root, the server runs without that
// privilege, because some servers refuse to run as root, unless it needs root.
type server struct {
	*testing.T
	dir  string
	addr netip.AddrPort
	root bool // it needs root
	cmd  *exec.Cmd
	log  lockedText
}

// lockedText collects the output of a running server.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// places are where Debian installs programs that are not in PATH.
var places = []string{"", "/usr/sbin/", "/usr/lib/postgresql/*/bin/"}

// lookFor finds a program, or skips the test. In CI that is a failure.
func lookFor(t *testing.T, name string) string {
	t.Helper()
	for _, place := range places {
		found, _ := filepath.Glob(place + name)
		for _, path := range append(found, place+name) {
			if path, err := exec.LookPath(path); err == nil {
				return path
			}
		}
	}
	lacking(t, "there is no "+name)
	return ""
}

// newServer makes the directory for a server.
func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{T: t, dir: t.TempDir(), addr: refusing(t)}
	if err := os.Chmod(filepath.Dir(s.dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(s.dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

const nobody = 65534

func (s *server) command(name string, args ...string) *exec.Cmd {
	s.Helper()
	words := strings.NewReplacer("DIR", s.dir, "HOST", s.addr.Addr().String(), "PORT", port(s.addr))
	cmd := exec.Command(lookFor(s.T, name))
	for _, a := range args {
		cmd.Args = append(cmd.Args, words.Replace(a))
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, &s.log, &s.log
	cmd.Env = append(os.Environ(), "LC_ALL=C", "HOME="+s.dir, "TMPDIR="+s.dir) // MariaDB begins by clearing away what others have there
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 && !s.root {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return cmd
}

func port(addr netip.AddrPort) string { return fmt.Sprint(addr.Port()) }

// directory makes a directory below that of the server.
func (s *server) directory(name string) {
	s.Helper()
	if err := os.Mkdir(filepath.Join(s.dir, name), 0o755); err != nil {
		s.Fatal(err)
	}
}

// run runs a program to its end and returns its output.
func (s *server) run(name string, args ...string) string {
	s.Helper()
	cmd := s.command(name, args...)
	cmd.Stdout, cmd.Stderr = nil, nil
	text, err := cmd.CombinedOutput()
	if err != nil {
		s.Fatalf("%s: %v: %s", name, err, text)
	}
	return string(text)
}

// file writes a file that the server can read.
func (s *server) file(name, text string) {
	s.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
		s.Fatal(err)
	}
}

// start starts the server. It runs until the test is over or end is called.
func (s *server) start(name string, args ...string) {
	s.Helper()
	s.cmd = s.command(name, args...)
	if err := s.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(s.end)
}

// signal sends a signal to the first process and all its children.
func (s *server) signal(sig syscall.Signal) { _ = syscall.Kill(-s.cmd.Process.Pid, sig) }

// end kills the server. From then on, its address refuses connections.
func (s *server) end() {
	if s.cmd != nil {
		s.signal(syscall.SIGKILL)
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// await probes until the whole reason matches want, a regular expression. It has to poll: a server
// does not announce a new state.
func (s *server) await(c *check.Check, want string) {
	s.Helper()
	s.awaitAt(s.addr, c, want)
}

// awaitAt is await for another address of the server.
func (s *server) awaitAt(addr netip.AddrPort, c *check.Check, want string) {
	s.Helper()
	whole, got := regexp.MustCompile("^(?:"+want+")$"), ""
	for end := time.Now().Add(patient); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got = reason(probeFor(c, addr, 2*time.Second)); whole.MatchString(got) {
			return
		}
	}
	log := s.log.String()
	s.Fatalf("%s: %s, want %s; log:\n%s", c, got, want, log[max(0, len(log)-1000):])
}

// silent is the reason if a server hangs: its kernel accepts connections, and it sends nothing.
const silent = "no response: timed out"

// hangs stops the server during a probe, which must fail with that reason.
func (s *server) hangs(c *check.Check, want string) {
	s.Helper()
	s.signal(syscall.SIGSTOP)
	defer s.signal(syscall.SIGCONT)
	got := ""
	if !wait(func() bool { // a signal takes its time, and so does a connection on a busy machine
		got = reason(probeFor(c, s.addr, brief))
		return got == want
	}) {
		s.Errorf("stopped: %s: %q, want %q", c, got, want)
	}
}

// A crowd is a number of connections to an address, each of which sends a few words.
type crowd struct {
	addr  netip.AddrPort
	n     int
	words string
}

// overrun opens a crowd until a check has the wanted reason. The crowd stays until release is
// called. It may take more connections than the limit: the server may still count earlier ones, and
// turn one of the crowd away.
func (s *server) overrun(by crowd, c *check.Check, want string) (release func()) {
	s.Helper()
	var held []net.Conn
	release = func() {
		for _, conn := range held {
			conn.Close()
		}
	}
	s.Cleanup(release)
	whole, got := regexp.MustCompile("^(?:"+want+")$"), ""
	for end := time.Now().Add(patient); len(held) < by.n || time.Now().Before(end) && !whole.MatchString(got); {
		conn, err := net.DialTimeout("tcp", by.addr.String(), patient)
		if err == nil {
			held = append(held, conn)
			_, err = io.WriteString(conn, by.words)
		}
		if err != nil {
			s.Fatal(err)
		}
		if len(held) >= by.n {
			got = reason(probeFor(c, s.addr, 2*time.Second))
		}
	}
	if !whole.MatchString(got) {
		s.Fatalf("%s: %s beside %d others, want %s", c, got, len(held), want)
	}
	return release
}

// certify gives the server a certificate and its key.
func (s *server) certify(by *authority, cert *x509.Certificate) {
	s.Helper()
	signed, own := sign(s.T, cert, by)
	key, err := x509.MarshalPKCS8PrivateKey(own.key)
	if err != nil {
		s.Fatal(err)
	}
	s.file("data/server.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed.Certificate[0]})))
	s.file("data/server.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	path := filepath.Join(s.dir, "data/server.key")
	if err := os.Chmod(path, 0o600); err != nil {
		s.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(path, nobody, nobody); err != nil {
			s.Fatal(err)
		}
	}
}

// judgesCertificates gives the server one certificate after the other; renew makes it use the new
// one. Each time it looks at the result of a check that trusts the authority and asks for
// db.example.org.
func (s *server) judgesCertificates(c *check.Check, addr netip.AddrPort, trusted *authority, renew func()) {
	s.Helper()
	good, old, other := template("db.example.org"), expired("db.example.org"), template("other.example.org")
	const failed = "tls handshake: certificate "
	for _, tt := range []struct {
		by   *authority
		cert *x509.Certificate
		want string
	}{
		{trusted, good, ""},
		{trusted, old, failed + "expired on " + date(old.NotAfter)},
		{trusted, other, failed + `is for "other.example.org", not "db.example.org"`},
		{newAuthority(s.T), good, failed + "signed by an unknown authority"},
		{trusted, good, ""},
	} {
		s.certify(tt.by, tt.cert)
		renew()
		s.awaitAt(addr, c, tt.want)
	}
}

// expired is a template for a certificate that was valid until yesterday.
func expired(name string) *x509.Certificate {
	cert := template(name)
	cert.NotBefore, cert.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	return cert
}
