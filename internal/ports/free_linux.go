package ports

import "syscall"

// free reports whether a server can listen on a port over TCP and UDP, on any address.
//
// A port that is tried must be free again at once. So no process begins meanwhile: it would have copies of the sockets until it runs its
// own program, which on a busy machine takes milliseconds. And the sockets are not those of package net, whose poller may hold one for
// a moment after it was closed.
func free(p int) bool {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	for _, kind := range []int{syscall.SOCK_STREAM, syscall.SOCK_DGRAM} {
		if !binds(syscall.AF_INET, kind, &syscall.SockaddrInet4{Port: p}) || !binds(syscall.AF_INET6, kind, &syscall.SockaddrInet6{Port: p}) {
			return false
		}
	}
	return true
}

// binds reports whether a socket can have an address, as a server's would. It also can if this machine has no such sockets.
func binds(family, kind int, at syscall.Sockaddr) bool {
	fd, err := syscall.Socket(family, kind|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return family == syscall.AF_INET6 && err == syscall.EAFNOSUPPORT
	}
	defer syscall.Close(fd)
	if family == syscall.AF_INET6 && syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 1) != nil {
		return false
	}
	if kind == syscall.SOCK_STREAM && syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) != nil {
		return false
	}
	err = syscall.Bind(fd, at)
	return err == nil || family == syscall.AF_INET6 && err == syscall.EADDRNOTAVAIL
}
