package check_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/namespaces"
	"github.com/coredns-multivalue/multivalue/plugin/check"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// ownNetwork runs the test again in network and mount namespaces of its own. It reports whether this is
// that run.
func ownNetwork(t *testing.T) bool {
	t.Helper()
	if !namespaces.Inside() {
		lookFor(t, "ip")
	}
	return namespaces.Rerun(t, syscall.CLONE_NEWNET|syscall.CLONE_NEWNS)
}

func run(t *testing.T, words string) {
	t.Helper()
	args := strings.Fields(words)
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", words, err, out)
	}
}

func sysctl(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644); err != nil {
		t.Fatal(err)
	}
}

// unprivileged runs f on a thread that may not open raw sockets. The thread is not used again.
func unprivileged(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capset(&header, &data[0]); err != nil {
			done <- err
			return
		}
		f()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

const (
	everyGroup = "0 2147483647"
	noGroup    = "1 0"
)

// Echo over both kinds of socket and both families, and to an address without a host.
func TestICMP(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	run(t, "ip link set lo up")
	run(t, "ip addr add 192.0.2.1/32 dev lo")
	run(t, "ip addr add 192.0.2.2/32 dev lo")
	c := mustNew(t, "icmp:")
	at := func(addr string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(addr), 0) }
	expect := func(kind string, c *check.Check, addr string, limit time.Duration, want string) {
		t.Helper()
		if got := reason(probeFor(c, at(addr), limit)); got != want {
			t.Errorf("%s, %s at %s: %q, want %q", kind, c, addr, got, want)
		}
	}
	every := func(kind string) {
		for _, addr := range []string{"127.0.0.1", "192.0.2.1", "::1", "::ffff:127.0.0.1"} {
			expect(kind, c, addr, patient, "")
		}
		sysctl(t, "net/ipv4/icmp_echo_ignore_all", "1")
		expect(kind, c, "127.0.0.1", brief, "no response: timed out")
		expect(kind, mustNew(t, "icmp:", opt("invert")), "127.0.0.1", brief, "")
		cancelled(t, kind, c, at("127.0.0.1"))
		sysctl(t, "net/ipv4/icmp_echo_ignore_all", "0")
		expect(kind, mustNew(t, "icmp:", opt("from", "192.0.2.2")), "192.0.2.1", patient, "")
		expect(kind, mustNew(t, "icmp:", opt("from", "192.0.2.2")), "::1", patient, "could not ask: from 192.0.2.2 has another address family than the target")
	}
	sysctl(t, "net/ipv4/ping_group_range", noGroup)
	every("raw")
	expect("raw", c, "203.0.113.1", patient, "connect: network unreachable")
	expect("raw", mustNew(t, "icmp:", opt("from", "203.0.113.1")), "127.0.0.1", patient, "could not ask: from 203.0.113.1 is not an address of this host")
	const notAllowed = "could not ask: this process may not send icmp: it needs a group in net.ipv4.ping_group_range, or CAP_NET_RAW"
	unprivileged(t, func() {
		for _, addr := range []string{"127.0.0.1", "::1"} {
			expect("neither", c, addr, patient, notAllowed)
			if err := probe(c, at(addr)); !errors.Is(err, check.ErrAbstain) {
				t.Errorf("%v does not abstain", err)
			}
		}
	})
	sysctl(t, "net/ipv4/ping_group_range", everyGroup)
	unprivileged(t, func() {
		every("datagrams")
		expect("datagrams", c, "203.0.113.1", patient, "request not sent: network unreachable")
		expect("datagrams", mustNew(t, "icmp:", opt("from", "203.0.113.1")), "127.0.0.1", patient, "could not ask: from 203.0.113.1 is not an address of this host")
	})
}

// cancelled cancels a probe that waits for its reply. The counters of the kernel say when it waits.
func cancelled(t *testing.T, kind string, c *check.Check, addr netip.AddrPort) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	before, done := echoes(t), make(chan error, 1)
	go func() { done <- c.Probe(ctx, addr) }()
	if !wait(func() bool { return echoes(t) > before }) {
		t.Errorf("%s: no echo goes out", kind)
	}
	cancel()
	if err := <-done; !errors.Is(err, check.ErrAbstain) || reason(err) != "could not ask: cancelled" {
		t.Errorf("%s, cancelled: %v", kind, err)
	}
}

// echoes is how many echo requests have arrived.
func echoes(t *testing.T) (n int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/net/snmp")
	if err != nil {
		t.Fatal(err)
	}
	var names, values []string
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Icmp:"); ok {
			names, values = values, strings.Fields(rest)
		}
	}
	n, err = strconv.Atoi(values[slices.Index(names, "InEchos")])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// An echoForgery is a reply that differs from the right one in one thing.
type echoForgery struct {
	from   string
	change func(*icmp.Message, *icmp.Echo)
}

