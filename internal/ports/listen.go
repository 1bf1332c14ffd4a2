package ports

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"
)

// inUse is how long a port may stay in use after its listener was closed. A process that begins at that moment has a copy of the
// listener until it runs its own program, which on a busy machine takes a while.
const inUse = 10 * time.Second

// Listen listens on an address over TCP, where a listener of this process may have been closed a moment ago. A port that stays in use,
// and any other error, fails the test.
func Listen(t testing.TB, address string) net.Listener {
	t.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		l, err := net.Listen("tcp", address)
		switch {
		case err == nil:
			return l
		case !errors.Is(err, syscall.EADDRINUSE) || time.Since(began) > inUse:
			t.Fatal(err)
		}
	}
}
