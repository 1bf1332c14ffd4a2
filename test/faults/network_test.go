//go:build faults && linux

package faults

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// must runs a program of the system.
func must(t testing.TB, stdin, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// filter is a packet filter in front of the peers. It drops packets to the addresses in its sets.
const filter = `
add table inet faults
delete table inet faults
table inet faults {
    set dropped { type ipv4_addr; }
    set refused { type ipv4_addr; }
    set noport { type ipv4_addr; }
    set nohost { type ipv4_addr; }
    set nonet { type ipv4_addr; }
    chain peers {
        ip daddr @dropped drop
        ip daddr @refused reject with tcp reset
        ip daddr @noport reject with icmp type port-unreachable
        ip daddr @nohost reject with icmp type host-unreachable
        ip daddr @nonet reject with icmp type net-unreachable
    }
    chain input {
        type filter hook input priority 0;
        tcp dport 8080 jump peers
    }
}`

// resetFilter lets all packets through.
func (s *scene) resetFilter() {
	s.Helper()
	must(s, "", "ip", "link", "set", "lo", "up")
	must(s, filter, "nft", "-f", "-")
}

// block puts addresses into a set of the filter.
func (s *scene) block(set string, addrs ...netip.Addr) { s.Helper(); s.filter("add", set, addrs) }

// unblock removes addresses from all sets.
func (s *scene) unblock(set string, addrs ...netip.Addr) { s.Helper(); s.filter("delete", set, addrs) }

func (s *scene) filter(verb, set string, addrs []netip.Addr) {
	s.Helper()
	var list []string
	for _, a := range addrs {
		list = append(list, a.String())
	}
	must(s, verb+" element inet faults "+set+" { "+strings.Join(list, ", ")+" }", "nft", "-f", "-")
}

// neighbour is another network that a pair of interfaces links with ours: near on our side, far on the other.
type neighbour struct {
	*testing.T
	work   chan func()
	thread int
}

// newNeighbour makes a neighbour. A thread of this process lives in it until the test ends.
func newNeighbour(t *testing.T) *neighbour {
	n := &neighbour{T: t, work: make(chan func())}
	began := make(chan error)
	go func() {
		runtime.LockOSThread() // permanently: the thread ends with the goroutine
		n.thread = syscall.Gettid()
		began <- syscall.Unshare(syscall.CLONE_NEWNET)
		for f := range n.work {
			f()
		}
	}()
	if err := <-began; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(n.work) })
	must(t, "", "ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", strconv.Itoa(n.thread))
	t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", "near").Run() })
	return n
}

// there runs f in the neighbour's network.
func (n *neighbour) there(f func()) {
	done := make(chan struct{})
	n.work <- func() { defer close(done); f() }
	<-done
	if n.Failed() {
		n.FailNow() // in the test's goroutine, because f cannot end the test
	}
}

// setting changes a network setting until the test ends.
func (s *scene) setting(name, value string) {
	s.Helper()
	path := "/proc/sys/net/" + name
	before, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	write := func(value string) {
		if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
			s.Fatal(err)
		}
	}
	write(value)
	s.Cleanup(func() { write(string(before)) })
}
