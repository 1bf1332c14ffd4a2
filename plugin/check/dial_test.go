package check_test

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/ports"
	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// All of 127.0.0.0/8 are addresses of this host.
func TestFrom(t *testing.T) {
	ports.Need(t, "127.0.0.2")
	seen := make(chan net.Addr, 1)
	v4 := listen(t, "127.0.0.1", func(conn net.Conn) { seen <- conn.RemoteAddr(); answer(ok)(conn) })
	v6 := listen(t, ports.IPv6(t), func(conn net.Conn) { seen <- conn.RemoteAddr(); answer(ok)(conn) })
	both := [][]string{opt("from", "127.0.0.2"), opt("from", "::1")}
	for _, url := range []string{"tcp://:1", "http://"} {
		for peer, source := range map[*peer]string{v4: "127.0.0.2", v6: "::1"} {
			if peer.addr.Addr().Is4() {
				source = "127.0.0.2"
			}
			if err := probe(mustNew(t, url, both...), peer.addr); err != nil {
				t.Errorf("%s: %v", url, err)
			}
			if host, _, _ := net.SplitHostPort((<-seen).String()); host != source {
				t.Errorf("%s came from %s, want %s", url, host, source)
			}
		}
	}
}

func TestFromThatCannotBe(t *testing.T) {
	p := listen(t, "127.0.0.1", answer(ok))
	for from, want := range map[string]string{
		"192.0.2.1": "could not ask: from 192.0.2.1 is not an address of this host",
		"::1":       "could not ask: from ::1 has another address family than the target",
	} {
		err := probe(mustNew(t, "tcp://:1", opt("from", from)), p.addr)
		if !errors.Is(err, check.ErrAbstain) || reason(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	mapped := netip.AddrPortFrom(netip.AddrFrom16(p.addr.Addr().As16()), p.addr.Port())
	if err := probe(mustNew(t, "tcp://:1", opt("from", "127.0.0.1")), mapped); err != nil {
		t.Errorf("mapped: %v", err)
	}
	for _, lines := range [][][]string{
		{opt("from", "localhost")}, {opt("from", "0.0.0.0")}, {opt("from", "ff02::1")}, {opt("from", "fe80::1%lo")}, {opt("from", "fe80::1")}, {opt("from", "255.255.255.255")},
		{opt("from", "::ffff:127.0.0.1")}, {opt("from", "127.0.0.1"), opt("from", "127.0.0.2")},
	} {
		if c, err := check.New("tcp://:1", options(lines...)...); err == nil {
			t.Errorf("%s is accepted", c)
		}
	}
}

// A check with a source address, or with invert, is probed by a goroutine. With invert, the
// connection is never held.
func TestFromAndInvertAreNoTalk(t *testing.T) {
	for _, line := range [][]string{opt("from", "127.0.0.1"), opt("invert"), opt("proxy_protocol")} {
		if mustNew(t, "tcp://:1", line).Talk() != nil {
			t.Errorf("%v is a conversation, which knows nothing of it", line)
		}
	}
	_, err := check.New("tcp://:1", options(opt("hold"), opt("invert"))...)
	if err == nil || !strings.HasSuffix(err.Error(), "cannot be used together with invert: remove one of the two") {
		t.Errorf("invert with hold: %v", err)
	}
}

// A check that is bound to this host says so: no other one can ask it in its place.
func TestOfThisHost(t *testing.T) {
	for url, want := range map[string]bool{"tcp://:1": false, "http://:80/from": false, "exec://:1": true, "icmp:": false} {
		var options [][]string
		if want && runtime.GOOS != "linux" {
			continue // no other system has this check
		}
		if want {
			options = append(options, opt("command", "/bin/true"))
		}
		if got := mustNew(t, url, options...).OfThisHost(); got != want {
			t.Errorf("%s: %t, want %t", url, got, want)
		}
	}
	for _, url := range []string{"tcp://:1", "icmp:", "agent://:1", "dns://:53/example.org", "redis://:1"} {
		for _, from := range []string{"192.0.2.1", "2001:db8::1"} {
			if !mustNew(t, url, opt("from", from)).OfThisHost() {
				t.Errorf("%s from %s could be asked by others", url, from)
			}
		}
	}
	if mustNew(t, "http://:80", opt("body", "from")).OfThisHost() {
		t.Error("a text is taken for an option")
	}
}

func TestInvert(t *testing.T) {
	p := listen(t, "127.0.0.1", answer("HTTP/1.1 503 Busy\r\n\r\n"))
	const answered = "answered, but invert is set"
	for _, tt := range []struct {
		url   string
		lines [][]string
		addr  netip.AddrPort
		want  string
	}{
		{"tcp://:1", nil, p.addr, answered},
		{"tcp://:1", nil, refusing(t), ""},
		{"http://", nil, p.addr, ""},
		{"http://", [][]string{opt("status", "503")}, p.addr, answered},
		{"tcp://:1", [][]string{opt("from", "192.0.2.1")}, p.addr, "could not ask: from 192.0.2.1 is not an address of this host"},
	} {
		c := mustNew(t, tt.url, append(tt.lines, opt("invert"))...)
		if got := reason(probe(c, tt.addr)); got != tt.want {
			t.Errorf("%s: %q, want %q", c, got, tt.want)
		}
	}
}
