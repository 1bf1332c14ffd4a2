package check_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// A session that was opened is ended by a message, because PostgreSQL logs one that is cut off. If
// only a proof was asked for, no session is open.
func TestPostgresGoodbye(t *testing.T) {
	const welcome, ready, password = "R\x00\x00\x00\x08\x00\x00\x00\x00", "Z\x00\x00\x00\x05I", "R\x00\x00\x00\x08\x00\x00\x00\x03"
	for answer, want := range map[string]string{welcome + ready: "X\x00\x00\x00\x04", password: ""} {
		heard := make(chan string, 1)
		p := listen(t, "127.0.0.1", func(conn net.Conn) {
			hello := make([]byte, 4)
			io.ReadFull(conn, hello)
			io.ReadFull(conn, make([]byte, int(hello[3])-len(hello)))
			io.WriteString(conn, answer)
			rest, _ := io.ReadAll(conn)
			heard <- string(rest)
		})
		if err := probe(mustNew(t, "postgres://"), p.addr); err != nil {
			t.Error(err)
		}
		if got := <-heard; got != want {
			t.Errorf("after %q the server hears %q, want %q", answer, got, want)
		}
	}
}

// The end of a login: a server may let us in, and is told that we leave; it may refuse us; it may
// ask for another proof, or for more after the one we gave (AuthMoreData), and is healthy in each
// case.
func TestMySQLLogin(t *testing.T) {
	packet := func(number byte, body string) string { return string([]byte{byte(len(body)), 0, 0, number}) + body }
	hello := packet(0, "\x0a8\x00"+strings.Repeat("x", 4+8+1)+"\x00\x0a")
	for name, tt := range map[string]struct{ answer, hears, want string }{
		"let in":     {packet(2, "\x00\x00\x00"), "\x01\x00\x00\x00\x01", ""},
		"more":       {packet(2, "\x01\x04"), "", ""},
		"turned off": {packet(2, "\xff\x15\x04#28000Access denied"), "", ""},
		"no room":    {packet(2, "\xff\x10\x04#08004Too many connections"), "", `mysql error 1040: "Too many connections"`},
		"odd":        {packet(2, "odd"), "", `malformed response "odd"`},
		"other":      {packet(2, "\xfecaching_sha2_password\x00") + packet(4, "\x01\x04"), "\x00\x00\x00\x03", ""},
	} {
		heard := make(chan string, 1)
		p := listen(t, "127.0.0.1", func(conn net.Conn) {
			io.WriteString(conn, hello)
			login := make([]byte, 4)
			io.ReadFull(conn, login)
			io.ReadFull(conn, make([]byte, int(login[0])))
			io.WriteString(conn, tt.answer)
			rest, _ := io.ReadAll(conn)
			heard <- string(rest)
		})
		if got := reason(probe(mustNew(t, "mysql://"), p.addr)); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
		if got := <-heard; got != tt.hears {
			t.Errorf("%s: the server hears %q, want %q", name, got, tt.hears)
		}
	}
}

