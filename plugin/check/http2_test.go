package check_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/report"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// serveHTTP2 is the server of net/http, which speaks both versions over TLS.
func serveHTTP2(tb testing.TB, handler http.HandlerFunc) netip.AddrPort {
	return serveMetered(tb, handler, new(meter))
}

func serveMetered(tb testing.TB, handler http.HandlerFunc, m *meter) netip.AddrPort {
	s := httptest.NewUnstartedServer(handler)
	s.Listener = meteredListener{s.Listener, m}
	s.EnableHTTP2, s.TLS = true, &tls.Config{NextProtos: []string{"h2", "http/1.1"}}
	s.StartTLS()
	tb.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

func TestHTTP2(t *testing.T) {
	seen := make(chan *http.Request, 1)
	addr := serveHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		w.Header().Set("X-Mode", "primary")
		w.Header().Set("X-Weight", "30%")
		if r.URL.Path == "/early" {
			w.WriteHeader(http.StatusEarlyHints)
		}
		if r.URL.Path == "/503" {
			w.WriteHeader(503)
		}
		io.WriteString(w, strings.Repeat("hay", 1000)+"needle")
	})
	for _, tt := range []struct {
		path, proto string
		lines       [][]string
		want        string
	}{
		{"/?a=b", "HTTP/2.0", nil, ""},
		{"/", "HTTP/2.0", [][]string{opt("body", "needle"), opt("body_regex", "needle$")}, ""},
		{"/", "HTTP/2.0", [][]string{opt("body", "thread")}, `body does not contain "thread"`},
		{"/", "HTTP/2.0", [][]string{opt("method", "HEAD")}, ""},
		{"/", "HTTP/2.0", [][]string{opt("header", "X-Big", strings.Repeat("x", 40000))}, ""},
		{"/", "HTTP/2.0", [][]string{opt("expect_header", "x-mode", "^prim")}, ""},
		{"/early", "HTTP/2.0", nil, ""},
		{"/503", "HTTP/2.0", nil, "status 503"},
		{"/", "HTTP/2.0", [][]string{opt("alpn", "h2")}, ""},
		{"/", "HTTP/1.1", [][]string{opt("alpn", "http/1.1")}, ""},
		{"/", "HTTP/1.1", [][]string{opt("header", "Upgrade", "websocket")}, ""},
		{"/", "HTTP/1.1", [][]string{opt("status", "101,200")}, ""},
	} {
		c := mustNew(t, "https://www.example.org"+tt.path, append(tt.lines, opt("insecure"), opt("weight_header", "X-Weight"))...)
		said, err := ask(c, addr)
		if got := reason(err); got != tt.want {
			t.Errorf("%s: %q, want %q", c, got, tt.want)
		}
		if want := (report.Report{HasWeight: true, Weight: 30}); err == nil && said != want || err != nil && said.HasWeight {
			t.Errorf("%s: %+v", c, said)
		}
		if len(seen) == 0 {
			t.Errorf("%s asked nothing", c)
			continue
		}
		r := <-seen
		host := fmt.Sprintf("www.example.org:%d", addr.Port())
		if r.Proto != tt.proto || r.Host != host || r.RequestURI != tt.path || r.UserAgent() != "coredns-multivalue" {
			t.Errorf("%s: %s %s %s, %q", c, r.Proto, r.Host, r.RequestURI, r.UserAgent())
		}
	}
}

// h2 plays a peer that speaks HTTP/2. It has read the request when play is called.
func h2(t *testing.T, play func(f *http2.Framer)) func(net.Conn) { return h2Then(t, play, hold) }

// h2Then is h2 with another end than to wait.
func h2Then(t *testing.T, play func(f *http2.Framer), end func(net.Conn)) func(net.Conn) {
	cert, _ := sign(t, template("www.example.org"), nil)
	config := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}}
	return overTLS(config, func(conn net.Conn) {
		io.ReadFull(conn, make([]byte, len(http2.ClientPreface)))
		f := http2.NewFramer(conn, conn)
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			if frame.Header().Type == http2.FrameHeaders {
				break
			}
		}
		play(f)
		end(conn)
	})
}

