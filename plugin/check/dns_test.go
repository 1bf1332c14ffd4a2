package check_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/ports"

	"github.com/miekg/dns"
)

// listenUDP answers datagrams on a loopback address until the test is over.
func listenUDP(tb testing.TB, host string, serve func(query []byte) [][]byte) netip.AddrPort {
	tb.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		tb.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for buf := make([]byte, 1500); ; {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, reply := range serve(buf[:n]) {
				conn.WriteTo(reply, from)
			}
		}
	})
	tb.Cleanup(func() { conn.Close(); all.Wait() })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// reply makes a reply to the query, with a change.
func reply(tb testing.TB, query []byte, change func(*dns.Msg)) []byte {
	var q dns.Msg
	if err := q.Unpack(query); err != nil {
		tb.Error(err)
		return nil
	}
	m := new(dns.Msg).SetReply(&q)
	m.Authoritative = true
	if rr, err := dns.NewRR(q.Question[0].Name + " 300 IN A 192.0.2.1"); err == nil && q.Question[0].Qtype == dns.TypeA {
		m.Answer = append(m.Answer, rr)
	}
	if change != nil {
		change(m)
	}
	packed, err := m.Pack()
	if err != nil {
		tb.Error(err)
	}
	return packed
}

// strange answers with a record of an unknown type.
func strange(m *dns.Msg) {
	m.Answer = []dns.RR{&dns.RFC3597{Hdr: dns.RR_Header{Name: "www.example.org.", Rrtype: 65300, Class: 1, Ttl: 300}, Rdata: "00"}}
}

var dnsPeers = []struct {
	name   string
	change func(*dns.Msg)
	lines  [][]string
	want   string
}{
	{"good", nil, nil, ""},
	{"servfail", func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }, nil, "rcode SERVFAIL"},
	{"refused", func(m *dns.Msg) { m.Rcode = dns.RcodeRefused }, nil, "rcode REFUSED"},
	{"unknown rcode", func(m *dns.Msg) { m.Rcode = 12 }, nil, "rcode 12"},
	{"unknown type", strange, [][]string{opt("answer", `^\\# 1 00$`)}, ""},
	{"unknown type, by its name", strange, [][]string{opt("answer", `www|300|CLASS|TYPE`)}, `no record in the answer matches "www|300|CLASS|TYPE" (of 1)`},
	{"nxdomain wanted", func(m *dns.Msg) { m.Rcode = dns.RcodeNameError }, [][]string{opt("rcode", "NXDOMAIN,REFUSED")}, ""},
	{"noerror not wanted", nil, [][]string{opt("rcode", "NXDOMAIN,REFUSED")}, "rcode NOERROR"},
	{"formerr without the question", func(m *dns.Msg) { m.Rcode, m.Question = dns.RcodeFormatError, nil }, nil, "rcode FORMERR"},
	{"matching", nil, [][]string{opt("answer", `^192\.0\.2\.1$`)}, ""},
	{"not matching", nil, [][]string{opt("answer", `^192\.0\.2\.2$`)}, `no record in the answer matches "^192\\.0\\.2\\.2$" (of 1)`},
	{"no record to match", func(m *dns.Msg) { m.Answer = nil }, [][]string{opt("answer", `.`)}, `no record in the answer matches "." (of 0)`},
	{"empty", func(m *dns.Msg) { m.Answer = nil }, nil, ""},
	{"lame", func(m *dns.Msg) { m.Authoritative = false }, [][]string{opt("authoritative")}, "answer is not authoritative"},
	{"not lame", nil, [][]string{opt("authoritative")}, ""},
	{"other case", func(m *dns.Msg) { m.Question[0].Name = "wWw.EXAMPLE.org." }, nil, ""},
}

// The result is the same over UDP, over TCP, over TCP after a truncated reply, and over TLS.
func TestDNS(t *testing.T) {
	a := newAuthority(t)
	config := serverConfig(t, a, "ns.example.org")
	for _, tt := range dnsPeers {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			udp := listenUDP(t, "127.0.0.1", func(query []byte) [][]byte { return [][]byte{reply(t, query, tt.change)} })
			tcp := listen(t, "127.0.0.1", streamDNS(t, tt.change))
			dot := listen(t, "127.0.0.1", overTLS(config, streamDNS(t, tt.change)))
			url := "dns:///www.example.org"
			if got := reason(probe(mustNew(t, url, tt.lines...), udp)); got != tt.want {
				t.Errorf("udp: %q, want %q", got, tt.want)
			}
			if got := reason(probe(mustNew(t, url, append([][]string{opt("tcp")}, tt.lines...)...), tcp.addr)); got != tt.want {
				t.Errorf("tcp: %q, want %q", got, tt.want)
			}
			both := sharedPort(t, streamDNS(t, tt.change), func(query []byte) [][]byte {
				return [][]byte{reply(t, query, func(m *dns.Msg) { m.Truncated, m.Answer = true, nil })}
			})
			if got := reason(probe(mustNew(t, url, tt.lines...), both)); got != tt.want {
				t.Errorf("truncated: %q, want %q", got, tt.want)
			}
			secure := mustNew(t, "dot://ns.example.org/www.example.org", append([][]string{opt("ca", a.file(t))}, tt.lines...)...)
			if got := reason(probe(secure, dot.addr)); got != tt.want {
				t.Errorf("tls: %q, want %q", got, tt.want)
			}
		})
	}
}