// What MySQL says to a user whom it does not let in, and what it says in trouble. The texts are those
// of its error reference.
func TestMySQLRefusals(t *testing.T) {
	for _, tt := range []struct {
		code  uint16
		state string
		text  string
		up    bool
	}{
		{1045, "28000", "Access denied for user 'multivalue'@'192.0.2.1' (using password: NO)", true},
		{1251, "08004", "Client does not support authentication protocol requested by server; consider upgrading MySQL client", true},
		{1524, "HY000", "Plugin 'mysql_native_password' is not loaded", true},
		{1862, "HY000", "Your password has expired. To log in you must change it using a client that supports expired passwords.", true},
		{3118, "HY000", "Access denied for user 'multivalue'@'192.0.2.1'. Account is locked.", true},
		{3159, "HY000", "Connections using insecure transport are prohibited while --require_secure_transport=ON.", true},
		{3955, "HY000", "Access denied for user 'multivalue'@'192.0.2.1'. Account is blocked for 2 day(s) (2 day(s) remaining) due to 3 consecutive failed logins.", true},
		{4150, "HY000", "User is blocked because of too many credential errors; unblock with 'ALTER USER / FLUSH PRIVILEGES'", true}, // MariaDB
		{4151, "HY000", "Access denied, this account is locked", true},                                                               // MariaDB

		{1040, "08004", "Too many connections", false},
		{1053, "08S01", "Server shutdown in progress", false},
		{1129, "HY000", "Host '192.0.2.1' is blocked because of many connection errors; unblock with 'mysqladmin flush-hosts'", false},
		{3032, "HY000", "The server is currently in offline mode", false},
	} {
		body := string([]byte{0xff, byte(tt.code), byte(tt.code >> 8)}) + "#" + tt.state + tt.text
		p := listen(t, "127.0.0.1", func(conn net.Conn) {
			hello := "\x0a8\x00" + strings.Repeat("x", 4+8+1) + "\x00\x0a"
			io.WriteString(conn, string([]byte{byte(len(hello)), 0, 0, 0})+hello)
			login := make([]byte, 4)
			io.ReadFull(conn, login)
			io.ReadFull(conn, make([]byte, int(login[0])))
			io.WriteString(conn, string([]byte{byte(len(body)), 0, 0, 2})+body)
		})
		got := reason(probe(mustNew(t, "mysql://"), p.addr))
		if tt.up != (got == "") || !tt.up && !strings.HasPrefix(got, fmt.Sprintf("mysql error %d: ", tt.code)) {
			t.Errorf("%d: %q, want up: %t", tt.code, got, tt.up)
		}
	}
}

// What PgBouncer says to a user whom it does not let in, and what it says in trouble. All have one
// code, and the words differ between its versions.
func TestPgBouncerRefusals(t *testing.T) {
	const cached = "server login has been failing, cached error: "
	for text, want := range map[string]string{
		`08P01 "trust" authentication failed`:                                       "",
		"08P01 no such user":                                                        "",
		"08P01 no such user: multivalue":                                            "",
		"08P01 No such user: multivalue":                                            "", // 1.5
		"08P01 no such database: postgres":                                          "",
		"08P01 bouncer config error":                                                "",
		"08P01 login rejected":                                                      "",
		"08P01 SSL required":                                                        "",
		"08P01 TLS connection required":                                             "", // 1.12
		"08P01 certificate authentication failed":                                   "",
		"08P01 no authentication method is found":                                   "", // 1.23
		`08P01 role "multivalue" does not exist`:                                    "", // 1.18, from PostgreSQL
		`28000 role "multivalue" does not exist`:                                    "", // later
		"08P01 " + cached + `role "multivalue" does not exist (server_login_retry)`: "",
		"08P01 " + cached + `password authentication failed for user "multivalue" (server_login_retry)`: "",

		"08P01 no more connections allowed (max_client_conn)":                       "no more connections allowed (max_client_conn)",
		"08P01 pgbouncer cannot connect to server":                                  "pgbouncer cannot connect to server", // 1.12
		"08P01 server login has been failing, try again later (server_login_retry)": "server login has been failing, try again later (server_l",
		"08P01 " + cached + "connect failed (server_login_retry)":                   cached + "connect fail",
		"08P01 client_login_timeout (server down)":                                  "client_login_timeout (server down)",
		"08P01 pooler is shutting down":                                             "pooler is shutting down",
		"08P01 query_wait_timeout":                                                  "query_wait_timeout",
		`08P01 role "app" does not exist`:                                           `role \"app\" does not exist`, // all clients are logged in as app
		"08P01 bouncer resources exhaustion":                                        "bouncer resources exhaustion",
		"XX000 login rejected":                                                      "login rejected",
	} {
		code, words, _ := strings.Cut(text, " ")
		body := "SFATAL\x00C" + code + "\x00M" + words + "\x00\x00"
		p := listen(t, "127.0.0.1", func(conn net.Conn) {
			hello := make([]byte, 4)
			io.ReadFull(conn, hello)
			io.ReadFull(conn, make([]byte, int(hello[3])-len(hello)))
			io.WriteString(conn, "E"+string([]byte{0, 0, 0, byte(4 + len(body))})+body)
		})
		got := reason(probe(mustNew(t, "postgres://"), p.addr))
		if want == "" && got != "" || want != "" && !strings.HasPrefix(got, fmt.Sprintf("postgres error %q: \"%s", code, want)) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
