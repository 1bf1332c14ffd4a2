package check_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// every is one check for each kind of socket.
var every = []string{"tcp://:80", "http://:80", "dns:///example.org", "dns:///example.org tcp", "icmp:"}

func everyCheck(t *testing.T, lines ...[]string) (all []*check.Check) {
	for _, url := range every {
		if url == "dns:///example.org tcp" {
			all = append(all, mustNew(t, "dns:///example.org", append(lines, opt("tcp"))...))
			continue
		}
		all = append(all, mustNew(t, url, lines...))
	}
	return all
}

// A firewall that rejects says so by ICMPv6, which arrives as the error of a filter of this host.
// It means that the peer or its firewall is down (B49). Only the echo over a datagram socket does
// not see it.
func TestProhibited(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	for _, words := range []string{
		"ip link set lo up",
		"ip link add here type veth peer name there address 02:00:00:00:00:02",
		"ip link set here up", "ip link set there up",
		"ip addr add 2001:db8:1::1/64 dev here nodad",
		"ip neigh add 2001:db8:1::2 lladdr 02:00:00:00:00:02 dev here",
		"ip -6 route add 2001:db8:2::/64 via 2001:db8:1::2 dev here",
		"ip -6 rule add iif there table 100", // what comes out at the other end is on its way to the peer
		"ip -6 route add prohibit default table 100",
	} {
		run(t, words)
	}
	sysctl(t, "net/ipv6/conf/all/forwarding", "1")
	sysctl(t, "net/ipv6/icmp/ratelimit", "0")
	addr := netip.MustParseAddrPort("[2001:db8:2::1]:80")
	wants := map[string]string{
		"tcp://:80": "connect: administratively prohibited", "http://:80/": "connect: administratively prohibited",
		"dns://:53/example.org": "no response: administratively prohibited", "dns://:53/example.org tcp": "connect: administratively prohibited",
		"icmp://": "no response: administratively prohibited",
	}
	sysctl(t, "net/ipv4/ping_group_range", noGroup)
	for _, c := range everyCheck(t) {
		err := probe(c, addr)
		if errors.Is(err, check.ErrAbstain) || reason(err) != wants[c.String()] {
			t.Errorf("%s: %v, want %s", c, err, wants[c.String()])
		}
		if c.Talk() == nil {
			continue
		}
		if err := converse(t, c, addr, patient); errors.Is(err, check.ErrAbstain) || reason(err) != wants[c.String()] {
			t.Errorf("%s by a loop: %v, want %s", c, err, wants[c.String()])
		}
	}
	sysctl(t, "net/ipv4/ping_group_range", everyGroup)
	if err := probeFor(mustNew(t, "icmp:"), addr, brief); errors.Is(err, check.ErrAbstain) || err == nil {
		t.Errorf("an echo by datagrams: %v", err)
	}
}

// If this host itself blocks packets over IPv4, that proves nothing.
func TestProhibitedHere(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	run(t, "ip link set lo up")
	run(t, "ip route add prohibit 192.0.2.0/24")
	for _, group := range []string{noGroup, everyGroup} {
		sysctl(t, "net/ipv4/ping_group_range", group)
		for _, c := range everyCheck(t) {
			if err := probe(c, netip.MustParseAddrPort("192.0.2.1:80")); reason(err) != "could not ask: permission denied" || !errors.Is(err, check.ErrAbstain) {
				t.Errorf("%s, groups %s: %v", c, group, err)
			}
		}
	}
}

// A source address without a route to the target is a mistake of ours, and not a fault of the
// target.
func TestFromAstray(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	run(t, "ip link set lo up")
	run(t, "ip link add out type veth peer name in")
	run(t, "ip link set out up")
	run(t, "ip addr add 192.0.2.1/24 dev out")
	const want = "could not ask: from 127.0.0.1 cannot reach the target"
	for _, group := range []string{noGroup, everyGroup} {
		sysctl(t, "net/ipv4/ping_group_range", group)
		for _, c := range everyCheck(t, opt("from", "127.0.0.1")) {
			if err := probeFor(c, netip.MustParseAddrPort("192.0.2.2:80"), brief); reason(err) != want || !errors.Is(err, check.ErrAbstain) {
				t.Errorf("%s, groups %s: %v, want %s", c, group, err, want)
			}
		}
	}
}
