//go:build 386 || s390x

package wire

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Before Linux 4.3, these two architectures had one system call for all that has to do with sockets
// (socketcall(2)). Package unix knows how to call it. See the other file for what each does.

func openSocket(family int) (fd int, err error) {
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

func connect(fd int, addr netip.AddrPort) error {
	to, _ := sockaddr(addr)
	return unix.Connect(fd, to)
}

func localPort(fd int) int {
	own, err := unix.Getsockname(fd)
	if err != nil {
		return 0
	}
	return port(own)
}

func read(fd int, p []byte) (int, error)  { return unix.Read(fd, p) }
func write(fd int, p []byte) (int, error) { return unix.Write(fd, p) }
func closeSocket(fd int)                  { _ = unix.Close(fd) }
