package gossip

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/ports"
	"github.com/coredns-multivalue/multivalue/plugin/membership"
)

// wires are a network of the test. Each member listens on an address of its own, and the others reach it through a relay, which
// loses, delays, doubles and cuts.
type wires struct {
	port int

	mu       sync.Mutex
	loss     float64 // of packets
	doubled  float64
	delay    time.Duration // up to so much for each packet, so they overtake each other
	blocked  func(from, to int) bool
	conns    map[net.Conn]struct{}
	recorded [][]byte // packets of the first member
	record   bool
	packets  atomic.Int64
	bytes    atomic.Int64
}

func newWires(t testing.TB) *wires {
	ports.Need(t, "127.1.0.1", "127.2.0.1")
	return &wires{port: ports.Free(t), conns: make(map[net.Conn]struct{})}
}

// A member listens on 127.1.0.n, and is reached on 127.2.0.n.
func (w *wires) real(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(n >> 8), byte(n)}), uint16(w.port))
}

func (w *wires) reached(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 2, byte(n >> 8), byte(n)}), uint16(w.port))
}

func numberOf(addr netip.Addr) int {
	raw := addr.Unmap().As4()
	return int(raw[2])<<8 | int(raw[3])
}

// config is that of a member, whose peer is the first one.
func (w *wires) config(n int, key string) membership.Config {
	return membership.Config{Listen: w.real(n).String(), Advertise: w.reached(n).String(), Key: key, Peers: []string{w.reached(1).String()}, Site: fmt.Sprint("site", n)}
}

// set changes what the wires do.
func (w *wires) set(loss, doubled float64, delay time.Duration, blocked func(from, to int) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loss, w.doubled, w.delay, w.blocked = loss, doubled, delay, blocked
	if blocked != nil {
		for c := range w.conns {
			c.Close()
		}
	}
}

// fate is how often a packet arrives, and after what time.
func (w *wires) fate(from, to int) (copies int, delay func() time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	copies = 1
	if rand.Float64() < w.doubled {
		copies = 2
	}
	if rand.Float64() < w.loss || w.blocked != nil && w.blocked(from, to) {
		copies = 0
	}
	most := w.delay
	return copies, func() time.Duration {
		if most == 0 {
			return 0
		}
		return rand.N(most)
	}
}

func (w *wires) isBlocked(from, to int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.blocked != nil && w.blocked(from, to)
}

// relay carries what is for a member.
func (w *wires) relay(t testing.TB, n int) {
	t.Helper()
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(w.reached(n)))
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(w.reached(n)))
	if err != nil {
		t.Fatal(err)
	}
	udp.SetReadBuffer(4 << 20)
	var running sync.WaitGroup
	running.Go(func() { w.carryPackets(udp, n) })
	running.Go(func() { w.carryStreams(tcp, n, &running) })
	t.Cleanup(func() {
		udp.Close()
		tcp.Close()
		w.mu.Lock()
		for c := range w.conns {
			c.Close()
		}
		w.mu.Unlock()
		running.Wait()
	})
}

func (w *wires) carryPackets(udp *net.UDPConn, to int) {
	buf := make([]byte, 4096)
	for {
		n, from, err := udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		w.packets.Add(1)
		w.bytes.Add(int64(n) + 28)
		data := append([]byte(nil), buf[:n]...)
		if w.mu.Lock(); w.record {
			w.recorded = append(w.recorded, data)
		}
		w.mu.Unlock()
		copies, delay := w.fate(numberOf(from.Addr()), to)
		for range copies {
			send := func() { udp.WriteToUDPAddrPort(data, w.real(to)) }
			if d := delay(); d > 0 {
				time.AfterFunc(d, send)
			} else {
				send()
			}
		}
	}
}

func (w *wires) carryStreams(tcp *net.TCPListener, to int, running *sync.WaitGroup) {
	for {
		in, err := tcp.Accept()
		if err != nil {
			return
		}
		from := numberOf(in.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
		if w.isBlocked(from, to) || w.isBlocked(to, from) {
			in.Close()
			continue
		}
		out, err := net.Dial("tcp", w.real(to).String())
		if err != nil {
			in.Close()
			continue
		}
		w.mu.Lock()
		w.conns[in], w.conns[out] = struct{}{}, struct{}{}
		w.mu.Unlock()
		carry := func(a, b net.Conn) {
			io.Copy(a, b)
			a.Close()
			b.Close()
			w.mu.Lock()
			delete(w.conns, a)
			delete(w.conns, b)
			w.mu.Unlock()
		}
		running.Go(func() { carry(in, out) })
		running.Go(func() { carry(out, in) })
	}
}

// wiredFleet begins a fleet of so many members behind relays.
func wiredFleet(t testing.TB, w *wires, n int, key string) (all []*testMember) {
	t.Helper()
	for i := 1; i <= n; i++ {
		w.relay(t, i)
		all = append(all, open(t, w.config(i, key)).start(t))
	}
	complete(t, all...)
	return all
}
