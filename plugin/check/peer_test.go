package check_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/ports"
	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// reset ends a connection with an RST.
func reset(conn net.Conn) {
	if inner, ok := conn.(*tls.Conn); ok {
		conn = inner.NetConn()
	}
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

// trickle sends text one byte at a time, far too slowly for the probe.
func trickle(text string) func(net.Conn) {
	return func(conn net.Conn) {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for _, b := range []byte(text) {
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
			<-tick.C
		}
		hold(conn)
	}
}

// endless sends head, and then more again and again until the connection is closed.
func endless(head, more string) func(net.Conn) {
	return func(conn net.Conn) {
		if readRequest(conn) == nil {
			return
		}
		fmt.Fprint(conn, head)
		for {
			if _, err := io.WriteString(conn, more); err != nil {
				return
			}
		}
	}
}

const patient, brief = 10 * time.Second, 150 * time.Millisecond

var needle = opt("body", "needle")

var badPeers = []struct {
	name   string
	serve  func(net.Conn)
	option []string
	limit  time.Duration
	want   string // a regular expression over the whole reason
}{
	{"reset at accept", reset, nil, patient,
		`connection reset while waiting for the response|(request not sent|connect): connection reset`},
	{"reset after the request", func(conn net.Conn) { readRequest(conn); reset(conn) }, nil, patient,
		`connection reset while waiting for the response`},
	{"reset in the head", func(conn net.Conn) { readRequest(conn); fmt.Fprint(conn, ok[:20]); reset(conn) }, nil, patient,
		`incomplete response: connection reset|connection reset while waiting for the response`},
	{"reset in the body", func(conn net.Conn) {
		readRequest(conn)
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhay")
		reset(conn)
	}, needle, patient, `reading the body: connection reset|connection reset while waiting for the response`},
	{"silent", hold, nil, brief, `no response: timed out`},
	{"slow head", trickle(ok), nil, brief, `incomplete response: timed out`},
	{"slow body", func(conn net.Conn) {
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\n")
		trickle("haystack")(conn)
	}, needle, brief, `reading the body: timed out`},
	{"endless status line", endless("HTTP/1.1 200 ", "O"), nil, patient, `incomplete response: longer than 64 KiB`},
	{"endless head", endless("HTTP/1.1 200 OK\r\n", "X-More: and more\r\n"), nil, patient, `incomplete response: longer than 64 KiB`},
	{"endless body unread", endless("HTTP/1.1 200 OK\r\n\r\n", "hay"), nil, patient, ``},
	{"endless body", endless("HTTP/1.1 200 OK\r\n\r\n", "hay"), needle, patient, `body does not contain "needle"`},
	{"endless chunk", endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "ffffff\r\n"), needle, patient,
		`body does not contain "needle"`},
	{"garbage", answer("SSH-2.0-\x1b[31mEvil\r\n"), nil, patient, `malformed response "SSH-2.0-\\x1b\[31mEvil"`},
	{"long garbage", answer(strings.Repeat("\xff", 9000) + "\n\n"), nil, patient, `malformed response "(\\xff)+"…`},
	{"http 0.9", answer("<html>hello</html>\r\n"), nil, patient, `malformed response "<html>hello</html>"`},
	{"http 3", answer("HTTP/3.0 200 OK\r\n\r\n"), nil, patient, `malformed response "HTTP/3.0 200 OK"`},
	{"bad version", answer("HTTP/one 200 OK\r\n\r\n"), nil, patient, `malformed response "HTTP/one 200 OK"`},
	{"bad status", answer("HTTP/1.1 2000 OK\r\n\r\n"), nil, patient, `malformed response "HTTP/1.1 2000 OK"`},
	{"two lengths", answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), nil, patient,
		`malformed response "HTTP/1.1 200 OK"`},
	{"end before any byte", answer(""), nil, patient, `no response: connection closed`},
	{"end in the head", answer("HTTP/1.1 200 OK\r\nA:"), nil, patient, `incomplete response: connection closed`},
	{"end before the length", answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhay"), needle, patient,
		`reading the body: connection closed`},
	{"needle before the end before the length", answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nneedle"), needle, patient, ``},
	{"match before the end before the length", answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nneedle"),
		opt("body_regex", "ne+dle"), patient, ``},
	{"no match before the end before the length", answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhay"),
		opt("body_regex", "ne+dle"), patient, `reading the body: connection closed`},
	{"not gzip", answer("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nneedle and thread"), needle, patient,
		`reading the body: not gzip`},
	{"broken gzip", answer("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff"), needle, patient,
		`reading the body: broken gzip`},
	{"empty gzip", answer("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"), needle, patient,
		`body does not contain "needle"`},
	{"half close, then the answer", func(conn net.Conn) {
		readRequest(conn)
		conn.(*net.TCPConn).CloseRead()
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\nneedle")
	}, needle, patient, ``},
	{"garbage without an end", trickle("AMQP...."), nil, brief, `malformed response "A[MQP.]*"`},
	{"head of nearly all, then a body", answer("HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", 64000) + "\r\n\r\n" +
		strings.Repeat("hay", 2000)), needle, patient, `reading the body: longer than 64 KiB`},
	{"interim flood", endless("", "HTTP/1.1 100 Continue\r\n\r\n"), nil, patient, `more than 5 interim responses`},
}

