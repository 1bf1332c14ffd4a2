// Package ports finds ports and addresses for servers that tests start.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// Ports are taken from a range below the ephemeral ones of Linux (32768 and up) and of those that keep to RFC 6335 (49152
// and up). From there the system takes the source of every connection, and what listens on port 0 on behalf of another test:
// a port that it gave out once may be in use when a server is to listen on it, or answer when it is to refuse.
//
// Where a system was told to give out lower ones as well, that may still happen.
//
// The range is cut into blocks, and a block belongs to the process that listens on its first port: the tests of several
// packages run at the same time, and what one calls free must not be what another is about to use.
const (
	lowest = 12000
	blocks = 80
	size   = 250
)

var (
	mu    sync.Mutex
	owned net.Listener // as long as the process lives
	next  int          // to give out
	last  int
)

func init() { claim() }

// claim makes a block that nobody has this process's own.
func claim() {
	for _, b := range rand.Perm(blocks) {
		first := lowest + b*size
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first)); err == nil {
			owned, next, last = l, first+1, first+size-1
			return
		}
	}
}

// Free is a port that nothing listens on, over TCP or UDP, on any address of this machine, and that no other test is given
// before this process has been given all of its own.
func Free(t testing.TB) int {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	if owned == nil {
		t.Fatal("every block of ports is some process's")
	}
	for range size {
		p := next
		if next++; next > last {
			next = owned.Addr().(*net.TCPAddr).Port + 1
		}
		if free(p) {
			return p
		}
	}
	t.Fatal("no port is free for both TCP and UDP")
	return 0
}

func free(p int) bool {
	at := fmt.Sprintf(":%d", p)
	l, err := net.Listen("tcp", at)
	if err != nil {
		return false
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", at)
	if err != nil {
		return false
	}
	u.Close()
	return true
}
