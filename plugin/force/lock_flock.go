//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package force

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockPause is the time between two tries to get a lock.
const lockPause = time.Millisecond

// lock keeps other processes from changing files of a directory until unlock is called. It is of the directory, because the file
// itself is replaced. A file system without locks, or a directory that cannot be read, has none: then only the comparison before the
// rename is left, as with editors, which take no lock.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	file, err := os.Open(dir)
	if err != nil {
		return func() {}, nil
	}
	// It is tried again and again, since a call that waits could not be ended with the context.
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			return func() { file.Close() }, nil // this ends the lock
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("another process has the lock of %s and keeps it: try again later", dir)
		}
	}
}