func TestBadPeers(t *testing.T) {
	for _, tt := range badPeers {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := listen(t, "127.0.0.1", tt.serve)
			var lines [][]string
			if tt.option != nil {
				lines = append(lines, tt.option)
			}
			c := mustNew(t, "http://", lines...)
			patiently(t, tt.limit, tt.want, func(limit time.Duration) error { return probeFor(c, p.addr, limit) })
		})
	}
}

// patiently wants a failure whose reason matches. On a busy machine a probe may not get as far as
// the peer lets it in a short time, so it is given more.
func patiently(t *testing.T, limit time.Duration, want string, ask func(time.Duration) error) {
	t.Helper()
	whole := regexp.MustCompile("^(?:" + want + ")$")
	got := ask(limit)
	for ; limit < patient && !whole.MatchString(reason(got)); got = ask(limit) {
		limit *= 2
	}
	if !whole.MatchString(reason(got)) {
		t.Errorf("%q, want %s", reason(got), want)
	}
	if errors.Is(got, check.ErrAbstain) {
		t.Errorf("%v is a failure of the peer, not ours", got)
	}
}

// The peer writes before it has read everything. The reason is never longer or wilder than
// promised, even if the text of the operator is.
func TestReasonsAreShort(t *testing.T) {
	p := listen(t, "127.0.0.1", answer(ok))
	c := mustNew(t, "http://", opt("body", strings.Repeat("é\x00", 1000)))
	got := reason(probe(c, p.addr))
	if len(got) > 100 || strings.Contains(got, "\x00") || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

// A peer that reads nothing blocks the request: the buffers of the kernel hold less than this
// header.
func TestPeerThatDoesNotRead(t *testing.T) {
	release := make(chan struct{})
	p := listen(t, "127.0.0.1", func(net.Conn) { <-release })
	defer close(release)
	c := mustNew(t, "http://", opt("header", "X-Big", string(bytes.Repeat([]byte{'x'}, 32<<20))))
	patiently(t, brief, "request not sent: timed out", func(limit time.Duration) error { return probeFor(c, p.addr, limit) })
}

func TestTCP(t *testing.T) {
	c := mustNew(t, "tcp://:1")
	for _, host := range []string{"127.0.0.1", ports.IPv6(t)} {
		end := make(chan error, 1)
		p := listen(t, host, func(conn net.Conn) {
			_, err := conn.Read(make([]byte, 1))
			end <- err
		})
		if err := probe(c, p.addr); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		if err := <-end; err != io.EOF {
			t.Errorf("%s: the peer saw %v, not the end of the stream", host, err)
		}
	}
	if got := reason(probe(c, refusing(t))); got != "connection refused" {
		t.Errorf("%q", got)
	}
	if got := reason(probe(c, netip.AddrPort{})); got == "" {
		t.Error("no address at all is healthy")
	}
}

// refusing is an address without a listener.
func refusing(t *testing.T) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(ports.Free(t)))
}

