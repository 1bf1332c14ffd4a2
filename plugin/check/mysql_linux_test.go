package check_test

import (
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// newMariaDB makes a data directory in which root has no password.
func newMariaDB(t *testing.T) *server {
	s := newServer(t)
	s.run("mariadb-install-db", "--no-defaults", "--datadir=DIR/data", "--auth-root-authentication-method=normal", "--skip-test-db")
	return s
}

// startMariaDB starts it without anonymous accounts, which would let us in.
func (s *server) startMariaDB(args ...string) {
	s.Helper()
	s.start("mariadbd", append([]string{"--no-defaults", "--datadir=DIR/data", "--socket=DIR/s", "--pid-file=DIR/pid",
		"--bind-address=HOST", "--port=PORT", "--performance-schema=on", "--innodb-buffer-pool-size=8M"}, args...)...)
	s.await(mustNew(s.T, "mysql://"), "")
	s.mariadb("delete from mysql.global_priv where user = ''; flush privileges")
}

func (s *server) mariadb(command string) string {
	s.Helper()
	return s.run("mariadb", "--no-defaults", "-uroot", "-SDIR/s", "-Ne", command)
}

// count reads a counter of the server.
func (s *server) count(name string) int {
	s.Helper()
	_, value, _ := strings.Cut(strings.TrimSpace(s.mariadb("show global status like '"+name+"'")), "\t")
	n, err := strconv.Atoi(value)
	if err != nil {
		s.Fatal(err)
	}
	return n
}

// A real MariaDB in each of its states.
func TestRealMariaDB(t *testing.T) {
	t.Parallel()
	s := newMariaDB(t)
	c := mustNew(t, "mysql://")
	s.startMariaDB("--max-connections=10", "--log-warnings=2")
	s.hangs(c, silent)
	s.await(c, "")
	s.mariadbCounts()
	s.mariadb("create user multivalue@'127.0.0.1' with max_connections_per_hour 1")
	for range 3 { // of which the server turns away the last two, in person
		s.await(c, "")
	}
	s.mariadb("drop user multivalue@'127.0.0.1'")

	for range 10 + 1 { // one is kept for an administrator, which shows only in a login
		s.greeted()
	}
	s.await(c, `mysql error 1040: "Too many connections"`)
	s.end()
	s.await(c, "connection refused")

	trusted := newAuthority(t)
	s.certify(trusted, template("db.example.org"))
	good := mustNew(t, "mysql://db.example.org", opt("starttls"), opt("ca", trusted.file(t)))
	s.startMariaDB()
	s.await(good, "server does not offer tls")
	s.end()
	s.startMariaDB("--ssl-cert=DIR/data/server.crt", "--ssl-key=DIR/data/server.key", "--require-secure-transport=on")
	s.await(good, "")
	s.await(c, "") // it serves, only not in the clear
	s.judgesCertificates(good, s.addr, trusted, func() { s.mariadb("flush ssl") })
}

// mariadbCounts checks what a probe does to the counters, as docs/protocols.md says.
func (s *server) mariadbCounts() {
	s.Helper()
	preauth := s.count("Aborted_connects_preauth")
	const account = "create user multivalue@'127.0.0.1'"
	for _, tt := range []struct {
		name, before              string
		connects, denied, clients int
	}{
		{"nobody", "select 1", 1, 1, 0},
		{"an account", account, 0, 0, 0},
		{"a locked account", "alter user multivalue@'127.0.0.1' account lock", 1, 0, 0},
		{"an account with a password", "alter user multivalue@'127.0.0.1' identified by 'x' account unlock", 1, 1, 0},
		{"an account with another proof", "alter user multivalue@'127.0.0.1' identified via unix_socket", 1, 1, 0},
	} {
		s.mariadb(tt.before)
		connects, denied, clients := s.count("Aborted_connects"), s.count("Access_denied_errors"), s.count("Aborted_clients")
		for range 3 {
			if err := probe(mustNew(s.T, "mysql://"), s.addr); err != nil {
				s.Errorf("%s: %v", tt.name, err)
			}
		}
		wait(func() bool { return s.count("Threads_connected") == 1 })
		connects, denied, clients = s.count("Aborted_connects")-connects, s.count("Access_denied_errors")-denied, s.count("Aborted_clients")-clients
		if connects != 3*tt.connects || denied != 3*tt.denied || clients != 3*tt.clients {
			s.Errorf("%s: 3 probes made %d aborted connects, %d denied, %d aborted clients", tt.name, connects, denied, clients)
		}
	}
	if got := s.count("Aborted_connects_preauth") - preauth; got != 0 {
		s.Errorf("%d handshakes were not ended, each of which counts against our host", got)
	}
	s.mariadb("drop user multivalue@'127.0.0.1'")
}

// greeted opens a connection and stops after the greeting.
func (s *server) greeted() net.Conn {
	s.Helper()
	conn := hang(s.T, s)
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		s.Fatal(err)
	}
	return conn
}

