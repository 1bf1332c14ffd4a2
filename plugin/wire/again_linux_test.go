package wire_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/wire"
)

const fine = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// reusing is the talk of a check over HTTP with reuse.
func reusing(t testing.TB) wire.Talk {
	c, err := check.New("http://", check.Option{Name: "reuse"})
	if err != nil {
		t.Fatal(err)
	}
	return c.Talk()
}

// askOn asks on a held connection, nil for a new one.
func (d *recorder) askOn(addr netip.AddrPort, on *wire.Held, timeout time.Duration) (tag any, a wire.Answer) {
	d.Helper()
	tag = new(int)
	d.Ask([]wire.Question{{Addr: addr, Timeout: timeout, Talk: reusing(d), Reuse: true, On: on, Tag: tag}})
	if !reached(func() bool { return len(d.reports(tag)) >= 1 }) {
		d.Fatal("no answer")
	}
	return tag, d.reports(tag)[0]
}

// take reads a request.
func take(conn *net.TCPConn) bool {
	_, err := conn.Read(make([]byte, 4096))
	return err == nil
}

// always answers each request with the same text.
func always(text string) func(*net.TCPConn) {
	return func(conn *net.TCPConn) {
		for take(conn) {
			io.WriteString(conn, text)
		}
	}
}

// A connection that is held is asked again and again, and is the same one each time (B114).
func TestAskedAgain(t *testing.T) {
	var conns atomic.Int64
	addr := listen(t, "127.0.0.1", func(conn *net.TCPConn) { conns.Add(1); always(fine)(conn) })
	d := newRecorder(t)
	_, a := d.askOn(addr, nil, patience)
	first := a.Held
	for range 100 {
		if _, a = d.askOn(addr, a.Held, patience); a.Err != nil || a.Held != first {
			t.Fatalf("%+v", a)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// Whatever happens on a held connection but a good answer proves nothing: a new one is asked within the
// same time, and there is one answer (B114).
func TestAskedAgainInVain(t *testing.T) {
	asked := func(text string, end func(*net.TCPConn)) func(*net.TCPConn) {
		return func(conn *net.TCPConn) {
			if take(conn) {
				io.WriteString(conn, text)
				end(conn)
			}
		}
	}
	for name, then := range map[string]func(*net.TCPConn){
		"closed":            silence,
		"reset":             reset,
		"half closed":       func(conn *net.TCPConn) { conn.CloseWrite(); linger(conn) },
		"early":             nil, // below
		"closed when asked": asked("", silence),
		"reset when asked":  asked("", reset),
		"garbage":           asked("garbage\r\n\r\n", linger),
		"bad":               asked("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", linger),
		"half":              asked(fine[:20], silence),
		"silent":            linger,
	} {
		for _, end := range []string{fine, "HTTP/1.1 500 No\r\n\r\n"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var conns atomic.Int64
				heard, said := make(chan bool), make(chan bool, 1)
				addr := listen(t, "127.0.0.1", func(conn *net.TCPConn) {
					if conns.Add(1) > 1 {
						always(end)(conn)
						return
					}
					take(conn)
					io.WriteString(conn, fine)
					if name != "early" {
						then(conn)
						return
					}
					<-heard
					io.WriteString(conn, fine)
					said <- true
					linger(conn)
				})
				d := newRecorder(t)
				_, a := d.askOn(addr, nil, patience)
				first := a.Held
				if name == "early" {
					heard <- true
					<-said
				}
				const limit = 4 * time.Second
				began := time.Now()
				tag, a := d.askOn(addr, first, limit)
				want := "<nil>"
				if end != fine {
					want = "status 500"
				}
				if fmt.Sprint(a.Err) != want || a.Held == first || (a.Held != nil) != (end == fine) {
					t.Errorf("%+v, want %s", a, want)
				}
				if took := time.Since(began); name == "silent" && (took < limit/2 || a.Took < limit/2) {
					t.Errorf("given up after %s, took %s", took, a.Took)
				}
				if n := conns.Load(); n != 2 {
					t.Errorf("%d connections", n)
				}
				d.close()
				if n := len(d.reports(tag)); n > 2 { // the answer, and that its connection was lost
					t.Errorf("%d answers", n)
				}
			})
		}
	}
}

// If a connection is to be watched, its end is told also if it comes while it is asked again, before the answer of the new one. What is
// only bad or late is no end (B53, B114).
func TestEndWhileAskedAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		then        func(*net.TCPConn)
		hold, ended bool
	}{
		"closed":         {silence, true, true},
		"reset":          {reset, true, true},
		"half an answer": {func(conn *net.TCPConn) { io.WriteString(conn, fine[:20]) }, true, true},
		"bad": {func(conn *net.TCPConn) {
			io.WriteString(conn, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
			linger(conn)
		}, true, false},
		"silent":         {linger, true, false},
		"without hold":   {silence, false, false},
		"reset, no hold": {reset, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var conns atomic.Int64
			addr := listen(t, "127.0.0.1", func(conn *net.TCPConn) {
				if conns.Add(1) > 1 {
					always(fine)(conn)
				} else if take(conn) {
					io.WriteString(conn, fine)
					if take(conn) {
						tt.then(conn)
					}
				}
			})
			d := newRecorder(t)
			_, first := d.askOn(addr, nil, patience)
			tag := new(int)
			d.Ask([]wire.Question{{Addr: addr, Timeout: 4 * time.Second, Talk: reusing(d), Hold: tt.hold, Reuse: true, On: first.Held, Tag: tag}})
			want := 1
			if tt.ended {
				want = 2
			}
			if a := d.await(tag, want); a.Err != nil || a.Lost || a.Held == nil {
				t.Errorf("%+v", a)
			}
			if a := d.reports(tag)[0]; a.Lost != tt.ended || tt.ended && a.Held != first.Held {
				t.Errorf("first came %+v", a)
			}
		})
	}
}

