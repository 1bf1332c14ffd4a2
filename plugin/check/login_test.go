package check_test

import (
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
