package check

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"testing"
	"testing/iotest"
)

// A quietPeer is a connection to a peer that sends the same, whatever it receives.
type quietPeer struct {
	net.Conn
	io.Reader
}

func (s quietPeer) Read(p []byte) (int, error) { return s.Reader.Read(p) }
func (quietPeer) Write(p []byte) (int, error)  { return len(p), nil }
func (quietPeer) Close() error                 { return nil }

// readLimit is how much is read from a peer that also starts TLS: responseLimit in the clear and
// again inside, and handshake messages, the longest of which crypto/tls bounds at 256 KiB.
const readLimit = 2*responseLimit + 256<<10

// fuzzSession lets a peer send anything, once and then repeatedly, in pieces of any size. There is
// no panic, no more bytes are read than promised, the reason is fit for a log, and reading byte by
// byte gives the same verdict.
func fuzzSession(f *testing.F, limit int, asks ...func(context.Context, *session) error) {
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, ask := range asks {
			var results []string
			for _, bytewise := range []bool{false, true} {
				source := &counter{r: io.MultiReader(bytes.NewReader(data), &repeat{data: data})}
				var r io.Reader = source
				if bytewise {
					r = iotest.OneByteReader(source)
				}
				x := &session{conn: quietPeer{Reader: r}, peer: netip.MustParseAddrPort("192.0.2.1:80"), in: bufio.NewReader(nil)}
				x.listen()
				err := ask(t.Context(), x)
				if source.n > limit {
					t.Errorf("read %d bytes", source.n)
				}
				result := ""
				if err != nil {
					result = err.Error()
					decent(t, result)
				}
				results = append(results, result)
			}
			if (results[0] == "") != (results[1] == "") {
				t.Errorf("%q: %q, and byte by byte %q", data, results[0], results[1])
			}
		}
	})
}

// insecure is TLS for protocols that start in the clear; alert is how a peer declines it.
var insecure = &tlsClient{config: &tls.Config{InsecureSkipVerify: true}}

const alert = "\x15\x03\x03\x00\x02\x02\x28"

func FuzzRedis(f *testing.F) {
	for _, seed := range []string{"+PONG\r\n", "+PONG\r\n*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n", "-LOADING x\r\n", "-NOAUTH x\r\n", "+PONG\n*5\n-NOPERM \n", "\n", "+PONG\n*\n$\nslave\n"} {
		f.Add([]byte(seed))
	}
	fuzzSession(f, responseLimit, redisCheck{}.ask, redisCheck{"master"}.ask, redisCheck{"replica"}.ask)
}

func FuzzGRPC(f *testing.F) {
	const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for _, seed := range []string{
		settings + "\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88\x00\x00\x07\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x02\x08\x01",
		settings + "\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x07", settings + "\x00\x00\x08\x06\x00\x00\x00\x00\x00aaaaaaaa",
		settings + "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02", settings,
	} {
		f.Add([]byte(seed))
	}
	fuzzSession(f, responseLimit, (&grpcCheck{&spec{scheme: &schemes[0]}, grpcRequest("my.Service"), "http"}).ask)
}

// FuzzServing decodes arbitrary bytes as a HealthCheckResponse.
func FuzzServing(f *testing.F) {
	for _, seed := range []string{"\x08\x01", "\x08\x02\x08\x01", "\x12\x03abc\x08\x01", "\x09aaaaaaaa\x0daaaa", "\x12\xff\xff\xff\xff\x0f", "\x0f", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		framed := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(data))), data...)
		status, ok := servingStatus(framed)
		if !ok {
			return
		}
		if err := servingFailure(status); err != nil {
			decent(t, err.Error())
		}
		more := append(framed, 8, 1)
		binary.BigEndian.PutUint32(more[1:], uint32(len(data)+2))
		if status, ok := servingStatus(more); !ok || status != 1 {
			t.Errorf("%q: the last status is not the one that counts", data)
		}
	})
}

