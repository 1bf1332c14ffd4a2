package check

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"regexp"
	"testing"
	"testing/iotest"
)

// A quietPeer is a connection to a peer that says what it has to say, whatever it is told.
type quietPeer struct {
	net.Conn
	io.Reader
}

func (s quietPeer) Read(p []byte) (int, error) { return s.Reader.Read(p) }
func (quietPeer) Write(p []byte) (int, error)  { return len(p), nil }
func (quietPeer) Close() error                 { return nil }

// fuzzSession lets a peer say anything, once and then over and over, in pieces of any size: no panic, no more bytes read
// than promised, and a reason that is fit for a log. What is read byte by byte is judged alike.
func fuzzSession(f *testing.F, asks ...func(context.Context, *session) error) {
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
				if source.n > responseLimit {
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

func FuzzRedis(f *testing.F) {
	for _, seed := range []string{"+PONG\r\n", "+PONG\r\n*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n", "-LOADING x\r\n", "-NOAUTH x\r\n", "+PONG\n*5\n-NOPERM \n", "\n", "+PONG\n*\n$\nslave\n"} {
		f.Add([]byte(seed))
	}
	fuzzSession(f, redisCheck{}.ask, redisCheck{"master"}.ask, redisCheck{"replica"}.ask)
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
	fuzzSession(f, (&grpcCheck{&spec{scheme: &schemes[0]}, grpcRequest("my.Service"), "http"}).ask)
}

// FuzzServing reads what may be a HealthCheckResponse.
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

// FuzzDNS lets a name server say anything over UDP: a reply that is taken for ours gets a verdict in words fit for a log.
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
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		if !answers(reply, d.query) {
			return
		}
		truncated(reply)
		if err := d.judge(reply); err != nil {
			decent(t, err.Error())
		}
	})
}

func FuzzPostgres(f *testing.F) {
	for _, seed := range []string{
		"R\x00\x00\x00\x0c\x00\x00\x00\x05salt", "R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I", "R\x00\x00\x00\x06\x00\x00",
		"E\x00\x00\x00\x20SFATAL\x00C57P03\x00Mstarting\x00\x00", "N\x00\x00\x00\x04E\x00\x00\x00\x04", "Sx", "N",
	} {
		f.Add([]byte(seed))
	}
	fuzzSession(f, postgresCheck{}.ask)
}

func FuzzMySQL(f *testing.F) {
	for _, seed := range []string{
		"\x16\x00\x00\x00\x0a8\x00\x01\x00\x00\x00saltsalt\x00\xff\xff\x2d\x02\x00\x01\x00\x00\x02\x00",
		"\x04\x00\x00\x00\xff\x10\x04x", "\x0d\x00\x00\x00\xff\x15\x04#28000Denied", "\x01\x00\x00\x00\xff", "\x01\x00\x00\x00\x0a", "\x00\x00\x00\x00",
	} {
		f.Add([]byte(seed))
	}
	fuzzSession(f, mysqlCheck{}.ask)
}
