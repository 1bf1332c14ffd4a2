package check_test

import (
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// What a packet filter of this host does to packets over TCP looks like a fault of the target, and
// counts as one: the kernel tells us nothing of it. A filtered datagram is an error of sending
// (EPERM), which proves nothing (docs/checks.md).
func TestFilteredHere(t *testing.T) {
	nft := lookFor(t, "nft")
	if !ownNetwork(t) {
		return
	}
	for _, words := range []string{
		"ip link set lo up", "ip link add out type veth peer name in", "ip link set out up", "ip link set in up",
		"ip addr add 192.0.2.1/24 dev out", "ip addr add 2001:db8::1/64 dev out nodad",
		"ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev out", "ip neigh add 2001:db8::2 lladdr 02:00:00:00:00:02 dev out",
	} {
		run(t, words)
	}
	sysctl(t, "net/ipv4/icmp_ratelimit", "0")
	sysctl(t, "net/ipv6/icmp/ratelimit", "0")
	const notPermitted = "could not ask: operation not permitted"
	const late = "|connect: timed out"               // some kernels lose their own rejection over IPv6
	for verdict, want := range map[string][2]string{ // over IPv4 and IPv6
		"drop":                                   {"connect: timed out", "connect: timed out"},
		"reject":                                 {"connection refused", "connection refused" + late},
		"reject with icmpx host-unreachable":     {"connect: host unreachable", "connect: host unreachable" + late},
		"reject with icmpx admin-prohibited":     {"connect: host unreachable", "connect: administratively prohibited" + late},
		"meta l4proto tcp reject with tcp reset": {"connection refused", "connection refused"},
	} {
		run(t, nft+" add table inet t")
		run(t, nft+" add chain inet t out { type filter hook output priority 0 ; }")
		run(t, nft+" add rule inet t out th dport 80 "+verdict)
		for i, addr := range []string{"192.0.2.2:80", "[2001:db8::2]:80"} {
			for _, c := range everyCheck(t) {
				want := want[i]
				switch {
				case c.String() == "icmp://":
					continue
				case c.String() == "dns://:53/example.org" && !strings.Contains(verdict, "tcp"):
					want = notPermitted
				case c.String() == "dns://:53/example.org":
					want = "no response: timed out" // not filtered, and nobody is there
				}
				whole := regexp.MustCompile("^(?:" + want + ")$")
				at := netip.MustParseAddrPort(addr)
				if err := probeFor(c, at, brief); !whole.MatchString(reason(err)) || errors.Is(err, check.ErrAbstain) != (want == notPermitted) {
					t.Errorf("%s, %s, %s: %v, want %s", verdict, addr, c, err, want)
				}
				if c.Talk() == nil {
					continue
				}
				if err := converse(t, c, at, brief); !whole.MatchString(reason(err)) {
					t.Errorf("%s, %s, %s by a loop: %v, want %s", verdict, addr, c, err, want)
				}
			}
		}
		run(t, nft+" delete table inet t")
	}
}