// A peer that is silent on both connections has no more than the time of one question.
func TestAskedAgainInTime(t *testing.T) {
	var conns atomic.Int64
	addr := listen(t, "127.0.0.1", func(conn *net.TCPConn) {
		if conns.Add(1) == 1 && take(conn) {
			io.WriteString(conn, fine)
		}
		linger(conn)
	})
	d := newRecorder(t)
	_, a := d.askOn(addr, nil, patience)
	const limit = time.Second
	_, a = d.askOn(addr, a.Held, limit)
	if fmt.Sprint(a.Err) != "no response: timed out" || a.Took < limit || conns.Load() != 2 {
		t.Errorf("%+v, %d connections", a, conns.Load())
	}
}

// What a connection still has to say may come until the next question, and nothing may follow it.
func TestAskedAgainAfterTheRest(t *testing.T) {
	for text, want := range map[string]int64{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno|pe":                                  2, // one byte too many
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nno|pe":                                  1,
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nno|pe":                                  2, // one is missing
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno|\r\n0\r\nA: b\r\n\r\n": 1,
		"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\nno|pe":                             2,
		"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nno|pe":                                  2,
	} {
		head, rest, _ := cut(text)
		var conns atomic.Int64
		sent := make(chan bool)
		addr := listen(t, "127.0.0.1", func(conn *net.TCPConn) {
			if conns.Add(1) > 1 {
				always(fine)(conn)
				return
			}
			take(conn)
			io.WriteString(conn, head)
			<-sent
			io.WriteString(conn, rest)
			sent <- true
			always(fine)(conn)
		})
		d := newRecorder(t)
		_, a := d.askOn(addr, nil, patience)
		sent <- true
		<-sent
		if _, a = d.askOn(addr, a.Held, patience); a.Err != nil {
			t.Errorf("%q: %v", text, a.Err)
		}
		if n := conns.Load(); n != want {
			t.Errorf("%q: %d connections, want %d", text, n, want)
		}
	}
}

func cut(text string) (before, after string, found bool) {
	for i := range text {
		if text[i] == '|' {
			return text[:i], text[i+1:], true
		}
	}
	return text, "", false
}

// A connection that is released while it is asked still gives its answer, and is held no longer.
func TestReleasedWhileAsked(t *testing.T) {
	asked, answer, ended := make(chan bool), make(chan bool), make(chan error)
	addr := listen(t, "127.0.0.1", func(conn *net.TCPConn) {
		take(conn)
		io.WriteString(conn, fine)
		take(conn)
		asked <- true
		<-answer
		io.WriteString(conn, fine)
		_, err := conn.Read(make([]byte, 1))
		ended <- err
	})
	quiet := listen(t, "127.0.0.1", linger)
	d := newRecorder(t)
	_, a := d.askOn(addr, nil, patience)
	tag := new(int)
	d.Ask([]wire.Question{{Addr: addr, Timeout: patience, Talk: reusing(t), Reuse: true, On: a.Held, Tag: tag}})
	<-asked
	d.Release(a.Held)
	d.runTurn(quiet)
	answer <- true
	if a := d.await(tag, 1); a.Err != nil || a.Held != nil {
		t.Errorf("%+v", a)
	}
	if err := <-ended; err != io.EOF {
		t.Errorf("the peer hears %v", err)
	}
}

// A loop that is closed while it asks again gives every question its answer, and a talk that panics does.
func TestClosedWhileAskedAgain(t *testing.T) {
	addr := listen(t, "127.0.0.1", func(conn *net.TCPConn) {
		take(conn)
		io.WriteString(conn, fine)
		linger(conn)
	})
	d := newRecorder(t)
	_, a := d.askOn(addr, nil, patience)
	clumsyTag := new(int)
	_, other := d.askOn(addr, nil, patience)
	d.Ask([]wire.Question{{Addr: addr, Timeout: patience, Talk: clumsy{hello, "Request"}, Reuse: true, On: other.Held, Tag: clumsyTag}})
	if b := d.await(clumsyTag, 1); !is(b.Err, wire.ErrPanic) {
		t.Errorf("%+v", b)
	}
	tag := new(int)
	d.Ask([]wire.Question{{Addr: addr, Timeout: patience, Talk: reusing(t), Reuse: true, On: a.Held, Tag: tag}})
	d.close()
	if b := d.await(tag, 1); !is(b.Err, wire.ErrClosing) {
		t.Errorf("%+v", b)
	}
}

// Real servers are asked again on one connection.
func TestRealServersAreAskedAgain(t *testing.T) {
	for name := range servers {
		p := serve(t, name)
		d := newRecorder(t)
		talk := p.check("/200", check.Option{Name: "reuse"}).Talk()
		var held *wire.Held
		for i := range 30 {
			tag := new(int)
			d.Ask([]wire.Question{{Addr: p.addr, Timeout: patience, Talk: talk, Reuse: true, On: held, Tag: tag}})
			a := d.await(tag, 1)
			if a.Err != nil || a.Held == nil || i > 0 && a.Held != held {
				t.Errorf("%s, question %d: %+v", name, i, a)
			}
			held = a.Held
		}
	}
}
