package check_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/ports"
	"github.com/coredns-multivalue/multivalue/plugin/check"
	"github.com/coredns-multivalue/multivalue/plugin/wire"
)

// converse asks by a loop.
func converse(t *testing.T, c *check.Check, addr netip.AddrPort, limit time.Duration) error {
	t.Helper()
	answers := make(chan []wire.Answer, 1)
	loop, err := wire.Start(func(a []wire.Answer) { answers <- a })
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	loop.Ask([]wire.Question{{Addr: addr, Timeout: limit, Talk: c.Talk()}})
	return (<-answers)[0].Err
}

// A conversation comes to what a probe comes to, in the same words, with peers of every kind (B33 to B49).
func TestTalkIsAsProbe(t *testing.T) {
	for _, tt := range badPeers {
		if tt.option != nil {
			continue // about a body, which is no conversation
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := listen(t, "127.0.0.1", tt.serve)
			c := mustNew(t, "http://")
			patiently(t, tt.limit, tt.want, func(limit time.Duration) error { return converse(t, c, p.addr, limit) })
		})
	}
	large := opt("header", "X-Big", string(bytes.Repeat([]byte{'x'}, 32<<20)))
	release := make(chan struct{})
	for name, tt := range map[string]struct {
		c     *check.Check
		addr  netip.AddrPort
		limit time.Duration
	}{
		"refused":        {mustNew(t, "http://"), refusing(t), patient},
		"tcp refused":    {mustNew(t, "tcp://:1"), refusing(t), patient},
		"full":           {mustNew(t, "http://"), full(t), brief},
		"tcp full":       {mustNew(t, "tcp://:1"), full(t), brief},
		"tcp":            {mustNew(t, "tcp://:1"), listen(t, ports.IPv6(t), hold).addr, patient},
		"broadcast":      {mustNew(t, "tcp://:1"), netip.MustParseAddrPort("255.255.255.255:9"), patient},
		"does not read":  {mustNew(t, "http://", large), listen(t, "127.0.0.1", func(net.Conn) { <-release }).addr, brief},
		"status 404":     {mustNew(t, "http://"), listen(t, "127.0.0.1", answer("HTTP/1.1 404 No\r\n\r\n")).addr, patient},
		"status 404, ok": {mustNew(t, "http://", opt("status", "404")), listen(t, "127.0.0.1", answer("HTTP/1.1 404 No\r\n\r\n")).addr, patient},
		"hello, no http": {mustNew(t, "http://"), listen(t, "127.0.0.1", func(c net.Conn) { io.WriteString(c, "no\n"); hold(c) }).addr, patient},
		"bad header":     {mustNew(t, "http://"), listen(t, "127.0.0.1", func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\nA B\nC"); hold(c) }).addr, patient},
	} {
		var want, got error
		for limit := tt.limit; ; limit *= 2 { // on a busy machine one may get further than the other
			want, got = probeFor(tt.c, tt.addr, limit), converse(t, tt.c, tt.addr, limit)
			if reason(got) == reason(want) || limit >= patient {
				break
			}
		}
		if reason(got) != reason(want) || errors.Is(got, check.ErrAbstain) != errors.Is(want, check.ErrAbstain) {
			t.Errorf("%s: %q, and by Probe %q", name, reason(got), reason(want))
		}
	}
	close(release)
}

// On the wire, both send the same.
func TestTalkSendsTheSame(t *testing.T) {
	var mu sync.Mutex
	var sent [][]byte
	p := listen(t, "127.0.0.1", func(conn net.Conn) {
		buf := make([]byte, 4096)
		n, _ := conn.Read(buf)
		mu.Lock()
		sent = append(sent, buf[:n])
		mu.Unlock()
		io.WriteString(conn, ok)
	})
	for _, c := range []*check.Check{
		mustNew(t, "http://"), mustNew(t, "http://www.example.org/x?y"), mustNew(t, "http://", opt("hold")), mustNew(t, "http://", opt("method", "POST")),
	} {
		if err := errors.Join(probe(c, p.addr), converse(t, c, p.addr, patient)); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		if len(sent) != 2 || !bytes.Equal(sent[0], sent[1]) {
			t.Errorf("%s: %q", c, sent)
		}
		sent = nil
		mu.Unlock()
	}
}
