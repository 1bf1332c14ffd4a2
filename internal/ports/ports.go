// Package ports finds ports and addresses for servers that tests start.
//
// Free returns a port that no other test of this process and of processes that run at the same time is given, so that a
// server can listen on it later, or a client can rely on it to refuse. Listen listens on a port that had a listener before. Has,
// Need and IPv6 are for tests that use an address which not every machine has.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// The ports are below the ephemeral ports, which begin at 32768 on Linux and at 49152 on systems that follow RFC 6335. The
// system takes an ephemeral port for each outgoing connection and each listener on port 0. So an ephemeral port that was
// free a moment ago may be in use when a server wants to listen on it, or may answer when it should refuse. On a system
// configured with a lower range of ephemeral ports, that can still happen.
//
// The range is divided into blocks. A process owns a block while it listens on the first port of the block. The tests of
// several packages run at the same time in processes of their own, and must not be given the same port.
const (
	lowest = 12000
	blocks = 80
	size   = 250
)

var (
	mu    sync.Mutex
	owned net.Listener // on the first port of our block; open until the process ends
	next  int          // port to return next
	last  int          // port of the block
)

func init() { claim() }

// claim takes a block that no other process owns. The order is random, so that processes that start at the same time
// rarely try the same block. If all are owned, owned stays nil, and Free fails the tests that need a port.
func claim() {
	for _, b := range rand.Perm(blocks) {
		first := lowest + b*size
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first)); err == nil {
			owned, next, last = l, first+1, first+size-1
			return
		}
	}
}

// Free returns a port that nothing listens on, over TCP or UDP, on any address of this machine. It returns no port again
// before all others of the block had their turn.
func Free(t testing.TB) int {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	if owned == nil {
		t.Fatal("no block of ports is free: run fewer tests at the same time")
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
	t.Fatal("no port of the block is free for both TCP and UDP")
	return 0
}
