package check

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"unicode"
	"unicode/utf8"
)

// build makes an httpCheck without sockets.
func build(tb testing.TB, url string, list ...Option) *httpCheck {
	tb.Helper()
	s, err := parseURL(url)
	if err != nil {
		tb.Fatal(err)
	}
	for i, o := range list {
		if err := s.addOption(i, o, s.scheme); err != nil {
			tb.Fatal(err)
		}
	}
	h, err := buildHTTP(s)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

func TestHostHeader(t *testing.T) {
	for _, tt := range []struct{ url, addr, want string }{
		{"http://", "192.0.2.1:80", "192.0.2.1"},
		{"http://", "192.0.2.1:443", "192.0.2.1:443"},
		{"https://", "192.0.2.1:443", "192.0.2.1"},
		{"http://:8080", "192.0.2.1:80", "192.0.2.1"},
		{"http://", "[2001:db8::1]:80", "[2001:db8::1]"},
		{"http://", "[2001:db8::1]:8080", "[2001:db8::1]:8080"},
		{"http://", "[fe80::1%eth0]:8080", "[fe80::1]:8080"},
		{"http://www.example.org", "[2001:db8::1]:80", "www.example.org"},
		{"http://www.example.org", "[2001:db8::1]:8080", "www.example.org:8080"}, // the record's port
		{"https://www.example.org:80", "192.0.2.1:8080", "www.example.org:80"},
	} {
		if got := build(t, tt.url).host(netip.MustParseAddrPort(tt.addr)); got != tt.want {
			t.Errorf("%s at %s: %s, want %s", tt.url, tt.addr, got, tt.want)
		}
	}
}

// Local faults are told apart from faults of the peer, for every error of connect.
func TestConnectFailures(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		syscall.EMFILE:        "could not ask: too many open files",
		syscall.ENFILE:        "could not ask: too many open files in system",
		syscall.ENOBUFS:       "could not ask: no buffer space available",
		syscall.ENOMEM:        "could not ask: cannot allocate memory",
		syscall.EADDRNOTAVAIL: "could not ask: cannot assign requested address",
		syscall.EAGAIN:        "could not ask: resource temporarily unavailable",
		syscall.EPERM:         "could not ask: operation not permitted",
		syscall.EACCES:        "could not ask: permission denied",
		syscall.ECONNREFUSED:  "connection refused",
		syscall.ECONNRESET:    "connect: connection reset",
		syscall.EHOSTUNREACH:  "connect: host unreachable",
		syscall.ENETUNREACH:   "connect: network unreachable",
		syscall.ETIMEDOUT:     "connect: timed out",
		syscall.EPROTO:        `connect: "protocol error"`,
	} {
		err := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, Err: errno}
		if got := connectFailure(netip.MustParseAddr("192.0.2.1"), err).Error(); got != want {
			t.Errorf("%v: %q, want %q", errno, got, want)
		}
		if errno == syscall.EACCES {
			want = "connect: administratively prohibited"
		}
		if got := connectFailure(netip.MustParseAddr("2001:db8::1"), err).Error(); got != want {
			t.Errorf("%v over IPv6: %q, want %q", errno, got, want)
		}
	}
}

func TestQuote(t *testing.T) {
	for text, want := range map[string]string{
		"":                            `""`,
		"ok":                          `"ok"`,
		"a\r\n\x1b[0m":                `"a\r\n\x1b[0m"`,
		strings.Repeat("x", 62):       `"` + strings.Repeat("x", 62) + `"`,
		strings.Repeat("x", 63):       `"` + strings.Repeat("x", 59) + `"…`,
		strings.Repeat("\x00", 99):    `"` + strings.Repeat(`\x00`, 14) + `"…`,
		strings.Repeat("é", 99999):    `"` + strings.Repeat("é", 29) + `"…`,
		strings.Repeat("\u202e", 200): `"` + strings.Repeat(`\u202e`, 9) + `"…`,
	} {
		if got := quote(text); got != want {
			t.Errorf("quote(%.20q) = %s, want %s", text, got, want)
		}
	}
}

// FuzzResponse lets a peer send anything, in pieces of any size, to several kinds of check. There
// is no panic, no more bytes are read than promised, and the reason is fit for a log.
func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		"", "HTTP/1.1 200 OK\r\n\r\nok", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "SSH-2.0-\x1b[2J\r\n", "HTTP/9 9 9",
		"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\xca\xcf\x06\x04\x00\x00\xff\xff\x47\xdd\xdc\x79\x02\x00\x00\x00",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 200 ",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\ns3cret\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok.s3cret", "HTTP/1.1 200 OK\r\nContent-Encoding: s3cret\r\n\r\n",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	checks := []*httpCheck{
		build(f, "http://"), build(f, "http://", Option{"body", []string{"ok"}}), build(f, "http://", Option{"method", []string{"HEAD"}}),
		build(f, "http://", Option{"body_regex", []string{`^\pL+$`}}, Option{"status", []string{"101,200-599"}}),
		build(f, "http://", Option{"header", []string{"X-Token", "s3cret"}}, Option{"no_body", []string{"x"}}),
	}
	f.Fuzz(func(t *testing.T, data []byte, bytewise bool) {
		for _, h := range checks {
			// The same bytes over and over, so that every limit is reached.
			source := &counter{r: io.MultiReader(bytes.NewReader(data), &repeat{data: data})}
			var r io.Reader = source
			if bytewise {
				r = iotest.OneByteReader(source)
			}
			_, err := h.judgeResponse(r)
			if source.n > responseLimit {
				t.Errorf("read %d bytes", source.n)
			}
			if err != nil {
				decent(t, err.Error())
			}
			if h.sendsSecret() && strings.Contains(fmt.Sprint(err), `"`) && err.Error() != `body contains "x"` { // our own words
				t.Errorf("of what the peer said is shown: %v", err)
			}
		}
	})
}

func decent(t *testing.T, reason string) {
	wild := strings.ContainsFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) })
	if len(reason) > 200 || wild || !utf8.ValidString(reason) {
		t.Errorf("%d bytes of reason: %q", len(reason), reason)
	}
}

type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// A repeat repeats its data without end, if it has any.
type repeat struct {
	data []byte
	at   int
}

func (r *repeat) Read(p []byte) (n int, err error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	for n < len(p) {
		c := copy(p[n:], r.data[r.at:])
		n, r.at = n+c, (r.at+c)%len(r.data)
	}
	return n, nil
}
