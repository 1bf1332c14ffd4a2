package check_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Answers of healthy servers, complete, for each protocol over one connection.
const (
	goodRedis    = "+PONG\r\n"
	goodPostgres = "R\x00\x00\x00\x0c\x00\x00\x00\x05salt"
	goodGreeting = "\x49\x00\x00\x00\x0a8.4.0\x00\x01\x00\x00\x00saltsalt\x00\xff\xff\x2d\x02\x00\xff\xdf\x15" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00saltsaltsalt\x00caching_sha2_password\x00"
	goodLogin = "\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00"
	goodMySQL = goodGreeting + goodLogin
)

// foreign are the reasons for peers that speak another protocol.
type foreign struct{ http, ssh, binary, endless string }

var (
	// Of what ends with its line, of what begins with its size, and of DNS, where anything may be a size.
	byLine = foreign{`malformed response "HTTP/1\.1 400 Bad Request"`, `malformed response "SSH-2\.0-x"`,
		`incomplete response: connection closed`, `malformed response "x+"…`}
	bySize = foreign{`malformed response "HTTP/1\.1 400 Bad Request.*`, `malformed response "SSH-2\.0-x"`,
		`malformed response "(\\xff)+"…`, `malformed response "x+"…`}
	byAnySize = foreign{`incomplete response: timed out`, `incomplete response: timed out`,
		`incomplete response: connection closed`, `reply to another question`}
)

// protocols are those over one connection, in the clear or in TLS, and how each handles a peer that
// speaks another protocol.
var protocols = []struct {
	way
	answer func(net.Conn) string // once the question has been heard, if that matters
	foreign
}{
	{way{url: "redis://"}, text(goodRedis), byLine},
	{way{url: "rediss://", tls: true}, text(goodRedis), byLine},
	{way{url: "postgres://"}, text(goodPostgres), bySize},
	{way{url: "postgres://", lines: upgrade, tls: true, clear: turn("", postgresUpgrade, "S")}, text(goodPostgres), bySize},
	{way{url: "mysql://"}, text(goodMySQL), bySize},
	{way{url: "mysql://", lines: upgrade, tls: true, clear: turn(goodGreeting, mysqlUpgrade, "")}, text(goodLogin), bySize},
	{way{url: "grpc://:1"}, text(goodGRPC()), bySize},
	{way{url: "grpcs://:1", tls: true}, text(goodGRPC()), bySize},
	{way{url: "dns:///a.example", lines: [][]string{opt("tcp")}}, goodDNS, byAnySize},
	{way{url: "dot:///a.example", tls: true}, goodDNS, byAnySize},
}

var upgrade = [][]string{opt("starttls")}

func text(t string) func(net.Conn) string { return func(net.Conn) string { return t } }

// goodDNS reads a query and returns a reply without records.
func goodDNS(conn net.Conn) string {
	size := make([]byte, 2)
	if _, err := io.ReadFull(conn, size); err != nil {
		return ""
	}
	query := make([]byte, binary.BigEndian.Uint16(size))
	if _, err := io.ReadFull(conn, query); err != nil {
		return ""
	}
	query[2] |= 0x80
	return string(size) + string(query)
}

// say writes text without waiting for a question, then reads until the other side closes.
func say(text string) func(net.Conn) {
	return func(conn net.Conn) {
		io.WriteString(conn, text)
		hold(conn)
	}
}

// sayAndEnd writes text and closes its side.
func sayAndEnd(text string) func(net.Conn) {
	return func(conn net.Conn) {
		fmt.Fprint(conn, text)
		conn.(interface{ CloseWrite() error }).CloseWrite()
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

// Hostile peers of every protocol, in the clear and in TLS: the reason is right, and what is read
// is bounded.
func TestHostilePeers(t *testing.T) {
	config := serverConfig(t, nil, www)
	for _, p := range protocols {
		half := func(conn net.Conn) (first, second string) {
			good := p.answer(conn)
			return good[:len(good)/2], good[len(good)/2:]
		}
		var insecure [][]string
		if p.tls {
			insecure = append(insecure, opt("insecure"))
		}
		c := p.check(t, "", insecure...)
		for _, tt := range []struct {
			name  string
			serve func(net.Conn)
			want  string
		}{
			{"good", func(conn net.Conn) { say(p.answer(conn))(conn) }, ``},
			{"good in two parts", func(conn net.Conn) { first, second := half(conn); fmt.Fprint(conn, first); say(second)(conn) }, ``},
			{"silent", hold, `no response: timed out`},
			{"byte by byte", func(conn net.Conn) { good := p.answer(conn); trickle(good[:min(len(good), 6)])(conn) }, `incomplete response: timed out`},
			{"half", func(conn net.Conn) { first, _ := half(conn); say(first)(conn) }, `(incomplete|no) response: timed out`},
			{"half, then the end", func(conn net.Conn) { first, _ := half(conn); sayAndEnd(first)(conn) }, `(incomplete|no) response: connection closed`},
			{"the end", sayAndEnd(""), `no response: connection closed`},
			{"reset", reset, `(no response|request not sent|connect|tls handshake): connection reset|connection reset while waiting for the response`},
			{"half, then a reset", func(conn net.Conn) {
				first, _ := half(conn)
				fmt.Fprint(conn, first)
				conn.SetReadDeadline(time.Now().Add(brief))
				conn.Read(make([]byte, 1))
				reset(conn)
			}, `incomplete response: connection reset|request not sent: connection reset|connection reset while waiting for the response`},
			{"http", say("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), p.http},
			{"ssh", say("SSH-2.0-x\r\n"), p.ssh},
			{"endless", flood(strings.Repeat("x", 4096)), p.endless},
			{"binary", sayAndEnd(strings.Repeat("\xff", 100)), p.binary},
		} {
			t.Run(c.String()+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				peer, limit := listen(t, "127.0.0.1", p.serve(config, tt.serve)), patient
				if strings.Contains(tt.want, "timed out") {
					limit = brief
				}
				patiently(t, limit, tt.want, func(limit time.Duration) error { return probeFor(c, peer.addr, limit) })
			})
		}
		t.Run(c.String()+"/refusing", func(t *testing.T) {
			if got := reason(probe(c, refusing(t))); got != "connection refused" {
				t.Errorf("%q", got)
			}
		})
	}
}
