//go:build faults && linux

package faults

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// farm holds the peers: one listener on port 8080 of every address of a network. They answer correctly unless a test
// changes them.
type farm struct {
	net.Listener
	mu     sync.Mutex
	ways   map[netip.Addr]peer
	visits map[netip.Addr][]time.Time
	open   map[net.Conn]bool
	served sync.WaitGroup
}

// peer is how an address treats a connection.
type peer func(conn *net.TCPConn)

func newFarm(t *testing.T) *farm {
	t.Helper()
	var config net.ListenConfig // of IPv4 only
	l, err := config.Listen(context.Background(), "tcp4", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	f := &farm{Listener: l, ways: make(map[netip.Addr]peer), visits: make(map[netip.Addr][]time.Time), open: make(map[net.Conn]bool)}
	f.served.Go(f.accept)
	t.Cleanup(f.close)
	return f
}

// turns changes how an address behaves.
func (f *farm) turns(addr netip.Addr, way peer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ways[addr] = way
}

func (f *farm) accept() {
	for {
		conn, err := f.Accept()
		if err != nil {
			return
		}
		way := f.visited(conn)
		f.served.Go(func() {
			way(conn.(*net.TCPConn))
			conn.Close()
			f.mu.Lock()
			delete(f.open, conn)
			f.mu.Unlock()
		})
	}
}

// visited records a connection, and returns how to treat it.
func (f *farm) visited(conn net.Conn) peer {
	addr := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[conn] = true
	f.visits[addr] = append(f.visits[addr], time.Now())
	if way := f.ways[addr]; way != nil {
		return way
	}
	return sound
}

func (f *farm) close() {
	f.Listener.Close()
	f.mu.Lock()
	for conn := range f.open {
		conn.Close()
	}
	f.mu.Unlock()
	f.served.Wait()
}

// since lists when an address was visited after a time.
func (f *farm) since(addr netip.Addr, began time.Time) (times []time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, at := range f.visits[addr] {
		if at.After(began) {
			times = append(times, at)
		}
	}
	return times
}

// probedAgain returns a condition: each of the addresses was visited n times after now.
func (f *farm) probedAgain(n int, addrs ...netip.Addr) func() bool {
	began := time.Now()
	return func() bool {
		for _, addr := range addrs {
			if len(f.since(addr, began)) < n {
				return false
			}
		}
		return true
	}
}

// unhurried checks that the addresses, which are up, were probed about as often as their pace allows since then, and
// far less than twice as often. A wait is shortened by at most a tenth, and a single failure causes a few more
// probes.
func (s *scene) unhurried(began time.Time, addrs ...netip.Addr) {
	s.Helper()
	turns, probes := float64(time.Since(began))/(0.9*float64(s.interval)), 0.0
	for _, addr := range addrs {
		probes += float64(len(s.since(addr, began))) / float64(len(addrs))
	}
	if probes > 1.3*turns+1 {
		s.Errorf("%.1f probes of each address in %.1f turns", probes, turns)
	}
	s.Logf("%.1f probes of each address in %.1f turns", probes, turns)
}

// sound answers one request.
func sound(conn *net.TCPConn) {
	if _, err := conn.Read(make([]byte, 4096)); err == nil {
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"))
	}
}

// resets accepts a connection and resets it.
func resets(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	conn.Close()
}

// stalls reads and never answers.
func stalls(conn *net.TCPConn) { _, _ = io.Copy(io.Discard, conn) }

// relay passes connections on to a peer that answers correctly, each after a delay. It resets the connections whose
// number is to be lost.
func relay(to netip.Addr, delay time.Duration, lost func(n int64) bool) peer {
	var count atomic.Int64
	return func(conn *net.TCPConn) {
		if lost(count.Add(1)) {
			resets(conn)
			return
		}
		time.Sleep(delay)
		onward, err := net.Dial("tcp4", netip.AddrPortFrom(to, 8080).String())
		if err != nil {
			return
		}
		var forth sync.WaitGroup
		forth.Go(func() { _, _ = io.Copy(onward, conn) })
		_, _ = io.Copy(conn, onward)
		conn.Close()
		onward.Close()
		forth.Wait()
	}
}

func none(int64) bool { return false }
