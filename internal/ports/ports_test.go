package ports

import (
	"net"
	"strconv"
	"testing"
)

func TestFree(t *testing.T) {
	seen := make(map[int]bool)
	for range 200 {
		p := Free(t)
		if seen[p] || p < lowest || p >= lowest+count {
			t.Errorf("port %d, the others are %v", p, seen)
		}
		seen[p] = true
	}
	for p := range seen {
		at := net.JoinHostPort("127.0.0.1", strconv.Itoa(p))
		l, err := net.Listen("tcp", at)
		if err != nil {
			continue // it has been taken since
		}
		if free(p) {
			t.Errorf("port %d is called free while %s listens", p, l.Addr())
		}
		l.Close()
		u, err := net.ListenPacket("udp", at)
		if err != nil {
			continue
		}
		if free(p) {
			t.Errorf("port %d is called free while %s listens", p, u.LocalAddr())
		}
		u.Close()
	}
}
