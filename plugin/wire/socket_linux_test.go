package wire

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/ports"

	"golang.org/x/sys/unix"
)

// A socket that is bound to a port and connects to it is connected to itself. A socket with a peer
// is not, though the peer may have the same port at another address.
func TestSelfConnection(t *testing.T) {
	for _, tt := range []struct {
		own, dialled string
		want         bool
	}{
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1", "0.0.0.0", true},
		{"::1", "::1", true},
		{"127.0.0.2", "127.0.0.1", false},
	} {
		if !ports.Has(t, tt.own) {
			continue
		}
		own := netip.MustParseAddr(tt.own)
		fd, at, err := bound(t, own, 0)
		dialled := netip.AddrPortFrom(netip.MustParseAddr(tt.dialled), uint16(port(at)))
		for tries := 0; err == nil && !tt.want; tries++ { // until a port is free at both addresses
			var peer int
			if peer, _, err = bound(t, dialled.Addr(), port(at)); err == nil {
				err = unix.Listen(peer, 1)
				break
			}
			if !errors.Is(err, unix.EADDRINUSE) || tries == 100 {
				break
			}
			fd, at, err = bound(t, own, 0)
			dialled = netip.AddrPortFrom(dialled.Addr(), uint16(port(at)))
		}
		if err != nil {
			t.Fatal(err)
		}
		to, _ := sockaddr(dialled)
		if err := unix.Connect(fd, to); err != nil {
			t.Fatalf("%s to %s: %v", own, dialled, err)
		}
		if got := selfConnected(fd, dialled); got != tt.want {
			t.Errorf("%s to %s: %t", own, dialled, got)
		}
	}
}

// bound is a socket at an address.
func bound(t *testing.T, addr netip.Addr, port int) (fd int, at unix.Sockaddr, err error) {
	t.Helper()
	at, family := sockaddr(netip.AddrPortFrom(addr, uint16(port)))
	if fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, at); err != nil {
		return fd, at, err
	}
	at, err = unix.Getsockname(fd)
	return fd, at, err
}

// standing is a talk that only wants the connection.
type standing struct{ Talk }

func (standing) Request(netip.AddrPort) []byte { return nil }
func (t standing) HearAll(received []byte, ended error) (over, stays, complete bool, result error) {
	over, result = t.Hear(received, ended)
	return over, true, true, result
}

func (standing) Holds([]byte) bool { return true }

// A held connection has keep-alive on; otherwise the end of a dead host would never be noticed.
func TestKeepAlive(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	told := make(chan []Answer, 1)
	loop, err := Start(func(a []Answer) { told <- a })
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	loop.Ask([]Question{{Addr: l.Addr().(*net.TCPAddr).AddrPort(), Timeout: time.Minute, Talk: standing{}, Hold: true}})
	fd := (<-told)[0].Held.conn.fd
	for _, tt := range []struct{ level, option, want int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 2},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 5000},
	} {
		if got, err := unix.GetsockoptInt(fd, tt.level, tt.option); got != tt.want || err != nil {
			t.Errorf("option %d is %d, want %d; %v", tt.option, got, tt.want, err)
		}
	}
}

// An event of an earlier connection with the same descriptor, which comes late because a child of
// this process still has it, does not count for the connection that has the descriptor now.
func TestEventOfAnother(t *testing.T) {
	l := &Loop{conns: []*conn{{fd: 0, serial: 8, stage: holding}}}
	l.handle(0, 7, endEvents)
	if l.conns[0] == nil || len(l.answers) != 0 {
		t.Error("it was taken for lost")
	}
}
