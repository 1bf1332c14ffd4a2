package check_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

func benchmark(b *testing.B, url string, serve func(net.Conn)) {
	benchmarkAt(b, mustNew(b, url), listen(b, "127.0.0.1", serve).addr)
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

// BenchmarkProbeNetHTTP puts the question of BenchmarkProbeHTTP with the client of net/http, its keep-alives off: the
// way not taken.
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

// lean answers with as little work as it can, for its allocations are counted too.
func lean(conn net.Conn) {
	if _, err := conn.Read(make([]byte, 1024)); err == nil {
		io.WriteString(conn, ok)
	}
}