// FuzzDNS lets a name server send anything. A message that is taken for the reply gets a verdict
// fit for a log, and the same one over a stream, in pieces.
func FuzzDNS(f *testing.F) {
	s, err := parseURL("dns:///www.example.org")
	if err != nil {
		f.Fatal(err)
	}
	s.dns.answer = regexp.MustCompile("^192")
	d, err := buildDNS(s)
	if err != nil {
		f.Fatal(err)
	}
	tail := string(d.query[dnsHeader:])
	for _, seed := range []string{
		"\x00\x00\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + tail + "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01",
		"\x00\x00\x83\x83\x00\x01\x00\x00\x00\x00\x00\x00" + tail, "\x00\x00\x81\x81\x00\x00\x00\x00\x00\x00\x00\x00",
		"\x00\x00\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + tail + "\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x3c\x00\x04\x03\x1b[2",
		"\x00\x00\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + tail + "\xc0\x00\x00\x10\x00\x01\x00\x00\x00\x3c\x00\x02\x01a", "\x00\x01" + tail,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		if isReply(reply, d.query) {
			truncated(reply)
			if err := d.judgeReply(reply); err != nil {
				decent(t, err.Error())
			}
		}
		if len(reply) < dnsHeader || len(reply) > responseLimit-2 {
			return
		}
		peer := &streamServer{reply: slices.Clone(reply), queryID: reply[0]|reply[1] == 0}
		x := &session{conn: peer, in: bufio.NewReader(nil)}
		x.listen()
		got, want := d.ask(t.Context(), x), errOtherQuestion
		if isReply(peer.reply, peer.query) {
			want = d.judgeReply(peer.reply)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q: %v, want %v", peer.reply, got, want)
		}
	})
}

// A streamServer sends its reply, with the ID of the query if that is wanted.
type streamServer struct {
	quietPeer
	reply, query []byte
	queryID      bool
	left         []byte
}

func (s *streamServer) Write(query []byte) (int, error) {
	s.query = query[2:]
	if s.queryID {
		copy(s.reply, s.query[:2])
	}
	s.left = append(binary.BigEndian.AppendUint16(nil, uint16(len(s.reply))), s.reply...)
	return len(query), nil
}

func (s *streamServer) Read(p []byte) (int, error) {
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.left[:1+len(s.left)/2]) // in pieces
	s.left = s.left[n:]
	return n, nil
}

// FuzzEcho lets a host send any packet. A packet that is taken for the reply contains what only the
// request had. One that differs from a reply in a single bit is not a reply, except for the number
// that the kernel compares and the checksum.
func FuzzEcho(f *testing.F) {
	const token = "multivalue 0123456789abcdef" // the same in all processes of the fuzzer
	e4 := echo{addr: netip.MustParseAddr("192.0.2.1"), id: 0x1234, seq: 0x5678, token: token}
	e6 := echo{addr: netip.MustParseAddr("2001:db8::1"), seq: 0x5678, token: token, kernelID: true}
	for i, e := range []echo{e4, e6} {
		request, err := e.request()
		if err != nil {
			f.Fatal(err)
		}
		reply := slices.Clone(request)
		if reply[0] = 0; e.addr.Is6() {
			reply[0] = 129
		}
		for _, seed := range [][]byte{request, reply, reply[:8], nil} {
			for at := range 2 * len(seed) {
				f.Add(seed, i == 1, uint16(8*at+at%8))
			}
		}
	}
	f.Fuzz(func(t *testing.T, packet []byte, six bool, bit uint16) {
		e := e4
		if six {
			e = e6
		}
		ours := e.answeredBy(packet)
		if ours && !bytes.HasSuffix(packet, []byte(e.token)) {
			t.Errorf("%q is taken for a reply", packet)
		}
		at := int(bit) / 8
		free := at == 2 || at == 3 || e.kernelID && (at == 4 || at == 5)
		if ours && at < len(packet) && !free {
			other := slices.Clone(packet)
			other[at] ^= 1 << (bit % 8)
			if e.answeredBy(other) {
				t.Errorf("%q is taken for a reply too", other)
			}
		}
	})
}

func FuzzPostgres(f *testing.F) {
	for _, seed := range []string{
		"R\x00\x00\x00\x0c\x00\x00\x00\x05salt", "R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I", "R\x00\x00\x00\x06\x00\x00",
		"E\x00\x00\x00\x20SFATAL\x00C57P03\x00Mstarting\x00\x00", "N\x00\x00\x00\x04E\x00\x00\x00\x04", "Sx", "N", "S" + alert, "E\x00\x00\x00\x04",
	} {
		f.Add([]byte(seed))
	}
	fuzzSession(f, readLimit, postgresCheck{}.ask, postgresCheck{insecure}.ask)
}

func FuzzMySQL(f *testing.F) {
	for _, seed := range []string{
		"\x16\x00\x00\x00\x0a8\x00\x01\x00\x00\x00saltsalt\x00\xff\xff\x2d\x02\x00\x01\x00\x00\x02\x00",
		"\x04\x00\x00\x00\xff\x10\x04x", "\x0d\x00\x00\x00\xff\x15\x04#28000Denied", "\x01\x00\x00\x00\xff", "\x01\x00\x00\x00\x0a", "\x00\x00\x00\x00",
		"\x16\x00\x00\x00\x0a8\x00\x01\x00\x00\x00saltsalt\x00\xff\xff\x2d\x02\x00" + alert,
	} {
		f.Add([]byte(seed))
	}
	fuzzSession(f, readLimit, mysqlCheck{}.ask, mysqlCheck{insecure}.ask)
}
