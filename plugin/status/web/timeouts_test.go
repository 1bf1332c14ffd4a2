package web

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/acting"
	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// pipes is a listener whose connections stay in the process, so that the fake time of synctest applies to them.
type pipes struct {
	incoming chan net.Conn
	closed   chan struct{}
	close    func()
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.incoming:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.close(); return nil }

func (p *pipes) Addr() net.Addr { return new(net.UnixAddr) }

// piped is the server's end of a connection. It signals when it is closed.
type piped struct {
	net.Conn
	ended chan struct{}
	end   func()
}

func (c *piped) Close() error { c.end(); return c.Conn.Close() }

func (c *piped) LocalAddr() net.Addr { return new(net.UnixAddr) } // changes are made over a socket

// newPipes returns a listener without a connection.
func newPipes() *pipes {
	p := &pipes{incoming: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

// dial returns the client's end of a connection once the server has accepted it, and what is closed when the server ends it.
func (p *pipes) dial() (client net.Conn, ended <-chan struct{}) {
	client, server := net.Pipe()
	c := &piped{Conn: server, ended: make(chan struct{})}
	c.end = sync.OnceFunc(func() { close(c.ended) })
	p.incoming <- c
	return client, c.ended
}

// inBubble serves a source to a client in fake time.
func inBubble(t *testing.T, f *testSource, run func(t *testing.T, s *Server, client net.Conn, ended <-chan struct{})) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		s := newServer("localhost:9253", f)
		go s.acceptLoop(p)
		client, ended := p.dial()
		run(t, s, client, ended)
		client.Close()
		s.Close()
	})
}

const head = " HTTP/1.1\r\nHost: localhost\r\n"

// A slow client loses its connection, whether it is slow to send a request, to read a response or a stream, or to ask again.
func TestSlowClients(t *testing.T) {
	read := func(t *testing.T, client net.Conn) *bufio.Reader {
		in := bufio.NewReader(client)
		r, err := http.ReadResponse(in, nil)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatal(r, err)
		}
		if r.ContentLength >= 0 {
			_, _ = io.Copy(io.Discard, r.Body)
		}
		return in
	}
	for name, c := range map[string]struct {
		request string
		then    func(t *testing.T, client net.Conn)
		within  time.Duration
	}{
		"sends nothing":        {"", nil, headTimeout},
		"sends half of a head": {"GET /v1/summary" + head, nil, headTimeout},
		"reads no answer":      {"GET /v1/summary" + head + "\r\n", nil, writeTimeout},
		"asks nothing more":    {"GET /v1/summary" + head + "\r\n", func(t *testing.T, client net.Conn) { read(t, client) }, idleTimeout},
		"follows no more":      {"GET /events" + head + "\r\n", func(t *testing.T, client net.Conn) { read(t, client) }, writeTimeout},
		"sends half of a body": {"GET /v1/summary" + head + "Content-Length: 9\r\n\r\nhalf", func(t *testing.T, client net.Conn) { read(t, client) }, headTimeout},
		"sends half of a second head": {"GET /v1/summary" + head + "\r\n", func(t *testing.T, client net.Conn) {
			read(t, client)
			if _, err := io.WriteString(client, "GET / HTTP/1.1\r\n"); err != nil {
				t.Error(err)
			}
		}, headTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, newTestSource(1), func(t *testing.T, _ *Server, client net.Conn, ended <-chan struct{}) {
				began := time.Now()
				if _, err := io.WriteString(client, c.request); err != nil {
					t.Fatal(err)
				}
				if c.then != nil {
					c.then(t, client)
				}
				select {
				case <-ended:
				case <-time.After(time.Hour):
					t.Fatal("it keeps the connection for an hour")
				}
				if took := time.Since(began); took < c.within || took > c.within+2*time.Second {
					t.Errorf("it keeps the connection for %s, want %s", took, c.within)
				}
			})
		})
	}
}

