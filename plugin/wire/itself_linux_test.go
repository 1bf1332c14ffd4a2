package wire

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// A socket that is bound to a port, and connects to it, has met itself. One that has a peer has not, though the peer's
// port may be its own, at another address.
func TestToItself(t *testing.T) {
	for _, tt := range []struct {
		own, dialled string
		want         bool
	}{
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1", "0.0.0.0", true},
		{"::1", "::1", true},
		{"127.0.0.2", "127.0.0.1", false},
	} {
		own := netip.MustParseAddr(tt.own)
		fd, at := bound(t, own, 0)
		dialled := netip.AddrPortFrom(netip.MustParseAddr(tt.dialled), uint16(port(at)))
		if !tt.want {
			peer, _ := bound(t, dialled.Addr(), port(at))
			if err := unix.Listen(peer, 1); err != nil {
				t.Fatal(err)
			}
		}
		to, _ := sockaddr(dialled)
		if err := unix.Connect(fd, to); err != nil {
			t.Fatalf("%s to %s: %v", own, dialled, err)
		}
		if got := toItself(fd, dialled); got != tt.want {
			t.Errorf("%s to %s: %t", own, dialled, got)
		}
	}
}

// bound is a socket at an address.
func bound(t *testing.T, addr netip.Addr, port int) (fd int, at unix.Sockaddr) {
	t.Helper()
	at, family := sockaddr(netip.AddrPortFrom(addr, uint16(port)))
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, at); err != nil {
		t.Fatal(err)
	}
	if at, err = unix.Getsockname(fd); err != nil {
		t.Fatal(err)
	}
	return fd, at
}
