package check_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// benchmarkCheck asks an address over and over.
func benchmarkCheck(b *testing.B, c *check.Check, addr netip.AddrPort) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Probe(ctx, addr); err != nil {
			b.Fatal(err)
		}
	}
}

// heedless says what it has to say, with as little work as it can, for its allocations are counted too.
func heedless(text string) func(net.Conn) {
	return func(conn net.Conn) {
		io.WriteString(conn, text)
		hold(conn)
	}
}

func benchmarkText(b *testing.B, url, text string) {
	benchmarkCheck(b, mustNew(b, url), listen(b, "127.0.0.1", heedless(text)).addr)
}

func BenchmarkProbeRedis(b *testing.B)    { benchmarkText(b, "redis://", goodRedis) }
func BenchmarkProbePostgres(b *testing.B) { benchmarkText(b, "postgres://", goodPostgres) }
func BenchmarkProbeMySQL(b *testing.B)    { benchmarkText(b, "mysql://", goodMySQL) }
func BenchmarkProbeGRPC(b *testing.B)     { benchmarkText(b, "grpc://:1", goodGRPC()) }

func BenchmarkProbeDNS(b *testing.B) {
	addr := listenUDP(b, "127.0.0.1", func(query []byte) [][]byte {
		query[2] |= 0x80 // the question, called a reply
		return [][]byte{query}
	})
	benchmarkCheck(b, mustNew(b, "dns:///example.org"), addr)
}

func BenchmarkProbeICMP(b *testing.B) {
	c, addr := mustNew(b, "icmp:"), netip.MustParseAddrPort("127.0.0.1:0")
	if err := probe(c, addr); err != nil {
		b.Skip(err)
	}
	benchmarkCheck(b, c, addr)
}
