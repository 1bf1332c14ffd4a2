package web

import (
	"fmt"
	"net"
	"syscall"
)

// peerOf says who is at the other end of a socket: SO_PEERCRED, see unix(7).
func peerOf(conn *net.UnixConn) string {
	who := "a process on the socket"
	raw, err := conn.SyscallConn()
	if err != nil {
		return who
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			who = fmt.Sprintf("uid %d (pid %d)", cred.Uid, cred.Pid)
		}
	})
	return who
}
