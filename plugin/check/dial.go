package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// socketOptions are the options of every scheme that opens a socket.
var socketOptions = []string{"from"}

// A dialer opens sockets to peers. Its zero value lets the kernel choose the source address, and
// has no time-out of its own.
type dialer struct {
	// from4 and from6 are the source addresses of the option from; invalid if the kernel chooses.
	from4, from6   netip.Addr
	connectTimeout time.Duration // for the TCP handshake; 0 for no bound of its own
	proxyProtocol  bool          // a connection over TCP starts with a header of the PROXY protocol
}

// setFrom parses the option from. It may be given once per family, because a peer can only be
// reached from an address of its own family. Whether this host has the address is checked by the
// probe: addresses come and go.
func setFrom(s *settings, v []string) (shown []string, hidden []byte, err error) {
	addr, err := netip.ParseAddr(v[0])
	if err != nil || addr.Zone() != "" || !isHostAddress(addr) {
		return nil, nil, fmt.Errorf("invalid source address %s: use an address of this host, such as 192.0.2.1", quote(v[0]))
	}
	of := &s.dialer.from4
	if addr.Is6() {
		of = &s.dialer.from6
	}
	if of.IsValid() {
		return nil, nil, fmt.Errorf("two addresses of one family, %s and %s: keep one", *of, addr)
	}
	*of = addr
	return []string{addr.String()}, nil, nil
}

// broadcast is the limited broadcast address (RFC 919, 7).
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// isHostAddress reports whether addr can be the address of one host, without a zone to say on which
// network.
func isHostAddress(addr netip.Addr) bool {
	return !addr.Is4In6() && !addr.IsUnspecified() && !addr.IsMulticast() && addr != broadcast && !(addr.Is6() && addr.IsLinkLocalUnicast())
}

// bound reports whether a source address is set for at least one family.
func (d *dialer) bound() bool { return d.from4.IsValid() || d.from6.IsValid() }

// source returns the source address for peer, which is invalid if the kernel may choose. If there
// is a source, but none of the family of peer, the error is an ErrAbstain: the configuration says
// nothing about such peers.
func (d *dialer) source(peer netip.Addr) (netip.Addr, error) {
	of, other := d.from6, d.from4
	if peer.Unmap().Is4() {
		of, other = d.from4, d.from6
	}
	if !of.IsValid() && other.IsValid() {
		return of, fmt.Errorf("%w: from %s has another address family than the target", ErrAbstain, other)
	}
	return of, nil
}

// dial connects to addr over TCP, and sends the header of the PROXY protocol if that is wanted. The
// caller must call closeConn when done; after that neither connection nor goroutine is left.
func (d *dialer) dial(ctx context.Context, addr netip.AddrPort) (conn net.Conn, closeConn func(), err error) {
	conn, closeConn, err = d.dialOver(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	if err := d.announce(conn); err != nil {
		closeConn()
		return nil, nil, err
	}
	return conn, closeConn, nil
}

// dialOver connects over "tcp" or "udp". closeConn is as for dial.
func (d *dialer) dialOver(ctx context.Context, network string, addr netip.AddrPort) (conn net.Conn, closeConn func(), err error) {
	conn, err = d.connect(ctx, network, addr)
	if err != nil {
		return nil, nil, err
	}
	release := closeAtEnd(ctx, conn)
	return conn, func() {
		release()
		conn.Close()
	}, nil
}

// connect connects over "tcp" or "udp". Afterwards the connection has nothing to do with ctx.
func (d *dialer) connect(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error) {
	source, err := d.source(addr.Addr())
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{KeepAlive: -1 * time.Second} // negative: off; a probe is over before a keep-alive would be due, and the next one looks whether what was kept is good
	if source.IsValid() {
		dialer.LocalAddr = socketAddr(network, source)
		dialer.Control = bindWithoutPort
	}
	dialer.Timeout = d.connectTimeout
	conn, err := dialer.DialContext(ctx, network, addr.String())
	if err != nil {
		return nil, dialFailure(addr.Addr(), source, err)
	}
	return conn, nil
}

// closeAtEnd has the end of ctx close the connection, so that every pending read and write fails at
// once, until release is called. That reports whether ctx has not ended before; no goroutine is left
// after it. A deadline on the connection would not do: crypto/tls sets a deadline of its own for its
// last message, and that would replace ours.
func closeAtEnd(ctx context.Context, conn net.Conn) (release func() bool) {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		conn.Close()
	})
	return func() bool {
		if stop() {
			return true
		}
		<-ended // the closing goroutine has started, and must end before the probe does
		return false
	}
}

// socketAddr is addr with port 0, so that the kernel chooses the port.
func socketAddr(network string, addr netip.Addr) net.Addr {
	if network == "udp" {
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))
}

// dialFailure is the reason why a dial failed. A source address that cannot be used says nothing
// about the peer, so that is an ErrAbstain.
func dialFailure(peer, source netip.Addr, err error) error {
	var call *os.SyscallError
	switch {
	case noRoute(source, err):
		return noRouteFailure(source)
	case !errors.As(err, &call) || call.Syscall != "bind":
		return connectFailure(peer, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: from %s is not an address of this host", ErrAbstain, source)
	}
	return fmt.Errorf("%w: from %s: %s", ErrAbstain, source, call.Err)
}

// sendFailure is dialFailure for a packet that is sent without a connection.
func sendFailure(peer, source netip.Addr, err error) error {
	if noRoute(source, err) {
		return noRouteFailure(source)
	}
	return datagramFailure(peer, err)
}

// noRoute reports whether the kernel has no route from the source to the peer, for example from
// 127.0.0.1 to another host. Linux reports that as EINVAL.
func noRoute(source netip.Addr, err error) bool {
	return source.IsValid() && errors.Is(err, syscall.EINVAL)
}

// noRouteFailure is the reason for noRoute.
func noRouteFailure(source netip.Addr) error {
	return fmt.Errorf("%w: from %s cannot reach the target", ErrAbstain, source)
}