func head(f *http2.Framer, end bool, fields ...string) { headOn(f, 1, end, fields...) }

func headOn(f *http2.Framer, stream uint32, end bool, fields ...string) {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
}

// forever repeats until the connection is closed.
func forever(write func() error) {
	for write() == nil {
	}
}

// badHTTP2Peers are asked for a body with a needle.
var badHTTP2Peers = map[string]struct {
	play  func(f *http2.Framer)
	limit time.Duration
	want  string
}{
	"silent":           {func(f *http2.Framer) {}, brief, "no response: timed out"},
	"settings only":    {func(f *http2.Framer) { f.WriteSettings() }, brief, "no response: timed out"},
	"endless settings": {func(f *http2.Framer) { forever(func() error { return f.WriteSettings() }) }, patient, "no response: longer than 64 KiB"},
	"endless pings":    {func(f *http2.Framer) { forever(func() error { return f.WritePing(false, [8]byte{}) }) }, patient, "no response: longer than 64 KiB"},
	"endless interims": {func(f *http2.Framer) {
		forever(func() error { head(f, false, ":status", "103"); return f.WriteData(3, false, nil) })
	}, patient, "more than 5 interim responses"},
	"endless head":     {endlessHead, patient, "no response: (longer than 64 KiB|http/2 error [A-Z_]+)|malformed response: no status, or headers too long"},
	"goes away":        {func(f *http2.Framer) { f.WriteGoAway(0, http2.ErrCodeNo, nil) }, patient, "no response: server closed the connection: NO_ERROR"},
	"goes away, angry": {func(f *http2.Framer) { f.WriteGoAway(1, http2.ErrCodeEnhanceYourCalm, nil) }, patient, "no response: server closed the connection: ENHANCE_YOUR_CALM"},
	"goes away, later": {func(f *http2.Framer) {
		f.WriteGoAway(1, http2.ErrCodeNo, nil)
		head(f, false, ":status", "200")
		f.WriteData(1, true, []byte("needle"))
	}, patient, ""},
	"ends the stream":   {func(f *http2.Framer) { f.WriteRSTStream(1, http2.ErrCodeRefusedStream) }, patient, "no response: server reset the stream: REFUSED_STREAM"},
	"body without head": {func(f *http2.Framer) { f.WriteData(1, false, []byte("needle")) }, patient, "malformed response: body before the headers"},
	"no status":         {func(f *http2.Framer) { head(f, true, "a", "b") }, patient, "malformed response: no status, or headers too long"},
	"bad fields":        {func(f *http2.Framer) { head(f, true, ":status", "200", "A", "b") }, patient, "no response: http/2 error PROTOCOL_ERROR"},
	"pushes": {func(f *http2.Framer) {
		f.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true})
	}, patient,
		"no response: (server push, which was disabled|http/2 error PROTOCOL_ERROR)"},
	"not http/2": {func(f *http2.Framer) { f.WriteRawFrame('H', 'T', 'T'<<16, make([]byte, 1<<20)) }, patient, "no response: (peer does not speak http/2|http/2 error FRAME_SIZE_ERROR)"},
	"other stream": {func(f *http2.Framer) {
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte{0x88}, EndHeaders: true})
	}, brief, "no response: timed out"},
	"waits for acks": {acked, patient, ""},
	"no body":        {func(f *http2.Framer) { head(f, true, ":status", "200") }, patient, `body does not contain "needle"`},
	"endless body": {func(f *http2.Framer) {
		head(f, false, ":status", "200")
		forever(func() error { return f.WriteData(1, false, bytes.Repeat([]byte("hay"), 100)) })
	}, patient, `body does not contain "needle"|reading the body: longer than 64 KiB`},
	"endless empty body": {func(f *http2.Framer) {
		head(f, false, ":status", "200")
		forever(func() error { return f.WriteData(1, false, nil) })
	}, patient, "reading the body: longer than 64 KiB"},
	"stream ends amid": {func(f *http2.Framer) { head(f, false, ":status", "200"); f.WriteRSTStream(1, http2.ErrCodeCancel) }, patient, "reading the body: server reset the stream: CANCEL"},
	"trailers": {func(f *http2.Framer) {
		head(f, false, ":status", "200")
		f.WriteData(1, false, []byte("needle"))
		head(f, true, "a", "b")
	}, patient, ""},
	"body too short": {func(f *http2.Framer) {
		head(f, false, ":status", "200", "content-length", "100")
		f.WriteData(1, true, []byte("hay"))
	}, patient, "reading the body: connection closed"},
	"body of its length": {func(f *http2.Framer) {
		head(f, false, ":status", "200", "content-length", "6")
		f.WriteData(1, true, []byte("thread"))
	}, patient, `body does not contain "needle"`},
	"head about a body that it has not": {func(f *http2.Framer) { head(f, true, ":status", "304", "content-length", "100") }, patient, `body does not contain "needle"`},
	"body stalls":                       {func(f *http2.Framer) { head(f, false, ":status", "200"); f.WriteData(1, false, []byte("hay")) }, brief, "reading the body: timed out"},
}

