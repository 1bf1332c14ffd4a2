package check_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/report"

	"golang.org/x/net/http2"
)

// sayAgain answers whatever is asked with the same text, again and again.
func sayAgain(text string) func(net.Conn) {
	return func(conn net.Conn) {
		for buf := make([]byte, 4096); ; {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			io.WriteString(conn, text)
		}
	}
}

// h2Again plays a peer that speaks HTTP/2 and answers each request; n counts them from 0.
func h2Again(answer func(f *http2.Framer, stream uint32, n int)) func(net.Conn) {
	return func(conn net.Conn) {
		io.ReadFull(conn, make([]byte, len(http2.ClientPreface)))
		w := bufio.NewWriter(conn)
		f := http2.NewFramer(w, conn)
		f.WriteSettings()
		for n := 0; ; {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			if frame.Header().Flags.Has(http2.FlagDataEndStream) && frame.Header().StreamID != 0 {
				answer(f, frame.Header().StreamID, n)
				w.Flush()
				n++
			}
		}
	}
}

// grpcAgain is a healthy server for one call after another.
func grpcAgain(conn net.Conn) {
	h2Again(func(f *http2.Framer, stream uint32, _ int) {
		headOn(f, stream, false, ":status", "200", "content-type", "application/grpc")
		f.WriteData(stream, false, []byte("\x00\x00\x00\x00\x02\x08\x01"))
		headOn(f, stream, true, "grpc-status", "0", "grpc-message", "")
	})(conn)
}

// A reusing asks one target, probe after probe.
type reusing struct {
	testing.TB
	*check.Check
	addr netip.AddrPort
	kept *check.Kept
}

func newReusing(tb testing.TB, c *check.Check, addr netip.AddrPort) *reusing {
	r := &reusing{tb, c, addr, nil}
	tb.Cleanup(func() { r.kept.Close() })
	return r
}

func (r *reusing) probeFor(limit time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	r.kept, err = r.ProbeReusing(ctx, r.addr, r.kept)
	return err
}

func (r *reusing) probe() error { return r.probeFor(patient) }

// good wants good answers.
func (r *reusing) good(probes int) {
	r.Helper()
	for i := range probes {
		if err := r.probe(); err != nil {
			r.Fatalf("probe %d of %s: %v", i, r.Check, err)
		}
	}
}

// tryReused tries the second probe on the connection of the first: one that is answered, and one of
// which the peer has gone.
func (m *matrix) tryReused(w way) {
	m.Helper()
	if w.again == nil {
		return
	}
	lines := [][]string{opt("reuse")}
	if w.tls {
		lines = append(lines, m.trust)
	}
	c := w.check(m, www, lines...)
	for range 2 {
		p := listen(m, "127.0.0.1", w.serve(m.good, w.again))
		r := newReusing(m, c, p.addr)
		r.good(1)
		m.judge(w, "reuse", c, r.probe(), "")
		if n := len(p.accepted()); n != 1 {
			m.Errorf("%s: %d connections", c, n)
		}
		p.stop()
		m.judge(w, "reuse", c, r.probe(), "connection refused")
	}
}

// A connection is asked by thirty probes, and then another one takes its place: a listener that
// takes no new client is down for new clients (B114).
func TestReuseIsBounded(t *testing.T) {
	config := serverConfig(t, nil, www)
	for _, w := range ways(t) {
		if w.again == nil {
			continue
		}
		lines := [][]string{opt("reuse")}
		if w.tls {
			lines = append(lines, opt("insecure"))
		}
		p := listen(t, "127.0.0.1", w.serve(config, w.again))
		r := newReusing(t, w.check(t, www, lines...), p.addr)
		r.good(30)
		if n := len(p.accepted()); n != 1 {
			t.Errorf("%s: %d connections for 30 probes", w.name(), n)
		}
		r.good(1)
		if n := len(p.accepted()); n != 2 {
			t.Errorf("%s: %d connections for 31 probes", w.name(), n)
		}
		r.good(29)
		p.stop() // it takes no new client
		if err := r.probe(); reason(err) != "connection refused" {
			t.Errorf("%s: %v", w.name(), err)
		}
	}
}

