//go:build !linux

package ports

import (
	"fmt"
	"net"
)

// free reports whether a server can listen on a port over TCP and UDP, on any address.
func free(p int) bool {
	at := fmt.Sprintf(":%d", p)
	l, err := net.Listen("tcp", at)
	if err != nil {
		return false
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", at)
	if err != nil {
		return false
	}
	u.Close()
	return true
}
