package check_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// newCluster makes a PostgreSQL cluster with settings, and rules for who may log in, one a line.
func newCluster(t *testing.T, settings, rules string) *server {
	s := newServer(t)
	s.run("initdb", "-D", "DIR/data", "-U", "owner", "-A", "trust", "--no-sync", "--no-instructions", "-E", "UTF8", "--locale", "C")
	s.file("data/conf", "fsync = off\nunix_socket_directories = '"+s.dir+"'\nlog_line_prefix = '%p '\n"+settings)
	s.file("data/rules", "local all all trust\n"+rules+"\n")
	return s
}

func (s *server) startCluster(settings ...string) {
	s.Helper()
	args := []string{"-D", "DIR/data", "-p", "PORT", "-h", "HOST", "-c", "config_file=DIR/data/conf", "-c", "hba_file=DIR/data/rules"}
	for _, x := range settings {
		args = append(args, "-c", x)
	}
	s.start("postgres", args...)
}

func (s *server) sql(command string) string {
	s.Helper()
	return s.run("psql", "-X", "-A", "-t", "-h", "DIR", "-p", "PORT", "-U", "owner", "-d", "postgres", "-c", command)
}

// A real PostgreSQL in each of its states.
func TestRealPostgres(t *testing.T) {
	t.Parallel()
	s := newCluster(t, "max_connections = 3\nsuperuser_reserved_connections = 0\nautovacuum = off\nmax_wal_senders = 0\n",
		"host all all 127.0.0.1/32 scram-sha-256")
	c := mustNew(t, "postgres://")
	s.startCluster()
	s.await(c, "")
	s.hangs(c, silent)
	s.await(c, "")

	// The log has nothing of a probe, and no session is left.
	s.noSession()
	settled := s.log.String()
	for range 3 {
		if err := probe(c, s.addr); err != nil {
			t.Error(err)
		}
		s.noSession()
	}
	if got := s.log.String(); got != settled {
		t.Errorf("the log has %s", strings.TrimPrefix(got, settled))
	}

	for range 3 {
		s.session()
	}
	s.await(c, `postgres error "53300": "sorry, too many clients already"`)
	// Asked to stop, it waits for its sessions, and takes no others.
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	s.await(c, `postgres error "57P03": "the database system is shutting down"`)
	s.end()
	s.await(c, "connection refused")

	// It was killed, so it has something to recover from, which a broken restore makes last.
	s.file("data/recovery.signal", "")
	s.startCluster("restore_command=sleep 60")
	s.await(c, `postgres error "57P03": "the database system is (not yet accepting connections|starting up)"`)
}

// noSession waits until no process of the server is there for a client. Such a process takes a connection of max_connections
// until it has ended, which is after the client has gone.
func (s *server) noSession() {
	s.Helper()
	left := ""
	if !wait(func() bool { left = sessionOf(s.cmd.Process.Pid); return left == "" }) {
		s.Fatalf("a session is left: %s", left)
	}
}

// sessionOf returns the command line of a process that a PostgreSQL has for a client, if there is one. Those that it always
// has name what they do. One that has only just begun still has the command line of the server.
func sessionOf(postmaster int) string {
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range all {
		line, _ := os.ReadFile(stat) // empty if it has ended
		fields := strings.Fields(string(line[bytes.LastIndexByte(line, ')')+1:]))
		if len(fields) < 2 || fields[0] == "Z" || fields[1] != strconv.Itoa(postmaster) {
			continue
		}
		command, _ := os.ReadFile(filepath.Join(filepath.Dir(stat), "cmdline"))
		title := strings.Trim(strings.ReplaceAll(string(command), "\x00", " "), " ")
		if !strings.HasPrefix(title, "postgres: ") || strings.ContainsAny(title, "([") {
			return title
		}
	}
	return ""
}

