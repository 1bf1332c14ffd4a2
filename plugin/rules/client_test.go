package rules

import (
	"net"
	"net/netip"
	"testing"

	"github.com/coredns/coredns/plugin/pkg/proxyproto"
)

// The address of a client is found in every form in which CoreDNS's servers and plugins hand it on (B5).
func TestAddressOfAClient(t *testing.T) {
	four, six := net.IPv4(192, 0, 2, 7), net.ParseIP("2001:db8::7")
	proxy := &net.UDPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 53}
	for name, tc := range map[string]struct {
		remote net.Addr
		want   string
	}{
		"UDP, QUIC and HTTP/3":      {&net.UDPAddr{IP: four, Port: 5353}, "192.0.2.7"},
		"TCP, TLS, HTTPS and gRPC":  {&net.TCPAddr{IP: six, Port: 5353}, "2001:db8::7"},
		"proxyproto over UDP":       {proxyproto.NewAddr(proxy, &net.UDPAddr{IP: four, Port: 5353}, nil), "192.0.2.7"},
		"proxyproto over UDP, IPv6": {proxyproto.NewAddr(proxy, &net.UDPAddr{IP: six, Port: 5353}, nil), "2001:db8::7"},
		"proxyproto over TCP":       {proxyproto.NewAddr(&net.TCPAddr{IP: six}, &net.TCPAddr{IP: four, Port: 5353}, nil), "192.0.2.7"},
		"with a zone":               {proxyproto.NewAddr(proxy, &net.UDPAddr{IP: net.ParseIP("fe80::7"), Zone: "eth0", Port: 5353}, nil), "fe80::7%eth0"},
		"without a port":            {&net.IPAddr{IP: six}, "2001:db8::7"},
		"a socket":                  {&net.UnixAddr{Name: "/run/dns.sock", Net: "unix"}, ""},
		"none":                      {nil, ""},
	} {
		want, _ := netip.ParseAddr(tc.want)
		if got := addressOf(tc.remote); got.Unmap() != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
