//go:build !unix

package watchfile

// nonblock is for systems with pipes in the file system.
const nonblock = 0