// session opens a session that lasts until the server ends.
func (s *server) session() {
	s.Helper()
	cmd := s.command("psql", "-X", "-q", "-h", "DIR", "-p", "PORT", "-U", "owner", "-d", "postgres")
	in, err := cmd.StdinPipe()
	if err != nil {
		s.Fatal(err)
	}
	var out lockedText
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { in.Close(); _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); _ = cmd.Wait() })
	if _, err := in.Write([]byte("\\echo in\n")); err != nil {
		s.Fatal(err)
	}
	if !wait(func() bool { return out.String() == "in\n" }) {
		s.Fatalf("no session: %s", s.log.String())
	}
}

// postgresRules are ways to let us in or not, the first answer of the server, and its log.
var postgresRules = []struct{ rule, answer, logged string }{
	{"host all all 127.0.0.1/32 reject", "E", `FATAL:  pg_hba.conf rejects connection`},
	{"host all all 127.0.0.1/32 password", "R\x00\x00\x00\x08\x00\x00\x00\x03", ""},
	{"host all all 127.0.0.1/32 md5", "R\x00\x00\x00\x17\x00\x00\x00\x0a", ""},
	{"host all all 127.0.0.1/32 scram-sha-256", "R\x00\x00\x00\x17\x00\x00\x00\x0a", ""},
	{"host all all 127.0.0.1/32 trust", "R\x00\x00\x00\x08\x00\x00\x00\x00", `FATAL:  role "multivalue" does not exist`},
}

// Who may log in, and how, has no effect on the result.
func TestRealPostgresLogin(t *testing.T) {
	t.Parallel()
	s := newCluster(t, "", "")
	c := mustNew(t, "postgres://")
	s.startCluster()
	s.await(c, "") // no rule for us
	for _, tt := range postgresRules {
		s.rule(tt.rule, tt.answer)
		before := len(s.log.String())
		if err := probe(c, s.addr); err != nil {
			t.Errorf("%s: %v", tt.rule, err)
		}
		if !wait(func() bool { return strings.Contains(s.log.String()[before:], tt.logged) }) {
			t.Errorf("%s: the log has %q, want %q", tt.rule, s.log.String()[before:], tt.logged)
		}
		if got := s.log.String()[before:]; tt.logged == "" && got != "" {
			t.Errorf("%s: the log has %q", tt.rule, got)
		}
	}
	// With a role of that name the log has nothing of us where everybody is trusted.
	s.sql("create role multivalue login")
	before := len(s.log.String())
	if err := probe(c, s.addr); err != nil || s.log.String()[before:] != "" {
		t.Errorf("let in: %v, and the log has %q", err, s.log.String()[before:])
	}
	s.offersTLS()
}

// rule sets a rule, and waits until the first answer of the server follows it.
func (s *server) rule(rule, answer string) {
	s.Helper()
	s.file("data/rules", "local all all trust\n"+rule+"\n")
	s.sql("select pg_reload_conf()")
	hello := "\x00\x00\x00\x15\x00\x03\x00\x00user\x00nobody\x00\x00"
	if !wait(func() bool {
		conn, err := net.Dial("tcp", s.addr.String())
		if err != nil {
			return false
		}
		defer conn.Close()
		fmt.Fprint(conn, hello)
		got := make([]byte, 1024)
		n, _ := conn.Read(got) // all of it: what is left over makes a reset of the end
		return strings.HasPrefix(string(got[:n]), answer)
	}) {
		s.Fatalf("%s: no answer %q", rule, answer)
	}
}

// offersTLS turns on TLS in a server without it, and checks that its certificate is judged.
func (s *server) offersTLS() {
	s.Helper()
	trusted := newAuthority(s.T)
	good := mustNew(s.T, "postgres://db.example.org", opt("starttls"), opt("ca", trusted.file(s.T)))
	s.await(good, "server does not offer tls")
	s.certify(trusted, template("db.example.org"))
	s.sql("alter system set ssl = on")
	s.judgesCertificates(good, s.addr, trusted, func() { s.sql("select pg_reload_conf()") })
	s.await(mustNew(s.T, "postgres://", opt("starttls"), opt("insecure")), "")
}
