package check_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

func benchmark(b *testing.B, url string, serve func(net.Conn), lines ...[]string) {
	m := new(meter)
	benchmarkAt(b, mustNew(b, url, lines...), listen(b, "127.0.0.1", m.on(serve)).addr)
	m.report(b)
}

func benchmarkAt(b *testing.B, c *check.Check, addr netip.AddrPort) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Probe(ctx, addr); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProbeTCP(b *testing.B)  { benchmark(b, "tcp://:1", hold) }
func BenchmarkProbeHTTP(b *testing.B) { benchmark(b, "http://www.example.org/healthz", lean) }

func BenchmarkProbeTCPFrom(b *testing.B)  { benchmark(b, "tcp://:1", hold, opt("from", "127.0.0.2")) }
func BenchmarkProbeTCPReset(b *testing.B) { benchmark(b, "tcp://:1", hold, opt("reset")) }
func BenchmarkProbeDialogue(b *testing.B) {
	benchmark(b, "tcp://:1", mailer(nil), polite...)
}

// polite is a dialogue with a mail server.
var polite = [][]string{
	opt("expect_regex", "^220 "), opt("send", `EHLO a\r\n`), opt("expect_regex", "^250 "), opt("send", `QUIT\r\n`), opt("expect", "221"),
}

// mailer plays a mail server. If there is a configuration, it continues in TLS after the second
// turn.
func mailer(config *tls.Config) func(net.Conn) {
	return func(conn net.Conn) {
		buf, config := make([]byte, 512), config
		io.WriteString(conn, "220 mail.example.org\r\n")
		for _, reply := range []string{"250 mail.example.org\r\n", "221 bye\r\n"} {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			io.WriteString(conn, reply)
			if config != nil {
				conn, config = tls.Server(conn, config), nil
			}
		}
		hold(conn)
	}
}

func BenchmarkProbeStartTLS(b *testing.B) {
	lines := [][]string{opt("expect", "220"), opt("send", `STARTTLS\r\n`), opt("expect", "250"), opt("starttls"), opt("send", `QUIT\r\n`), opt("expect", "221"), opt("insecure")}
	benchmark(b, "tcp://:1", mailer(serverConfig(b, nil, "www.example.org")), lines...)
}

func BenchmarkProbeTLS(b *testing.B) {
	benchmark(b, "tls://:1", overTLS(serverConfig(b, nil, "www.example.org"), hold), opt("insecure"), opt("expires", "1m"))
}

// BenchmarkProbeHTTPS is over HTTP/1.1.
func BenchmarkProbeHTTPS(b *testing.B) {
	benchmark(b, "https://", overTLS(serverConfig(b, nil, "www.example.org"), lean), opt("insecure"))
}

// BenchmarkProbeHTTP2 runs against the server of net/http, whose work is included.
func BenchmarkProbeHTTP2(b *testing.B) {
	benchmarkHTTP2(b, opt("insecure"))
}

// BenchmarkProbeHTTP1OverTLS runs against the same server without HTTP/2.
func BenchmarkProbeHTTP1OverTLS(b *testing.B) {
	benchmarkHTTP2(b, opt("insecure"), opt("alpn", "http/1.1"))
}

func benchmarkHTTP2(b *testing.B, lines ...[]string) {
	m := new(meter)
	addr := serveMetered(b, func(http.ResponseWriter, *http.Request) {}, m)
	benchmarkAt(b, mustNew(b, "https://www.example.org/", lines...), addr)
	m.report(b)
}

func BenchmarkProbeHTTPBearer(b *testing.B) {
	path := filepath.Join(b.TempDir(), "token")
	if err := os.WriteFile(path, []byte("s3cret"), 0o600); err != nil {
		b.Fatal(err)
	}
	benchmark(b, "http://www.example.org/healthz", lean, opt("bearer", path))
}

func BenchmarkProbeHTTPBody(b *testing.B) {
	benchmark(b, "http://www.example.org/healthz", lean, opt("expect_header", "Content-Length", "^2$"), opt("no_body", "fail"))
}

// BenchmarkProbeNetHTTP asks like BenchmarkProbeHTTP, with the client of net/http and without
// keep-alives: the rejected alternative.
func BenchmarkProbeNetHTTP(b *testing.B) {
	p := listen(b, "127.0.0.1", lean)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", p.addr.String())
	}}}
	defer client.CloseIdleConnections()
	b.ReportAllocs()
	for b.Loop() {
		response, err := client.Get("http://www.example.org/healthz")
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
}

// lean answers with as little work as it can, because its allocations are included.
func lean(conn net.Conn) {
	buf := make([]byte, 1024)
	if _, err := conn.Read(buf); err == nil {
		io.WriteString(conn, ok)
	}
	for err := error(nil); err == nil; { // to the end, which the meter counts too
		_, err = conn.Read(buf)
	}
}
