package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/logonce"
	"github.com/coredns-multivalue/multivalue/internal/rescue"
	"github.com/coredns-multivalue/multivalue/plugin/metrics"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// packetQueue is how many packets may wait for memberlist, messageQueue how many messages for our loop, and messageBytes how many
	// bytes of those: most are packets, and some frames of up to maxFrame.
	packetQueue  = 256
	messageQueue = 4096
	messageBytes = 32 << 20
	// packetsPerSecond is how many packets a second memberlist gets, after packetsAtOnce that may come together. In a fleet of
	// 1000 it needs some 20.
	packetsPerSecond = 1000
	packetsAtOnce    = 4000
	// dialTime bounds the wait for a connection, streamTime what happens on one.
	dialTime   = 2 * time.Second
	streamTime = 5 * time.Second
	// maxStreams is how many connections of others are served at once, streamBytes what they all may have sent before the seal of it
	// is known to be good.
	maxStreams  = 32
	streamBytes = 16 << 20
)

// counters are the metrics of the network, resolved once.
type counters struct {
	// Bytes, and packets or streams that were dropped: those that no key opens, of another fleet, longer than anything members send, not
	// as members write them, for which there was no room, above what a second may have, or of what has passed.
	sent, received                                        prometheus.Counter
	unsealed, foreign, large, malformed, busy, rate, past prometheus.Counter
}

// newCounters looks up the labels once.
func newCounters() counters {
	drop := metrics.Fleet.Drops.WithLabelValues
	return counters{
		sent: metrics.Fleet.Bytes.WithLabelValues("sent"), received: metrics.Fleet.Bytes.WithLabelValues("received"),
		unsealed: drop("seal"), foreign: drop("fleet"), large: drop("large"), malformed: drop("malformed"), busy: drop("busy"), rate: drop("rate"),
		past: drop("old"),
	}
}

// transport is the network. Memberlist gets what it may have, and our loop the rest: our messages do not pass through memberlist, which
// serves the last one first, and drops what does not fit into its queue. It is a memberlist.NodeAwareTransport.
type transport struct {
	envelope
	counters
	host       string // that it listens on; empty for all
	udp        *net.UDPConn
	tcp        *net.TCPListener
	advertised netip.AddrPort
	warnf      func(format string, args ...any)
	toldFleet  logonce.Line // that another fleet talks to this one
	toldSeal   logonce.Line // that no key opens what comes

	packets  chan *memberlist.Packet // for memberlist
	streams  chan net.Conn           // for memberlist
	messages chan message            // for the loop, which gives back their bytes
	waiting  atomic.Int64            // bytes of them
	slots    chan struct{}           // one for each connection of another
	pending  atomic.Int64            // bytes on them that are not known to be good
	allowed  bucket                  // of packets for memberlist; for the reading goroutine alone

	done    chan struct{}
	running sync.WaitGroup
	mu      sync.Mutex
	closed  bool
	open    map[*closer]struct{} // connections, and attempts to open one
}

// closer ends what is open when the transport is closed.
type closer struct{ end func() }

// bucket lets so much pass.
type bucket struct {
	tokens float64
	at     time.Time
}

// admits takes n of what comes in at a rate, up to a burst. It reports whether there was as much.
func (b *bucket) admits(n, perSecond, burst float64, now time.Time) bool {
	if b.at.IsZero() {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+now.Sub(b.at).Seconds()*perSecond)
	}
	b.at = now
	if b.tokens < n {
		return false
	}
	b.tokens -= n
	return true
}

// listen opens the sockets. Nothing is read from them before receive.
func listen(address string, e envelope, warnf func(format string, args ...any)) (*transport, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("invalid listen %q: use an address and a port, such as :9254", address)
	}
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return nil, listenError(address, "TCP", err)
	}
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		tcp.Close()
		return nil, listenError(address, "UDP", err)
	}
	t := &transport{envelope: e, counters: newCounters(), host: host, udp: udp.(*net.UDPConn), tcp: tcp.(*net.TCPListener), warnf: warnf,
		packets: make(chan *memberlist.Packet, packetQueue), streams: make(chan net.Conn), messages: make(chan message, messageQueue),
		slots: make(chan struct{}, maxStreams), done: make(chan struct{}), open: make(map[*closer]struct{})}
	// The kernel drops packets beyond its buffer: a burst of votes of a large fleet is larger than the usual one. It is a wish.
	t.udp.SetReadBuffer(2 << 20)
	return t, nil
}

// listenError is why a socket cannot be opened, with what to do. Windows has errors of its own, which get the general advice.
func listenError(address, protocol string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("another program listens on %s over %s: use another port for the fleet", address, protocol)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("listen %s: this machine has no such address: use one of its own, or a port alone for all of them", address)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("listen %s: this process may not use that port: use one from 1024 on, or give the process CAP_NET_BIND_SERVICE", address)
	}
	return fmt.Errorf("the fleet cannot listen on %s over %s: %w; use another address or port", address, protocol, err)
}

// receive begins to read.
func (t *transport) receive() {
	t.running.Add(2)
	go func() { defer t.running.Done(); t.readPackets() }()
	go func() { defer t.running.Done(); t.acceptStreams() }()
}

// readPackets reads until the socket is closed.
func (t *transport) readPackets() {
	buf := make([]byte, maxMessage+512)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // such as that of a datagram that was sent before
			if !t.pause(10 * time.Millisecond) {
				return
			}
		case n == len(buf):
			t.large.Inc()
		default:
			t.received.Add(float64(n))
			t.takePacket(buf[:n], from)
		}
	}
}

