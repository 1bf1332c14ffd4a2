package check_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// A bouncer is a PgBouncer in front of a PostgreSQL.
type bouncer struct {
	*server
	behind netip.AddrPort
}

// reset starts the bouncer with other settings, users and databases. DB is the PostgreSQL.
func (b *bouncer) reset(settings, databases string) {
	b.Helper()
	b.end()
	b.addr = refusing(b.T)
	words := strings.NewReplacer("DIR", b.dir, "DB", fmt.Sprintf("host=%s port=%d", b.behind.Addr(), b.behind.Port()))
	b.file("bouncer.ini", words.Replace("[databases]\n"+databases+"\n[pgbouncer]\nlisten_addr = "+b.addr.Addr().String()+"\nlisten_port = "+port(b.addr)+
		"\nunix_socket_dir =\nauth_file = DIR/users\nserver_login_retry = 0.1\nserver_check_delay = 0\nadmin_users = admin\n"+settings+"\n"))
	b.start("pgbouncer", "DIR/bouncer.ini")
	b.await(mustNew(b.T, "tcp://:1"), "")
}

// A real PgBouncer gives the same SQLSTATE to all its errors: for a user whom it refuses while it
// serves others, and for trouble.
func TestRealPgBouncer(t *testing.T) {
	t.Parallel()
	db := newCluster(t, "autovacuum = off\n", "host all all 127.0.0.1/32 trust")
	db.startCluster()
	db.await(mustNew(t, "postgres://"), "")
	db.sql("create role app login")
	b := &bouncer{newServer(t), db.addr}
	b.file("users", "\"app\" \"\"\n\"admin\" \"\"\n")
	b.file("known", "\"multivalue\" \"\"\n")
	b.file("rejects", "host all multivalue 127.0.0.0/8 reject\nhost all all 0.0.0.0/0 trust\n")
	b.file("others", "host all app 127.0.0.0/8 trust\n")
	c := mustNew(t, "postgres://")
	const all = "* = DB"
	for name, tt := range map[string]struct{ settings, databases, want string }{
		"md5":             {"auth_type = md5", all, ""},
		"scram":           {"auth_type = scram-sha-256", all, ""},
		"plain":           {"auth_type = plain", all, ""},
		"trust":           {"auth_type = trust", all, ""},
		"any":             {"auth_type = any", all, ""},
		"any, one user":   {"auth_type = any", "* = DB user=app", ""},
		"trust, other db": {"auth_type = trust\nauth_file = DIR/known", "shop = DB", ""},
		"hba rejects":     {"auth_type = hba\nauth_hba_file = DIR/rejects", all, ""},
		"hba of others":   {"auth_type = hba\nauth_hba_file = DIR/others", all, ""},
		"full":            {"auth_type = trust\nmax_client_conn = 0", all, `postgres error "08P01": "no more connections allowed (max_client_conn)"`},
	} {
		b.reset(tt.settings, tt.databases)
		if got := reason(probe(c, b.addr)); got != tt.want {
			t.Errorf("%s: %q, want %q; log: %s", name, got, tt.want, b.log.String())
		}
	}
	b.troubles(db, c)
}

// troubles checks what a bouncer says when its server does not know us or is gone, and when it
// hangs or ends itself.
func (b *bouncer) troubles(db *server, c *check.Check) {
	b.Helper()
	const lets = "auth_type = trust\nauth_file = DIR/known" // the bouncer knows us, and its server does not
	b.reset(lets, "* = DB")
	b.await(c, "")
	db.sql("create role multivalue login")
	b.reset(lets, "* = DB pool_size=1")
	b.await(c, "")
	b.hangs(c, silent)
	b.await(c, "")

	db.end()
	for _, settings := range []string{lets, "auth_type = any"} {
		b.reset(settings, "* = DB user=app")
		b.awaitAt(b.addr, c, silent+`|postgres error "08P01": "(pgbouncer cannot connect|server login has been failing).*`)
	}
	b.end()
	b.await(c, "connection refused")
}