// Real servers answer on a connection that is kept (B114).
func TestReuseOfRealServers(t *testing.T) {
	serve := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/big":
			io.WriteString(w, strings.Repeat("hay", 5000)+"needle")
		case "/huge":
			w.Header().Set("Content-Length", "1000000")
		case "/chunked":
			w.Header().Set("Trailer", "X-Sum")
			for range 3 {
				io.WriteString(w, "needle and thread")
				w.(http.Flusher).Flush()
			}
			w.Header().Set("X-Sum", "1")
		case "/early":
			w.WriteHeader(http.StatusEarlyHints)
			io.WriteString(w, "needle")
		case "/204":
			w.WriteHeader(204)
		default:
			io.WriteString(w, "needle")
		}
	}
	addr := serveHTTP2(t, serve)
	again := func(path string, lines ...[]string) {
		t.Helper()
		r := newReusing(t, mustNew(t, "https://www.example.org"+path, append(lines, opt("insecure"), opt("reuse"))...), addr)
		for i := range 12 {
			last := r.kept
			// The end may come a moment later, and is not waited for.
			same := func() bool { last = r.kept; r.good(1); return r.kept == last }
			if i == 0 {
				r.good(1)
			} else if !same() && !wait(same) {
				t.Errorf("%s: another connection at probe %d", r.Check, i)
			}
		}
	}
	for _, path := range []string{"/", "/chunked", "/early", "/204"} {
		for _, lines := range [][][]string{nil, {opt("alpn", "http/1.1")}, {opt("method", "HEAD")}} {
			again(path, lines...)
		}
	}
	for _, alpn := range []string{"h2", "http/1.1"} {
		again("/", opt("body", "needle"), opt("alpn", alpn))
		again("/chunked", opt("no_body", "thistle"), opt("alpn", alpn))
		again("/big", opt("method", "HEAD"), opt("alpn", alpn))
		again("/huge", opt("method", "HEAD"), opt("alpn", alpn))
		r := newReusing(t, mustNew(t, "https://www.example.org/big", opt("alpn", alpn), opt("insecure"), opt("reuse")), addr)
		r.good(5) // the rest of the body may be there, or not
	}
}

// onceWell answers the first question on the first connection well, and then does something else there.
// All other connections are answered well, or not at all if fresh is given.
func onceWell(first string, then, fresh func(net.Conn)) func(net.Conn) {
	var n atomic.Int64
	return func(conn net.Conn) {
		if n.Add(1) > 1 {
			fresh(conn)
			return
		}
		if _, err := conn.Read(make([]byte, 4096)); err == nil {
			io.WriteString(conn, first)
			then(conn)
		}
	}
}

