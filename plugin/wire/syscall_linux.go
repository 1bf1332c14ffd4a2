//go:build !386 && !s390x

package wire

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of a probe, without what surrounds them in package unix. None of them waits,
// because the sockets are non-blocking: connect(2) to a peer on this host takes the longest, about
// 20 microseconds. A call of package unix tells the scheduler that it may wait, and one that takes
// that long has the scheduler move the loop's goroutine to another thread; its Getsockname asks for
// the protocol of the socket, too. Together that was a tenth of what a tcp probe costs
// (docs/benchmarks.md).

// openSocket opens a non-blocking TCP socket.
func openSocket(family int) (fd int, err error) {
	r, _, e := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return int(r), failed(e)
}

// connect calls connect(2). It drops a zone: addresses in DNS records have none.
func connect(fd int, addr netip.AddrPort) error {
	raw, size := rawAddress(addr)
	_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&raw)), size)
	return failed(e)
}

// localPort returns the port of this end of the connection, 0 if there is none.
func localPort(fd int) int {
	var raw rawName
	size := uint32(len(raw))
	_, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&size)))
	if e != 0 {
		return 0
	}
	return int(binary.BigEndian.Uint16(raw[2:]))
}

// read calls read(2).
func read(fd int, p []byte) (int, error) {
	r, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}

// write calls write(2).
func write(fd int, p []byte) (int, error) {
	r, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}

// closeSocket calls close(2). The only error that a socket can give means that it is closed.
func closeSocket(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// A rawName is the memory of a sockaddr_in or a sockaddr_in6. Both begin with the family, in the
// byte order of the machine, and the port, in that of the network (ip(7), ipv6(7)).
type rawName [unix.SizeofSockaddrInet6]byte

// rawAddress converts an address for the kernel.
func rawAddress(addr netip.AddrPort) (raw rawName, size uintptr) {
	binary.BigEndian.PutUint16(raw[2:], addr.Port())
	if ip := addr.Addr().Unmap(); ip.Is4() {
		binary.NativeEndian.PutUint16(raw[:], unix.AF_INET)
		four := ip.As4()
		copy(raw[4:], four[:])
		return raw, unix.SizeofSockaddrInet4
	}
	binary.NativeEndian.PutUint16(raw[:], unix.AF_INET6)
	sixteen := addr.Addr().As16()
	copy(raw[8:], sixteen[:]) // after four bytes of flow information
	return raw, unix.SizeofSockaddrInet6
}

// failed is the error of a system call, nil if there is none.
func failed(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}
