package check

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// bindWithoutPort lets the kernel choose the local port in connect and not in bind (ip(7),
// IP_BIND_ADDRESS_NO_PORT). Then a port can be in use towards several peers at once. Otherwise a
// few hundred probes a second would use up all ports of the source address, because closed
// connections keep their port for a minute.
func bindWithoutPort(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
}