func TestBadHTTP2Peers(t *testing.T) {
	for name, tt := range badHTTP2Peers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := listen(t, "127.0.0.1", h2(t, tt.play))
			c := mustNew(t, "https://", opt("insecure"), needle)
			patiently(t, tt.limit, tt.want, func(limit time.Duration) error { return probeFor(c, p.addr, limit) })
		})
	}
}

// The same peers are as bad after a good answer as without one, and for the same reason (B114).
func TestBadHTTP2PeersAfterAGoodAnswer(t *testing.T) {
	for name, tt := range badHTTP2Peers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cert, _ := sign(t, template("www.example.org"), nil)
			config := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}}
			var conns atomic.Int64
			p := listen(t, "127.0.0.1", overTLS(config, func(conn net.Conn) {
				io.ReadFull(conn, make([]byte, len(http2.ClientPreface)))
				f, well := http2.NewFramer(conn, conn), conns.Add(1) == 1
				for {
					frame, err := f.ReadFrame()
					switch {
					case err != nil:
						return
					case frame.Header().Type != http2.FrameHeaders:
					case well:
						well = false
						head(f, false, ":status", "200")
						f.WriteData(1, true, []byte("needle"))
					default:
						tt.play(f)
						hold(conn)
						return
					}
				}
			}))
			r := newReusing(t, mustNew(t, "https://", opt("insecure"), opt("reuse"), needle), p.addr)
			r.good(1)
			// What is said of an earlier stream is no answer, so half of the time is spent on that.
			patiently(t, min(tt.limit, 2*time.Second), tt.want, r.probeFor)
		})
	}
}

// A body that ends with the connection, and not with its stream, is cut short: what must not occur
// may be in the rest.
func TestHTTP2BodyIsCut(t *testing.T) {
	p := listen(t, "127.0.0.1", h2Then(t, func(f *http2.Framer) {
		head(f, false, ":status", "200")
		f.WriteData(1, false, []byte("hay"))
	}, func(conn net.Conn) { conn.Close() }))
	c := mustNew(t, "https://", opt("insecure"), opt("no_body", "needle"))
	if got := reason(probe(c, p.addr)); got != "reading the body: connection closed" {
		t.Errorf("%q", got)
	}
}

// acked answers once the client has acknowledged its settings and its ping.
func acked(f *http2.Framer) {
	f.WriteSettings()
	f.WritePing(false, [8]byte{1, 2, 3})
	for settings, ping := false, false; !settings || !ping; {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			settings = settings || frame.IsAck()
		case *http2.PingFrame:
			ping = frame.IsAck() && frame.Data == [8]byte{1, 2, 3}
		}
	}
	head(f, false, ":status", "200")
	f.WriteData(1, true, []byte("needle"))
}

// endlessHead sends header fields that never end.
func endlessHead(f *http2.Framer) {
	var block bytes.Buffer
	hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes()})
	block.Reset()
	e := hpack.NewEncoder(&block)
	for range 10 {
		e.WriteField(hpack.HeaderField{Name: "more", Value: "and more", Sensitive: true})
	}
	forever(func() error { return f.WriteContinuation(1, false, block.Bytes()) })
}
