package check_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// A way is one way to ask of a scheme, in the clear or over TLS, with a peer that answers well.
type way struct {
	url   string // in which HOST is whom the certificate is to be for
	lines [][]string
	good  func(net.Conn) // answers, inside TLS if the way is over TLS
	again func(net.Conn) // answers one question after another; nil if the scheme has no reuse
	tls   bool
	clear func(net.Conn) // what comes before TLS; nil for nothing
	noTLS string         // what a peer says that does not begin TLS

	addr, dead netip.AddrPort // where one answers and one does not, if that is no matter of TCP
}

const www = "www.example.org"

// ways has every scheme, and those that can start TLS twice.
func ways(tb testing.TB) []way {
	reply := func(query []byte) [][]byte {
		query[2] |= 0x80 // the question, called a reply
		return [][]byte{query}
	}
	stream := func(conn net.Conn) { say(goodDNS(conn))(conn) }
	streams := func(conn net.Conn) {
		for text := goodDNS(conn); text != ""; text = goodDNS(conn) {
			io.WriteString(conn, text)
		}
	}
	here := netip.MustParseAddr("127.0.0.1")
	return []way{
		{url: "agent://:1", good: say("up\n")},
		{url: "dns:///a.example", addr: listenUDP(tb, "127.0.0.1", reply)},
		{url: "dns:///a.example", lines: [][]string{opt("tcp")}, good: stream, again: streams},
		{url: "dot://HOST/a.example", good: stream, again: streams, tls: true},
		{url: "exec://:1", lines: [][]string{opt("command", "/bin/sh", "-c", "test $2 != 1", "sh")},
			addr: netip.AddrPortFrom(here, 2), dead: netip.AddrPortFrom(here, 1)},
		{url: "grpc://:1", good: say(goodGRPC()), again: grpcAgain},
		{url: "grpcs://HOST:1", good: say(goodGRPC()), again: grpcAgain, tls: true},
		{url: "http://", good: lean, again: sayAgain(ok)},
		{url: "https://HOST/", good: lean, again: sayAgain(ok), tls: true},
		{url: "icmp:", addr: netip.AddrPortFrom(here, 0)},
		{url: "mysql://", good: say(goodMySQL)},
		{url: "mysql://HOST", lines: [][]string{opt("starttls")}, good: say(goodLogin), tls: true,
			clear: turn(goodGreeting, mysqlUpgrade, ""), noTLS: strings.Replace(goodGreeting, "\x00\xff\xff", "\x00\xff\xf7", 1)},
		{url: "postgres://", good: say(goodPostgres)},
		{url: "postgres://HOST", lines: [][]string{opt("starttls")}, good: say(goodPostgres), tls: true,
			clear: turn("", postgresUpgrade, "S"), noTLS: "N"},
		{url: "redis://", good: say(goodRedis), again: sayAgain(goodRedis)},
		{url: "rediss://HOST", good: say(goodRedis), again: sayAgain(goodRedis), tls: true},
		{url: "tcp://:1", good: hold},
		{url: "tcp://HOST:1", lines: [][]string{opt("expect", "220"), opt("send", `STARTTLS\r\n`), opt("expect", "ready"), opt("starttls"), opt("expect", "250")},
			good: say("250 inside\r\n"), tls: true,
			clear: turn("220 hello\r\n", len("STARTTLS\r\n"), "220 ready\r\n"), noTLS: "220 hello\r\n220 ready\r\n250 inside\r\n"},
		{url: "tls://HOST:1", good: hold, tls: true},
	}
}

// Length of the request for TLS, in bytes.
const (
	postgresUpgrade = 8
	mysqlUpgrade    = 36
)

// turn writes first, reads n bytes, and writes then.
func turn(first string, n int, then string) func(net.Conn) {
	return func(conn net.Conn) {
		io.WriteString(conn, first)
		if _, err := io.ReadFull(conn, make([]byte, n)); err == nil {
			io.WriteString(conn, then)
		}
	}
}

// check makes a check that asks in this way.
func (w way) check(tb testing.TB, host string, lines ...[]string) *check.Check {
	tb.Helper()
	return mustNew(tb, strings.Replace(w.url, "HOST", host, 1), append(lines, w.lines...)...).Alone() // silence of an agent is no failure otherwise
}

// serve is a peer that goes as far as TLS, if the way is over TLS, and then does something of its
// own.
func (w way) serve(config *tls.Config, inner func(net.Conn)) func(net.Conn) {
	if !w.tls {
		return inner
	}
	return w.first(overTLS(config, inner))
}

// first is what comes in the clear, followed by next in place of TLS.
func (w way) first(next func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		if w.clear != nil {
			w.clear(conn)
		}
		next(conn)
	}
}

// peer starts a peer that answers well.
func (w way) peer(tb testing.TB, config *tls.Config) *peer {
	tb.Helper()
	if w.addr.IsValid() {
		return &peer{addr: w.addr}
	}
	return listen(tb, "127.0.0.1", w.serve(config, w.good))
}

// scheme is the scheme of the URL.
func (w way) scheme() string {
	scheme, _, _ := strings.Cut(w.url, ":")
	return scheme
}

// name is the scheme, with what tells the way from others of the scheme.
func (w way) name() string {
	name := w.scheme()
	for _, line := range w.lines {
		if line[0] == "starttls" || line[0] == "tcp" {
			name += " " + line[0]
		}
	}
	return name
}
