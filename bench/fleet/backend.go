package main

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
)

// Thousands of targets need no process each. All addresses of 127.0.0.0/8 are this host's own, so a listener on 0.0.0.0 is open on
// all of them, and each connection says which target it is for. Which of them refuse is a set of the kernel's packet filter, that
// changes in one step, however many die.

const (
	// backendPort is the port of all targets.
	backendPort = 8080
	// perName is how many addresses a name has: as many as an answer has by default, so that none is a random choice. One of
	// them never dies: if all did, fail-open would serve them again, and members would believe that their own network is lost.
	perName       = 8
	mortalPerName = perName - 1
	// most targets that there are addresses for.
	mostTargets = 128 * 128 * 64
)

// targetAddress is the address of a target. They begin at 127.16.0.1, clear of the addresses of the members.
func targetAddress(i int) string { return fmt.Sprintf("127.%d.%d.%d", 16+i>>14, i>>7&127, i&127+1) }

// targetIndex is the number of the target with an address: the inverse of targetAddress.
func targetIndex(ip net.IP) int {
	b := ip.To4()
	return int(b[1]-16)<<14 | int(b[2])<<7 | int(b[3]-1)
}

// backend is all targets: one listener for all addresses, which counts the connections to each. A dead one is refused by the
// kernel, as if no process listened there.
type backend struct {
	listener net.Listener
	ended    chan struct{}
	probes   [mostTargets]atomic.Uint32
}

// startBackend starts it, with all targets alive.
func startBackend() (*backend, error) {
	// A reset is what a host answers if no process listens, so the probe fails at once and the cost is that of a real death.
	rules := fmt.Sprintf(`table ip bench {
		set dead { type ipv4_addr; }
		chain input { type filter hook input priority 0; ip daddr @dead tcp dport %d reject with tcp reset; }
	}`, backendPort)
	if err := nft(rules); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", backendPort))
	if err != nil {
		return nil, err
	}
	// The queue of connections that are not accepted yet is as long as the kernel allows: 4096 by default.
	b := &backend{listener: l, ended: make(chan struct{})}
	go b.serve()
	return b, nil
}

// serve counts connections, and leaves it to the client to close them first, so that its own port is the one to wait.
func (b *backend) serve() {
	defer close(b.ended)
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.probes[targetIndex(conn.LocalAddr().(*net.TCPAddr).IP)].Add(1)
		// It ends when the prober closes, which is at once, or when the prober has died.
		go func() {
			defer conn.Close()
			_, _ = conn.Read(make([]byte, 1)) // until the client closes
		}()
	}
}

// shut ends it, and waits for its goroutine.
func (b *backend) shut() {
	_ = b.listener.Close()
	<-b.ended
}

// sum is how many probes have arrived at the first n targets, and at the one that had the fewest.
func (b *backend) sum(n int) (all, least int) {
	least = -1
	for i := range n {
		c := int(b.probes[i].Load())
		if all += c; least < 0 || c < least {
			least = c
		}
	}
	return all, least
}

// reset sets all counters to zero.
func (b *backend) reset() {
	for i := range b.probes {
		b.probes[i].Store(0)
	}
}

// kill makes targets refuse connections, all at the same moment.
func (b *backend) kill(indexes []int) error {
	return nft("add element ip bench dead { " + addresses(indexes) + " }")
}

// revive makes all targets accept connections.
func (b *backend) revive() error { return nft("flush set ip bench dead") }

// addresses are those of some targets, as nft reads them.
func addresses(indexes []int) string {
	all := make([]string, len(indexes))
	for i, index := range indexes {
		all[i] = targetAddress(index)
	}
	return strings.Join(all, ", ")
}

// nft changes the packet filter of this namespace in one step.
func nft(commands string) error {
	c := exec.Command("nft", "-f", "-")
	c.Stdin = strings.NewReader(commands + "\n")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}
