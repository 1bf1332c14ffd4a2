package check_test

import (
	"net"
	"slices"
	"strings"
	"testing"
)

// A peer that reads nothing blocks the send once the buffers of the kernel are full.
func TestDialogueWithoutListener(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	run(t, "ip link set lo up")
	sysctl(t, "net/ipv4/tcp_wmem", "4096 4096 4096")
	sysctl(t, "net/ipv4/tcp_rmem", "4096 4096 4096")
	release := make(chan struct{})
	p := listen(t, "127.0.0.1", func(net.Conn) { <-release })
	defer close(release)
	c := mustNew(t, "tcp://:1", slices.Repeat([][]string{opt("send", strings.Repeat("x", 4096))}, 64)...)
	if got := reason(probeFor(c, p.addr, 2*brief)); !strings.HasPrefix(got, "step ") || !strings.HasSuffix(got, ", send: timed out") {
		t.Errorf("%q", got)
	}
}
