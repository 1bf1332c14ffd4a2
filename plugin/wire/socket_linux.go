package wire

import (
	"net/netip"
	"reflect"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// A held connection is asked for a sign of life when it has been silent for silence, then every retry, and given up
	// when none has come for patience in all. Most probes come more seldom than that: it is what finds a dead host.
	keepAliveIdle     = 2 * time.Second
	keepAliveInterval = time.Second
	keepAliveTimeout  = 5 * time.Second
)

// keepAlive lets the kernel find out that the host at the other end is gone. Where an option is not known, the probes
// find out later. It is for a connection that stands: before, it would bound the time to connect.
func keepAlive(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAliveIdle/time.Second))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAliveInterval/time.Second))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, int((keepAliveTimeout-keepAliveIdle)/keepAliveInterval))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(keepAliveTimeout/time.Millisecond))
}

// sockaddr is an address as the kernel takes it. A zone is not carried over: addresses from the DNS have none.
func sockaddr(addr netip.AddrPort) (unix.Sockaddr, int) {
	ip := addr.Addr().Unmap()
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: ip.As4()}, unix.AF_INET
	}
	return &unix.SockaddrInet6{Port: int(addr.Port()), Addr: ip.As16()}, unix.AF_INET6
}

// toItself reports whether a connection to a port of this host, where nobody listens, was given that very port as its
// own: then it has met itself, which the kernel allows.
func selfConnected(fd int, peer netip.AddrPort) bool {
	own, err := unix.Getsockname(fd)
	if err != nil || port(own) != int(peer.Port()) {
		return false
	}
	other, err := unix.Getpeername(fd) // not what was dialled: 0.0.0.0 leads to 127.0.0.1
	return err == nil && reflect.DeepEqual(own, other)
}

func port(addr unix.Sockaddr) int {
	switch addr := addr.(type) {
	case *unix.SockaddrInet4:
		return addr.Port
	case *unix.SockaddrInet6:
		return addr.Port
	}
	return 0
}

// connect asks the kernel twice. A peer on this host, or in a container of it, answers while the first call is still under
// way, which then says no more than that it is; the second call says that it is done, and spares waiting for an event.
func connectTwice(fd int, addr unix.Sockaddr) error {
	if err := unix.Connect(fd, addr); err != unix.EINPROGRESS {
		return err
	}
	return unix.Connect(fd, addr)
}
