//go:build faults && linux

package fleet

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/ports"
)

// relays are a slow network between the servers, for kernels that cannot delay packets. Server N listens at 127.8.0.N as always, and
// says that it is reached at 127.7.0.N, where a relay hands on each message after some time. Members know each other by what they say,
// so it does not matter that all of it comes from relays.
type relays struct {
	*scene
	delay time.Duration // each way
	mu    sync.Mutex
	open  map[io.Closer]struct{} // nil when it ends
	runs  sync.WaitGroup
}

// relayed are the edits of a Corefile with a relay in front of the server.
func relayed() []string {
	return []string{"PEERS", "127.7.0.1 127.7.0.2", "INNER", "advertise 127.7.0.NUMBER"}
}

// newRelays starts relays for so many servers. They end with the test.
func (s *scene) newRelays(servers int, delay time.Duration) {
	s.Helper()
	ports.Need(s, "127.7.0.1")
	r := &relays{scene: s, delay: delay, open: make(map[io.Closer]struct{})}
	s.Cleanup(r.end)
	for n := 1; n <= servers; n++ {
		at := &net.UDPAddr{IP: net.IPv4(127, 7, 0, byte(n)), Port: s.fleetPort}
		udp, err := net.ListenUDP("udp4", at)
		if err != nil {
			s.Fatal(err)
		}
		r.keep(udp)
		tcp, err := net.Listen("tcp4", at.String())
		if err != nil {
			s.Fatal(err)
		}
		r.keep(tcp)
		r.runs.Go(func() { r.packets(udp, &net.UDPAddr{IP: net.IPv4(127, 8, 0, byte(n)), Port: s.fleetPort}) })
		r.runs.Go(func() { r.streams(tcp, fmt.Sprintf("127.8.0.%d:%d", n, s.fleetPort)) })
	}
}

// keep notes what to close at the end. If that has come it is closed at once.
func (r *relays) keep(c io.Closer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		c.Close()
		return
	}
	r.open[c] = struct{}{}
}

// drop closes something before the end.
func (r *relays) drop(c io.Closer) {
	c.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
}

// end closes all, and waits for it.
func (r *relays) end() {
	r.mu.Lock()
	for c := range r.open {
		c.Close()
	}
	r.open = nil
	r.mu.Unlock()
	r.runs.Wait()
}

// late is something on its way.
type late struct {
	due  time.Time
	data []byte
}

// deliver hands on what comes when it is due, in order.
func deliver(way <-chan late, to func(data []byte)) {
	for x := range way {
		time.Sleep(time.Until(x.due)) // this is the delay
		to(x.data)
	}
}

// packets carries packets to a server.
func (r *relays) packets(udp *net.UDPConn, to *net.UDPAddr) {
	_ = udp.SetReadBuffer(4 << 20)
	way := make(chan late, 1<<16)
	defer close(way)
	r.runs.Go(func() { deliver(way, func(data []byte) { _, _ = udp.WriteToUDP(data, to) }) })
	buf := make([]byte, 1<<16)
	for {
		n, _, err := udp.ReadFromUDP(buf)
		if err != nil {
			return
		}
		way <- late{time.Now().Add(r.delay), append([]byte(nil), buf[:n]...)}
	}
}

// streams carries connections to a server.
func (r *relays) streams(l net.Listener, to string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		r.keep(in)
		out, err := net.Dial("tcp4", to)
		if err != nil {
			r.drop(in)
			continue
		}
		r.keep(out)
		// The kernel of the relay answers at once who connects. On a slow network that takes both ways.
		r.runs.Go(func() { r.carry(in, out, time.Now().Add(2*r.delay)) })
		r.runs.Go(func() { r.carry(out, in, time.Time{}) })
	}
}

// carry hands on what one side of a connection says, and its end. Nothing is said before the given time.
func (r *relays) carry(from, to net.Conn, connected time.Time) {
	way := make(chan late, 1<<10)
	r.runs.Go(func() {
		deliver(way, func(data []byte) { _, _ = to.Write(data) })
		r.drop(to)
	})
	defer close(way)
	for buf := make([]byte, 1<<16); ; {
		n, err := from.Read(buf)
		due := time.Now()
		if due.Before(connected) {
			due = connected
		}
		way <- late{due.Add(r.delay), append([]byte(nil), buf[:n]...)}
		if err != nil {
			return
		}
	}
}
