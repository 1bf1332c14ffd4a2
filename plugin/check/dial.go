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

// socketOptions are the options of every scheme that asks over a socket of its own.
var socketOptions = []string{"from"}

// A dialer opens sockets to peers. Its zero value lets the kernel choose where from.
type dialer struct {
	from4, from6   netip.Addr    // the source, invalid where the kernel chooses
	connectTimeout time.Duration // of connecting; 0 for none of its own
}

// setFrom takes one address of each family, for an address can only be asked from one of its own.
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

// broadcast is every host of the network (RFC 919, 7).
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// hostly reports whether an address can be a host's own without a word about which of its networks is meant.
func isHostAddress(addr netip.Addr) bool {
	return !addr.Is4In6() && !addr.IsUnspecified() && !addr.IsMulticast() && addr != broadcast && !(addr.Is6() && addr.IsLinkLocalUnicast())
}

// bound reports whether there is a source to bind to.
func (d *dialer) bound() bool { return d.from4.IsValid() || d.from6.IsValid() }

// source is the address to ask peer from, which is invalid if the kernel may choose. It is an error that abstains if
// there is a source, but none of the peer's family.
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

// dial connects to addr over TCP, for no longer than ctx. The caller calls hangUp when done; after that nothing is left.
func (d *dialer) dial(ctx context.Context, addr netip.AddrPort) (conn net.Conn, hangUp func(), err error) {
	return d.dialOver(ctx, "tcp", addr)
}

// dialOver is dial for tcp or udp.
//
// When ctx ends, by its deadline or before, the connection is closed, which ends every read and write at once. A
// deadline on the connection would be the lesser means: crypto/tls sets one of its own for its last message, and that
// would undo ours.
func (d *dialer) dialOver(ctx context.Context, network string, addr netip.AddrPort) (conn net.Conn, hangUp func(), err error) {
	source, err := d.source(addr.Addr())
	if err != nil {
		return nil, nil, err
	}
	dialer := net.Dialer{KeepAlive: -1 * time.Second} // a probe is over before a keep-alive would be due
	if source.IsValid() {
		dialer.LocalAddr = socketAddr(network, source)
		dialer.Control = bindWithoutPort
	}
	dialer.Timeout = d.connectTimeout
	conn, err = dialer.DialContext(ctx, network, addr.String())
	if err != nil {
		return nil, nil, dialFailure(addr.Addr(), source, err)
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		conn.Close()
	})
	return conn, func() {
		if !stop() {
			<-ended // its goroutine has begun: it must be over before the probe is
		}
		conn.Close()
	}, nil
}

// socketAddr is an address whose port is for the kernel to choose, as a [net.Dialer] takes it.
func socketAddr(network string, addr netip.Addr) net.Addr {
	if network == "udp" {
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))
}

// dialFailure is connectFailure, and says so where it was the source that could not be had, which says nothing about
// the peer.
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

// sendFailure is dialFailure for a packet that goes out without a connection.
func sendFailure(peer, source netip.Addr, err error) error {
	if noRoute(source, err) {
		return noRouteFailure(source)
	}
	return datagramFailure(peer, err)
}

// strayed reports whether the kernel knows no way from the source to the peer, as from the loopback to elsewhere.
func noRoute(source netip.Addr, err error) bool {
	return source.IsValid() && errors.Is(err, syscall.EINVAL)
}

func noRouteFailure(source netip.Addr) error {
	return fmt.Errorf("%w: from %s cannot reach the target", ErrAbstain, source)
}
