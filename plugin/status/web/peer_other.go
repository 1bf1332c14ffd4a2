//go:build !linux

package web

import "net"

// peerOf says who is at the other end of a socket, which is not known in a portable way.
func peerOf(*net.UnixConn) string { return "a process on the socket" }