// A reply from another address, or to another probe, does not count (B43), whatever the kernel
// delivers.
func TestICMPForgeries(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	run(t, "ip link set lo up")
	run(t, "ip addr add 192.0.2.1/32 dev lo")
	run(t, "ip addr add 192.0.2.2/32 dev lo")
	sysctl(t, "net/ipv4/icmp_echo_ignore_all", "1") // we answer in the kernel's place
	none := func(*icmp.Message, *icmp.Echo) {}
	forgeries := map[string]echoForgery{
		"another address": {"192.0.2.2", none},
		"another number":  {"192.0.2.1", func(_ *icmp.Message, e *icmp.Echo) { e.Seq++ }},
		"another id":      {"192.0.2.1", func(_ *icmp.Message, e *icmp.Echo) { e.ID++ }},
		"another token":   {"192.0.2.1", func(_ *icmp.Message, e *icmp.Echo) { e.Data[len(e.Data)-1] ^= 1 }},
		"a shorter token": {"192.0.2.1", func(_ *icmp.Message, e *icmp.Echo) { e.Data = e.Data[1:] }},
		"no token":        {"192.0.2.1", func(_ *icmp.Message, e *icmp.Echo) { e.Data = nil }},
		"another type":    {"192.0.2.1", func(m *icmp.Message, _ *icmp.Echo) { m.Type = ipv4.ICMPTypeEcho }},
		"another code":    {"192.0.2.1", func(m *icmp.Message, _ *icmp.Echo) { m.Code = 1 }},
	}
	for _, group := range []string{noGroup, everyGroup} {
		sysctl(t, "net/ipv4/ping_group_range", group)
		for name, f := range forgeries {
			for _, times := range []int{1, 1100} {
				got := answeredByHand(t, f, times, false)
				flooded := times > 1 && got == "more than 1024 packets that are not the reply"
				if got != "no response: timed out" && !flooded {
					t.Errorf("groups %s, %s, %d times: %q", group, name, times, got)
				}
			}
			if group == noGroup && name == "another token" { // which the kernel lets through
				if got := answeredByHand(t, f, endlessly, false); got != "more than 1024 packets that are not the reply" {
					t.Errorf("without an end: %q", got)
				}
			}
			if got := answeredByHand(t, f, 1, true); got != "" {
				t.Errorf("groups %s, %s, then the right one: %q", group, name, got)
			}
		}
	}
}

// endlessly is more often than any test waits for.
const endlessly = 1<<31 - 1

// answeredByHand probes 192.0.2.1, answers with forgeries, and then with the right reply if right
// is true.
func answeredByHand(t *testing.T, f echoForgery, times int, right bool) string {
	t.Helper()
	hear, err := icmp.ListenPacket("ip4:icmp", "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	forger, err := icmp.ListenPacket("ip4:icmp", f.from)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 1500); ; {
			n, from, err := hear.ReadFrom(buf)
			if err != nil {
				return
			}
			m, err := icmp.ParseMessage(1, buf[:n])
			if err != nil || m.Type != ipv4.ICMPTypeEcho || !strings.HasPrefix(string(m.Body.(*icmp.Echo).Data), "multivalue ") {
				continue
			}
			whole, _ := m.Marshal(nil)
			good, _ := icmp.ParseMessage(1, whole)
			m.Type, good.Type = ipv4.ICMPTypeEchoReply, ipv4.ICMPTypeEchoReply
			f.change(m, m.Body.(*icmp.Echo))
			if m.Type == ipv4.ICMPTypeEcho {
				m.Body.(*icmp.Echo).Data[0] = 'M' // we do not answer ourselves
			}
			forged, _ := m.Marshal(nil)
			for range times {
				if _, err := forger.WriteTo(forged, from); errors.Is(err, net.ErrClosed) {
					return
				}
			}
			if reply, err := good.Marshal(nil); right && err == nil {
				hear.WriteTo(reply, from)
			}
		}
	}()
	limit := brief
	if right || times == endlessly {
		limit = patient
	}
	got := reason(probeFor(mustNew(t, "icmp:"), netip.MustParseAddrPort("192.0.2.1:0"), limit))
	hear.Close()
	forger.Close()
	<-done
	return got
}

// Many probes at once each get their own reply.
func TestICMPTogether(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	run(t, "ip link set lo up")
	c := mustNew(t, "icmp:")
	for _, group := range []string{noGroup, everyGroup} {
		sysctl(t, "net/ipv4/ping_group_range", group)
		results := make(chan error)
		for i := range 100 {
			addr := netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i)})
			go func() { results <- probe(c, netip.AddrPortFrom(addr, 0)) }()
		}
		for range 100 {
			if err := <-results; err != nil {
				t.Errorf("groups %s: %v", group, err)
			}
		}
	}
}
