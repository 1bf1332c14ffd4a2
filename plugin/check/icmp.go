package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// newICMP builds the check that sends an echo request (B43). ICMP has no ports, so the port of a
// record is ignored, and may be missing.
func newICMP(s *spec) (prober, error) {
	if s.portNamed {
		return nil, errors.New("icmp has no ports: write " + s.scheme.example)
	}
	if err := errors.Join(s.refuseHost(), s.refusePath()); err != nil {
		return nil, err
	}
	s.portNamed = true
	return icmpCheck{&s.dialer}, nil
}

// An icmpCheck sends one echo request to an address. It has no settings of its own but the source
// address.
type icmpCheck struct{ dialer *dialer }

// errNotAllowed means that the kernel grants this process neither kind of ICMP socket. That says
// nothing about the peer.
var errNotAllowed = fmt.Errorf("%w: this process may not send icmp: it needs a group in net.ipv4.ping_group_range, or CAP_NET_RAW", ErrAbstain)

// An echoSocket sends echo requests to one address, and receives ICMP packets. There are two kinds:
// see openSocket.
type echoSocket interface {
	io.WriteCloser
	ReadFrom([]byte) (int, net.Addr, error)
}

// An unprivilegedSocket is a datagram socket for ICMP, which needs no capability but a group in
// net.ipv4.ping_group_range. The kernel chooses the identifier, and delivers only replies to it
// (icmp(7)).
type unprivilegedSocket struct {
	*icmp.PacketConn
	to *net.UDPAddr
}

// Write sends a packet to the address of the socket.
func (d unprivilegedSocket) Write(p []byte) (int, error) { return d.WriteTo(p, d.to) }

// openSocket tries the unprivileged socket first, also for root, because it receives only its own
// replies. A raw socket is the second choice. It is connected, so that the kernel delivers packets
// from addr alone, and not the replies to thousands of other probes.
func (c icmpCheck) openSocket(ctx context.Context, addr netip.Addr) (echoSocket, error) {
	source, err := c.dialer.source(addr)
	if err != nil {
		return nil, err
	}
	family, raw, local := "udp6", "ip6:ipv6-icmp", netip.IPv6Unspecified()
	if addr.Is4() {
		family, raw, local = "udp4", "ip4:icmp", netip.IPv4Unspecified()
	}
	var dialer net.Dialer
	if source.IsValid() {
		local, dialer.LocalAddr = source, &net.IPAddr{IP: source.AsSlice()}
	}
	// Port 0 of a datagram socket is the identifier, which the kernel then chooses.
	unprivileged, first := icmp.ListenPacket(family, local.String())
	if first == nil {
		return unprivilegedSocket{unprivileged, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))}, nil
	}
	conn, err := dialer.DialContext(ctx, raw, addr.String())
	switch {
	case err == nil:
		return conn.(*net.IPConn), nil
	case socketDenied(err) && socketDenied(first):
		return nil, errNotAllowed
	case socketDenied(err):
		err = first // the unprivileged socket was allowed, and failed for another reason
	}
	return nil, dialFailure(addr, source, err)
}

// socketDenied reports whether the process may not open such a socket. A packet that a firewall
// rejects is another error.
func socketDenied(err error) bool {
	var call *os.SyscallError
	return errors.As(err, &call) && call.Syscall == "socket" && errors.Is(err, fs.ErrPermission)
}

// probe sends one echo request and waits for its reply. The port of at is ignored.
func (c icmpCheck) probe(ctx context.Context, at netip.AddrPort) error {
	addr := at.Addr().Unmap()
	conn, err := c.openSocket(ctx, addr)
	if err != nil {
		return err
	}
	defer closeOnDone(ctx, conn)()
	e := newEcho(addr)
	_, e.kernelID = conn.(unprivilegedSocket)
	request, err := e.request()
	if err != nil {
		return requestFailure(err)
	}
	if _, err := conn.Write(request); err != nil {
		source, _ := c.dialer.source(addr)
		return sendFailure(addr, source, err)
	}
	return e.awaitReply(conn)
}

// closeOnDone closes c when ctx ends, or when the returned function is called. After that call no
// goroutine is left.
func closeOnDone(ctx context.Context, c io.Closer) (closed func()) {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		c.Close()
	})
	return func() {
		// The closing goroutine has started, and must end before the probe does.
		if !stop() {
			<-ended
		}
		c.Close()
	}
}

// An echo is one request, and knows its reply. The token is what tells replies apart: a raw socket
// sees the replies to all probes of an address, 16 bits of identifier are few, and the kernel may
// choose them.
type echo struct {
	addr     netip.Addr
	id, seq  int
	kernelID bool // the kernel chose the identifier, and has compared it
	token    string
}

// newEcho makes a request with random numbers and token.
func newEcho(addr netip.Addr) echo {
	random := rand.Uint32()
	return echo{addr: addr, id: int(random & 0xffff), seq: int(random >> 16), token: fmt.Sprintf("multivalue %016x", rand.Uint64())}
}

// request encodes the request. The checksum of ICMPv6 covers the addresses (RFC 4443, 2.3), so it
// is left to the kernel, which knows them.
func (e echo) request() ([]byte, error) {
	// The unprivileged socket overwrites the identifier with its own.
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: e.id, Seq: e.seq, Data: []byte(e.token)}}
	if !e.addr.Is4() {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	return m.Marshal(nil)
}

// echoLimit is how many packets that are not the reply are skipped before the probe fails. On a raw
// socket that includes the replies to other probes of the same address.
const echoLimit = 1024

// errEchoes is the reason for a probe that reached echoLimit.
var errEchoes = fmt.Errorf("more than %d packets that are not the reply", echoLimit)

// awaitReply reads packets until the reply arrives.
func (e echo) awaitReply(conn echoSocket) error {
	// An Ethernet frame carries no more; our request and its reply are far smaller.
	buf := make([]byte, 1500)
	for range echoLimit {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return responseFailure(err)
		}
		if addressOf(from) == e.addr.WithZone("") && e.answeredBy(buf[:n]) {
			return nil
		}
	}
	return errEchoes
}

// answeredBy reports whether a packet is the reply to this request: type, code, sequence number and
// token must be right.
func (e echo) answeredBy(packet []byte) bool {
	protocol, reply := ipv4.ICMPTypeEchoReply.Protocol(), icmp.Type(ipv4.ICMPTypeEchoReply)
	if !e.addr.Is4() {
		protocol, reply = ipv6.ICMPTypeEchoReply.Protocol(), ipv6.ICMPTypeEchoReply
	}
	m, err := icmp.ParseMessage(protocol, packet)
	if err != nil || m.Type != reply || m.Code != 0 {
		return false
	}
	body, ok := m.Body.(*icmp.Echo)
	return ok && (e.kernelID || body.ID == e.id) && body.Seq == e.seq && string(body.Data) == e.token
}

// addressOf is the address of a packet from either kind of socket, without a zone.
func addressOf(a net.Addr) netip.Addr {
	var ip net.IP
	switch a := a.(type) {
	case *net.UDPAddr:
		ip = a.IP
	case *net.IPAddr:
		ip = a.IP
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}