// As many clients as there are places for, each with half of a request, keep others waiting for a second, and no longer. A
// client whose connection is idle for longer than that has its next request answered all the same.
func TestHalfSentRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		s := newServer("localhost:9253", newTestSource(1))
		go s.acceptLoop(p)
		defer s.Close()
		ask := func(client net.Conn, in *bufio.Reader) {
			t.Helper()
			if _, err := io.WriteString(client, "GET /v1/summary"+head+"\r\n"); err != nil {
				t.Fatal(err)
			}
			r, err := http.ReadResponse(in, nil)
			if err != nil || r.StatusCode != http.StatusOK {
				t.Fatal(r, err)
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				t.Fatal(err)
			}
		}
		for range maxConns {
			client, _ := p.dial()
			defer client.Close()
			if _, err := io.WriteString(client, "GET /v1/summary"+head); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		client, _ := p.dial()
		defer client.Close()
		in := bufio.NewReader(client)
		ask(client, in)
		if took := time.Since(began); took > time.Second {
			t.Errorf("it is served after %s, want at most a second", took)
		}
		for _, pause := range []time.Duration{2 * headTimeout, idleTimeout - time.Second/2} {
			time.Sleep(pause)
			ask(client, in)
		}
	})
}

// A stream outlasts the timeouts of a request, and ends by itself after some minutes.
func TestStreamLasts(t *testing.T) {
	inBubble(t, newTestSource(1), func(t *testing.T, _ *Server, client net.Conn, _ <-chan struct{}) {
		began := time.Now()
		text, err := follow(t, client)
		took := time.Since(began)
		if err != nil || took < streamDuration || took > streamDuration+streamJitter+time.Second {
			t.Errorf("a stream ends after %s: %v", took, err)
		}
		if ticks := strings.Count(text, "event: tick"); ticks < int(streamDuration/tickInterval)-1 {
			t.Errorf("%d ticks", ticks)
		}
	})
}

// Close ends streams properly, and at once.
func TestCloseEndsStreams(t *testing.T) {
	inBubble(t, newTestSource(1), func(t *testing.T, s *Server, client net.Conn, _ <-chan struct{}) {
		var closer sync.WaitGroup
		defer closer.Wait()
		closer.Go(func() {
			time.Sleep(10*tickInterval + tickInterval/2)
			began := time.Now()
			s.Close()
			if took := time.Since(began); took >= closeTimeout {
				t.Errorf("to close takes %s with a stream open", took)
			}
		})
		if text, err := follow(t, client); err != nil || strings.Count(text, "event: tick") != 11 {
			t.Errorf("%v: %s", err, text)
		}
	})
}

// follow reads a stream to its end. A connection that is just cut is an error.
func follow(t *testing.T, client net.Conn) (string, error) {
	t.Helper()
	if _, err := io.WriteString(client, "GET /events"+head+"\r\n"); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(client), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r.Body)
	return string(text), err
}

// slowForcer takes some time for a change.
type slowForcer time.Duration

func (slowForcer) Show(context.Context) (*acting.File, error) { return &acting.File{Admin: true}, nil }

func (f slowForcer) Change(ctx context.Context, _ string, c acting.Change) (*acting.File, error) {
	select {
	case <-time.After(time.Duration(f)):
		return &acting.File{Admin: true, Made: &acting.Line{State: c.State}}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A change may take longer than the client had to send it, and its answer has all that is known.
func TestSlowChange(t *testing.T) {
	for takes, want := range map[time.Duration]int{forceTimeout - time.Second/10: http.StatusOK, forceTimeout + time.Second: http.StatusInternalServerError} {
		f := newTestSource(1)
		f.snap.Summary.Fleet = new(status.Fleet)
		inBubble(t, f, func(t *testing.T, s *Server, client net.Conn, _ <-chan struct{}) {
			s.settings.Store(&settings{forcer: slowForcer(takes)})
			const change = `{"state": "drain", "networks": ["192.0.2.1"]}`
			request := fmt.Sprintf("POST /v1/force%sContent-Type: application/json\r\nIf-Match: \"x\"\r\nContent-Length: %d\r\n\r\n%s", head, len(change), change)
			if _, err := io.WriteString(client, request); err != nil {
				t.Fatal(err)
			}
			r, err := http.ReadResponse(bufio.NewReader(client), nil)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(r.Body)
			if r.StatusCode != want || want == http.StatusOK && !strings.Contains(string(text), scopeText) {
				t.Errorf("after %s: status %d, %s", takes, r.StatusCode, text)
			}
		})
	}
}
