package check

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// latePort lets the kernel choose the local port when it connects and not when it binds: then it need differ only from
// those that lead to the same peer. Else the ports of the source would be used up at some hundred probes a second.
func bindWithoutPort(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
}
