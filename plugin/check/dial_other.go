//go:build !linux

package check

import "syscall"

// bindWithoutPort does nothing: the socket option exists on Linux only.
func bindWithoutPort(_, _ string, _ syscall.RawConn) error { return nil }
