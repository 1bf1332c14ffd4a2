//go:build unix

package state

import "syscall"

// nonBlocking is the flag by which opening a pipe does not wait for its other end.
const nonBlocking = syscall.O_NONBLOCK
