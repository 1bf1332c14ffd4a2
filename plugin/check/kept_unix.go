//go:build unix

package check

import (
	"io"
	"syscall"
)

// canPoll: a connection can be read without waiting.
const canPoll = true

// readArrived reads what has arrived at a connection. If that is nothing, the error is errWouldWait.
func readArrived(raw syscall.RawConn, b []byte) (n int, err error) {
	if raw == nil {
		return 0, io.ErrUnexpectedEOF
	}
	failed := raw.Read(func(fd uintptr) bool {
		for {
			if n, err = syscall.Read(int(fd), b); err != syscall.EINTR {
				return true // also if nothing is there: false would wait
			}
		}
	})
	switch {
	case failed != nil:
		return 0, failed
	case err == syscall.EAGAIN:
		return 0, errWouldWait
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}