// What a peer does on a connection that was kept proves nothing: a new one is asked, and decides
// (B114).
func TestKeptConnectionFails(t *testing.T) {
	asked := func(then func(net.Conn)) func(net.Conn) {
		return func(conn net.Conn) {
			if _, err := conn.Read(make([]byte, 4096)); err == nil {
				then(conn)
			}
		}
	}
	write := func(text string) func(net.Conn) {
		return func(conn net.Conn) { io.WriteString(conn, text); hold(conn) }
	}
	repeat := func(text string) func(net.Conn) {
		return func(conn net.Conn) { forever(func() error { _, err := io.WriteString(conn, text); return err }) }
	}
	config := serverConfig(t, nil, www)
	for name, then := range map[string]func(net.Conn){
		"closed":               func(net.Conn) {},
		"reset":                reset,
		"half closed":          func(conn net.Conn) { conn.(interface{ CloseWrite() error }).CloseWrite(); hold(conn) },
		"closed when asked":    asked(func(net.Conn) {}),
		"reset when asked":     asked(reset),
		"garbage":              asked(func(conn net.Conn) { io.WriteString(conn, "\x00garbage\r\n\r\n") }),
		"garbage before":       write("garbage"),
		"bad status":           asked(func(conn net.Conn) { io.WriteString(conn, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n") }),
		"closed in the answer": asked(func(conn net.Conn) { io.WriteString(conn, "HTTP/1.1 200 O") }),
		"interim flood":        asked(repeat("HTTP/1.1 100 Continue\r\n\r\n")),
		"endless head":         asked(repeat("HTTP/1.1 200 OK: b\r\n")),
		"timeout page":         write("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"),
	} {
		for _, w := range ways(t) {
			if w.again == nil || strings.HasPrefix(w.scheme(), "grpc") {
				continue
			}
			t.Run(name+" "+w.name(), func(t *testing.T) {
				t.Parallel()
				lines := [][]string{opt("reuse")}
				if w.tls {
					lines = append(lines, opt("insecure"))
				}
				var n atomic.Int64
				inner := func(conn net.Conn) {
					if n.Add(1) > 1 {
						w.again(conn)
						return
					}
					w.again(&oneAnswer{Conn: conn, then: then})
				}
				p := listen(t, "127.0.0.1", w.serve(config, inner))
				r := newReusing(t, w.check(t, www, lines...), p.addr)
				r.good(3)
				if got := len(p.accepted()); got != 2 {
					t.Errorf("%d connections", got)
				}
			})
		}
	}
}

// oneAnswer is a connection that behaves in another way after the first answer.
type oneAnswer struct {
	net.Conn
	then func(net.Conn)
	over bool
}

func (o *oneAnswer) Read(p []byte) (int, error) {
	if o.over {
		o.then(o.Conn)
		return 0, io.EOF
	}
	return o.Conn.Read(p)
}

func (o *oneAnswer) Write(p []byte) (int, error) {
	o.over = true
	return o.Conn.Write(p)
}

// A peer that is silent on a connection that was kept costs half of the time, and one that is silent
// on both all of it, but no more (B54, B114).
func TestKeptConnectionIsSilent(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	for _, mute := range []bool{false, true} {
		p := listen(t, "127.0.0.1", onceWell(ok, hold, func(conn net.Conn) {
			if mute {
				hold(conn)
			}
			sayAgain(ok)(conn)
		}))
		r := newReusing(t, mustNew(t, "http://", opt("reuse")), p.addr)
		r.good(1)
		const limit = 2 * time.Second
		began := time.Now()
		err := r.probeFor(limit)
		took := time.Since(began)
		if mute && (reason(err) != "no response: timed out" || took < limit) {
			t.Errorf("%v after %s", err, took)
		}
		if !mute && (err != nil && took < limit || took < limit/2) { // a machine that stands still may need all of it
			t.Errorf("%v after %s", err, took)
		}
		if n := len(p.accepted()); n != 2 {
			t.Errorf("%d connections", n)
		}
	}
}

// A peer that needs more than half of the time is as good as without reuse, also if it was quick before and its connection is kept: a
// new one is asked beside that, and the first good answer counts. It is asked on one connection then, which is not kept (B114).
func TestSlowPeer(t *testing.T) {
	var pause atomic.Int64
	p := listen(t, "127.0.0.1", func(conn net.Conn) {
		for buf := make([]byte, 4096); ; {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			time.Sleep(time.Duration(pause.Load())) // a slow peer
			io.WriteString(conn, ok)
		}
	})
	c := mustNew(t, "http://", opt("reuse"))
	tried := func(limit time.Duration) error {
		r := newReusing(t, c, p.addr)
		defer func() { r.kept.Close() }()
		pause.Store(0)
		if r.good(1); r.kept == nil {
			t.Error("it is not kept when it is quick")
		}
		before := len(p.accepted())
		pause.Store(int64(limit) * 6 / 10)
		for i, want := range []int{1, 2, 3} { // beside the one that is kept, and then alone
			if err := r.probeFor(limit); err != nil {
				return err
			}
			if n := len(p.accepted()) - before; r.kept != nil || n != want {
				t.Errorf("probe %d: kept %t, %d more connections", i, r.kept != nil, n)
			}
		}
		return nil
	}
	patiently(t, 2*time.Second, "", tried)
}

// Of the kept connection and the one that is asked beside it, the new one decides if it fails, or answers first. What the backend says of
// itself is that of the answer that counts.
func TestSecondConnectionDecides(t *testing.T) {
	for name, tt := range map[string]struct {
		kept, fresh func(conn net.Conn)
		want        string
	}{
		"the new one answers": {hold, sayAgain("HTTP/1.1 200 OK\r\nX-Weight: 30%\r\nContent-Length: 0\r\n\r\n"), ""},
		"the new one fails":   {hold, sayAgain("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), "status 503"},
	} {
		first := "HTTP/1.1 200 OK\r\nX-Weight: 70%\r\nContent-Length: 0\r\n\r\n"
		p := listen(t, "127.0.0.1", onceWell(first, tt.kept, tt.fresh))
		r := newReusing(t, mustNew(t, "http://", opt("reuse"), opt("weight_header", "X-Weight")), p.addr)
		ask := func(limit time.Duration) (said report.Report, err error) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			r.kept, err = r.ProbeReusing(check.Listen(ctx, &said), r.addr, r.kept)
			return said, err
		}
		if said, err := ask(patient); err != nil || said.Weight != 70 {
			t.Fatalf("%s: at first: %+v, %v", name, said, err)
		}
		said, err := ask(2 * time.Second)
		if reason(err) != tt.want || said.HasWeight != (tt.want == "") || said.HasWeight && said.Weight != 30 {
			t.Errorf("%s: %+v, %v", name, said, err)
		}
	}
}

// A fault of ours costs no connection: neither the one that is kept, nor a new one (B49, B114).
func TestReuseAbstains(t *testing.T) {
	p := listen(t, "127.0.0.1", sayAgain(ok))
	token := filepath.Join(t.TempDir(), "token")
	write := func() {
		t.Helper()
		if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	r := newReusing(t, mustNew(t, "http://", opt("bearer", token), opt("reuse")), p.addr)
	r.good(2)
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	if !wait(func() bool { return errors.Is(r.probe(), check.ErrAbstain) }) { // a look at the file may be under way
		t.Errorf("%v", r.probe())
	}
	write()
	if !wait(func() bool { return r.probe() == nil }) {
		t.Errorf("%v", r.probe())
	}
	if n := len(p.accepted()); n != 1 {
		t.Errorf("%d connections", n)
	}
	// What cannot be the name of a host cannot be asked for.
	r = newReusing(t, mustNew(t, "http://", opt("host", "owner"), opt("reuse")).ForOwner("-x.example.org."), p.addr)
	if err := r.probe(); !errors.Is(err, check.ErrAbstain) || len(p.accepted()) != 1 {
		t.Errorf("%v, %d connections", err, len(p.accepted()))
	}
}

// Every hostile peer is as bad after a good answer as it is without one, and for the same reason.
func TestBadPeersAfterAGoodAnswer(t *testing.T) {
	for _, tt := range badPeers {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := listen(t, "127.0.0.1", onceWell("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nneedle", tt.serve, tt.serve))
			lines := [][]string{opt("reuse")}
			if tt.option != nil {
				lines = append(lines, tt.option)
			}
			r := newReusing(t, mustNew(t, "http://", lines...), p.addr)
			r.good(1)
			patiently(t, tt.limit, tt.want, r.probeFor)
		})
	}
}

// A peer that does not keep connections is asked on a new one each time, and on no more than that
// (B114).
func TestPeerKeepsNoConnection(t *testing.T) {
	big := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 1<<20)
	for name, text := range map[string]string{
		"close":    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
		"http/1.0": "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"no size":  "HTTP/1.1 200 OK\r\n\r\nok",
		"big":      big + "ok",
		"extra":    ok + ok,
		"half":     "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
		"chunk":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
	} {
		p := listen(t, "127.0.0.1", sayAgain(text))
		r := newReusing(t, mustNew(t, "http://", opt("reuse")), p.addr)
		r.good(5)
		if n := len(p.accepted()); n != 5 {
			t.Errorf("%s: %d connections for 5 probes", name, n)
		}
		if announced := name != "extra" && name != "half" && name != "chunk"; announced && r.kept != nil {
			t.Errorf("%s: the connection is kept", name)
		}
	}
}

// An answer that comes before its question does not count (B114).
func TestAnswerBeforeTheQuestion(t *testing.T) {
	config := serverConfig(t, nil, www)
	for _, scheme := range []string{"http", "https"} {
		early := make(chan struct{})
		first := onceWell("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", func(conn net.Conn) {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			close(early)
			hold(conn)
		}, sayAgain("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"))
		serve := first
		if scheme == "https" {
			serve = overTLS(config, first)
		}
		lines := [][]string{opt("reuse")}
		if scheme == "https" {
			lines = append(lines, opt("insecure"))
		}
		r := newReusing(t, mustNew(t, scheme+"://", lines...), listen(t, "127.0.0.1", serve).addr)
		r.good(1)
		<-early
		if got := reason(r.probe()); got != "status 503" {
			t.Errorf("%s: %q", scheme, got)
		}
	}
}

// Over TLS, an answer that has come in part before its question does not count either: its record is complete only after the question
// (B114).
func TestHalfARecordBeforeTheQuestion(t *testing.T) {
	const good = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	config := serverConfig(t, nil, www)
	for _, cut := range []int{1, 4, 5, 6, 20} { // in the head of the record, and after it
		early, rest := make(chan struct{}), make(chan struct{})
		var conns atomic.Int64
		serve := func(conn net.Conn) {
			if conns.Add(1) > 1 {
				overTLS(config, sayAgain("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"))(conn)
				return
			}
			pieces := &cutConn{Conn: conn, sent: early, rest: rest}
			overTLS(config, func(conn net.Conn) {
				request := make([]byte, 4096)
				if _, err := conn.Read(request); err != nil {
					return
				}
				io.WriteString(conn, good)
				pieces.cut = cut
				go func() {
					defer close(rest) // once the question has come, or the connection has ended
					conn.Read(request)
				}()
				io.WriteString(conn, good)
				hold(conn)
			})(pieces)
		}
		r := newReusing(t, mustNew(t, "https://", opt("reuse"), opt("insecure")), listen(t, "127.0.0.1", serve).addr)
		r.good(1)
		<-early
		if got := reason(r.probe()); got != "status 503" {
			t.Errorf("cut after %d bytes: %q", cut, got)
		}
	}
}

// A cutConn sends the next piece in two parts, once cut is set: the second one when rest is closed.
type cutConn struct {
	net.Conn
	cut        int
	sent, rest chan struct{}
}

func (c *cutConn) Write(b []byte) (int, error) {
	if c.cut == 0 {
		return c.Conn.Write(b)
	}
	n, err := c.Conn.Write(b[:c.cut])
	c.cut = 0
	close(c.sent)
	if err != nil {
		return n, err
	}
	<-c.rest
	m, err := c.Conn.Write(b[n:])
	return n + m, err
}

// The rest of a body may come until the next probe.
func TestRestOfTheBodyComesLater(t *testing.T) {
	for _, parts := range [][2]string{
		{"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nnee", "dle"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nnee", "dle\r\n0\r\nX-Trailer: a\r\n\r\n"},
	} {
		for _, early := range []bool{true, false} {
			next, sent := make(chan struct{}), make(chan struct{})
			p := listen(t, "127.0.0.1", func(conn net.Conn) {
				for buf := make([]byte, 4096); ; {
					if _, err := conn.Read(buf); err != nil {
						return
					}
					io.WriteString(conn, parts[0])
					if _, more := <-next; !more {
						hold(conn)
						return
					}
					io.WriteString(conn, parts[1])
					sent <- struct{}{}
				}
			})
			r := newReusing(t, mustNew(t, "http://", opt("reuse")), p.addr)
			want := 3
			for range 3 {
				r.good(1)
				if early {
					next <- struct{}{}
					<-sent
					want = 1
				}
			}
			if n := len(p.accepted()); n != want {
				t.Errorf("%q, %t: %d connections, want %d", parts, early, n, want)
			}
			close(next)
		}
	}
}

// A server that goes away, at whatever frame, is asked on a new connection without a failure.
func TestHTTP2PeerGoesAway(t *testing.T) {
	good := func(f *http2.Framer, stream uint32) {
		headOn(f, stream, false, ":status", "200")
		f.WriteData(stream, true, []byte("needle"))
	}
	for name, answer := range map[string]func(f *http2.Framer, stream uint32, n int){
		"before the answer": func(f *http2.Framer, stream uint32, _ int) {
			f.WriteGoAway(stream, http2.ErrCodeNo, nil)
			good(f, stream)
		},
		"amid the answer": func(f *http2.Framer, stream uint32, _ int) {
			headOn(f, stream, false, ":status", "200")
			f.WriteGoAway(stream, http2.ErrCodeNo, nil)
			f.WriteData(stream, true, []byte("needle"))
		},
		"after the answer": func(f *http2.Framer, stream uint32, _ int) {
			good(f, stream)
			f.WriteGoAway(stream, http2.ErrCodeNo, nil)
		},
		"refuses the second": func(f *http2.Framer, stream uint32, n int) {
			if n == 0 {
				good(f, stream)
				return
			}
			f.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
		},
		"goes away at the second": func(f *http2.Framer, stream uint32, n int) {
			if n == 0 {
				good(f, stream)
				return
			}
			f.WriteGoAway(1, http2.ErrCodeNo, nil)
		},
		"is angry at the second": func(f *http2.Framer, stream uint32, n int) {
			if n == 0 {
				good(f, stream)
				return
			}
			f.WriteGoAway(stream, http2.ErrCodeEnhanceYourCalm, nil)
		},
		"answers another stream early": func(f *http2.Framer, stream uint32, _ int) {
			good(f, stream)
			headOn(f, stream+2, true, ":status", "200")
		},
		"pushes": func(f *http2.Framer, stream uint32, _ int) {
			good(f, stream)
			f.WritePushPromise(http2.PushPromiseParam{StreamID: stream, PromiseID: 2, EndHeaders: true})
		},
		"half a frame": func(f *http2.Framer, stream uint32, _ int) {
			good(f, stream)
			f.WriteRawFrame(http2.FramePing, 0, 0, nil) // too short
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := serverConfig(t, nil, www)
			config.NextProtos = []string{"h2"}
			p := listen(t, "127.0.0.1", overTLS(config, h2Again(answer)))
			r := newReusing(t, mustNew(t, "https://", opt("insecure"), opt("reuse"), opt("body", "needle")), p.addr)
			r.good(4)
			if n := len(p.accepted()); n != 4 {
				t.Errorf("%d connections for 4 probes", n)
			}
		})
	}
}

// Frames between two answers are taken: pings and settings are acknowledged, and the rest of a body
// widens the window again.
func TestHTTP2FramesBetweenAnswers(t *testing.T) {
	config := serverConfig(t, nil, www)
	config.NextProtos = []string{"h2"}
	var widened, acked atomic.Int64
	p := listen(t, "127.0.0.1", overTLS(config, func(conn net.Conn) {
		io.ReadFull(conn, make([]byte, len(http2.ClientPreface)))
		f := http2.NewFramer(conn, conn)
		f.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.HeadersFrame:
				headOn(f, frame.StreamID, false, ":status", "200", "x-same", "for the table")
				f.WriteData(frame.StreamID, false, make([]byte, 9000))
				f.WriteDataPadded(frame.StreamID, true, make([]byte, 1000), make([]byte, 100))
				f.WritePing(false, [8]byte{7})
				f.WriteSettings()
				f.WriteWindowUpdate(0, 10)
				f.WriteRSTStream(frame.StreamID, http2.ErrCodeNo)
			case *http2.WindowUpdateFrame:
				widened.Add(int64(frame.Increment))
			case *http2.PingFrame:
				acked.Add(1)
			}
		}
	}))
	r := newReusing(t, mustNew(t, "https://", opt("insecure"), opt("reuse")), p.addr)
	for i := range 20 {
		r.good(1)
		// The frames are in flight; the server has written them all when the next one is acknowledged.
		if !wait(func() bool { r.good(1); return acked.Load() > int64(i) }) {
			t.Fatal("pings are not acknowledged")
		}
	}
	if widened.Load() == 0 {
		t.Error("the window is not widened")
	}
}

