//go:build !linux

package check

import "syscall"

// latePort has no counterpart on this system.
func latePort(_, _ string, _ syscall.RawConn) error { return nil }