// A server that can resolve our host counts unfinished handshakes against it, and blocks it after
// max_connect_errors of them. A mysql check never causes that; a tcp check does
// (docs/protocols.md).
func TestRealMariaDBBlocks(t *testing.T) {
	for _, name := range []string{"mariadbd", "mariadb-install-db", "mount"} {
		lookFor(t, name)
	}
	if !ownNetwork(t) {
		return
	}
	s := newMariaDB(t)
	s.addr = netip.MustParseAddrPort("192.0.2.1:3306")
	run(t, "ip link set lo up")
	run(t, "ip addr add 192.0.2.1/32 dev lo")
	s.file("hosts", "192.0.2.1 prober.example.org\n")
	run(t, "mount --bind "+s.dir+"/hosts /etc/hosts")
	s.startMariaDB("--max-connect-errors=3")
	c := mustNew(t, "mysql://")
	const counted = "select coalesce(sum(sum_connect_errors), 0) from performance_schema.host_cache"
	asked := func(c *check.Check, errors string) {
		t.Helper()
		for range 3 {
			if err := probe(c, s.addr); err != nil {
				t.Error(err)
			}
		}
		if !wait(func() bool { return s.mariadb(counted) == errors+"\n" }) {
			t.Errorf("%s: the server counts %s errors of our host, want %s", c, s.mariadb(counted), errors)
		}
	}
	asked(c, "0") // there is no account yet that anybody there could have
	s.mariadb("create user app@'%' identified by 'x'")
	asked(c, "0")
	asked(c, "0")
	asked(mustNew(t, "tcp://:3306"), "3")
	s.await(c, `mysql error 1129: "Host '192.0.2.1' is blocked because of many connection erro"…`)
	s.mariadb("flush hosts")
	s.await(c, "")
}

// With max_password_errors the server blocks an account after failed logins. A probe gives no
// password, which MariaDB does not count. It is up for an account that others have had blocked
// (docs/protocols.md).
func TestRealMariaDBBlocksAccounts(t *testing.T) {
	t.Parallel()
	s := newMariaDB(t)
	s.startMariaDB("--max-password-errors=2")
	c := mustNew(t, "mysql://")
	login := func(password string) bool {
		t.Helper()
		return s.command("mariadb", "--no-defaults", "-umultivalue", "-p"+password, "-hHOST", "-PPORT", "-e", "select 1").Run() == nil
	}
	asked := func(state string) {
		t.Helper()
		for range 5 {
			if err := probe(c, s.addr); err != nil {
				t.Errorf("%s: %v", state, err)
			}
		}
	}
	s.mariadb("create user multivalue@'127.0.0.1' identified by 'x'")
	asked("with a password")
	if !login("x") {
		t.Error("probes had the account blocked")
	}
	for range 3 {
		login("wrong")
	}
	if login("x") {
		t.Error("the account is not blocked, so nothing is tested")
	}
	asked("blocked")
}
