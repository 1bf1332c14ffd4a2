//go:build !unix

package state

// nonBlocking is for Unix, where a pipe may stand at any path.
const nonBlocking = 0
