//go:build !unix

package check

import (
	"errors"
	"syscall"
)

const canPoll = false

// readArrived always fails: on other systems a read cannot be kept from waiting, so no connection is asked again.
func readArrived(syscall.RawConn, []byte) (int, error) { return 0, errors.ErrUnsupported }
