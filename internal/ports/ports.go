// Package ports finds ports for servers that tests start.
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
const (
	lowest = 12000
	count  = 20000
)

var given struct {
	sync.Mutex
	ports map[int]bool
}

// Free is a port that nothing listens on, over TCP or UDP, on any address of this machine. No two calls in a process
// return the same.
func Free(t testing.TB) int {
	t.Helper()
	given.Lock()
	defer given.Unlock()
	if given.ports == nil {
		given.ports = make(map[int]bool)
	}
	for range 1000 {
		if p := lowest + rand.IntN(count); !given.ports[p] && free(p) {
			given.ports[p] = true
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