// What leaves no connection to ask again is refused, with the option that is wrong (B114).
func TestReuseIsRefused(t *testing.T) {
	for _, tt := range []struct {
		url   string
		lines [][]string
		index int
		want  string
	}{
		{"http://", [][]string{opt("invert"), opt("reuse")}, 1, "option reuse: cannot be used together with invert, after which no connection is good: remove one of the two"},
		{"http://", [][]string{opt("reuse_for", "1m")}, 0, "option reuse_for: needs the option reuse: add it, or remove this one"},
		{"http://", [][]string{opt("reuse"), opt("reuse_for", "0s")}, 1, `option reuse_for: invalid duration "0s": use 1s to 24h0m0s, such as 10m`},
		{"http://", [][]string{opt("reuse"), opt("reuse_for", "-5m")}, 1, `option reuse_for: invalid duration "-5m": use 1s to 24h0m0s, such as 10m`},
		{"http://", [][]string{opt("reuse"), opt("reuse_for", "soon")}, 1, `option reuse_for: invalid duration "soon": use 1s to 24h0m0s, such as 10m`},
		{"http://", [][]string{opt("reuse"), opt("reuse_for", "25h")}, 1, `option reuse_for: invalid duration "25h": use 1s to 24h0m0s, such as 10m`},
		{"http://", [][]string{opt("reuse"), opt("reuse")}, 1, "duplicate option reuse: keep one"},
		{"http://", [][]string{opt("reuse"), opt("header", "Upgrade", "websocket"), opt("status", "101")}, 0, "option reuse: cannot be used together with status 101, after which a connection is not for HTTP: remove one of the two"},
		{"dns:///a", [][]string{opt("reuse")}, 0, "option reuse: works over TCP only: add the option tcp, or remove it"},
		{"icmp:", [][]string{opt("reuse")}, 0, "option reuse is for dns, dot, grpc, grpcs, http, https, redis, rediss: icmp takes from, invert"},
		{"exec://:1", [][]string{opt("reuse")}, 0, "option reuse is for dns, dot, grpc, grpcs, http, https, redis, rediss: exec takes command, invert"},
	} {
		_, err := check.New(tt.url, options(tt.lines...)...)
		var wrong *check.OptionError
		if !errors.As(err, &wrong) || wrong.Index != tt.index || reason(err) != tt.want {
			t.Errorf("%s %v: %v, want %q at %d", tt.url, tt.lines, err, tt.want, tt.index)
		}
	}
	for _, lines := range [][][]string{{opt("reuse")}, {opt("reuse"), opt("reuse_for", "90")}, {opt("reuse"), opt("hold"), opt("proxy_protocol")}, {opt("reuse"), opt("host", "owner")}} {
		c, err := check.New("http://", options(lines...)...)
		if err != nil || !c.Reuses() {
			t.Errorf("%v: %v", lines, err)
		}
	}
	if got := mustNew(t, "http://", opt("reuse_for", "90"), opt("reuse")).String(); got != "http://:80/ reuse reuse_for 1m30s" {
		t.Errorf("%s", got)
	}
}