// full is an address whose listen queue is full: further connections are neither accepted nor
// refused.
func full(t *testing.T) netip.AddrPort {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(fd)
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*syscall.SockaddrInet4).Port))
	for {
		conn, err := net.DialTimeout("tcp", addr.String(), 100*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { conn.Close() })
	}
}

func TestConnectTimesOut(t *testing.T) {
	addr := full(t)
	for _, url := range []string{"tcp://:1", "http://"} {
		err := probeFor(mustNew(t, url), addr, 100*time.Millisecond)
		if reason(err) != "connect: timed out" || errors.Is(err, check.ErrAbstain) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestDeadlineInThePast(t *testing.T) {
	p := listen(t, "127.0.0.1", answer(ok))
	err := probeFor(mustNew(t, "http://"), p.addr, -time.Second)
	if reason(err) != "connect: timed out" || errors.Is(err, check.ErrAbstain) {
		t.Errorf("%v", err)
	}
}

// TestCancel cancels probes that are stuck in each phase, for each protocol. ICMP has a test of its
// own.
func TestCancel(t *testing.T) {
	stuck := make(chan struct{}, 1)
	wait := func(conn net.Conn) {
		conn.Read(make([]byte, 1))
		stuck <- struct{}{}
		hold(conn)
	}
	p := listen(t, "127.0.0.1", wait)
	greets := listen(t, "127.0.0.1", func(conn net.Conn) { io.WriteString(conn, goodGreeting); wait(conn) })
	inside := listen(t, "127.0.0.1", overTLS(serverConfig(t, nil, www), wait))
	datagrams := listenUDP(t, "127.0.0.1", func([]byte) [][]byte { stuck <- struct{}{}; return nil })
	for name, tt := range map[string]struct {
		check *check.Check
		addr  netip.AddrPort
	}{
		"handshake":     {mustNew(t, "https://www.example.org/"), p.addr},
		"response":      {mustNew(t, "http://"), p.addr},
		"dialogue":      {mustNew(t, "tcp://:1", opt("send", "hello"), opt("expect", "220")), p.addr},
		"tls":           {mustNew(t, "tls://www.example.org:1"), p.addr},
		"inverted":      {mustNew(t, "http://", opt("invert")), p.addr},
		"dns":           {mustNew(t, "dns:///a.example"), datagrams},
		"dns over tcp":  {mustNew(t, "dns:///a.example", opt("tcp")), p.addr},
		"dot":           {mustNew(t, "dot:///a.example", opt("insecure")), inside.addr},
		"grpc":          {mustNew(t, "grpc://:1"), p.addr},
		"grpcs":         {mustNew(t, "grpcs://:1", opt("insecure")), inside.addr},
		"redis":         {mustNew(t, "redis://"), p.addr},
		"rediss":        {mustNew(t, "rediss://", opt("insecure")), inside.addr},
		"postgres":      {mustNew(t, "postgres://"), p.addr},
		"postgres, tls": {mustNew(t, "postgres://", opt("starttls"), opt("insecure")), p.addr},
		"mysql":         {mustNew(t, "mysql://"), greets.addr},
		"mysql, tls":    {mustNew(t, "mysql://", opt("starttls"), opt("insecure")), greets.addr},
		"connecting":    {mustNew(t, "tcp://:1"), netip.AddrPort{}},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		if !tt.addr.IsValid() {
			tt.addr = full(t)
			stuck <- struct{}{}
		}
		go func() { done <- tt.check.Probe(ctx, tt.addr) }()
		<-stuck
		cancel()
		err := <-done // which nothing else would end
		if !errors.Is(err, check.ErrAbstain) || reason(err) != "could not ask: cancelled" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
