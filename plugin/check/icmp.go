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

// newICMP builds the check that asks for an echo (B43). There are no ports in that, so that of a record does not
// matter, and neither does one that is missing.
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

type icmpCheck struct{ dialer *dialer }

var errNotAllowed = fmt.Errorf("%w: this process may not send icmp: it needs a group in net.ipv4.ping_group_range, or CAP_NET_RAW", ErrAbstain)

// An echoSocket sends echo requests to one address and receives what comes back.
type echoSocket interface {
	io.WriteCloser
	ReadFrom([]byte) (int, net.Addr, error)
}

// datagrams is a socket for whoever may have one: the kernel gives it an identifier, and only replies to that.
type unprivilegedSocket struct {
	*icmp.PacketConn
	to *net.UDPAddr
}

func (d unprivilegedSocket) Write(p []byte) (int, error) { return d.WriteTo(p, d.to) }

// open tries the socket that takes no privilege, then the one that does. The latter is connected, so that the kernel
// passes on what comes from addr alone, and not all that thousands of probes get.
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
		err = first // it may have the other socket, which failed for another reason
	}
	return nil, dialFailure(addr, source, err)
}

// refusedSocket tells a process that may have no such socket from one whose packets are not let through.
func socketDenied(err error) bool {
	var call *os.SyscallError
	return errors.As(err, &call) && call.Syscall == "socket" && errors.Is(err, fs.ErrPermission)
}

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

// closeWith closes c when ctx is over, or when what it returns is called; after that no goroutine is left.
func closeOnDone(ctx context.Context, c io.Closer) (closed func()) {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		c.Close()
	})
	return func() {
		if !stop() {
			<-ended
		}
		c.Close()
	}
}

// An echo is one question. The token is what nobody who has not seen it can give back: the identifier is the kernel's to
// choose, and 16 bits are few among thousands of probes.
type echo struct {
	addr     netip.Addr
	id, seq  int
	kernelID bool // the identifier, which it has then looked at
	token    string
}

func newEcho(addr netip.Addr) echo {
	random := rand.Uint32()
	return echo{addr: addr, id: int(random & 0xffff), seq: int(random >> 16), token: fmt.Sprintf("multivalue %016x", rand.Uint64())}
}

// request leaves the checksum of ICMPv6 to the kernel, which knows the addresses that go into it.
func (e echo) request() ([]byte, error) {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: e.id, Seq: e.seq, Data: []byte(e.token)}}
	if !e.addr.Is4() {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	return m.Marshal(nil)
}

// echoLimit is how many packets that answer nothing of ours are looked at.
const echoLimit = 1024

var errEchoes = fmt.Errorf("more than %d packets that are not the reply", echoLimit)

// await reads until the reply has come.
func (e echo) awaitReply(conn echoSocket) error {
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

// answeredBy reports whether a packet is the reply to this very request.
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

// addressOf is the address of either kind of socket, without a zone.
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
