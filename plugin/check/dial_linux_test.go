package check_test

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
)

// Probes from one source address to different peers may share a local port: there are more probes
// here than ports. Each connection stays open until all are.
func TestFromSharesPorts(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	run(t, "ip link set lo up")
	const peers = 5
	var here atomic.Int32
	results := make(chan error, peers)
	c := mustNew(t, "tcp://:1", opt("from", "127.0.0.1"), opt("expect", "all"))
	var asked []*peer
	for i := range peers {
		asked = append(asked, listen(t, fmt.Sprintf("127.0.0.%d", 10+i), func(conn net.Conn) {
			if here.Add(1); wait(func() bool { return here.Load() == peers }) {
				io.WriteString(conn, "all")
			}
		}))
	}
	sysctl(t, "net/ipv4/ip_local_port_range", "40000 40001")
	for _, p := range asked {
		go func() { results <- probe(c, p.addr) }()
	}
	for range peers {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}
