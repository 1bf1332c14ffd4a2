package check_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// Answers of servers that serve, from the first byte on, for each protocol that is held over one connection.
const (
	goodRedis    = "+PONG\r\n"
	goodPostgres = "R\x00\x00\x00\x0c\x00\x00\x00\x05salt"
	goodGreeting = "\x49\x00\x00\x00\x0a8.4.0\x00\x01\x00\x00\x00saltsalt\x00\xff\xff\x2d\x02\x00\xff\xdf\x15" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00saltsaltsalt\x00caching_sha2_password\x00"
	goodLogin = "\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00"
	goodMySQL = goodGreeting + goodLogin
)

// protocols are those that are held over one connection, and how each takes a peer of another kind.
var protocols = []struct {
	url, good         string
	http, ssh, binary string // reasons
	endless           string
}{
	{"redis://", goodRedis, `malformed response "HTTP/1\.1 400 Bad Request"`, `malformed response "SSH-2\.0-x"`,
		`incomplete response: connection closed`, `malformed response "x+"…`},
	{"postgres://", goodPostgres, `malformed response "HTTP/1\.1 400 Bad Request.*`, `malformed response "SSH-2\.0-x"`,
		`malformed response "(\\xff)+"…`, `malformed response "x+"…`},
	{"mysql://", goodMySQL, `malformed response "HTTP/1\.1 400 Bad Request.*`, `malformed response "SSH-2\.0-x"`,
		`malformed response "(\\xff)+"…`, `malformed response "x+"…`},
	{"grpc://:1", goodGRPC(), `malformed response "HTTP/1\.1 400 Bad Request.*`, `malformed response "SSH-2\.0-x"`,
		`malformed response "(\\xff)+"…`, `malformed response "x+"…`},
}

// say sends text, without waiting for a question, and listens until the other side has enough.
func say(text string) func(net.Conn) {
	return func(conn net.Conn) {
		fmt.Fprint(conn, text)
		hold(conn)
	}
}

// sayAndEnd sends text and closes its side.
func sayAndEnd(text string) func(net.Conn) {
	return func(conn net.Conn) {
		fmt.Fprint(conn, text)
		conn.(*net.TCPConn).CloseWrite()
		hold(conn)
	}
}

func flood(text string) func(net.Conn) {
	return func(conn net.Conn) {
		for {
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
		}
	}
}

// Hostile peers of every protocol: the reason is right, and what is read has an end.
func TestHostilePeers(t *testing.T) {
	for _, p := range protocols {
		half := p.good[:len(p.good)/2]
		for _, tt := range []struct {
			name  string
			serve func(net.Conn)
			quick bool // the peer gets little time
			want  string
		}{
			{"good", say(p.good), false, ``},
			{"good in two parts", func(conn net.Conn) { fmt.Fprint(conn, half); say(p.good[len(half):])(conn) }, false, ``},
			{"silent", hold, true, `no response: timed out`},
			{"byte by byte", trickle(p.good[:min(len(p.good), 6)]), true, `incomplete response: timed out`},
			{"half", say(half), true, `(incomplete|no) response: timed out`},
			{"half, then the end", sayAndEnd(half), false, `(incomplete|no) response: connection closed`},
			{"the end", sayAndEnd(""), false, `no response: connection closed`},
			{"reset", reset, false, `(no response|request not sent|connect): connection reset|connection reset while waiting for the response`},
			{"half, then a reset", func(conn net.Conn) {
				fmt.Fprint(conn, half)
				conn.SetReadDeadline(time.Now().Add(brief))
				conn.Read(make([]byte, 1))
				reset(conn)
			}, false,
				`incomplete response: connection reset|request not sent: connection reset|connection reset while waiting for the response`},
			{"http", say("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), false, p.http},
			{"ssh", say("SSH-2.0-x\r\n"), false, p.ssh},
			{"endless", flood(strings.Repeat("x", 4096)), false, p.endless},
			{"binary", sayAndEnd(strings.Repeat("\xff", 100)), false, p.binary},
		} {
			t.Run(p.url+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				peer, limit := listen(t, "127.0.0.1", tt.serve), patient
				if tt.quick {
					limit = brief
				}
				whole := regexp.MustCompile("^(?:" + tt.want + ")$")
				err := probeFor(mustNew(t, p.url), peer.addr, limit)
				for ; !whole.MatchString(reason(err)) && limit < patient; limit *= 2 { // on a busy machine it had no time to connect
					err = probeFor(mustNew(t, p.url), peer.addr, limit)
				}
				if !whole.MatchString(reason(err)) {
					t.Errorf("%q, want %s", reason(err), tt.want)
				}
				if errors.Is(err, check.ErrAbstain) {
					t.Errorf("%v is a failure of the peer, not ours", err)
				}
			})
		}
		t.Run(p.url+"/refusing", func(t *testing.T) {
			if got := reason(probe(mustNew(t, p.url), refusing(t))); got != "connection refused" {
				t.Errorf("%q", got)
			}
		})
	}
}
