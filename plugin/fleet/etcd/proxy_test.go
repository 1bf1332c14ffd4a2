//go:build unix

package etcd

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy is a way to etcd that a test can cut or make slow.
type proxy struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	conns    map[net.Conn]bool
	isCut    bool
	delay    atomic.Int64 // of each piece of data, each way
	held     atomic.Bool  // nothing goes through, and no connection ends
	bytes    atomic.Int64
	running  sync.WaitGroup
}

func newProxy(t testing.TB, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, to: to, conns: make(map[net.Conn]bool)}
	p.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); p.set(true); p.held.Store(false); p.running.Wait() })
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// set cuts all connections, now and from now on, or lets them through.
func (p *proxy) set(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isCut = cut
	for conn := range p.conns {
		if cut {
			conn.Close()
		}
	}
}

func (p *proxy) add(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[conn] = true
	return !p.isCut
}

func (p *proxy) serve(conn net.Conn) {
	defer conn.Close()
	if !p.add(conn) {
		return
	}
	other, err := net.Dial("tcp", p.to)
	if err != nil || !p.add(other) {
		return
	}
	defer other.Close()
	var both sync.WaitGroup
	both.Go(func() { p.copy(other, conn) })
	both.Go(func() { p.copy(conn, other) })
	both.Wait()
}

// copy passes data on after the delay.
func (p *proxy) copy(to, from net.Conn) {
	type piece struct {
		data []byte
		due  time.Time
	}
	pieces := make(chan piece, 1024)
	var writing sync.WaitGroup
	writing.Go(func() {
		for x := range pieces {
			for time.Until(x.due) > 0 || p.held.Load() {
				time.Sleep(5 * time.Millisecond)
			}
			if _, err := to.Write(x.data); err != nil {
				break
			}
			p.bytes.Add(int64(len(x.data)))
		}
		to.Close()
		from.Close()
		for range pieces {
		}
	})
	for {
		buf := make([]byte, 32<<10)
		n, err := from.Read(buf)
		if n > 0 {
			pieces <- piece{buf[:n], time.Now().Add(time.Duration(p.delay.Load()))}
		}
		if err != nil {
			if err != io.EOF {
				to.Close()
			}
			break
		}
	}
	close(pieces)
	writing.Wait()
}
