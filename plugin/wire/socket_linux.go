package wire

import (
	"net/netip"
	"reflect"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// A held connection is probed by the kernel (tcp(7)) when it was silent for keepAliveIdle, then
	// every keepAliveInterval, and given up after keepAliveTimeout in all. That is how a dead host
	// is found: it sends no FIN. Most checks come less often.
	keepAliveIdle     = 2 * time.Second
	keepAliveInterval = time.Second
	keepAliveTimeout  = 5 * time.Second
)

// keepAlive turns on the keep-alive of TCP, with the times above. Errors are ignored: on a kernel without an option, the next probe
// finds the dead host. Call it once the connection is open; before that, TCP_USER_TIMEOUT would
// bound connecting.
func keepAlive(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAliveIdle/time.Second))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAliveInterval/time.Second))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, int((keepAliveTimeout-keepAliveIdle)/keepAliveInterval))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(keepAliveTimeout/time.Millisecond))
}

// familyOf is the address family of an address.
func familyOf(addr netip.AddrPort) int {
	if addr.Addr().Unmap().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// sockaddr converts an address for package unix.
func sockaddr(addr netip.AddrPort) (unix.Sockaddr, int) {
	ip := addr.Addr().Unmap()
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: ip.As4()}, unix.AF_INET
	}
	return &unix.SockaddrInet6{Port: int(addr.Port()), Addr: ip.As16()}, unix.AF_INET6
}

// selfConnected reports whether the two ends of the connection are the same socket. The kernel
// allows that if nothing listens on a local port and connect happens to choose that very port as the
// source (simultaneous open, RFC 9293, 3.5).
func selfConnected(fd int, peer netip.AddrPort) bool {
	if localPort(fd) != int(peer.Port()) {
		return false
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	other, err := unix.Getpeername(fd) // not the address that was dialled: 0.0.0.0 leads to 127.0.0.1
	return err == nil && reflect.DeepEqual(own, other)
}

// port is the port of an address, 0 for an address of another kind.
func port(addr unix.Sockaddr) int {
	switch addr := addr.(type) {
	case *unix.SockaddrInet4:
		return addr.Port
	case *unix.SockaddrInet6:
		return addr.Port
	}
	return 0
}

// connectTwice calls connect(2) a second time if the first call did not finish. A peer on this host
// answers while the first call is still under way; the second call then succeeds at once, which
// saves a wait for an event.
func connectTwice(fd int, addr netip.AddrPort) error {
	if err := connect(fd, addr); err != unix.EINPROGRESS {
		return err
	}
	return connect(fd, addr)
}