// pause waits, and reports whether the transport is still open.
func (t *transport) pause(d time.Duration) bool {
	select {
	case <-t.done:
		return false
	case <-time.After(d):
		return true
	}
}

// takePacket opens a packet and passes it on. It keeps no part of data.
func (t *transport) takePacket(data []byte, from netip.AddrPort) {
	defer rescue.Log("a packet of the fleet")
	now := time.Now()
	plain, err := t.openPacket(data)
	if err != nil {
		t.refuse(err, from.Addr())
		return
	}
	// The rate is that of packets for memberlist alone: a burst of votes must not cost it its pings, nor the other way round.
	switch way, ours := lookAtPacket(plain); {
	case way == forUs:
		t.handOver(ours)
	case way == refused:
		t.malformed.Inc()
	case !t.allowed.admits(1, packetsPerSecond, packetsAtOnce, now):
		t.rate.Inc()
	default:
		if plain[0] == typeChecked { // which has been checked
			plain = plain[5:]
		}
		select {
		case t.packets <- &memberlist.Packet{Buf: plain, From: net.UDPAddrFromAddrPort(from), Timestamp: now}:
		default:
			t.busy.Inc()
		}
	}
}

// refuse counts what did not open, and says so once.
func (t *transport) refuse(err error, from netip.Addr) {
	switch {
	case errors.Is(err, errLabel):
		t.foreign.Inc()
		if t.toldFleet.First() {
			t.warnf("fleet: a member of another fleet with the same key talks to this server, from %s: it is ignored, and its peers or its name may be wrong", from.Unmap())
		}
	case errors.Is(err, errSeal):
		t.unsealed.Inc()
		if t.toldSeal.First() {
			t.warnf("fleet: what comes from %s is sealed with no key of this server: it is ignored; compare the files with the keys", from.Unmap())
		}
	default:
		t.malformed.Inc()
	}
}

// handOver passes a message to the loop.
func (t *transport) handOver(data []byte) {
	m, err := readMessage(data)
	if err != nil {
		t.malformed.Inc()
		return
	}
	m.size = cap(data)
	if t.waiting.Add(int64(m.size)) <= messageBytes {
		select {
		case t.messages <- m:
			return
		default:
		}
	}
	t.giveBack(m)
	t.busy.Inc()
}

// giveBack notes that a message waits no longer.
func (t *transport) giveBack(m message) { t.waiting.Add(-int64(m.size)) }

// sendTo seals a message once and sends it to each address.
func (t *transport) sendTo(plain []byte, to ...netip.AddrPort) {
	if len(to) == 0 {
		return
	}
	sealed := t.packet(plain)
	for _, addr := range to {
		t.write(sealed, addr)
	}
}

// write sends a packet. What the system cannot send at once is lost, as on the way.
func (t *transport) write(sealed []byte, to netip.AddrPort) (time.Time, error) {
	n, err := t.udp.WriteToUDPAddrPort(sealed, to)
	t.sent.Add(float64(n))
	return time.Now(), err
}

// hold notes what to end when the transport is closed. If it is closed already, that is done now.
func (t *transport) hold(end func()) (release func()) {
	c := &closer{end}
	t.mu.Lock()
	closed := t.closed
	if !closed {
		t.open[c] = struct{}{}
	}
	t.mu.Unlock()
	if closed {
		end()
	}
	return func() {
		t.mu.Lock()
		delete(t.open, c)
		t.mu.Unlock()
	}
}

// dial opens a connection, from the address that this process listens on.
func (t *transport) dial(addr string, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err // nothing is looked up here
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(timeout, dialTime))
	defer cancel()
	defer t.hold(cancel)()
	// The others see the address that they know, which a firewall may insist on.
	var d net.Dialer
	if at, err := netip.ParseAddr(t.host); err == nil && !at.IsUnspecified() && at.Unmap().Is4() == to.Addr().Is4() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, 0))
	}
	return d.DialContext(ctx, "tcp", addr)
}

// sendFrame sends a message over a connection of its own.
func (t *transport) sendFrame(plain []byte, to netip.AddrPort) error {
	conn, err := t.dial(to.String(), dialTime)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer t.hold(func() { conn.Close() })()
	conn.SetDeadline(time.Now().Add(streamTime))
	n, err := conn.Write(t.frame(t.labelled(nil), plain))
	t.sent.Add(float64(n))
	return err
}

// The functions below are what memberlist calls.

// FinalAdvertiseAddr returns where others reach this process.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertised.Addr().AsSlice(), int(t.advertised.Port()), nil
}

// WriteTo seals and sends a packet.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, err
	}
	return t.write(t.packet(b), to)
}

// WriteToAddress is WriteTo.
func (t *transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

// PacketCh returns the packets for memberlist.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh returns the connections for memberlist.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout opens a connection on which all is sealed.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	conn, err := t.dial(addr, timeout)
	if err != nil {
		return nil, err
	}
	s := &stream{Conn: conn, t: t, isAnswer: true}
	s.ended = t.hold(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(streamTime))
	return s, nil
}

// DialAddressTimeout is DialTimeout.
func (t *transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}

// Shutdown closes everything, and waits for our goroutines.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	ends := t.open
	t.open = make(map[*closer]struct{})
	t.mu.Unlock()
	close(t.done)
	t.udp.Close()
	t.tcp.Close()
	for c := range ends {
		c.end()
	}
	rescue.Wait(&t.running, leaveTime/5)
	return nil
}
