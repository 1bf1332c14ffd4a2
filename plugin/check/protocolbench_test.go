package check_test

import (
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
)

// A meter counts the bytes on connections, both ways, above TCP or UDP.
type meter struct{ bytes atomic.Int64 }

// on meters a peer.
func (m *meter) on(serve func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) { serve(metered{conn, m}) }
}

// report reports bytes per probe.
func (m *meter) report(b *testing.B) {
	b.ReportMetric(float64(m.bytes.Load())/float64(b.N), "wire-B/op")
}

type metered struct {
	net.Conn
	*meter
}

func (c metered) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (c metered) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}

type meteredListener struct {
	net.Listener
	*meter
}

func (l meteredListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return metered{conn, l.meter}, err
}

// BenchmarkProbe asks over a connection in every way. The peers do as little as they can, because
// their work is included, and so is their half of a handshake.
func BenchmarkProbe(b *testing.B) {
	config := serverConfig(b, nil, www)
	for _, w := range ways(b) {
		if w.addr.IsValid() {
			continue
		}
		var lines [][]string
		if w.tls {
			lines = append(lines, opt("insecure"))
		}
		b.Run(w.name(), func(b *testing.B) {
			m := new(meter)
			p := listen(b, "127.0.0.1", m.on(w.serve(config, w.good)))
			benchmarkAt(b, w.check(b, www, lines...), p.addr)
			m.report(b)
		})
	}
}

func BenchmarkProbeDNS(b *testing.B) {
	m := new(meter)
	addr := listenUDP(b, "127.0.0.1", func(query []byte) [][]byte {
		m.bytes.Add(2 * int64(len(query)))
		query[2] |= 0x80 // the question, called a reply
		return [][]byte{query}
	})
	benchmarkAt(b, mustNew(b, "dns:///a.example"), addr)
	m.report(b)
}

// BenchmarkProbeICMP asks the kernel of this host.
func BenchmarkProbeICMP(b *testing.B) {
	c, addr := mustNew(b, "icmp:"), netip.MustParseAddrPort("127.0.0.1:0")
	if err := probe(c, addr); err != nil {
		lacking(b, err.Error())
	}
	benchmarkAt(b, c, addr)
}