// streamDNS answers one query on a stream.
func streamDNS(tb testing.TB, change func(*dns.Msg)) func(net.Conn) {
	return func(conn net.Conn) {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		r := reply(tb, query, change)
		conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(r))), r...))
		hold(conn)
	}
}

// sharedPort listens on TCP and UDP, on one port that is free for both.
func sharedPort(t *testing.T, stream func(net.Conn), datagram func([]byte) [][]byte) netip.AddrPort {
	t.Helper()
	tcp := listen(t, "127.0.0.1", stream)
	conn, err := net.ListenPacket("udp", tcp.addr.String())
	if err != nil {
		return sharedPort(t, stream, datagram)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for buf := make([]byte, 1500); ; {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, r := range datagram(buf[:n]) {
				conn.WriteTo(r, from)
			}
		}
	})
	t.Cleanup(func() { conn.Close(); all.Wait() })
	return tcp.addr
}

// Datagrams that are not the reply are skipped, as long as there is time and they are not too many.
func TestDNSStrays(t *testing.T) {
	otherID := func(query []byte) []byte { return reply(t, query, func(m *dns.Msg) { m.Id++ }) }
	otherName := func(query []byte) []byte {
		return reply(t, query, func(m *dns.Msg) { m.Question[0].Name = "www.example.com." })
	}
	otherType := func(query []byte) []byte {
		return reply(t, query, func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA })
	}
	noQuestion := func(query []byte) []byte { return reply(t, query, func(m *dns.Msg) { m.Question = nil }) }
	request := func(query []byte) []byte { return reply(t, query, func(m *dns.Msg) { m.Response = false }) }
	notify := func(query []byte) []byte { return reply(t, query, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }) }
	good := func(query []byte) []byte { return reply(t, query, nil) }
	broken := func(query []byte) []byte { r := good(query); return r[:len(r)-5] }
	short := func(query []byte) []byte { return good(query)[:11] }
	const silence = "no response: timed out"
	for name, tt := range map[string]struct {
		replies []func([]byte) []byte
		want    string
	}{
		"all kinds, then the reply": {[]func([]byte) []byte{otherID, otherName, otherType, noQuestion, request, notify, short, good}, ""},
		"another id":                {[]func([]byte) []byte{otherID}, silence},
		"another name":              {[]func([]byte) []byte{otherName}, silence},
		"another type":              {[]func([]byte) []byte{otherType}, silence},
		"no question":               {[]func([]byte) []byte{noQuestion}, silence},
		"a request":                 {[]func([]byte) []byte{request}, silence},
		"another opcode":            {[]func([]byte) []byte{notify}, silence},
		"a short one":               {[]func([]byte) []byte{short}, silence},
		"nothing":                   {nil, silence},
		"a broken one":              {[]func([]byte) []byte{broken}, `malformed response: "overflow unpacking uint16"`},
		"a flood":                   {repeated(otherID, 100), "more than 64 replies to other questions"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := listenUDP(t, "127.0.0.1", func(query []byte) (all [][]byte) {
				for _, r := range tt.replies {
					all = append(all, r(query))
				}
				return all
			})
			limit := patient
			if tt.want == silence {
				limit = brief
			}
			if got := reason(probeFor(mustNew(t, "dns:///www.example.org"), addr, limit)); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
	t.Run("over tcp", func(t *testing.T) {
		p := listen(t, "127.0.0.1", streamDNS(t, func(m *dns.Msg) { m.Id++ }))
		if got := reason(probe(mustNew(t, "dns:///www.example.org", opt("tcp")), p.addr)); got != "reply to another question" {
			t.Errorf("%q", got)
		}
	})
}

func repeated(f func([]byte) []byte, n int) (all []func([]byte) []byte) {
	for range n {
		all = append(all, f)
	}
	return all
}

// A closed port is reported by ICMP. Over IPv6 it is the same.
func TestDNSWithoutServer(t *testing.T) {
	c := mustNew(t, "dns:///www.example.org")
	if got := reason(probe(c, refusing(t))); got != "no response: connection refused" {
		t.Errorf("%q", got)
	}
	over6 := listenUDP(t, ports.IPv6(t), func(query []byte) [][]byte { return [][]byte{reply(t, query, nil)} })
	if err := probe(c, over6); err != nil {
		t.Error(err)
	}
	lost := sharedPort(t, reset, func(query []byte) [][]byte {
		return [][]byte{reply(t, query, func(m *dns.Msg) { m.Truncated = true })}
	})
	if got := reason(probe(c, lost)); got == "" {
		t.Error("a truncated reply is enough")
	}
}
