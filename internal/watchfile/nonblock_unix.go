//go:build unix

package watchfile

import "syscall"

// nonblock has open return at once: opening a pipe would wait for a writer, and a file that another process holds a lease on
// for that process. It changes nothing about reading a regular file.
const nonblock = syscall.O_NONBLOCK
